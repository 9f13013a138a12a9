//! When the requests of an open loop are due, and on which connection (sans-io).
//!
//! Requests are due at a fixed interval, in turn on each connection, whether or
//! not those before them are answered: a server that stands still is not asked
//! less, as it is in a closed loop, and what waits meanwhile is not left out
//! (coordinated omission).

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Arrivals {
    start: Instant,
    per_second: u64,
    connections: u64,
    /// Requests that were returned by `arrive`.
    arrived: u64,
}

impl Arrivals {
    /// `per_second` requests in all, the first one at `start`. Neither number
    /// is 0.
    pub(crate) fn new(per_second: u64, connections: usize, start: Instant) -> Self {
        Self {
            start,
            per_second,
            connections: connections as u64,
            arrived: 0,
        }
    }

    /// When the next request is due.
    fn next(&self) -> Instant {
        let rest = self.arrived % self.per_second;
        self.start
            + Duration::from_secs(self.arrived / self.per_second)
            + Duration::from_nanos(rest * 1_000_000_000 / self.per_second)
    }

    /// The connection of the next request and when it was due, if that is not
    /// after `now`. Each request is returned once.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.next();
        if due > now {
            return None;
        }
        let connection = self.arrived % self.connections;
        self.arrived += 1;
        Some((connection as usize, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(arrivals: &mut Arrivals, now: Instant) -> Vec<(usize, Instant)> {
        std::iter::from_fn(|| arrivals.arrive(now)).collect()
    }

    #[test]
    fn the_rate_is_kept_without_drift() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(30_000, 50, start);
        let arrived = until(&mut arrivals, start + Duration::from_secs(10));
        // The last one is due at the very end.
        assert_eq!(arrived.len(), 300_001);
        assert_eq!(arrived[300_000].1, start + Duration::from_secs(10));
    }

    #[test]
    fn connections_take_turns_at_even_distances() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(1000, 3, start);
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(
            until(&mut arrivals, at(3)),
            [(0, at(0)), (1, at(1)), (2, at(2)), (0, at(3))]
        );
        assert_eq!(arrivals.next(), at(4));
        assert_eq!(arrivals.arrive(at(3)), None);
    }

    #[test]
    fn one_that_is_late_is_due_when_it_was() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(1000, 1, start);
        let arrived = until(&mut arrivals, start + Duration::from_secs(1));
        assert_eq!(arrived[1].1, start + Duration::from_millis(1));
    }
}
