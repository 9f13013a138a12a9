//! The threads that prepare reloads: one counts at a time, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a preparation may take: a file system may not answer.
pub(super) const PREPARE_TIME: Duration = Duration::from_mins(1);

/// Threads that may hang at a time, so that demands without an end do not leave threads without
/// one.
const THREADS_MAX: usize = 4;

/// Numbers preparations. One that takes too long is abandoned, and its outcome is dropped: a thread
/// that hangs cannot be ended.
pub(super) struct Preparations {
    time: Duration,
    /// The number of the one that counts. Each thread holds a clone.
    current: Arc<AtomicU64>,
    /// When it is abandoned, if one is in progress.
    ends: Option<Instant>,
}

/// One preparation, in its thread.
pub(super) struct Ticket {
    pub(super) number: u64,
    current: Arc<AtomicU64>,
}

impl Ticket {
    /// Whether its outcome will be dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        self.current.load(Ordering::Relaxed) != self.number
    }
}

impl Preparations {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            current: Arc::default(),
            ends: None,
        }
    }

    /// A preparation begins. An error if too many hang.
    pub(super) fn begin(&mut self, now: Instant) -> Result<Ticket, String> {
        let threads = Arc::strong_count(&self.current) - 1;
        if threads >= THREADS_MAX {
            return Err(format!(
                "{threads} reloads hang already: does a file system not answer?"
            ));
        }
        self.ends = Some(now + self.time);
        Ok(Ticket {
            number: self.current.fetch_add(1, Ordering::Relaxed) + 1,
            current: Arc::clone(&self.current),
        })
    }

    /// When the one in progress is to be abandoned.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Abandons the one in progress if its time is over. The reason for the operator.
    pub(super) fn time_is_over(&mut self, now: Instant) -> Option<String> {
        self.ends.take_if(|ends| *ends <= now)?;
        self.current.fetch_add(1, Ordering::Relaxed);
        let time = self.time.as_secs();
        Some(format!(
            "it took longer than {time}s: does a file system not answer?"
        ))
    }

    /// Preparation `number` has ended. Whether it counts.
    pub(super) fn ended(&mut self, number: u64) -> bool {
        let counts = number == self.current.load(Ordering::Relaxed);
        self.ends.take_if(|_| counts);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_until_its_time_is_over() {
        let now = Instant::now();
        let mut all = Preparations::new(PREPARE_TIME);
        let first = all.begin(now).unwrap();
        assert!(all.time_is_over(now).is_none());
        assert!(all.time_is_over(now + PREPARE_TIME).is_some());
        assert!(first.is_abandoned() && all.ends().is_none());
        let second = all.begin(now).unwrap();
        assert!(!all.ended(first.number) && all.ends().is_some());
        assert!(all.ended(second.number) && all.ends().is_none());
    }

    #[test]
    fn threads_that_hang_are_bounded() {
        let mut all = Preparations::new(PREPARE_TIME);
        let mut begin = || all.begin(Instant::now());
        let mut hanging: Vec<_> = (0..THREADS_MAX).map(|_| begin().unwrap()).collect();
        assert!(begin().is_err());
        hanging.pop();
        assert!(begin().is_ok());
    }
}
