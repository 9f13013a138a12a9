//! The memory of the decoders of one core.
//!
//! A decoder keeps a window of up to 16 MiB for as long as its client takes to receive the file. So
//! all of them together have [`BYTES_MAX`], and whoever finds none waits. Between two pieces a
//! decoder is parked: if its client has taken nothing for [`STALLED`], it is dropped in favour of
//! those who wait, and that file is decoded from its start again once the client goes on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::sync::Semaphore;
use glommio::timer::Timer;

/// Bytes of all decoders of one core, and of what they read and yield.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a decoder that nobody goes on with is kept where others wait.
const STALLED: Duration = Duration::from_secs(1);

/// How often it is looked whether there is room, while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The memory, and what is parked in it.
pub(crate) struct Memory<T> {
    left: Rc<Cell<usize>>,
    /// The longest first.
    parked: RefCell<VecDeque<Entry<T>>>,
    next_id: Cell<u64>,
    /// One looks for room; the others wait for their turn to.
    turn: Semaphore,
}

struct Entry<T> {
    id: u64,
    since: Instant,
    what: T,
}

/// A part of the memory. Dropped: given back.
pub(crate) struct Lease {
    left: Rc<Cell<usize>>,
    bytes: usize,
}

/// A claim to what is parked. Dropped: that is dropped.
pub(crate) struct Parked<T> {
    memory: Rc<Memory<T>>,
    id: u64,
}

impl<T> Memory<T> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            left: Rc::new(Cell::new(BYTES_MAX)),
            parked: RefCell::default(),
            next_id: Cell::new(0),
            turn: Semaphore::new(1),
        })
    }

    /// `bytes` of it, no more than [`BYTES_MAX`], after those who asked before; `None`: not within
    /// `time`. Dropped: the place in line is given up.
    pub(crate) async fn take(&self, bytes: usize, time: Duration) -> Option<Lease> {
        let taken = async {
            let _turn = self.turn.acquire_permit(1).await.ok()?;
            loop {
                if let Some(lease) = self.try_take(bytes) {
                    return Some(lease);
                }
                Timer::new(LOOK_EVERY).await;
            }
        };
        let over = async {
            Timer::new(time).await;
            None
        };
        or(taken, over).await
    }

    /// `bytes` of it, if they are free or become so by dropping what is parked for long.
    fn try_take(&self, bytes: usize) -> Option<Lease> {
        while self.left.get() < bytes {
            drop(self.pop_stalled()?);
        }
        self.left.set(self.left.get() - bytes);
        let left = Rc::clone(&self.left);
        Some(Lease { left, bytes })
    }

    fn pop_stalled(&self) -> Option<T> {
        let mut parked = self.parked.borrow_mut();
        let is_stalled = parked.front()?.since.elapsed() >= STALLED;
        let entry = if is_stalled { parked.pop_front() } else { None };
        entry.map(|entry| entry.what)
    }

    /// Leaves `what`, which holds some of the memory, to those who wait for long.
    pub(crate) fn park(self: &Rc<Self>, what: T) -> Parked<T> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let since = Instant::now();
        self.parked
            .borrow_mut()
            .push_back(Entry { id, since, what });
        Parked {
            memory: Rc::clone(self),
            id,
        }
    }

    fn unpark(&self, id: u64) -> Option<T> {
        let mut parked = self.parked.borrow_mut();
        let index = parked.binary_search_by_key(&id, |entry| entry.id).ok()?;
        parked.remove(index).map(|entry| entry.what)
    }
}

impl<T> Parked<T> {
    /// What was parked, if it is still there.
    pub(crate) fn reclaim(self) -> Option<T> {
        self.memory.unpark(self.id)
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        // Not there after `reclaim`.
        drop(self.memory.unpark(self.id));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::zip;
    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn run(test: impl AsyncFnOnce(Rc<Memory<Lease>>) + 'static) {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .make()
            .unwrap();
        executor.run(async { test(Memory::new()).await });
    }

    #[test]
    fn what_is_taken_is_given_back() {
        run(async |memory| {
            let all = memory.take(BYTES_MAX, LONG).await.unwrap();
            assert!(memory.take(1, Duration::ZERO).await.is_none());
            let (later, ()) = zip(memory.take(2, LONG), async { drop(all) }).await;
            drop(later.unwrap());
            assert_eq!(memory.left.get(), BYTES_MAX);
        });
    }

    #[test]
    fn what_is_parked_gives_way_once_it_is_stalled() {
        run(async |memory| {
            let half = async || memory.take(BYTES_MAX / 2, LONG).await.unwrap();
            let (one, other) = (memory.park(half().await), memory.park(half().await));
            // It waits until the first is stalled, and takes no more than it needs.
            let taken = half().await;
            assert!(one.reclaim().is_none());
            drop((other.reclaim().unwrap(), taken));
            assert_eq!(memory.left.get(), BYTES_MAX);
        });
    }

    #[test]
    fn a_claim_that_is_dropped_gives_its_memory_back() {
        run(async |memory| {
            let parked = memory.park(memory.take(BYTES_MAX, LONG).await.unwrap());
            drop(parked);
            assert_eq!(memory.left.get(), BYTES_MAX);
        });
    }
}
