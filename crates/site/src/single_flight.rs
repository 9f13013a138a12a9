//! Single flight: of several requests for the same key one, the [`Leader`], does the work, and the
//! others wait for its outcome. It prevents a cache stampede.
//!
//! The work may never finish. A request with a stale outcome waits for [`PATIENCE`], then takes
//! that; later ones take it at once. The work goes on until its timeout.

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

/// How long a request with a stale outcome waits for a fresh one. A disk that is not overloaded
/// takes less.
const PATIENCE: Duration = Duration::from_millis(250);

/// The times of flights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long an outcome is fresh, from the start of its flight.
    pub(crate) valid: Duration,
    /// The timeout of a flight.
    pub(crate) lookup: Duration,
}

/// The flights of one core, by key.
pub(crate) struct SingleFlight<K, T> {
    flights: RefCell<HashMap<K, Rc<Flight<T>>>>,
    times: Times,
    timer: Rc<CoarseTimer>,
    /// What began before is not fresh.
    expired_at: Cell<Option<Instant>>,
}

/// The work of a flight.
pub(crate) type FlightFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// The outcome of a flight, or a stale one from before it.
pub(crate) enum MaybeStale<T> {
    Fresh(T),
    Stale(T),
}

/// Work in progress, shared with the requests that wait for it.
struct Flight<T> {
    began: Instant,
    state: RefCell<State<T>>,
}

enum State<T> {
    InProgress(Vec<Option<Waker>>),
    Done(Result<T, Error>),
    /// The leader was dropped.
    Abandoned,
}

impl<K: Clone + Eq + Hash + 'static, T: Clone + 'static> SingleFlight<K, T> {
    pub(crate) fn new(times: Times, coarse_timer: &Rc<CoarseTimer>) -> Rc<Self> {
        Rc::new(Self {
            flights: RefCell::default(),
            times,
            timer: Rc::clone(coarse_timer),
            expired_at: Cell::default(),
        })
    }

    /// The outcomes of flights that began before `now` are not fresh for requests from now on.
    pub(crate) fn expire(&self, now: Instant) {
        self.expired_at.set(Some(now));
    }

