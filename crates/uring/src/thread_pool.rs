//! Threads that compute for all executors, since none of these may be busy for long.
//!
//! A pool has one thread for two cores, and no more than it is made with.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::getpid;
use rustix::thread::sched_getaffinity;

use crate::background::unpin_and_renice;
use crate::blocking::catch_panic;
use crate::{Fd, Ring};

type Work = Box<dyn FnOnce() + Send>;

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
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
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
    /// Signals the end of a job: glommio notices a wake-up from another thread up to 10 ms late.
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

    /// Runs `work` on a thread, and returns its output.
    ///
    /// Dropped: work in progress runs to its end, queued work is dropped by the thread. The handle
    /// must not be used again.
    ///
    /// # Errors
    ///
    /// The work panicked, or no thread can be started. [`io::ErrorKind::WouldBlock`]: as much work
    /// is waiting as may.
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let output = Arc::new(Mutex::new(None));
        let (slot, notify) = (Arc::downgrade(&output), Arc::clone(&self.notify));
        self.pool.push(Box::new(move || {
            if slot.strong_count() == 0 {
                return;
            }
            let done = catch_panic(work);
            if let Some(slot) = slot.upgrade() {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                // Fails only if the receiver was dropped.
                let _ = rustix::net::send(&*notify, b".", SendFlags::NOSIGNAL);
            }
        }))?;
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
                waiting: VecDeque::new(),
                threads: 0,
                idle: 0,
            }),
            more: Condvar::new(),
        }
    }

    fn push(&'static self, work: Work) -> io::Result<()> {
        let mut queue = self.queue();
        let threads_max = HALF_OF_THE_CORES.clamp(1, self.threads_max);
        if queue.idle <= queue.waiting.len() && queue.threads < threads_max {
            match self.start() {
                Ok(()) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                // The running threads take the job.
                Err(_) => {}
            }
        }
        if queue.waiting.len() >= self.waiting_max {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        queue.waiting.push_back(work);
        drop(queue);
        self.more.notify_one();
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
            let Some(work) = queue.waiting.pop_front() else {
                queue.idle += 1;
                queue = self
                    .more
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            };
            drop(queue);
            work();
            queue = self.queue();
        }
    }

    /// A panic leaves the queue consistent, so a poisoned lock is usable.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
