//! The memory budget of the decoders of one core.
//!
//! A decoder keeps a window of up to 16 MiB for as long as its client takes to receive the file. So
//! all decoders share [`BYTES_MAX`], and requests wait for a part of it. Between two pieces a
//! decoder is parked. If its client has received nothing for [`STALLED`], a waiting request evicts
//! it; the file is decoded from its start again once the client goes on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use tidegate_uring::executor::{Semaphore, coarse_sleep};

/// Bytes of all decoders of one core, with their input and output.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a parked decoder is safe from waiting requests.
const STALLED: Duration = Duration::from_secs(1);

/// How often a waiting request checks for free memory.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The budget, and the parked values that hold parts of it.
pub(crate) struct MemoryBudget<T> {
    left: Rc<Cell<usize>>,
    /// The longest first.
    parked: RefCell<VecDeque<Entry<T>>>,
    next_id: Cell<u64>,
    /// Held by the request that is next. The others wait in line.
    next: Semaphore,
}

struct Entry<T> {
    id: u64,
    since: Instant,
    value: T,
}

/// A part of the budget. Dropped: returned.
pub(crate) struct Reservation {
    left: Rc<Cell<usize>>,
    bytes: usize,
}

/// A claim to a parked value. Dropped: so is the value.
pub(crate) struct Parked<T> {
    budget: Rc<MemoryBudget<T>>,
    id: u64,
}

impl<T> MemoryBudget<T> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            left: Rc::new(Cell::new(BYTES_MAX)),
            parked: RefCell::default(),
            next_id: Cell::new(0),
            next: Semaphore::new(1),
        })
    }

    /// Reserves `bytes`, at most [`BYTES_MAX`], after all requests before. `None`: not within
    /// `time`.
    ///
    /// Dropped: it leaves the line.
    pub(crate) async fn reserve(&self, bytes: usize, time: Duration) -> Option<Reservation> {
        let taken = async {
            let _next = self.next.acquire_permit(1).await.ok()?;
            loop {
                if let Some(reservation) = self.try_reserve(bytes) {
                    return Some(reservation);
                }
                coarse_sleep(POLL_INTERVAL).await;
            }
        };
        let over = async {
            coarse_sleep(time).await;
            None
        };
        or(taken, over).await
    }

    /// Reserves `bytes` if they are free, or become free by evicting stalled decoders.
    fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        while self.left.get() < bytes {
            drop(self.pop_stalled()?);
        }
        self.left.set(self.left.get() - bytes);
        let left = Rc::clone(&self.left);
        Some(Reservation { left, bytes })
    }

    fn pop_stalled(&self) -> Option<T> {
        let mut parked = self.parked.borrow_mut();
        let is_stalled = parked.front()?.since.elapsed() >= STALLED;
        let entry = if is_stalled { parked.pop_front() } else { None };
        entry.map(|entry| entry.value)
    }

    /// Parks `value`, which holds a reservation. Waiting requests may evict it.
    pub(crate) fn park(self: &Rc<Self>, value: T) -> Parked<T> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let since = Instant::now();
        self.parked
            .borrow_mut()
            .push_back(Entry { id, since, value });
        Parked {
            budget: Rc::clone(self),
            id,
        }
    }

    fn unpark(&self, id: u64) -> Option<T> {
        let mut parked = self.parked.borrow_mut();
        let index = parked.binary_search_by_key(&id, |entry| entry.id).ok()?;
        parked.remove(index).map(|entry| entry.value)
    }
}

impl<T> Parked<T> {
    /// The value, unless it was evicted.
    pub(crate) fn reclaim(self) -> Option<T> {
        self.budget.unpark(self.id)
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        // A no-op after `reclaim`.
        drop(self.budget.unpark(self.id));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::zip;
    use tidegate_uring::executor::Executor;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn run(test: impl AsyncFnOnce(Rc<MemoryBudget<Reservation>>) + 'static) {
        let executor = Executor::new("test", 1).unwrap();
        executor.run(async { test(MemoryBudget::new()).await });
    }

    #[test]
    fn a_reservation_is_returned() {
        run(async |memory| {
            let all = memory.reserve(BYTES_MAX, LONG).await.unwrap();
            assert!(memory.reserve(1, Duration::ZERO).await.is_none());
            let (later, ()) = zip(memory.reserve(2, LONG), async { drop(all) }).await;
            drop(later.unwrap());
            assert_eq!(memory.left.get(), BYTES_MAX);
        });
    }

    #[test]
    fn a_parked_value_is_evicted_once_it_is_stalled() {
        run(async |memory| {
            let half = async || memory.reserve(BYTES_MAX / 2, LONG).await.unwrap();
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
            let parked = memory.park(memory.reserve(BYTES_MAX, LONG).await.unwrap());
            drop(parked);
            assert_eq!(memory.left.get(), BYTES_MAX);
        });
    }
}
