//! One look at a time at what several requests want to know: the first looks, and those that come
//! meanwhile wait for it. So nobody is answered with what somebody is just looking at again, and
//! no crowd asks the disk the same question.
//!
//! A look may not come back. Whoever has an older outcome waits for a moment ([`PATIENCE`]) and then takes
//! that, and as long as the look is under way others take it at once. The look itself goes on to the end
//! of its time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use crate::coarse_timer::CoarseTimer;
use crate::error::Error;

/// How long a look is waited for where an older outcome is at hand. A disk takes less, but for one that is
/// overwhelmed.
const PATIENCE: Duration = Duration::from_millis(250);

/// The time of looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long what a look saw is trusted, from its beginning.
    pub(crate) valid: Duration,
    /// How long a look may take.
    pub(crate) lookup: Duration,
}

/// The looks of one core that are under way.
pub(crate) struct SingleFlight<K, T> {
    under_way: RefCell<HashMap<K, Rc<Look<T>>>>,
    times: Times,
    watch: Rc<CoarseTimer>,
}

/// What is about to look.
pub(crate) type FlightFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// What is known after a look, or while it does not come back.
pub(crate) enum MaybeStale<T> {
    /// By the look.
    Fresh(T),
    /// By one before.
    Stale(T),
}

/// A look, as those see it that wait for it.
struct Look<T> {
    began: Instant,
    state: RefCell<State<T>>,
}

enum State<T> {
    UnderWay(Vec<Option<Waker>>),
    Done(Result<T, Error>),
    /// Whoever looked was dropped.
    GivenUp,
}

impl<K: Clone + Eq + Hash + 'static, T: Clone + 'static> SingleFlight<K, T> {
    pub(crate) fn new(times: Times, watch: &Rc<CoarseTimer>) -> Rc<Self> {
        Rc::new(Self {
            under_way: RefCell::default(),
            times,
            watch: Rc::clone(watch),
        })
    }

