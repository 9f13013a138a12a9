//! Memory for long files: those above `io.inline-max`, which come to memory while they are popular.
//!
//! The cache bounds what it keeps, but a response goes on with a file that was evicted, and a
//! socket with a huge page of which its client has not taken the last byte. Clients that make one
//! file after the other popular, and then take it slowly, would hold memory without a bound. So all
//! that is alive counts, from before the file is read, and huge pages count by when they were made:
//! nobody is told when the last socket lets one go.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_uring::Pages;

/// Sockets whose client takes nothing are closed before: by the timeouts of the server, and then
/// by those of the kernel.
const HUGE_WINDOW: Duration = Duration::from_mins(10);

/// The long files of one core.
pub(crate) struct LongMemory {
    held: Arc<AtomicU64>,
    /// A quarter more than the core may cache.
    held_max: u64,
    huge: Cell<HugePages>,
    huge_max: u64,
    /// Memory is short: no file comes in.
    is_closed: Cell<bool>,
}

/// The huge pages that were made lately.
#[derive(Clone, Copy, Default)]
struct HugePages {
    since: Option<Instant>,
    bytes: u64,
}

/// Room for one file. It is given back when the last reference to the bytes is dropped.
pub(crate) struct Held {
    all: Arc<AtomicU64>,
    bytes: u64,
    /// Whether the file is to be in a huge page.
    pub(crate) is_huge: bool,
}

impl LongMemory {
    /// `hot_bytes`: what the core may cache.
    pub(crate) fn new(hot_bytes: u64) -> Self {
        Self {
            held: Arc::default(),
            held_max: hot_bytes + hot_bytes / 4,
            huge: Cell::default(),
            huge_max: hot_bytes,
            is_closed: Cell::new(false),
        }
    }

    /// Whether files may come in.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.is_closed.set(is_closed);
    }

    /// Whether there is room for another file. Until then popular files are spliced as others are.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_closed.get() && self.held.load(Ordering::Relaxed) < self.held_max
    }

    /// Room for a file of `len` bytes. `None`: there is none.
    pub(crate) fn reserve(&self, len: usize, now: Instant) -> Option<Held> {
        if !self.has_room() {
            return None;
        }
        let huge = Pages::huge_bytes(len).filter(|&bytes| self.take_huge(bytes as u64, now));
        let bytes = huge.unwrap_or(len) as u64;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Some(Held {
            all: Arc::clone(&self.held),
            bytes,
            is_huge: huge.is_some(),
        })
    }

    /// Whether another huge page may be made: no more in ten minutes than may be cached.
    fn take_huge(&self, bytes: u64, now: Instant) -> bool {
        let is_recent = |since| now.saturating_duration_since(since) < HUGE_WINDOW;
        let mut huge = self.huge.get();
        if !huge.since.is_some_and(is_recent) {
            huge = HugePages {
                since: Some(now),
                bytes: 0,
            };
        }
        huge.bytes += bytes;
        let is_allowed = huge.bytes <= self.huge_max;
        if is_allowed {
            self.huge.set(huge);
        }
        is_allowed
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_held_is_bounded_until_it_is_dropped() {
        let (memory, now) = (LongMemory::new(8 * MIB as u64), Instant::now());
        let held: Vec<_> = (0..100)
            .map_while(|_| memory.reserve(MIB / 2, now))
            .collect();
        assert_eq!(held.len(), 20);
        assert!(!memory.has_room());
        drop(held);
        assert!(memory.reserve(MIB / 2, now).is_some());
    }

    #[test]
    fn huge_pages_are_made_at_a_bounded_rate_whoever_holds_them() {
        let (memory, mut now) = (LongMemory::new(8 * MIB as u64), Instant::now());
        let huge = |now| memory.reserve(MIB, now).is_some_and(|held| held.is_huge);
        for _ in 0..2 {
            let made = (0..100).filter(|_| huge(now)).count();
            assert_eq!(made, 4);
            assert!(memory.reserve(MIB, now).is_some(), "in small pages");
            now += HUGE_WINDOW;
        }
    }
}
