//! Moments that looks are waited for until. One timer of the executor serves them all, and only while
//! somebody waits: most looks are over long before it rings.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::sleep;

/// How late a moment may be noticed.
const TICK: Duration = Duration::from_millis(50);

/// Those who wait, of one core.
#[derive(Default)]
pub(crate) struct Watch {
    waiting: RefCell<BTreeMap<u64, (Instant, Waker)>>,
    next: Cell<u64>,
    ticking: Cell<bool>,
}

impl Watch {
    /// Waits until `at`, and at most a tick longer. Dropped: nothing of it stays.
    pub(crate) async fn until(self: &Rc<Self>, at: Instant) {
        let place = Place {
            watch: self,
            number: self.next.replace(self.next.get() + 1),
            at,
        };
        poll_fn(|context| place.poll(context)).await;
    }

    fn start(self: &Rc<Self>) {
        if !self.ticking.replace(true) {
            glommio::spawn_local(tick(Rc::downgrade(self))).detach();
        }
    }

    /// Wakes whose moment has come. False when nobody is left.
    fn ring(&self, now: Instant) -> bool {
        let waiting = self.waiting.borrow();
        let due = waiting.values().filter(|(at, _)| *at <= now);
        due.for_each(|(_, waker)| waker.wake_by_ref());
        self.ticking.set(!waiting.is_empty());
        self.ticking.get()
    }
}

async fn tick(watch: Weak<Watch>) {
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
    watch: &'a Rc<Watch>,
    number: u64,
    at: Instant,
}

impl Place<'_> {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let mut waiting = self.watch.waiting.borrow_mut();
        let replaced = waiting.insert(self.number, (self.at, waker));
        drop((waiting, replaced));
        self.watch.start();
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.watch.waiting.borrow_mut().remove(&self.number);
        drop(left);
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
            let watch = Rc::new(Watch::default());
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
            let watch = Rc::new(Watch::default());
            drop(Box::pin(watch.until(Instant::now() + TICK)));
            watch.until(Instant::now() + TICK).await;
            while watch.ticking.get() {
                sleep(TICK).await;
            }
        });
    }
}