    /// As [`SingleFlight::share`], or `before` if that takes too long.
    pub(crate) async fn share_or(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        before: Option<T>,
        look: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<MaybeStale<T>, Error> {
        let Some(before) = before else {
            return self.share(key, now, look).await.map(MaybeStale::Fresh);
        };
        if self.is_late(&key, now) {
            return Ok(MaybeStale::Stale(before));
        }
        match self.share_until(key, now, now + PATIENCE, look).await {
            Err(Error::Stalled) => Ok(MaybeStale::Stale(before)),
            outcome => outcome.map(MaybeStale::Fresh),
        }
    }

    /// What a look at `key` yields that can be trusted by a request of `now`: one that is under
    /// way, or else `look`. [`Error::Stalled`] if neither comes back in time.
    ///
    /// A look that began too long before is waited for, too, and then one more serves all who
    /// waited: at most one is ever under way.
    ///
    /// Dropped while it looks: it is given up, and the next of those that wait looks.
    pub(crate) async fn share(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        look: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<T, Error> {
        let until = now + self.times.lookup;
        self.share_until(key, now, until, look).await
    }

    async fn share_until(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        until: Instant,
        look: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<T, Error> {
        if self.under_way(&key).is_some() {
            match self.before(until, self.join(&key, now)).await {
                None => return Err(Error::Stalled),
                Some(Some(outcome)) => return outcome,
                Some(None) => {}
            }
        }
        let looking = Leader::begin(self, key, now);
        let mut look = look();
        if let Some(outcome) = self.before(until, &mut look).await {
            looking.end(outcome.clone());
            return outcome;
        }
        self.go_on(looking, look, until);
        Err(Error::Stalled)
    }

    /// The outcome of a look of others; `None`: nobody looks.
    async fn join(&self, key: &K, now: Instant) -> Option<Result<T, Error>> {
        let mut waited = false;
        while let Some(other) = self.under_way(key) {
            let trusted = waited || now < other.began + self.times.valid;
            let outcome = other.outcome().await;
            if let Some(outcome) = outcome.filter(|_| trusted) {
                return Some(outcome);
            }
            // What begins from here on began after the request came.
            waited = true;
        }
        None
    }

    /// `None`: it takes until then.
    async fn before<O>(&self, until: Instant, work: impl Future<Output = O>) -> Option<O> {
        or(async { Some(work.await) }, async {
            self.watch.until(until).await;
            None
        })
        .await
    }

    /// Leaves a look that nobody waits for at `now` to a task, up to the end of its time.
    fn go_on(self: &Rc<Self>, looking: Leader<K, T>, look: FlightFuture<T>, now: Instant) {
        let end = looking.look.began + self.times.lookup;
        if now >= end {
            looking.end(Err(Error::Stalled));
            return;
        }
        let looks = Rc::clone(self);
        glommio::spawn_local(async move {
            let outcome = looks.before(end, look).await;
            looking.end(outcome.unwrap_or(Err(Error::Stalled)));
        })
        .detach();
    }

    fn is_late(&self, key: &K, now: Instant) -> bool {
        self.under_way(key)
            .is_some_and(|look| look.began + PATIENCE <= now)
    }

    fn under_way(&self, key: &K) -> Option<Rc<Look<T>>> {
        self.under_way.borrow().get(key).cloned()
    }
}

impl<T: Clone> Look<T> {
    /// What it yields; `None`: it was given up.
    async fn outcome(&self) -> Option<Result<T, Error>> {
        let place = Cell::new(None);
        poll_fn(|context| self.poll(&place, context)).await
    }

    /// `place` is that of the waiting one among the wakers, once it has one.
    fn poll(
        &self,
        place: &Cell<Option<usize>>,
        context: &Context<'_>,
    ) -> Poll<Option<Result<T, Error>>> {
        let waiting = match &mut *self.state.borrow_mut() {
            State::UnderWay(waiting) => {
                let index = place.get().unwrap_or(waiting.len());
                if index == waiting.len() {
                    waiting.push(None);
                    place.set(Some(index));
                }
                waiting[index] = Some(context.waker().clone());
                return Poll::Pending;
            }
            State::Done(outcome) => Some(outcome.clone()),
            State::GivenUp => None,
        };
        Poll::Ready(waiting)
    }
}

/// The one who looks.
struct Leader<K: Eq + Hash, T> {
    looks: Rc<SingleFlight<K, T>>,
    key: K,
    look: Rc<Look<T>>,
    outcome: Option<Result<T, Error>>,
}

impl<K: Clone + Eq + Hash, T> Leader<K, T> {
    fn begin(looks: &Rc<SingleFlight<K, T>>, key: K, now: Instant) -> Self {
        let look = Rc::new(Look {
            began: now,
            state: RefCell::new(State::UnderWay(Vec::new())),
        });
        let others = &mut looks.under_way.borrow_mut();
        others.insert(key.clone(), Rc::clone(&look));
        Self {
            looks: Rc::clone(looks),
            key,
            look,
            outcome: None,
        }
    }

    fn end(mut self, outcome: Result<T, Error>) {
        self.outcome = Some(outcome);
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        self.looks.under_way.borrow_mut().remove(&self.key);
        let state = self.outcome.take().map_or(State::GivenUp, State::Done);
        if let State::UnderWay(waiting) = self.look.state.replace(state) {
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use futures_lite::future::{poll_once, yield_now};
    use glommio::LocalExecutor;

    use super::*;

    const TIMES: Times = Times {
        valid: Duration::from_secs(1),
        lookup: Duration::from_secs(10),
    };

    fn run(test: impl AsyncFnOnce(Rc<SingleFlight<u8, u32>>, Instant)) {
        LocalExecutor::default().run(async {
            let looks = SingleFlight::new(TIMES, &Rc::default());
            test(Rc::clone(&looks), Instant::now()).await;
            assert!(looks.under_way.borrow().is_empty());
        });
    }

    fn quick(outcome: u32) -> FlightFuture<u32> {
        Box::pin(ready(Ok(outcome)))
    }

    fn slow(outcome: u32) -> FlightFuture<u32> {
        Box::pin(async move {
            yield_now().await;
            Ok(outcome)
        })
    }

    fn hanging() -> FlightFuture<u32> {
        Box::pin(pending())
    }

    #[test]
    fn a_look_is_shared_by_all_who_come_meanwhile() {
        run(async |looks, now| {
            let mut first = pin!(looks.share(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, now, hanging));
            assert!(poll_once(&mut second).await.is_none());
            assert_eq!(looks.share(2, now, || quick(2)).await.unwrap(), 2);
            assert_eq!(first.await.unwrap(), 1);
            assert_eq!(second.await.unwrap(), 1);
            assert_eq!(looks.share(1, now, || quick(3)).await.unwrap(), 3);
        });
    }

    #[test]
    fn a_look_that_is_dropped_is_made_by_the_next() {
        run(async |looks, now| {
            let mut first = Box::pin(looks.share(1, now, hanging));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, now, || quick(2)));
            let mut third = pin!(looks.share(1, now, || quick(3)));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            drop(first);
            assert_eq!(second.await.unwrap(), 2);
            assert_eq!(third.await.unwrap(), 3);
        });
    }

    #[test]
    fn a_look_that_began_too_long_before_is_followed_by_one_for_all() {
        run(async |looks, now| {
            let later = now + TIMES.valid;
            let mut first = pin!(looks.share(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, later, || slow(2)));
            let mut third = pin!(looks.share(1, later + TIMES.valid, hanging));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(first.await.unwrap(), 1);
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(second.await.unwrap(), 2);
            assert_eq!(third.await.unwrap(), 2);
        });
    }

    #[test]
    fn what_was_known_before_serves_while_a_look_does_not_come_back() {
        run(async |looks, now| {
            let back = Rc::new(Cell::new(false));
            let comes_back = Rc::clone(&back);
            let look = move || -> FlightFuture<u32> {
                Box::pin(async move {
                    while !comes_back.get() {
                        glommio::timer::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(2)
                })
            };
            let first = looks.share_or(1, now, Some(1), look).await;
            assert!(matches!(first, Ok(MaybeStale::Stale(1))));
            assert!(now.elapsed() >= PATIENCE);
            let mut next = pin!(looks.share_or(1, Instant::now(), Some(1), hanging));
            let next = poll_once(&mut next).await;
            assert!(matches!(next, Some(Ok(MaybeStale::Stale(1)))), "at once");
            // It is still under way, and its outcome the next one's.
            let mut waiting = pin!(looks.share(1, Instant::now(), hanging));
            assert!(poll_once(&mut waiting).await.is_none());
            back.set(true);
            assert_eq!(waiting.await.unwrap(), 2);
        });
    }

    #[test]
    fn a_look_ends_with_its_time() {
        run(async |looks, now| {
            // One that others began so long ago ends for them as well.
            let past = now.checked_sub(TIMES.lookup).unwrap();
            let mut first = pin!(looks.share(1, past, hanging));
            let outcome = first.as_mut().await;
            assert!(matches!(outcome, Err(Error::Stalled)));
            assert_eq!(looks.share(1, now, || quick(2)).await.unwrap(), 2);
        });
    }
}
