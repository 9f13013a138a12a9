//! The counters of one core.

use std::cell::Cell;

/// Counts since the core started.
#[derive(Default)]
pub(crate) struct Metrics {
    connections: Cell<u64>,
    requests: Cell<u64>,
}

impl Metrics {
    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// Exchanges that ended, also those of requests that were refused or given up.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(crate) fn count_connection(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub(crate) fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }
}
