//! Ops that are not complete.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tidegate_uring::Ring;

/// Awaits an op, and checks its result.
pub(crate) type Check = Pin<Box<dyn Future<Output = ()>>>;

/// Dropped: the op is dropped.
pub(crate) enum Live {
    /// Polled by the program, when and as often as it likes.
    Polled(Polled),
    /// Polled by a task of its own.
    Task(Rc<InTask>),
}

/// Shared with the task, which ends when there is no op any more. (glommio never frees a task that is
/// dropped while it waits.)
#[derive(Default)]
pub(crate) struct InTask {
    check: RefCell<Option<Check>>,
    waker: Cell<Option<Waker>>,
}

pub(crate) struct Polled {
    check: Check,
    waker: Arc<Flag>,
    /// Whether it can be ready though nothing woke it: a timer.
    is_timer: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn new(is_set: bool) -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(is_set)))
    }
}

impl Live {
    /// An op that the program polls.
    pub(crate) fn polled(check: Check, is_timer: bool) -> Self {
        Self::Polled(Polled {
            check,
            // It is to be polled once.
            waker: Flag::new(true),
            is_timer,
        })
    }

    /// An op with a task of its own.
    pub(crate) fn task(ring: &Ring, check: Check) -> Self {
        let shared = Rc::new(InTask::default());
        shared.check.replace(Some(check));
        let task = Rc::clone(&shared);
        ring.spawn(poll_fn(move |context| task.poll(context)))
            .detach();
        Self::Task(shared)
    }

    /// Whether it is complete. One that the program polls is polled if it was woken or if it is to be
    /// `anyway`, and then with another waker if `replaced`.
    pub(crate) fn is_done(&mut self, anyway: bool, replaced: bool) -> bool {
        match self {
            Self::Polled(polled) => polled.poll(anyway, replaced),
            Self::Task(shared) => shared.check.borrow().is_none(),
        }
    }
}

impl InTask {
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.check.borrow_mut();
        let is_over = match &mut *guard {
            Some(check) => check.as_mut().poll(context).is_ready(),
            None => true,
        };
        if is_over {
            *guard = None;
            return Poll::Ready(());
        }
        self.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Self::Task(shared) = self {
            drop(shared.check.take());
            if let Some(waker) = shared.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Polled {
    fn poll(&mut self, anyway: bool, replaced: bool) -> bool {
        let is_woken = self.waker.0.swap(false, Ordering::Relaxed);
        if !is_woken && !anyway {
            return false;
        }
        if replaced {
            self.waker = Flag::new(false);
        }
        let waker = Waker::from(Arc::clone(&self.waker));
        let is_ready = self
            .check
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        assert!(
            !is_ready || is_woken || self.is_timer,
            "an op is complete, and its waker was not called"
        );
        is_ready
    }
}
