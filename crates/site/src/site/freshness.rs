//! Whether a request is answered from a stale lookup.

use std::cell::Cell;
use std::time::Instant;

use crate::single_flight::MaybeStale;

/// The time of a request, and whether anything stale was used for it.
pub(crate) struct Freshness {
    pub(crate) now: Instant,
    used_stale: Cell<bool>,
}

impl Freshness {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            used_stale: Cell::new(false),
        }
    }

    /// Takes the value, and remembers whether it was stale.
    pub(crate) fn take<T>(&self, value: MaybeStale<T>) -> T {
        match value {
            MaybeStale::Fresh(value) => value,
            MaybeStale::Stale(value) => {
                self.used_stale.set(true);
                value
            }
        }
    }

    pub(crate) fn used_stale(&self) -> bool {
        self.used_stale.get()
    }
}
