//! Whether an endpoint is asked: one that failed several times in a row is passed over for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which it is down.
const FAILURES: u32 = 3;

/// How long it is passed over then; twice as long after each further failure.
const DOWN_FIRST: Duration = Duration::from_secs(1);

/// The longest.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    down_until: Option<Instant>,
    /// How often it went down.
    outages: u64,
}

impl Health {
    /// A request was answered. Returns whether it was down before.
    pub(crate) fn succeeded(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = 0;
        state.down_until.take().is_some()
    }

    /// A request failed at `now`. Returns whether it is down since.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES || state.down_until.is_some_and(|until| now < until) {
            return false;
        }
        let doubled = (state.failures - FAILURES).min(5);
        let was_up = state.down_until.is_none();
        state.outages += u64::from(was_up);
        state.down_until = Some(now + (DOWN_FIRST * (1 << doubled)).min(DOWN_MAX));
        was_up
    }

    /// When it may be asked again; `None`: at once. After that time requests try it.
    pub(crate) fn down_until(&self) -> Option<Instant> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .down_until
    }

    /// The number of the outage that lasts; `None`: it is up.
    pub(crate) fn outage(&self) -> Option<u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.down_until.map(|_| state.outages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_in_a_row_take_it_down_for_longer_and_longer() {
        let (health, start) = (Health::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!health.failed(start) && !health.failed(start));
        assert_eq!(health.down_until(), None);
        assert_eq!(health.outage(), None);
        assert!(health.failed(start), "the third");
        assert_eq!(health.outage(), Some(1));
        assert_eq!(health.down_until(), Some(after(1)));
        assert!(!health.failed(start), "one that was under way");
        assert_eq!(health.down_until(), Some(after(1)));
        assert!(!health.failed(after(1)), "it was down already");
        assert_eq!(health.down_until(), Some(after(1) + Duration::from_secs(4)));
        for seconds in 10..20 {
            health.failed(after(seconds * 100));
        }
        assert_eq!(health.down_until(), Some(after(1900) + DOWN_MAX));
        assert!(health.succeeded());
        assert_eq!(health.down_until(), None);
        assert!(!health.failed(after(3000)), "the first of a new row");
        assert_eq!(health.outage(), None);
        health.failed(after(3000));
        assert!(health.failed(after(3000)));
        assert_eq!(health.outage(), Some(2));
    }
}
