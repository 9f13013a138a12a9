//! Moments that looks are waited for until. One timer of the executor serves them all, and only while
//! somebody waits: most looks are over long before it rings.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::sleep;
use slab::Slab;

/// How late a moment may be noticed.
const TICK: Duration = Duration::from_millis(50);

/// Those who wait, of one core.
#[derive(Default)]
pub(crate) struct CoarseTimer {
    waiting: RefCell<Slab<Waiting>>,
    ticking: Cell<bool>,
}

struct Waiting {
    at: Instant,
    waker: Waker,
    is_over: bool,
}

impl CoarseTimer {
    /// Waits until `at`, and at most a tick longer. Dropped: nothing of it stays.
    pub(crate) async fn until(self: &Rc<Self>, at: Instant) {
        let mut place = Place {
            watch: self,
            index: None,
        };
        poll_fn(|context| place.poll(at, context)).await;
    }

    fn start(self: &Rc<Self>) {
        if !self.ticking.replace(true) {
            glommio::spawn_local(tick(Rc::downgrade(self))).detach();
        }
    }

    /// Wakes whose moment has come. False when nobody is left.
    fn ring(&self, now: Instant) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        for (_, waiting) in waiting.iter_mut().filter(|(_, one)| one.at <= now) {
            waiting.is_over = true;
            waiting.waker.wake_by_ref();
        }
        self.ticking.set(!waiting.is_empty());
        self.ticking.get()
    }
}

async fn tick(watch: Weak<CoarseTimer>) {
    loop {
        sleep(TICK).await;
        let goes_on = watch
            .upgrade()
            .is_some_and(|watch| watch.ring(Instant::now()));
        if !goes_on {
            return;
        }
    }
}

struct Place<'a> {
    watch: &'a Rc<CoarseTimer>,
    /// Once it waits.
    index: Option<usize>,
}

impl Place<'_> {
    /// The clock is read once. What is waited for beside this is polled far more often than a tick.
    fn poll(&mut self, at: Instant, context: &Context<'_>) -> Poll<()> {
        let Some(index) = self.index else {
            return self.begin(at, context);
        };
        let waiting = &mut self.watch.waiting.borrow_mut()[index];
        if waiting.is_over {
            return Poll::Ready(());
        }
        waiting.waker.clone_from(context.waker());
        Poll::Pending
    }

    fn begin(&mut self, at: Instant, context: &Context<'_>) -> Poll<()> {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        self.index = Some(self.watch.waiting.borrow_mut().insert(Waiting {
            at,
            waker: context.waker().clone(),
            is_over: false,
        }));
        self.watch.start();
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let left = self.watch.waiting.borrow_mut().remove(index);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::poll_once;
    use glommio::LocalExecutor;

    use super::*;

    #[test]
    fn all_are_woken_in_their_time_and_the_timer_rests_after_that() {
        LocalExecutor::default().run(async {
            let watch = Rc::new(CoarseTimer::default());
            let now = Instant::now();
            watch.until(now).await;
            assert!(!watch.ticking.get(), "for nothing");
            let mut hours = pin!(watch.until(now + Duration::from_hours(1)));
            assert!(poll_once(&mut hours).await.is_none());
            watch.until(now + 2 * TICK).await;
            assert!(now.elapsed() >= 2 * TICK);
            assert!(poll_once(&mut hours).await.is_none());
            assert_eq!(watch.waiting.borrow().len(), 1);
        });
        LocalExecutor::default().run(async {
            let watch = Rc::new(CoarseTimer::default());
            drop(Box::pin(watch.until(Instant::now() + TICK)));
            watch.until(Instant::now() + TICK).await;
            while watch.ticking.get() {
                sleep(TICK).await;
            }
        });
    }
}
