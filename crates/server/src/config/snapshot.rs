//! The configuration of a core at one time: its settings, and the sites that were opened for them.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_site::Sites;
use tidegate_uring::Ring;
use tidegate_uring::executor::Task;

use crate::config::logins::Logins;
use crate::config::prepared::{Derived, Prepared};
use crate::config::sites::cache_config;
use crate::observe::access_log::SiteLogs;

/// Settings and sites that belong together. A context replaces its snapshot as a whole; a lookup
/// goes on with the snapshot that it began with.
pub(crate) struct Snapshot {
    derived: Arc<Derived>,
    pub(crate) sites: Sites,
    /// Of this core: all its snapshots have the same.
    pub(crate) logins: Rc<Logins>,
    pub(crate) access_logs: SiteLogs,
    /// Closes unused files of the sites; ends when it is dropped.
    sweep: Cell<Option<Task<()>>>,
}

impl Snapshot {
    /// The snapshot of what was prepared. It does not block, and cannot fail. Sites of `before`
    /// that are unchanged keep their caches; its sweep ends.
    pub(crate) fn new(prepared: Prepared, ring: &Ring, before: Option<&Self>) -> Self {
        let cache = cache_config(&prepared.settings, prepared.share);
        let known = before.map(|before| &before.sites);
        let sites = Sites::new(prepared.sites, cache, ring, &prepared.stalls, known);
        // Requests may hold it for long, and one sweep is enough.
        drop(before.and_then(|before| before.sweep.take()));
        Self {
            sweep: Cell::new(Some(ring.spawn(sites.sweep()))),
            sites,
            logins: before.map_or_else(Rc::default, |before| Rc::clone(&before.logins)),
            access_logs: prepared.derived.access_logs.of_core(),
            derived: prepared.derived,
        }
    }
}

impl Deref for Snapshot {
    type Target = Derived;

    fn deref(&self) -> &Derived {
        &self.derived
    }
}
