//! Counters with one writer: the core they belong to. The admin listener reads them from its
//! thread.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that its core alone changes, by a load and a store: no locked instruction, no shared
/// cache line.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The values of a label, a fixed set: made by [`kinds!`].
pub(crate) trait Kind: Copy + 'static {
    /// In the order of [`Kind::index`].
    const ALL: &'static [Self];

    /// The value of the label.
    fn name(self) -> &'static str;

    fn index(self) -> usize;
}

/// Declares an enum of the values of a label.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $crate::observe::counters::Kind for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                Self::name(self)
            }

            fn index(self) -> usize {
                self as usize
            }
        }

        impl $name {
            /// The value of the label.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// How many there are.
            pub(crate) const COUNT: usize = [$(Self::$variant),+].len();
        }
    };
}
pub(crate) use kinds;

/// A counter for each value of a label.
#[derive(Debug)]
pub(crate) struct CounterOf<K, const N: usize> {
    counters: [Counter; N],
    kind: PhantomData<fn() -> K>,
}

impl<K, const N: usize> Default for CounterOf<K, N> {
    fn default() -> Self {
        Self {
            counters: std::array::from_fn(|_| Counter::default()),
            kind: PhantomData,
        }
    }
}

impl<K: Kind, const N: usize> CounterOf<K, N> {
    pub(crate) fn of(&self, kind: K) -> &Counter {
        &self.counters[kind.index()]
    }

    /// Counts one.
    pub(crate) fn count(&self, kind: K) {
        self.of(kind).add(1);
    }

    /// The sum of all values.
    pub(crate) fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

/// The upper ends (inclusive) of the buckets of a [`Histogram`], in microseconds.
pub(crate) const BOUNDS_MICROS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// With the bucket above the last bound.
pub(crate) const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

const MICROS_PER_SECOND: u64 = 1_000_000;
const NANOS_PER_MICRO: u32 = 1_000;

/// How often durations lay in each bucket, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

/// The values of histograms at one time, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramValues {
    /// Each without those below it.
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) sum_micros: u64,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let micros = micros(time);
        // The first for most requests.
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS_MICROS.len())].add(1);
        self.sum_micros.add(micros);
    }

    /// The values at this moment.
    pub(crate) fn values(&self) -> HistogramValues {
        HistogramValues {
            buckets: std::array::from_fn(|index| self.buckets[index].get()),
            sum_micros: self.sum_micros.get(),
        }
    }
}

impl HistogramValues {
    pub(crate) fn add(&mut self, values: &Self) {
        for (sum, value) in self.buckets.iter_mut().zip(&values.buckets) {
            *sum += value;
        }
        self.sum_micros += values.sum_micros;
    }
}

/// Whole microseconds, without the 128-bit division of `as_micros`.
pub(crate) fn micros(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(MICROS_PER_SECOND)
        .saturating_add(u64::from(time.subsec_nanos() / NANOS_PER_MICRO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_in_the_bucket_that_ends_there() {
        for (micros, bucket) in [
            (0, 0),
            (500, 0),
            (501, 1),
            (60_000_000, 15),
            (60_000_001, 16),
            (u64::MAX / 1_000, 16),
        ] {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_micros(micros));
            let values = histogram.values();
            assert_eq!(values.buckets[bucket], 1, "{micros}");
            assert_eq!(values.buckets.iter().sum::<u64>(), 1);
            assert_eq!(values.sum_micros, micros);
        }
    }

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS_MICROS.is_sorted());
    }
}
