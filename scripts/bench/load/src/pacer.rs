//! How much a rate-limited reader may read, and when (sans-io).
//!
//! A reader that takes its share every few milliseconds keeps the socket
//! filled to a steady level, as a player or a slow link does.

use std::time::{Duration, Instant};

/// Time between two reads of one reader.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// What a server was late with may be caught up to this many ticks.
const SAVED_TICKS_MAX: u64 = 4;

#[derive(Debug)]
pub(crate) struct Pacer {
    bytes_per_tick: u64,
    allowance: u64,
    next: Instant,
}

impl Pacer {
    /// The `index`-th of `count` readers, spread evenly over a tick so that
    /// they do not all read at once.
    pub(crate) fn new(bytes_per_second: u64, index: usize, count: usize, now: Instant) -> Self {
        let offset = TICK * index as u32 / count.max(1) as u32;
        Self {
            bytes_per_tick: bytes_per_second * TICK.as_millis() as u64 / 1000,
            allowance: 0,
            next: now + offset,
        }
    }

    /// When the next read is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Bytes that may be read now.
    pub(crate) fn allowance(&self) -> usize {
        self.allowance as usize
    }

    /// Grants the ticks that have passed; false if none has.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        let ticks = 1 + ((now - self.next).as_nanos() / TICK.as_nanos()) as u64;
        self.next += TICK * ticks as u32;
        let most = self.bytes_per_tick * SAVED_TICKS_MAX;
        self.allowance = (self.allowance + self.bytes_per_tick * ticks).min(most);
        true
    }

    /// Accounts for `bytes` that were read.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.allowance = self.allowance.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_the_rate_and_no_more() {
        let start = Instant::now();
        let mut pacer = Pacer::new(40_000_000, 0, 1, start);
        let mut total = 0;
        for step in 0..1000 {
            pacer.advance(start + Duration::from_millis(step));
            total += pacer.allowance();
            pacer.spend(pacer.allowance() as u64);
        }
        assert_eq!(total, 40_000_000);
    }

    #[test]
    fn saves_only_so_much() {
        let start = Instant::now();
        let mut pacer = Pacer::new(1_000_000, 0, 1, start);
        assert!(pacer.advance(start + Duration::from_secs(10)));
        assert_eq!(pacer.allowance(), 20_000);
        assert!(!pacer.advance(start + Duration::from_secs(10)));
        assert!(pacer.next() > start + Duration::from_secs(10));
    }

    #[test]
    fn readers_are_spread_over_a_tick() {
        let start = Instant::now();
        assert_eq!(Pacer::new(1, 0, 5, start).next(), start);
        assert_eq!(
            Pacer::new(1, 4, 5, start).next(),
            start + Duration::from_millis(4)
        );
    }
}
