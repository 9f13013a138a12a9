//! A pool of threads that decompress for all cores, since no executor may be busy for long.
//!
//! It has one thread for two cores and at most [`THREADS_MAX`], with a nice value. Each job is
//! short, so the queue is fair.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::getpid;
use rustix::thread::sched_getaffinity;
use tidegate_uring::{Fd, Ring, catch_panic};

use crate::background::unpin_and_renice;

const THREADS_MAX: usize = 8;

/// Below the executors, but above batch work: a client waits for the result.
const NICE: i32 = 5;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    threads: 0,
    idle: 0,
});

static MORE: Condvar = Condvar::new();

/// The size of the pool. Threads start on demand.
static POOL_SIZE: LazyLock<usize> = LazyLock::new(|| {
    // Those of the main thread: the calling thread is pinned to one core.
    let cores = sched_getaffinity(Some(getpid())).map_or(1, |cores| cores.count() as usize);
    cores.div_ceil(2).clamp(1, THREADS_MAX)
});

/// One task's handle to the pool.
pub(crate) struct PoolHandle {
    ring: Ring,
    /// Signals the end of a job: glommio notices a wake-up from another thread up to 10 ms late.
    done: Fd,
    /// The other end, for the thread.
    notify: Arc<OwnedFd>,
}

impl PoolHandle {
    pub(crate) fn new(ring: &Ring) -> io::Result<Self> {
        // Not an eventfd: see `Ring::read`; the core would sleep through events of its connections.
        // Not a pipe: their number is limited for each user, and splices need them. Blocking, so
        // that a read on the ring waits.
        let flags = SocketFlags::CLOEXEC;
        let (done, notify) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Self {
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
    /// The work panicked, or no thread can be started.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let output = Arc::new(Mutex::new(None));
        let (slot, notify) = (Arc::downgrade(&output), Arc::clone(&self.notify));
        push(Box::new(move || {
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

fn push(work: Work) -> io::Result<()> {
    let mut queue = queue();
    if queue.idle <= queue.waiting.len() && queue.threads < *POOL_SIZE {
        match start() {
            Ok(()) => queue.threads += 1,
            Err(error) if queue.threads == 0 => return Err(error),
            // The running threads take the job.
            Err(_) => {}
        }
    }
    queue.waiting.push_back(work);
    drop(queue);
    MORE.notify_one();
    Ok(())
}

fn start() -> io::Result<()> {
    let thread = thread::Builder::new().name("tidegate-decode".to_owned());
    thread.spawn(compute).map(drop)
}

fn compute() {
    unpin_and_renice(NICE);
    let mut queue = queue();
    loop {
        let Some(work) = queue.waiting.pop_front() else {
            queue.idle += 1;
            queue = MORE.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            continue;
        };
        drop(queue);
        work();
        queue = self::queue();
    }
}

/// A panic leaves the queue consistent, so a poisoned lock is usable.
fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_lite::future::poll_once;
    use glommio::{LocalExecutorBuilder, Placement};
    use tidegate_uring::Config;

    use super::*;

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
            let mut pool = PoolHandle::new(&ring).unwrap();
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
            let mut pool = PoolHandle::new(&ring).unwrap();
            let mut work = Box::pin(pool.run(move || drop(sender)));
            assert!(poll_once(&mut work).await.is_none());
            drop(work);
            let end = dropped.recv_timeout(Duration::from_mins(1));
            assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
            let mut pool = PoolHandle::new(&ring).unwrap();
            assert_eq!(pool.run(|| 1).await.unwrap(), 1, "the threads go on");
        });
    }
}
