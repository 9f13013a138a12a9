//! Leave to do what only so many may do at once.

use std::cell::Cell;
use std::rc::Rc;

use crate::queue::Queue;

/// First come, first served.
pub(crate) struct Permits {
    max: usize,
    given: Cell<usize>,
    waiters: Queue<Permit>,
}

/// Leave. Dropped: the next in line has it.
pub(crate) struct Permit(Rc<Permits>);

impl Permits {
    /// At most `max` at once.
    pub(crate) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self {
            max,
            given: Cell::new(0),
            waiters: Queue::default(),
        })
    }

    /// How many are given.
    pub(crate) fn given(&self) -> usize {
        self.given.get()
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// One, if it can be had at once.
    pub(crate) fn try_take(self: &Rc<Self>) -> Option<Permit> {
        let free = self.given.get() < self.max && self.waiters.is_empty();
        free.then(|| self.permit())
    }

    /// Dropped: the place in line is given up.
    pub(crate) async fn take(self: &Rc<Self>) -> Permit {
        match self.try_take() {
            Some(permit) => permit,
            None => self.waiters.wait(false).await,
        }
    }

    fn permit(self: &Rc<Self>) -> Permit {
        self.given.set(self.given.get() + 1);
        Permit(Rc::clone(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.given.set(self.0.given.get() - 1);
        if !self.0.waiters.is_empty() {
            let permit = self.0.permit();
            self.0.waiters.give(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn no_more_are_given_than_there_are() {
        block_on(async {
            let permits = Permits::new(2);
            let first = permits.take().await;
            let _second = permits.take().await;
            assert!(permits.try_take().is_none());
            let mut third = Box::pin(permits.take());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!((permits.given(), permits.waiting()), (2, 1));
            drop(first);
            assert!(permits.try_take().is_none(), "it is the third's");
            let third = third.await;
            assert_eq!((permits.given(), permits.waiting()), (2, 0));
            drop(third);
            assert!(permits.try_take().is_some());
        });
    }

    #[test]
    fn one_that_leaves_the_line_passes_its_leave_on() {
        block_on(async {
            let permits = Permits::new(1);
            let first = permits.take().await;
            let mut leaver = Box::pin(permits.take());
            assert!(poll_once(&mut leaver).await.is_none());
            drop(first);
            assert_eq!(permits.given(), 1);
            drop(leaver);
            assert_eq!(permits.given(), 0);
        });
    }
}
