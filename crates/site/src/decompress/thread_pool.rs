//! Threads that compute for all cores, so that none of these does.
//!
//! There are as many as half of the cores and no more than [`THREADS_MAX`], and they give way to
//! serving. Each piece of work is short, so those who wait for one take turns.

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

/// Somebody waits for what they do, so they give way to serving, but not to everything.
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

/// How many threads there are once all are busy.
static WANTED: LazyLock<usize> = LazyLock::new(|| {
    // Those of the main thread: the one that asks is pinned to one.
    let cores = sched_getaffinity(Some(getpid())).map_or(1, |cores| cores.count() as usize);
    cores.div_ceil(2).clamp(1, THREADS_MAX)
});

/// The way of one task of a core to the threads.
pub(crate) struct Worker {
    ring: Ring,
    /// Tells the core that work is done: a wake-up from another thread would be seen 10 ms late.
    done: Fd,
    /// The other end, for the thread.
    tell: Arc<OwnedFd>,
}

impl Worker {
    pub(crate) fn new(ring: &Ring) -> io::Result<Self> {
        // Not an eventfd: see `Ring::read`; until it woke up for something else the core would take
        // no news of its connections either. Not a pipe: a user has few, and files go through them.
        // Blocking: a read on the ring is to wait for it.
        let flags = SocketFlags::CLOEXEC;
        let (done, tell) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Self {
            ring: ring.clone(),
            done: done.into(),
            tell: Arc::new(tell),
        })
    }

    /// The output of `work`, which is done by a thread in its turn.
    ///
    /// Dropped: work that was begun goes on to its end, other is not begun, and what it owns is
    /// dropped by the thread. The worker is good for no more then.
    ///
    /// # Errors
    ///
    /// Where the work panicked, or there is no thread.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let output = Arc::new(Mutex::new(None));
        let (place, tell) = (Arc::downgrade(&output), Arc::clone(&self.tell));
        push(Box::new(move || {
            if place.strong_count() == 0 {
                return;
            }
            let done = catch_panic(work);
            if let Some(place) = place.upgrade() {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                // It fails only where nobody waits any more.
                let _ = rustix::net::send(&*tell, b".", SendFlags::NOSIGNAL);
            }
        }))?;
        let (told, _) = self
            .ring
            .read(&self.done, Vec::with_capacity(1), None)
            .await;
        told?;
        let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
        output.unwrap_or_else(|| Err(io::Error::other("the work was given up")))
    }
}

fn push(work: Work) -> io::Result<()> {
    let mut queue = queue();
    if queue.idle <= queue.waiting.len() && queue.threads < *WANTED {
        match start() {
            Ok(()) => queue.threads += 1,
            Err(error) if queue.threads == 0 => return Err(error),
            // The others come to it.
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

/// Nothing is half done when a thread panics with the lock.
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
            let mut worker = Worker::new(&ring).unwrap();
            for round in 0..100 {
                let here = thread::current().id();
                let (number, there) = worker
                    .run(move || (round, thread::current().id()))
                    .await
                    .unwrap();
                assert_eq!(number, round);
                assert_ne!(here, there);
                let failed = worker.run(|| panic!("on purpose")).await;
                assert_eq!(failed.unwrap_err().to_string(), "the work panicked");
            }
        });
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        run(async |ring| {
            let (sender, dropped) = mpsc::channel::<()>();
            let mut worker = Worker::new(&ring).unwrap();
            let mut work = Box::pin(worker.run(move || drop(sender)));
            assert!(poll_once(&mut work).await.is_none());
            drop(work);
            let end = dropped.recv_timeout(Duration::from_mins(1));
            assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
            let mut worker = Worker::new(&ring).unwrap();
            assert_eq!(worker.run(|| 1).await.unwrap(), 1, "the threads go on");
        });
    }
}
