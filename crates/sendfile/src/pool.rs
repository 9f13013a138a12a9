//! The pipes of one core.
//!
//! ```text
//!            take                     socket is full
//!   idle ------------> PipeGuard --------------------------> parked
//!    ^                 |  ^                              |    |
//!    |  empty, dropped |  |  writable again              |    |  somebody needs it: closed,
//!    +-----------------+  +------------------------------+    |  and a new one made in its place
//!                      |                                      v
//!                      |  dropped with bytes in it       Reservation ----> PipeGuard
//!                      +----------------------------> closed
//! ```
//!
//! All pipes have one size, and their number is bounded by a budget of pages ([`Bounds`]). A
//! transfer that finds none waits in a queue. A transfer whose peer does not read *parks* its pipe.
//! It keeps the pipe until another transfer needs one: then the pool takes the pipe that was parked
//! first (its bytes are still in the file, or in its pages). So pipes are held only by transfers
//! that make progress and by those that wait for the disk, at most half: neither peers that do not
//! read nor a disk that does not answer can starve the others.
//!
//! No `RefCell` is borrowed while a waker runs or a task waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::param::page_size;
use tidegate_uring::{Owner, Permit, Ring, Shares};

use crate::budget::{Bounds, PoolConfig};
use crate::buffers::Buffers;
use crate::fair_queue::FairQueue;
use crate::pipe::Pipe;
use crate::queue::Queue;
use crate::semaphore::Semaphore;

/// The most files of a [`Pool`] that are held open for a second after their transfers, for the last
/// drop of their pages. Beyond that the drop is immediate, and pages that the peer has not taken
/// yet stay in memory.
pub const LATE_FILES_MAX: usize = 32;

/// Gauges and counters of a [`Pool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Pipes, whether idle, in use or parked.
    pub pipes: usize,
    /// Idle pipes.
    pub idle: usize,
    /// Parked pipes: they hold bytes for peers that are not reading.
    pub parked: usize,
    /// Pages that the pipes may hold.
    pub pages: usize,
    /// Transfers that wait for a pipe.
    pub waiting: usize,
    /// Transfers that read from the disk.
    pub cold: usize,
    /// Transfers that wait until fewer read from the disk.
    pub cold_waiting: usize,
    /// Transfers with a prefetch under way.
    pub ahead: usize,
    /// Transfers that wait for their turn to prefetch.
    pub ahead_waiting: usize,
    /// Pipes made so far.
    pub pipes_made: u64,
    /// Parked pipes that were taken from their transfers so far.
    pub pipes_taken: u64,
    /// Chunks that were spliced from memory, on the core, so far.
    pub chunks_inline: u64,
    /// Chunks that were spliced from the disk, on a worker of the ring, so far.
    pub chunks_cold: u64,
    /// Prefetches by a worker of the ring so far.
    pub prefetches: u64,
    /// Bytes of files that were in memory and that sockets took so far.
    pub bytes_inline: u64,
    /// The same of bytes that came from the disk.
    pub bytes_cold: u64,
}

/// The pipes of one executor, for its transfers to share.
pub struct Pool {
    bounds: Bounds,
    state: RefCell<State>,
    waiters: Queue<Grant>,
    cold: Rc<Shares>,
    /// Permits to prefetch.
    pub(crate) ahead: Rc<Shares>,
    /// Permits to hold a file open for a while after its transfer.
    pub(crate) late: Rc<Semaphore>,
    pub(crate) fair_queue: Rc<FairQueue>,
    pub(crate) buffers: Buffers,
    chunks_inline: Cell<u64>,
    chunks_cold: Cell<u64>,
    prefetches: Cell<u64>,
    bytes_inline: Cell<u64>,
    bytes_cold: Cell<u64>,
}

#[derive(Default)]
struct State {
    /// A stack: the pipe used last is still in the processor's cache.
    idle: Vec<Pipe>,
    /// In the order of parking; the ids ascend.
    parked: VecDeque<(u64, Pipe)>,
    parked_next: u64,
    /// Pipes there are, idle, leased and parked.
    pipes: usize,
    /// Reservations: pipes that are being made.
    making: usize,
    /// Pages of both.
    pages: usize,
    /// The last attempt to make a pipe found no descriptor or memory.
    fds_short: bool,
    pipes_made: u64,
    pipes_taken: u64,
}

