//! Threads that compute for all executors, since none of these may be busy for long.
//!
//! A pool has one thread for two cores, and no more than it is made with.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::getpid;
use rustix::thread::sched_getaffinity;

use crate::background::unpin_and_renice;
use crate::blocking::catch_panic;
use crate::tell::tell;
use crate::{Fd, Ring};

/// Runs, or is given up without running.
type Work = Box<dyn FnOnce(Fate) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Run,
    GiveUp,
}

/// Threads for work of one kind. They start on demand and never end.
pub struct ThreadPool {
    name: &'static str,
    nice: i32,
    threads_max: usize,
    waiting_max: usize,
    queue: Mutex<Queue>,
    more: Condvar,
}

struct Queue {
    /// The origins that have waiting work, in the order of their turns.
    turns: VecDeque<Turn>,
    /// The pieces of work of all of them.
    waiting: usize,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
}

/// The waiting work of one origin, the oldest first; there is some.
struct Turn {
    origin: u128,
    work: VecDeque<Work>,
}

/// One thread for two cores.
static HALF_OF_THE_CORES: LazyLock<usize> = LazyLock::new(|| {
    // Those of the main thread: the calling thread is pinned to one core.
    let cores = sched_getaffinity(Some(getpid())).map_or(1, |cores| cores.count() as usize);
    cores.div_ceil(2)
});

/// One task's handle to a pool.
pub struct PoolHandle {
    pool: &'static ThreadPool,
    ring: Ring,
    /// Signals the end of a job: glommio notices a wake-up from another thread late.
    done: Fd,
    /// The other end, for the thread.
    notify: Arc<OwnedFd>,
}

impl PoolHandle {
    /// A handle for a task on the executor of `ring`.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn new(pool: &'static ThreadPool, ring: &Ring) -> io::Result<Self> {
        // Not an eventfd: see `Ring::read`; the core would sleep through events of its connections.
        // Not a pipe: their number is limited for each user, and splices need them. Blocking, so
        // that a read on the ring waits.
        let flags = SocketFlags::CLOEXEC;
        let (done, notify) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Self {
            pool,
            ring: ring.clone(),
            done: done.into(),
            notify: Arc::new(notify),
        })
    }

    /// As [`PoolHandle::run_for`] with the one origin of a pool that does not tell them apart.
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.run_for(0, work).await
    }

    /// Runs `work` on a thread, and returns its output. Origins take turns, so one that has much
    /// waiting work delays another by one piece. If as much is waiting as may, the newest of the
    /// origin that has the most makes room, unless `origin` has as much.
    ///
    /// Dropped: work in progress runs to its end, queued work is dropped by the thread. The handle
    /// must not be used again.
    ///
    /// # Errors
    ///
    /// The work panicked, or no thread can be started. [`io::ErrorKind::WouldBlock`]: as much work
    /// is waiting as may.
    pub async fn run_for<T: Send + 'static>(
        &mut self,
        origin: u128,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let output = Arc::new(Mutex::new(None));
        let (slot, notify) = (Arc::downgrade(&output), Arc::clone(&self.notify));
        let work = move |fate| {
            if slot.strong_count() == 0 {
                return;
            }
            let done = match fate {
                Fate::Run => catch_panic(work),
                Fate::GiveUp => Err(io::ErrorKind::WouldBlock.into()),
            };
            if let Some(slot) = slot.upgrade() {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                // Or the receiver was dropped.
                let _ = tell(&notify);
            }
        };
        self.pool.push(origin, Box::new(work))?;
        let (read, _) = self
            .ring
            .read(&self.done, Vec::with_capacity(1), None)
            .await;
        read?;
        let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
        output.unwrap_or_else(|| Err(io::Error::other("the work was given up")))
    }
}

impl ThreadPool {
    /// A pool of at most `threads_max` threads of this name, with this nice value. At most
    /// `waiting_max` pieces of work wait for them.
    pub const fn new(
        name: &'static str,
        nice: i32,
        threads_max: usize,
        waiting_max: usize,
    ) -> Self {
        Self {
            name,
            nice,
            threads_max,
            waiting_max,
            queue: Mutex::new(Queue {
                turns: VecDeque::new(),
                waiting: 0,
                threads: 0,
                idle: 0,
            }),
            more: Condvar::new(),
        }
    }

