//! One look at a time at what several requests want to know: the first looks, and those that come
//! meanwhile wait for it. So nobody is answered with what somebody is just looking at again, and
//! no crowd asks the disk the same question.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The looks of one core that are under way.
pub(crate) struct Looks<K, T> {
    under_way: RefCell<HashMap<K, Rc<Look<T>>>>,
    /// How long what a look saw is trusted, from its beginning.
    valid: Duration,
}

/// A look, as those see it that wait for it.
struct Look<T> {
    began: Instant,
    state: RefCell<State<T>>,
}

enum State<T> {
    UnderWay(Vec<Option<Waker>>),
    Done(T),
    /// Whoever looked was dropped.
    GivenUp,
}

impl<K: Clone + Eq + Hash, T: Clone> Looks<K, T> {
    pub(crate) fn new(valid: Duration) -> Self {
        Self {
            under_way: RefCell::default(),
            valid,
        }
    }

    /// What a look at `key` yields that can be trusted by a request of `now`: one that is under
    /// way, or else `look`.
    ///
    /// A look that began too long before is waited for, too, and then one more serves all who
    /// waited: at most one is ever under way.
    ///
    /// Dropped while it looks: it is given up, and the next of those that wait looks.
    ///
    /// `look` makes its future only when it is polled: handed over as one it would have a place in
    /// this future for each of its moves, and a look-up is kilobytes.
    pub(crate) async fn share(&self, key: K, now: Instant, look: impl AsyncFnOnce() -> T) -> T {
        let mut waited = false;
        while let Some(other) = self.under_way(&key) {
            let trusted = waited || now < other.began + self.valid;
            let outcome = other.outcome().await;
            if let Some(outcome) = outcome.filter(|_| trusted) {
                return outcome;
            }
            // What begins from here on began after the request came.
            waited = true;
        }
        let looking = Looking::begin(self, key, now);
        let outcome = look().await;
        looking.end(outcome.clone());
        outcome
    }

    fn under_way(&self, key: &K) -> Option<Rc<Look<T>>> {
        self.under_way.borrow().get(key).cloned()
    }
}

impl<T: Clone> Look<T> {
    /// What it yields; `None`: it was given up.
    async fn outcome(&self) -> Option<T> {
        let place = Cell::new(None);
        poll_fn(|context| self.poll(&place, context)).await
    }

    /// `place` is that of the waiting one among the wakers, once it has one.
    fn poll(&self, place: &Cell<Option<usize>>, context: &Context<'_>) -> Poll<Option<T>> {
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
struct Looking<'a, K: Eq + Hash, T> {
    looks: &'a Looks<K, T>,
    key: K,
    look: Rc<Look<T>>,
    outcome: Option<T>,
}

impl<'a, K: Clone + Eq + Hash, T> Looking<'a, K, T> {
    fn begin(looks: &'a Looks<K, T>, key: K, now: Instant) -> Self {
        let look = Rc::new(Look {
            began: now,
            state: RefCell::new(State::UnderWay(Vec::new())),
        });
        let others = &mut looks.under_way.borrow_mut();
        others.insert(key.clone(), Rc::clone(&look));
        Self {
            looks,
            key,
            look,
            outcome: None,
        }
    }

    fn end(mut self, outcome: T) {
        self.outcome = Some(outcome);
    }
}

impl<K: Eq + Hash, T> Drop for Looking<'_, K, T> {
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

    use futures_lite::future::{block_on, poll_once, yield_now};

    use super::*;

    const VALID: Duration = Duration::from_secs(1);

    fn looks() -> (Looks<u8, u32>, Instant) {
        (Looks::new(VALID), Instant::now())
    }

    async fn slow(outcome: u32) -> u32 {
        yield_now().await;
        outcome
    }

    #[test]
    fn a_look_is_shared_by_all_who_come_meanwhile() {
        let (looks, now) = looks();
        block_on(async {
            let mut first = pin!(looks.share(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, now, pending));
            assert!(poll_once(&mut second).await.is_none());
            assert_eq!(looks.share(2, now, || ready(2)).await, 2);
            assert_eq!(first.await, 1);
            assert_eq!(second.await, 1);
            assert_eq!(looks.share(1, now, || ready(3)).await, 3);
        });
        assert!(looks.under_way.borrow().is_empty());
    }

    #[test]
    fn a_look_that_is_dropped_is_made_by_the_next() {
        let (looks, now) = looks();
        block_on(async {
            let mut first = Box::pin(looks.share(1, now, pending));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, now, || ready(2)));
            let mut third = pin!(looks.share(1, now, || ready(3)));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            drop(first);
            assert_eq!(second.await, 2);
            assert_eq!(third.await, 3);
        });
    }

    #[test]
    fn a_look_that_began_too_long_before_is_followed_by_one_for_all() {
        let (looks, now) = looks();
        let later = now + VALID;
        block_on(async {
            let mut first = pin!(looks.share(1, now, || slow(1)));
            assert!(poll_once(&mut first).await.is_none());
            let mut second = pin!(looks.share(1, later, || slow(2)));
            let mut third = pin!(looks.share(1, later + VALID, pending));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(first.await, 1);
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(second.await, 2);
            assert_eq!(third.await, 2);
        });
    }
}
