//! A future that is polled only when its waker was called.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls a future when it is new and when its waker was called since the last poll, not whenever
/// its task runs.
///
/// A future of glommio's I/O (0.9) keeps the waker of each poll until the I/O is done, and glommio
/// counts a task's wakers in 16 bits. A task that runs for other reasons meanwhile must not poll
/// such a future each time: glommio panics at the 32,768th poll.
///
/// Dropped: the future is dropped.
pub struct PollOnWake<F> {
    future: Pin<Box<F>>,
    flag: Arc<WakeFlag>,
}

struct WakeFlag {
    /// The future needs a poll.
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future> PollOnWake<F> {
    /// A new future, which needs its first poll.
    pub fn new(future: F) -> Self {
        let flag = WakeFlag {
            is_set: AtomicBool::new(true),
            task: AtomicWaker::new(),
        };
        Self {
            future: Box::pin(future),
            flag: Arc::new(flag),
        }
    }

    /// Whether a poll would reach the future.
    pub fn is_due(&self) -> bool {
        self.flag.is_set.load(Ordering::Relaxed)
    }
}

impl<F: Future> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Registered before the check: a wake-up between the two wakes this task.
        self.flag.task.register(context.waker());
        if !self.flag.is_set.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn it_is_polled_when_it_is_new_and_when_it_was_woken() {
        let (polls, stored) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let (inner_polls, inner_stored) = (Rc::clone(&polls), Rc::clone(&stored));
        let mut future = PollOnWake::new(poll_fn(move |context: &mut Context<'_>| {
            inner_polls.set(inner_polls.get() + 1);
            inner_stored.set(Some(context.waker().clone()));
            match inner_polls.get() {
                3 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
        let mut poll = || Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
        for expected in [1, 2] {
            for _ in 0..3 {
                assert!(poll().is_pending());
                assert_eq!(polls.get(), expected);
            }
            stored.take().map(Waker::wake).expect("a waker");
        }
        assert!(poll().is_ready());
    }
}