    fn push(&'static self, origin: u128, work: Work) -> io::Result<()> {
        let mut queue = self.queue();
        let threads_max = HALF_OF_THE_CORES.clamp(1, self.threads_max);
        if queue.idle <= queue.waiting && queue.threads < threads_max {
            match self.start() {
                Ok(()) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                // The running threads take the job.
                Err(_) => {}
            }
        }
        let is_full = queue.waiting >= self.waiting_max;
        let given_up = is_full.then(|| queue.make_room(origin)).transpose()?;
        queue.push(origin, work);
        drop(queue);
        self.more.notify_one();
        if let Some(work) = given_up {
            work(Fate::GiveUp);
        }
        Ok(())
    }

    fn start(&'static self) -> io::Result<()> {
        let thread = thread::Builder::new().name(self.name.to_owned());
        thread.spawn(|| self.compute()).map(drop)
    }

    fn compute(&self) {
        unpin_and_renice(self.nice);
        let mut queue = self.queue();
        loop {
            let Some(work) = queue.pop() else {
                queue.idle += 1;
                queue = self
                    .more
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            };
            drop(queue);
            work(Fate::Run);
            queue = self.queue();
        }
    }

    /// A panic leaves the queue consistent, so a poisoned lock is usable.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, origin: u128, work: Work) {
        self.waiting += 1;
        match self.turns.iter_mut().find(|turn| turn.origin == origin) {
            Some(turn) => turn.work.push_back(work),
            None => self.turns.push_back(Turn {
                origin,
                work: [work].into(),
            }),
        }
    }

    /// The oldest work of the origin whose turn it is.
    fn pop(&mut self) -> Option<Work> {
        let mut turn = self.turns.pop_front()?;
        let work = turn.work.pop_front()?;
        self.waiting -= 1;
        if !turn.work.is_empty() {
            self.turns.push_back(turn);
        }
        Some(work)
    }

    /// Takes the newest work of the origin that has the most, unless `origin` would then have as
    /// much.
    fn make_room(&mut self, origin: u128) -> io::Result<Work> {
        let own = self.turns.iter().find(|turn| turn.origin == origin);
        let own = own.map_or(0, |turn| turn.work.len());
        let longest = self.turns.iter_mut().max_by_key(|turn| turn.work.len());
        let longest = longest.filter(|turn| turn.work.len() > own + 1);
        let work = longest.and_then(|turn| turn.work.pop_back());
        let work = work.ok_or(io::ErrorKind::WouldBlock)?;
        self.waiting -= 1;
        Ok(work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_lite::future::poll_once;
    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;
    use crate::Config;

    static POOL: ThreadPool = ThreadPool::new("test", 5, 8, usize::MAX);

    fn run<T: 'static>(test: impl AsyncFnOnce(Ring) -> T + 'static) -> T {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .make()
            .unwrap();
        executor.run(async {
            let ring = Ring::start(&Config::default()).unwrap();
            test(ring).await
        })
    }

    #[test]
    fn work_is_done_elsewhere_and_a_panic_is_an_error() {
        run(async |ring| {
            let mut pool = PoolHandle::new(&POOL, &ring).unwrap();
            for round in 0..100 {
                let here = thread::current().id();
                let (number, there) = pool
                    .run(move || (round, thread::current().id()))
                    .await
                    .unwrap();
                assert_eq!(number, round);
                assert_ne!(here, there);
                let failed = pool.run(|| panic!("on purpose")).await;
                assert_eq!(failed.unwrap_err().to_string(), "the work panicked");
            }
        });
    }

    #[test]
    fn abandoned_work_is_dropped() {
        run(async |ring| {
            let (sender, dropped) = mpsc::channel::<()>();
            let mut pool = PoolHandle::new(&POOL, &ring).unwrap();
            let mut work = Box::pin(pool.run(move || drop(sender)));
            assert!(poll_once(&mut work).await.is_none());
            drop(work);
            let end = dropped.recv_timeout(Duration::from_mins(1));
            assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
            let mut pool = PoolHandle::new(&POOL, &ring).unwrap();
            assert_eq!(pool.run(|| 1).await.unwrap(), 1, "the threads go on");
        });
    }

    /// A queue with work of each of `origins`, which sends it.
    fn queue(origins: &[u128], done: &mpsc::Sender<(u128, bool)>) -> Queue {
        let mut queue = Queue {
            turns: VecDeque::new(),
            waiting: 0,
            threads: 0,
            idle: 0,
        };
        for origin in origins {
            queue.push(*origin, work(*origin, done));
        }
        queue
    }

    fn work(origin: u128, done: &mpsc::Sender<(u128, bool)>) -> Work {
        let done = done.clone();
        Box::new(move |fate| done.send((origin, fate == Fate::Run)).unwrap())
    }

    fn order(mut queue: Queue, done: &mpsc::Receiver<(u128, bool)>) -> Vec<u128> {
        while let Some(work) = queue.pop() {
            work(Fate::Run);
        }
        assert_eq!(queue.waiting, 0);
        let run = done.try_iter().filter(|(_, is_run)| *is_run);
        run.map(|(origin, _)| origin).collect()
    }

    #[test]
    fn origins_take_turns() {
        let (sender, done) = mpsc::channel();
        let flood = queue(&[1, 1, 1, 1, 2, 3, 3], &sender);
        assert_eq!(order(flood, &done), [1, 2, 3, 1, 3, 1, 1]);
        let mut late = queue(&[1, 1, 1], &sender);
        late.pop().unwrap()(Fate::Run);
        late.push(2, work(2, &sender));
        assert_eq!(order(late, &done), [1, 1, 2, 1]);
    }

    #[test]
    fn the_origin_with_the_most_work_makes_room() {
        let (sender, done) = mpsc::channel();
        let mut full = queue(&[1, 1, 1, 2, 2], &sender);
        // It would have as much as it takes.
        assert!(full.make_room(1).is_err() && full.make_room(2).is_err());
        full.make_room(3).unwrap()(Fate::GiveUp);
        assert_eq!(done.recv(), Ok((1, false)));
        full.push(3, work(3, &sender));
        full.make_room(4).unwrap()(Fate::GiveUp);
        full.push(4, work(4, &sender));
        full.make_room(5).unwrap()(Fate::GiveUp);
        full.push(5, work(5, &sender));
        assert!(full.make_room(6).is_err(), "each has one");
        assert_eq!(order(full, &done), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn work_that_makes_room_ends_its_wait() {
        static NARROW: ThreadPool = ThreadPool::new("crowded", 5, 1, 2);
        run(async |ring| {
            let (release, wait) = mpsc::channel::<()>();
            let (started, starts) = mpsc::channel();
            let handle = || PoolHandle::new(&NARROW, &ring).unwrap();
            let [mut first, mut second, mut third, mut fourth] =
                [handle(), handle(), handle(), handle()];
            let mut running = Box::pin(first.run_for(1, move || {
                started.send(()).unwrap();
                wait.recv().unwrap();
            }));
            assert!(poll_once(&mut running).await.is_none());
            starts.recv_timeout(Duration::from_mins(1)).unwrap();
            let mut older = Box::pin(second.run_for(1, || 2));
            assert!(poll_once(&mut older).await.is_none());
            let mut newer = Box::pin(third.run_for(1, || 3));
            assert!(poll_once(&mut newer).await.is_none());
            let mut other = Box::pin(fourth.run_for(2, || 4));
            assert!(poll_once(&mut other).await.is_none());
            assert_eq!(
                newer.await.unwrap_err().kind(),
                io::ErrorKind::WouldBlock,
                "at once"
            );
            release.send(()).unwrap();
            running.await.unwrap();
            assert_eq!((older.await.unwrap(), other.await.unwrap()), (2, 4));
        });
    }

    #[test]
    fn work_beyond_the_queue_is_refused() {
        static NARROW: ThreadPool = ThreadPool::new("narrow", 5, 1, 1);
        run(async |ring| {
            let (release, wait) = mpsc::channel::<()>();
            let (started, starts) = mpsc::channel();
            let mut handles: Vec<_> = (0..3)
                .map(|_| PoolHandle::new(&NARROW, &ring).unwrap())
                .collect();
            let [first, second, third] = &mut handles[..] else {
                unreachable!("three of them");
            };
            let mut running = Box::pin(first.run(move || {
                started.send(()).unwrap();
                wait.recv().unwrap();
            }));
            assert!(poll_once(&mut running).await.is_none());
            starts.recv_timeout(Duration::from_mins(1)).unwrap();
            let mut waiting = Box::pin(second.run(|| 2));
            assert!(poll_once(&mut waiting).await.is_none());
            let refused = third.run(|| 3).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            release.send(()).unwrap();
            running.await.unwrap();
            assert_eq!(waiting.await.unwrap(), 2);
        });
    }
}
