//! The configuration of a core at one time: its settings, and the sites that were opened for them.

use std::sync::Arc;

use glommio::Task;
use tidegate_config::Settings;
use tidegate_h1::Limits;
use tidegate_http::RangeLimits;
use tidegate_site::{RootError, Sites, Stalls};
use tidegate_uring::Ring;

use crate::config::sites::cache_config;
use crate::host::limits::ResourceShare;
use crate::observe::access_log::{AccessLogs, SiteLogs};

/// Settings and sites that belong together. A context replaces its snapshot as a whole; a lookup
/// goes on with the snapshot that it began with.
pub(crate) struct Snapshot {
    pub(crate) settings: Arc<Settings>,
    /// Bounds on a request's head and body.
    pub(crate) h1: Limits,
    /// Bounds on the ranges of a request.
    pub(crate) ranges: RangeLimits,
    pub(crate) sites: Sites,
    pub(crate) access_logs: SiteLogs,
    /// Closes unused files of the sites; ends when it is dropped.
    _sweep: Task<()>,
}

impl Snapshot {
    /// Opens the sites. Blocking. Stalls of their file systems are counted in `stalls`.
    pub(crate) fn open(
        settings: Arc<Settings>,
        share: ResourceShare,
        ring: &Ring,
        stalls: &Arc<Stalls>,
        access_logs: &AccessLogs,
    ) -> Result<Self, RootError> {
        let cache = cache_config(&settings, share);
        let sites = Sites::open(&settings.sites, cache, ring, stalls)?;
        let limits = &settings.limits;
        Ok(Self {
            h1: Limits {
                header_bytes: limits.header_bytes,
                headers: limits.headers,
                body_discard: limits.body_discard,
            },
            ranges: RangeLimits {
                ascending: limits.ranges,
                unordered: limits.ranges_unordered,
            },
            _sweep: ring.spawn(sites.sweep()),
            sites,
            access_logs: access_logs.of_core(),
            settings,
        })
    }
}