    /// As [`SingleFlight::run`], or `stale` if that takes longer than [`PATIENCE`].
    pub(crate) async fn run_or_stale(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        stale: Option<T>,
        work: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<MaybeStale<T>, Error> {
        let Some(stale) = stale else {
            return self.run(key, now, work).await.map(MaybeStale::Fresh);
        };
        if self.is_late(&key, now) {
            return Ok(MaybeStale::Stale(stale));
        }
        match self.run_until(key, now, now + PATIENCE, work).await {
            Err(Error::Stalled) => Ok(MaybeStale::Stale(stale)),
            outcome => outcome.map(MaybeStale::Fresh),
        }
    }

    /// Runs `work`, or waits for a flight of the same key, and returns an outcome that is fresh for
    /// a request at `now`.
    ///
    /// At most one flight of a key is in progress: a flight that began too early to be fresh is
    /// waited for as well, and the next one serves all that waited.
    ///
    /// Dropped: if it is the leader, its work is cancelled and the next in line becomes the leader.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`] after [`Times::lookup`], or the error of the work.
    pub(crate) async fn run(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        work: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<T, Error> {
        let until = now + self.times.lookup;
        self.run_until(key, now, until, work).await
    }

    async fn run_until(
        self: &Rc<Self>,
        key: K,
        now: Instant,
        until: Instant,
        work: impl FnOnce() -> FlightFuture<T>,
    ) -> Result<T, Error> {
        if self.flight(&key).is_some() {
            match self.timeout_at(until, self.join(&key, now)).await {
                None => return Err(Error::Stalled),
                Some(Some(outcome)) => return outcome,
                Some(None) => {}
            }
        }
        let leader = Leader::begin(self, key, now);
        let mut work = work();
        if let Some(outcome) = self.timeout_at(until, &mut work).await {
            leader.finish(outcome.clone());
            return outcome;
        }
        self.detach(leader, work, until);
        Err(Error::Stalled)
    }

    /// The outcome of a flight in progress; `None`: there is none.
    async fn join(&self, key: &K, now: Instant) -> Option<Result<T, Error>> {
        let mut waited = false;
        while let Some(flight) = self.flight(key) {
            let is_expired = || self.expired_at.get().is_some_and(|at| flight.began < at);
            let is_fresh = waited || (now < flight.began + self.times.valid && !is_expired());
            let outcome = flight.outcome().await;
            if let Some(outcome) = outcome.filter(|_| is_fresh) {
                return Some(outcome);
            }
            // Any flight from here on began after the request.
            waited = true;
        }
        None
    }

    /// The output of `work`; `None`: it took until `until`.
    async fn timeout_at<O>(&self, until: Instant, work: impl Future<Output = O>) -> Option<O> {
        or(async { Some(work.await) }, async {
            self.timer.sleep_until(until).await;
            None
        })
        .await
    }

    /// Lets a task run `work` until its timeout. The leader has waited until `now`.
    fn detach(self: &Rc<Self>, leader: Leader<K, T>, work: FlightFuture<T>, now: Instant) {
        let end = leader.flight.began + self.times.lookup;
        if now >= end {
            leader.finish(Err(Error::Stalled));
            return;
        }
        let flights = Rc::clone(self);
        tidegate_uring::spawn(async move {
            let outcome = flights.timeout_at(end, work).await;
            leader.finish(outcome.unwrap_or(Err(Error::Stalled)));
        })
        .detach();
    }

    fn is_late(&self, key: &K, now: Instant) -> bool {
        self.flight(key)
            .is_some_and(|flight| flight.began + PATIENCE <= now)
    }

    fn flight(&self, key: &K) -> Option<Rc<Flight<T>>> {
        self.flights.borrow().get(key).cloned()
    }
}

impl<T: Clone> Flight<T> {
    /// `None`: the leader was dropped.
    async fn outcome(&self) -> Option<Result<T, Error>> {
        let waker_index = Cell::new(None);
        poll_fn(|context| self.poll(&waker_index, context)).await
    }

    /// `waker_index` is that of this waiter, once it is registered.
    fn poll(
        &self,
        waker_index: &Cell<Option<usize>>,
        context: &Context<'_>,
    ) -> Poll<Option<Result<T, Error>>> {
        let outcome = match &mut *self.state.borrow_mut() {
            State::InProgress(wakers) => {
                let index = waker_index.get().unwrap_or(wakers.len());
                if index == wakers.len() {
                    wakers.push(None);
                    waker_index.set(Some(index));
                }
                wakers[index] = Some(context.waker().clone());
                return Poll::Pending;
            }
            State::Done(outcome) => Some(outcome.clone()),
            State::Abandoned => None,
        };
        Poll::Ready(outcome)
    }
}

/// The request that does the work. Dropped before [`Self::finish`]: the flight is abandoned.
struct Leader<K: Eq + Hash, T> {
    flights: Rc<SingleFlight<K, T>>,
    key: K,
    flight: Rc<Flight<T>>,
    outcome: Option<Result<T, Error>>,
}

impl<K: Clone + Eq + Hash, T> Leader<K, T> {
    fn begin(flights: &Rc<SingleFlight<K, T>>, key: K, now: Instant) -> Self {
        let flight = Rc::new(Flight {
            began: now,
            state: RefCell::new(State::InProgress(Vec::new())),
        });
        let all = &mut flights.flights.borrow_mut();
        all.insert(key.clone(), Rc::clone(&flight));
        Self {
            flights: Rc::clone(flights),
            key,
            flight,
            outcome: None,
        }
    }

    fn finish(mut self, outcome: Result<T, Error>) {
        self.outcome = Some(outcome);
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        self.flights.flights.borrow_mut().remove(&self.key);
        let state = self.outcome.take().map_or(State::Abandoned, State::Done);
        if let State::InProgress(wakers) = self.flight.state.replace(state) {
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use futures_lite::future::{poll_once, yield_now};
    use tidegate_uring::executor::Executor;

    use super::*;

    const TIMES: Times = Times {
        valid: Duration::from_secs(1),
        lookup: Duration::from_secs(10),
    };

    fn run(test: impl AsyncFnOnce(Rc<SingleFlight<u8, u32>>, Instant)) {
        Executor::new("test", 1).unwrap().run(async {
            let flights = SingleFlight::new(TIMES, &Rc::default());
            test(Rc::clone(&flights), Instant::now()).await;
            assert!(flights.flights.borrow().is_empty());
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
    fn a_flight_is_shared_by_all_requests_meanwhile() {
        run(async |flights, now| {
            let mut first = pin!(flights.run(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(flights.run(1, now, hanging));
            assert!(poll_once(&mut second).await.is_none());
            assert_eq!(flights.run(2, now, || quick(2)).await.unwrap(), 2);
            assert_eq!(first.await.unwrap(), 1);
            assert_eq!(second.await.unwrap(), 1);
            assert_eq!(flights.run(1, now, || quick(3)).await.unwrap(), 3);
        });
    }

    #[test]
    fn the_next_leads_when_a_leader_is_dropped() {
        run(async |flights, now| {
            let mut first = Box::pin(flights.run(1, now, hanging));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(flights.run(1, now, || quick(2)));
            let mut third = pin!(flights.run(1, now, || quick(3)));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            drop(first);
            assert_eq!(second.await.unwrap(), 2);
            assert_eq!(third.await.unwrap(), 3);
        });
    }

    #[test]
    fn a_flight_that_is_too_old_is_followed_by_one_for_all() {
        run(async |flights, now| {
            let later = now + TIMES.valid;
            let mut first = pin!(flights.run(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(flights.run(1, later, || slow(2)));
            let mut third = pin!(flights.run(1, later + TIMES.valid, hanging));
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
    fn a_stale_outcome_serves_while_a_flight_hangs() {
        run(async |flights, now| {
            let back = Rc::new(Cell::new(false));
            let comes_back = Rc::clone(&back);
            let look = move || -> FlightFuture<u32> {
                Box::pin(async move {
                    while !comes_back.get() {
                        tidegate_uring::executor::coarse_sleep(Duration::from_millis(1)).await;
                    }
                    Ok(2)
                })
            };
            let first = flights.run_or_stale(1, now, Some(1), look).await;
            assert!(matches!(first, Ok(MaybeStale::Stale(1))));
            assert!(now.elapsed() >= PATIENCE);
            let mut next = pin!(flights.run_or_stale(1, Instant::now(), Some(1), hanging));
            let next = poll_once(&mut next).await;
            assert!(matches!(next, Some(Ok(MaybeStale::Stale(1)))), "at once");
            // The flight goes on, and the next request gets its outcome.
            let mut waiting = pin!(flights.run(1, Instant::now(), hanging));
            assert!(poll_once(&mut waiting).await.is_none());
            back.set(true);
            assert_eq!(waiting.await.unwrap(), 2);
        });
    }

    #[test]
    fn a_flight_has_a_timeout() {
        run(async |flights, now| {
            // The timeout counts from the start of the flight.
            let past = now.checked_sub(TIMES.lookup).unwrap();
            let mut first = pin!(flights.run(1, past, hanging));
            let outcome = first.as_mut().await;
            assert!(matches!(outcome, Err(Error::Stalled)));
            assert_eq!(flights.run(1, now, || quick(2)).await.unwrap(), 2);
        });
    }
}