impl Pool {
    /// Makes a pool with one pipe, so that one exists even when descriptors run out later.
    ///
    /// # Errors
    ///
    /// The first pipe cannot be made: the process has no descriptors left.
    pub async fn new(ring: &Ring, config: PoolConfig) -> io::Result<Rc<Self>> {
        let bounds = Bounds::new(&config);
        let pool = Rc::new(Self {
            cold: Shares::new(bounds.cold_max),
            ahead: Shares::new(bounds.ahead_max),
            late: Semaphore::new(LATE_FILES_MAX),
            bounds,
            state: RefCell::default(),
            waiters: Queue::default(),
            fair_queue: Rc::default(),
            buffers: Buffers::default(),
            chunks_inline: Cell::new(0),
            chunks_cold: Cell::new(0),
            prefetches: Cell::new(0),
            bytes_inline: Cell::new(0),
            bytes_cold: Cell::new(0),
        });
        pool.take(ring).await?;
        Ok(pool)
    }

    /// Its state at this moment.
    pub fn stats(&self) -> PoolStats {
        let state = self.state.borrow();
        PoolStats {
            pipes: state.pipes,
            idle: state.idle.len(),
            parked: state.parked.len(),
            pages: state.pages,
            waiting: self.waiters.len(),
            cold: self.cold.given(),
            cold_waiting: self.cold.waiting(),
            ahead: self.ahead.given(),
            ahead_waiting: self.ahead.waiting(),
            pipes_made: state.pipes_made,
            pipes_taken: state.pipes_taken,
            chunks_inline: self.chunks_inline.get(),
            chunks_cold: self.chunks_cold.get(),
            prefetches: self.prefetches.get(),
            bytes_inline: self.bytes_inline.get(),
            bytes_cold: self.bytes_cold.get(),
        }
    }

