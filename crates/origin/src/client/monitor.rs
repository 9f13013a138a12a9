//! What operators see of an endpoint: its counters, and the lines of the log.
//!
//! One line when it goes down and one when it is up again. Between them failures of other kinds
//! are told once a second at most, with how many were not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counters::EndpointCounters;
use super::failure::FailureKind;
use super::health::Health;
use crate::error::Error;

/// Between two lines of an endpoint.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// The state of one endpoint, which its bodies share.
#[derive(Debug)]
pub(crate) struct Monitor {
    name: Arc<str>,
    pub(super) counters: EndpointCounters,
    pub(super) health: Health,
    lines: Throttle,
}

impl Monitor {
    /// Of the endpoint with this URL.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            counters: EndpointCounters::default(),
            health: Health::default(),
            lines: Throttle::default(),
        }
    }

    /// Its URL.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A request was answered.
    pub(super) fn succeeded(&self) {
        if self.health.succeeded() {
            tracing::info!(origin = %self.name, "the origin is up again");
        }
    }

    /// The endpoint gave no answer, or says that it is in trouble. Returns whether it is down since.
    pub(super) fn down(&self, kind: FailureKind, error: &Error) -> bool {
        if !self.health.failed(Instant::now()) {
            self.failed(kind, error);
            return false;
        }
        self.counters.failed(kind);
        tracing::warn!(%error, "the origin is down: it is passed over for a while");
        true
    }

    /// A request failed, whatever that says of the endpoint.
    pub(super) fn failed(&self, kind: FailureKind, error: &Error) {
        self.counters.failed(kind);
        self.log(error);
    }

    /// Logs an error, unless there was a line just now.
    pub(super) fn log(&self, error: &Error) {
        if let Some(unlogged) = self.lines.take(Instant::now()) {
            tracing::warn!(%error, unlogged, "a request to the origin failed");
        }
    }

    /// The answer cannot be used, as `reason` says. Counted and logged.
    pub(crate) fn bad_answer(&self, kind: FailureKind, reason: String) -> Error {
        let error = self.error(kind, reason);
        self.failed(kind, &error);
        error
    }

    /// An error of this endpoint.
    pub(super) fn error(&self, kind: FailureKind, reason: String) -> Error {
        let (origin, reason) = (Arc::clone(&self.name), reason.into());
        match kind {
            FailureKind::Timeout => Error::TimedOut { origin, reason },
            _ => Error::Failed { origin, reason },
        }
    }
}

/// Lets one line through in [`LINE_EVERY`].
#[derive(Debug, Default)]
struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// How many lines were not let through since the last one; `None`: this one is not, either.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unlogged) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < LINE_EVERY) {
            *unlogged += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_those_that_are_not_written() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for (millis, expected) in [
            (0, Some(0)),
            (1, None),
            (999, None),
            (1000, Some(2)),
            (1500, None),
            (5000, Some(1)),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(throttle.take(now), expected, "{millis}");
        }
    }
}
