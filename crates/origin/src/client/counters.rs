//! What happened to the requests of an endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::failure::FailureKind;

/// The upper ends (inclusive) of the buckets of the times to the head, in microseconds.
pub const HEAD_BOUNDS_MICROS: [u64; 12] = [
    2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// With the bucket above the last bound.
pub const HEAD_BUCKETS: usize = HEAD_BOUNDS_MICROS.len() + 1;

/// What happened to the requests of an endpoint so far.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Requests that were sent.
    pub requests: AtomicU64,
    /// Those that were sent again after a failure.
    pub retries: AtomicU64,
    /// Those that were sent beside a slow one.
    pub hedges: AtomicU64,
    /// Bytes of bodies.
    pub body_bytes: AtomicU64,
    /// The sum of the times to the head, in microseconds.
    pub head_micros: AtomicU64,
    /// How many of these times lie in each bucket, those below it left out.
    pub head_buckets: [AtomicU64; HEAD_BUCKETS],
    failures: [AtomicU64; FailureKind::ALL.len()],
}

impl EndpointCounters {
    /// Failures of a kind.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The head of a response took that long.
    pub(super) fn head_came(&self, time: Duration) {
        let micros = time.as_micros() as u64;
        let bucket = HEAD_BOUNDS_MICROS.iter().position(|end| micros <= *end);
        let bucket = bucket.unwrap_or(HEAD_BOUNDS_MICROS.len());
        self.head_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.head_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_the_bucket_that_ends_there() {
        for (micros, bucket) in [(0, 0), (2_500, 0), (2_501, 1), (60_000_001, 12)] {
            let counters = EndpointCounters::default();
            counters.head_came(Duration::from_micros(micros));
            let count = counters.head_buckets[bucket].load(Ordering::Relaxed);
            assert_eq!(count, 1, "{micros}");
        }
        assert!(HEAD_BOUNDS_MICROS.is_sorted());
    }
}
