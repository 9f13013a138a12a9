//! How often something may happen.

use std::time::Duration;

use crate::Rate;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A token bucket, which is full at first.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    tokens: u32,
    /// The age of the connection that is accounted for, in nanoseconds.
    filled: u64,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            tokens: rate.burst,
            filled: 0,
        }
    }

    /// Takes `cost` tokens, half a burst at most, so that nothing is too much by itself; `false` if
    /// there are not as many. `now` is the age of the connection.
    #[inline]
    pub(crate) fn take(&mut self, cost: u32, rate: Rate, now: Duration) -> bool {
        let cost = cost.min(rate.burst / 2).max(1);
        self.fill(rate, now);
        let has = self.tokens >= cost;
        self.tokens = self.tokens.saturating_sub(cost);
        has
    }

    /// Adds tokens that were earned, to more than a burst if need be.
    #[inline]
    pub(crate) fn add(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Adds what the time since the last call is worth, up to a burst. The remainder of a token is
    /// kept; time while it is full is worth nothing.
    #[inline]
    fn fill(&mut self, rate: Rate, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let per_second = u64::from(rate.per_second);
        let elapsed = now.saturating_sub(self.filled);
        let tokens = elapsed.saturating_mul(per_second) / NANOS_PER_SECOND;
        let room = rate.burst.saturating_sub(self.tokens);
        if tokens >= u64::from(room) {
            self.tokens += room;
            self.filled = self.filled.max(now);
        } else if tokens > 0 {
            self.tokens += tokens as u32;
            self.filled += (tokens * NANOS_PER_SECOND).div_ceil(per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        per_second: 10,
    };

    fn taken(bucket: &mut TokenBucket, now: u64) -> usize {
        (0..10)
            .take_while(|_| bucket.take(1, RATE, Duration::from_millis(now)))
            .count()
    }

    #[test]
    fn a_burst_then_a_rate() {
        let mut bucket = TokenBucket::new(RATE);
        assert_eq!(taken(&mut bucket, 0), 3, "the burst");
        assert_eq!(taken(&mut bucket, 99), 0, "less than one");
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 350), 2);
        assert_eq!(taken(&mut bucket, 1_000_000), 3, "no more than the burst");
        assert_eq!(taken(&mut bucket, 0), 0, "a clock that goes back");
        bucket.add(2);
        assert_eq!(taken(&mut bucket, 1_000_000), 2);
        bucket.add(u32::MAX);
        bucket.add(1);
        assert_eq!(taken(&mut bucket, 1_000_000), 10, "more than a burst");
    }

    #[test]
    fn time_while_it_is_full_is_worth_nothing() {
        let mut bucket = TokenBucket::new(RATE);
        assert_eq!(taken(&mut bucket, 1_000_000), 3, "it was full at first");
        let mut bucket = TokenBucket::new(RATE);
        assert!(bucket.take(1, RATE, Duration::ZERO));
        assert_eq!(taken(&mut bucket, 1_000_000), 3, "it was full again");
    }

    #[test]
    fn no_part_of_a_token_is_lost() {
        let rate = Rate {
            burst: 1000,
            per_second: 32,
        };
        let mut bucket = TokenBucket::new(rate);
        let mut at = |now| bucket.take(1, rate, Duration::from_millis(now));
        assert!((0..1000).all(|_| at(0)), "the burst");
        // Twice for each token.
        let taken = (1..=64).filter(|n| at(n * 1000 / 64));
        assert_eq!(taken.count(), 32);
    }

    #[test]
    fn a_rate_of_nothing() {
        let rate = Rate {
            burst: 0,
            per_second: 0,
        };
        assert!(!TokenBucket::new(rate).take(1, rate, Duration::MAX));
    }
}
