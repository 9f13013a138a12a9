//! A limit on how often a warning is logged.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// At most one warning of a kind in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Lets one warning through in [`WARN_EVERY`].
#[derive(Default)]
pub(crate) struct Throttle(Cell<Option<Instant>>);

impl Throttle {
    /// Whether a warning may be logged now; if so, it counts as logged.
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let due = self.0.get().is_none_or(|last| now >= last + WARN_EVERY);
        if due {
            self.0.set(Some(now));
        }
        due
    }
}
