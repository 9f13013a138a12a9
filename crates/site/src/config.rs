//! The settings that the sites of a core share. Those of one site are [`tidegate_config::Site`].

use std::time::Duration;

use crate::single_flight::Times;

/// Bounds and times of the caches of one core, shared by all its sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Files of at most this many bytes are kept in memory.
    pub inline_max: usize,
    /// The same for popular files.
    pub popular_max: usize,
    /// The most bytes of such files in memory.
    pub hot_bytes: u64,
    /// The most descriptors of larger files.
    pub open_files: usize,
    /// How long a result is fresh; after that it is revalidated.
    pub valid: Duration,
    /// How long an unused file is kept open.
    pub idle: Duration,
    /// How long after `valid` a result may still be served while its check does not return.
    pub stale: Duration,
    /// How long a lookup may take.
    pub lookup: Duration,
    /// Workers of the ring that lookups in one root may occupy; all roots together may occupy twice
    /// as many.
    pub workers: usize,
}

/// The part of the memory for files that a popular one may take.
const POPULAR_SHARE: u64 = 64;

impl CacheConfig {
    /// Popular files of at most this many bytes are kept in memory. One of them displaces little.
    pub(crate) fn popular_max(&self) -> usize {
        let share = self.hot_bytes / POPULAR_SHARE;
        let popular_max = self
            .popular_max
            .min(usize::try_from(share).unwrap_or(usize::MAX));
        popular_max.max(self.inline_max)
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            valid: self.valid,
            lookup: self.lookup,
        }
    }
}
