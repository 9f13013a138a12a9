//! The memory for bytes of origins on their way: what fills gather for the disk, and responses that
//! are read whole before anybody gets them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A bound on that memory, shared by all that take of it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    taken: AtomicU64,
    /// `None`: without a bound.
    bytes_max: RwLock<Option<u64>>,
    /// The process has hardly any memory left: nothing may be taken.
    is_short: AtomicBool,
}

/// What is taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    pub(crate) fn set_max(&self, bytes: u64) {
        *self
            .bytes_max
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    pub(crate) fn set_short(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::Relaxed);
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes nothing yet.
    pub(crate) fn begin(self: &Arc<Self>) -> Taken {
        Taken {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Takes so many bytes; `None` if there are not so many left.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let mut taken = self.begin();
        taken.grow(bytes).then_some(taken)
    }
}

impl Taken {
    /// Takes more. False: there is not so much left.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let (memory, bytes) = (&self.memory, bytes as u64);
        let max = *memory
            .bytes_max
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let max = max.unwrap_or(u64::MAX);
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= max);
        let order = Ordering::Relaxed;
        let is_taken =
            !memory.is_short.load(order) && memory.taken.fetch_update(order, order, fits).is_ok();
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.memory.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let memory = Arc::new(Memory::default());
        memory.set_max(100);
        let first = memory.take(60).unwrap();
        assert!(memory.take(41).is_none());
        let mut second = memory.take(30).unwrap();
        assert!(second.grow(10) && !second.grow(1));
        assert_eq!(memory.taken(), 100);
        drop(first);
        assert!(second.grow(1));
        drop(second);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn nothing_is_taken_while_the_process_has_none() {
        let memory = Arc::new(Memory::default());
        memory.set_short(true);
        assert!(memory.take(1).is_none());
        memory.set_short(false);
        assert!(memory.take(1).is_some());
    }
}
