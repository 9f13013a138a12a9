//! Whether a file is requested so often that memory for it pays.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Requests within [`WINDOW`] that make a file popular: enough for its lookup, which reads it and
/// may displace another, to be paid for by the requests that follow.
const REQUESTS: u32 = 32;

const WINDOW: Duration = Duration::from_secs(10);

/// The requests for a file lately, on one core.
#[derive(Debug, Default)]
pub(crate) struct Popularity {
    requests: Cell<u32>,
    /// When the first of these was received.
    since: Cell<Option<Instant>>,
}

impl Popularity {
    /// Counts a request. Returns whether the file is popular.
    pub(crate) fn count(&self, now: Instant) -> bool {
        let is_recent = |since| now.saturating_duration_since(since) < WINDOW;
        if self.since.get().is_some_and(is_recent) {
            self.requests.set(self.requests.get().saturating_add(1));
        } else {
            self.since.set(Some(now));
            self.requests.set(1);
        }
        self.is_popular()
    }

    /// The result of the last [`Self::count`].
    pub(crate) fn is_popular(&self) -> bool {
        self.requests.get() >= REQUESTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_requests_within_the_window_make_a_file_popular() {
        let (popularity, start) = (Popularity::default(), Instant::now());
        assert!(!popularity.is_popular());
        let paces = [(WINDOW / REQUESTS, true), (WINDOW / (REQUESTS - 2), false)];
        for (round, (pace, expected)) in paces.into_iter().enumerate() {
            let start = start + WINDOW * 10 * round as u32;
            let found = (0..3 * REQUESTS).any(|number| popularity.count(start + pace * number));
            assert_eq!(found, expected, "{pace:?}");
        }
    }
}
