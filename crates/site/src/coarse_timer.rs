//! A timer for timeouts that rarely fire. One timer of the executor serves all of them, and runs
//! only while there are sleepers.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tidegate_uring::executor::coarse_sleep;

/// How late a sleeper may wake.
const TICK: Duration = Duration::from_millis(50);

/// The sleepers of one core.
#[derive(Default)]
pub(crate) struct CoarseTimer {
    sleepers: RefCell<Slab<Sleeper>>,
    ticking: Cell<bool>,
}

struct Sleeper {
    until: Instant,
    waker: Waker,
    is_over: bool,
}

impl CoarseTimer {
    /// Sleeps until `until` and at most a [`TICK`] longer. Dropped: the sleeper is removed.
    pub(crate) async fn sleep_until(self: &Rc<Self>, until: Instant) {
        let mut sleep = Sleep {
            timer: self,
            index: None,
        };
        poll_fn(|context| sleep.poll(until, context)).await;
    }

    fn start(self: &Rc<Self>) {
        if !self.ticking.replace(true) {
            tidegate_uring::spawn(tick(Rc::downgrade(self))).detach();
        }
    }

    /// Wakes the sleepers whose time has come. False when none is left.
    fn fire(&self, now: Instant) -> bool {
        let mut sleepers = self.sleepers.borrow_mut();
        for (_, sleeper) in sleepers.iter_mut().filter(|(_, one)| one.until <= now) {
            sleeper.is_over = true;
            sleeper.waker.wake_by_ref();
        }
        self.ticking.set(!sleepers.is_empty());
        self.ticking.get()
    }
}

async fn tick(timer: Weak<CoarseTimer>) {
    loop {
        coarse_sleep(TICK).await;
        let goes_on = timer
            .upgrade()
            .is_some_and(|timer| timer.fire(Instant::now()));
        if !goes_on {
            return;
        }
    }
}

/// A sleep in progress.
struct Sleep<'a> {
    timer: &'a Rc<CoarseTimer>,
    /// Of its sleeper, after the first poll.
    index: Option<usize>,
}

impl Sleep<'_> {
    /// Reads the clock at the first poll only: the work beside it may be polled often.
    fn poll(&mut self, until: Instant, context: &Context<'_>) -> Poll<()> {
        let Some(index) = self.index else {
            return self.begin(until, context);
        };
        let sleeper = &mut self.timer.sleepers.borrow_mut()[index];
        if sleeper.is_over {
            return Poll::Ready(());
        }
        sleeper.waker.clone_from(context.waker());
        Poll::Pending
    }

    fn begin(&mut self, until: Instant, context: &Context<'_>) -> Poll<()> {
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        self.index = Some(self.timer.sleepers.borrow_mut().insert(Sleeper {
            until,
            waker: context.waker().clone(),
            is_over: false,
        }));
        self.timer.start();
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let sleeper = self.timer.sleepers.borrow_mut().remove(index);
            drop(sleeper);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::poll_once;
    use tidegate_uring::executor::Executor;

    use super::*;

    #[test]
    fn sleepers_wake_in_time_and_the_timer_stops() {
        Executor::new("test", 1).unwrap().run(async {
            let timer = Rc::new(CoarseTimer::default());
            let now = Instant::now();
            timer.sleep_until(now).await;
            assert!(!timer.ticking.get(), "for nothing");
            let mut hours = pin!(timer.sleep_until(now + Duration::from_hours(1)));
            assert!(poll_once(&mut hours).await.is_none());
            timer.sleep_until(now + 2 * TICK).await;
            assert!(now.elapsed() >= 2 * TICK);
            assert!(poll_once(&mut hours).await.is_none());
            assert_eq!(timer.sleepers.borrow().len(), 1);
        });
        Executor::new("test", 1).unwrap().run(async {
            let timer = Rc::new(CoarseTimer::default());
            drop(Box::pin(timer.sleep_until(Instant::now() + TICK)));
            timer.sleep_until(Instant::now() + TICK).await;
            while timer.ticking.get() {
                coarse_sleep(TICK).await;
            }
        });
    }
}
