//! How often something may happen.

use std::time::Duration;

use crate::Rate;

/// A token bucket, which is full at first.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    tokens: u32,
    /// When it was filled up last, in milliseconds of the connection.
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
    /// there are not as many. The age of the connection, `now`, matters only then.
    #[inline]
    pub(crate) fn take(&mut self, cost: u32, rate: Rate, now: impl FnOnce() -> Duration) -> bool {
        let cost = cost.min(rate.burst / 2).max(1);
        if self.tokens < cost {
            self.fill(rate, now());
        }
        let has = self.tokens >= cost;
        self.tokens = self.tokens.saturating_sub(cost);
        has
    }

    /// Adds tokens that were earned, to more than a burst if need be.
    #[inline]
    pub(crate) fn add(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Adds what the time since the last call is worth, to a burst at most. The remainder of a
    /// token is kept.
    #[cold]
    fn fill(&mut self, rate: Rate, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let elapsed = now.saturating_sub(self.filled);
        let tokens = elapsed.saturating_mul(u64::from(rate.per_second)) / 1000;
        if tokens > 0 {
            self.filled = now;
            let tokens = tokens.saturating_add(u64::from(self.tokens));
            self.tokens = tokens.min(u64::from(rate.burst)) as u32;
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
            .take_while(|_| bucket.take(1, RATE, || Duration::from_millis(now)))
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
    fn a_rate_of_nothing() {
        let rate = Rate {
            burst: 0,
            per_second: 0,
        };
        assert!(!TokenBucket::new(rate).take(1, rate, || Duration::MAX));
    }
}
