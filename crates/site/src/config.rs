//! What one core keeps of what it looked up. How a site is served is in [`tidegate_config::Site`].

use std::time::Duration;

use crate::looks::Times;

/// What one core keeps of what it looked up, for all its sites.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Files of at most this many bytes are kept in memory.
    pub inline_max: usize,
    /// Bytes of such files.
    pub hot_bytes: u64,
    /// Descriptors of larger files.
    pub open_files: usize,
    /// How long what was looked up is trusted before it is looked at again.
    pub valid: Duration,
    /// How long a file that nobody asks for is kept open.
    pub idle: Duration,
    /// How long after that it may still be answered with, while the look does not come back.
    pub stale: Duration,
    /// How long a look may take.
    pub lookup: Duration,
    /// Workers of the ring that look-ups of one root may occupy, if they are alone; those of all roots
    /// twice as many.
    pub workers: usize,
}

impl CacheConfig {
    pub(crate) fn times(&self) -> Times {
        Times {
            valid: self.valid,
            lookup: self.lookup,
        }
    }
}
