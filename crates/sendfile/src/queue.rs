//! A FIFO queue of tasks; a value is handed to the first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// First come, first served.
///
/// What is given belongs to its receiver at once. A receiver that is dropped before it looks drops
/// the gift with it, so a `T` that must not be lost returns itself when dropped.
pub(crate) struct Queue<T> {
    waiting: RefCell<VecDeque<Rc<Waiter<T>>>>,
}

struct Waiter<T> {
    gift: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Joins the queue at its end, or at its head.
    pub(crate) fn wait(&self, first: bool) -> Wait<'_, T> {
        let waiter = Rc::new(Waiter {
            gift: Cell::new(None),
            waker: Cell::new(None),
        });
        let mut waiting = self.waiting.borrow_mut();
        if first {
            waiting.push_front(Rc::clone(&waiter));
        } else {
            waiting.push_back(Rc::clone(&waiter));
        }
        Wait {
            queue: self,
            waiter,
        }
    }

    /// Hands `gift` to the first in line; with nobody there it is dropped.
    pub(crate) fn give(&self, gift: T) {
        let first = self.waiting.borrow_mut().pop_front();
        let Some(waiter) = first else { return };
        waiter.gift.set(Some(gift));
        if let Some(waker) = waiter.waker.take() {
            waker.wake();
        }
    }
}

/// A place in the queue. Dropped: the queue closes up.
pub(crate) struct Wait<'a, T> {
    queue: &'a Queue<T>,
    waiter: Rc<Waiter<T>>,
}

impl<T> Future for Wait<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(gift) = self.waiter.gift.take() {
            return Poll::Ready(gift);
        }
        self.waiter.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.queue
            .waiting
            .borrow_mut()
            .retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn gifts_go_to_the_first_in_line() {
        let queue = Queue::default();
        let second = queue.wait(false);
        let third = queue.wait(false);
        let first = queue.wait(true);
        (1..=3).for_each(|gift| queue.give(gift));
        assert_eq!(
            block_on(async { (first.await, second.await, third.await) }),
            (1, 2, 3)
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn a_dropped_waiter_is_passed_over() {
        let queue = Queue::default();
        let mut leaver = queue.wait(false);
        let stayer = queue.wait(false);
        assert_eq!(block_on(poll_once(&mut leaver)), None);
        drop(leaver);
        queue.give('x');
        assert_eq!(block_on(stayer), 'x');
    }

    #[test]
    fn a_gift_that_is_not_taken_is_dropped_with_its_waiter() {
        let queue = Queue::default();
        let gift = Rc::new(());
        let waiter = queue.wait(false);
        queue.give(Rc::clone(&gift));
        assert_eq!(Rc::strong_count(&gift), 2);
        drop(waiter);
        assert_eq!(Rc::strong_count(&gift), 1);
    }
}