    /// Takes an empty pipe: an idle one, a new one, or one in place of a parked one; else waits in
    /// the queue.
    pub(crate) async fn take(self: &Rc<Self>, ring: &Ring) -> io::Result<PipeGuard> {
        let mut first = self.waiters.is_empty();
        loop {
            let grant = if first { self.next_grant() } else { None };
            let grant = match grant {
                Some(grant) => grant,
                None => self.waiters.wait(first).await,
            };
            let reservation = match grant {
                Grant::Pipe(guard) => return Ok(guard),
                Grant::Reservation(reservation) => reservation,
            };
            match reservation.make(ring).await {
                Ok(guard) => return Ok(guard),
                // Retries at the head of the queue.
                Err(failure) if failure.others => first = true,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// A permit to wait for the disk with a pipe, if one is free.
    pub(crate) fn try_cold(&self, owner: Owner) -> Option<Permit> {
        self.cold.try_take(owner)
    }

    /// A permit to wait for the disk with a pipe. Do not await it while holding a pipe.
    pub(crate) async fn cold(&self, owner: Owner) -> Permit {
        self.cold.take(owner).await
    }

    pub(crate) fn count_inline(&self) {
        self.chunks_inline.set(self.chunks_inline.get() + 1);
    }

    pub(crate) fn count_cold(&self) {
        self.chunks_cold.set(self.chunks_cold.get() + 1);
    }

    /// Counts bytes of a file that a socket took.
    pub(crate) fn count_sent(&self, bytes: u64, is_cold: bool) {
        let counter = if is_cold {
            &self.bytes_cold
        } else {
            &self.bytes_inline
        };
        counter.set(counter.get() + bytes);
    }

    pub(crate) fn count_prefetch(&self) {
        self.prefetches.set(self.prefetches.get() + 1);
    }

    /// The grant for the next transfer that needs a pipe, if there is one.
    fn next_grant(self: &Rc<Self>) -> Option<Grant> {
        let mut state = self.state.borrow_mut();
        if let Some(pipe) = state.idle.pop() {
            return Some(Grant::Pipe(PipeGuard::new(self, pipe, true)));
        }
        if !state.may_make(&self.bounds) {
            let (_, pipe) = state.parked.pop_front()?;
            state.pipes_taken += 1;
            state.close(pipe);
        }
        let pages = self.bounds.pipe_pages;
        state.making += 1;
        state.pages += pages;
        let pool = Rc::clone(self);
        Some(Grant::Reservation(Reservation { pool, pages }))
    }

    /// Serves waiting transfers while grants last. Called whenever a pipe or room for one is freed.
    fn serve(self: &Rc<Self>) {
        while !self.waiters.is_empty() {
            let Some(grant) = self.next_grant() else {
                return;
            };
            self.waiters.give(grant);
        }
    }

    /// Takes the parked pipe `id` back, if it is still there.
    fn unpark(&self, id: u64) -> Option<Pipe> {
        let mut state = self.state.borrow_mut();
        let index = state.parked.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        state.parked.remove(index).map(|(_, pipe)| pipe)
    }
}

impl State {
    fn may_make(&self, bounds: &Bounds) -> bool {
        let count = self.pipes + self.making;
        count == 0 || (count < bounds.pipes_max && !self.fds_short)
    }

    fn close(&mut self, pipe: Pipe) {
        self.pipes -= 1;
        self.pages -= pipe.capacity() / page_size();
        self.fds_short = false;
        drop(pipe);
    }
}

/// What a waiting transfer is given: a pipe, or room for a new one.
enum Grant {
    Pipe(PipeGuard),
    Reservation(Reservation),
}

/// Room in the pool's counts for a pipe that is being made. Dropped: the room is returned.
struct Reservation {
    pool: Rc<Pool>,
    /// Reserved pages; 0 once the pipe is made.
    pages: usize,
}

struct Failure {
    error: io::Error,
    /// Descriptors or memory ran out, and there are other pipes that will become free.
    others: bool,
}

impl Reservation {
    async fn make(self, ring: &Ring) -> Result<PipeGuard, Failure> {
        // The kernel makes a pipe with 16 pages before it is resized, so the budget may be exceeded
        // for a moment.
        let made = ring.pipe().await;
        match made.and_then(|ends| Pipe::new(ends, self.pages * page_size())) {
            Ok(pipe) => Ok(self.taken_by(pipe)),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn taken_by(mut self, pipe: Pipe) -> PipeGuard {
        let mut state = self.pool.state.borrow_mut();
        state.making -= 1;
        state.pipes += 1;
        state.pipes_made += 1;
        state.pages = state.pages - self.pages + pipe.capacity() / page_size();
        drop(state);
        self.pages = 0;
        PipeGuard::new(&self.pool, pipe, true)
    }

    fn fail(self, error: io::Error) -> Failure {
        let mut state = self.pool.state.borrow_mut();
        let short = matches!(
            Errno::from_io_error(&error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
        );
        state.fds_short |= short;
        // Set before the room is returned, which may serve others with the same need.
        let others = short && state.pipes + state.making > 1;
        drop(state);
        Failure { error, others }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.pages == 0 {
            return;
        }
        let mut state = self.pool.state.borrow_mut();
        state.making -= 1;
        state.pages -= self.pages;
        drop(state);
        self.pool.serve();
    }
}

/// A pipe in use. Dropped: returns to the pool if it is empty, else is closed.
pub(crate) struct PipeGuard {
    pool: Rc<Pool>,
    /// `None` once it was parked.
    pipe: Option<Pipe>,
    empty: bool,
}

impl PipeGuard {
    fn new(pool: &Rc<Pool>, pipe: Pipe, empty: bool) -> Self {
        Self {
            pool: Rc::clone(pool),
            pipe: Some(pipe),
            empty,
        }
    }

    /// The pipe, to drain or inspect.
    pub(crate) fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("only parking takes it, by value")
    }

    /// The pipe, to fill: from here on it counts as holding bytes.
    pub(crate) fn fill(&mut self) -> &Pipe {
        self.empty = false;
        self.pipe()
    }

    /// Notes that the pipe is empty again.
    pub(crate) fn emptied(&mut self) {
        self.empty = true;
    }

    /// Parks the pipe with its bytes in the pool, which may give it to another transfer.
    pub(crate) fn park(mut self) -> Parked {
        let pool = Rc::clone(&self.pool);
        let pipe = self.pipe.take().expect("only parking takes it, by value");
        let mut state = pool.state.borrow_mut();
        let id = state.parked_next;
        state.parked_next += 1;
        state.parked.push_back((id, pipe));
        drop(state);
        pool.serve();
        Parked { pool, id }
    }
}

impl Drop for PipeGuard {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut state = self.pool.state.borrow_mut();
        if self.empty {
            state.fds_short = false;
            state.idle.push(pipe);
        } else {
            state.close(pipe);
        }
        drop(state);
        self.pool.serve();
    }
}

/// A claim to a parked pipe. Dropped: the pipe is closed.
pub(crate) struct Parked {
    pool: Rc<Pool>,
    id: u64,
}

impl Parked {
    /// The pipe with its bytes; `None` if it went to another transfer, and the bytes are lost.
    pub(crate) fn reclaim(self) -> Option<PipeGuard> {
        let pipe = self.pool.unpark(self.id)?;
        Some(PipeGuard::new(&self.pool, pipe, false))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Gone after `reclaim`.
        if let Some(pipe) = self.pool.unpark(self.id) {
            drop(PipeGuard::new(&self.pool, pipe, false));
        }
    }
}
