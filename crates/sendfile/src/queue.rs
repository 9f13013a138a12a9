//! Tasks that wait in line for something, which is handed to the first of them.

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
    waiting: RefCell<VecDeque<Rc<Seat<T>>>>,
}

struct Seat<T> {
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

    /// Takes a seat at the end of the line, or before all others.
    pub(crate) fn wait(&self, first: bool) -> Wait<'_, T> {
        let seat = Rc::new(Seat {
            gift: Cell::new(None),
            waker: Cell::new(None),
        });
        let mut waiting = self.waiting.borrow_mut();
        if first {
            waiting.push_front(Rc::clone(&seat));
        } else {
            waiting.push_back(Rc::clone(&seat));
        }
        Wait { queue: self, seat }
    }

    /// Hands `gift` to the first in line; with nobody there it is dropped.
    pub(crate) fn give(&self, gift: T) {
        let first = self.waiting.borrow_mut().pop_front();
        let Some(seat) = first else { return };
        seat.gift.set(Some(gift));
        if let Some(waker) = seat.waker.take() {
            waker.wake();
        }
    }
}

/// A seat in the line. Dropped: the line closes up.
pub(crate) struct Wait<'a, T> {
    queue: &'a Queue<T>,
    seat: Rc<Seat<T>>,
}

impl<T> Future for Wait<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(gift) = self.seat.gift.take() {
            return Poll::Ready(gift);
        }
        self.seat.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.queue
            .waiting
            .borrow_mut()
            .retain(|seat| !Rc::ptr_eq(seat, &self.seat));
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
    fn one_that_leaves_is_passed_over() {
        let queue = Queue::default();
        let mut leaver = queue.wait(false);
        let stayer = queue.wait(false);
        assert_eq!(block_on(poll_once(&mut leaver)), None);
        drop(leaver);
        queue.give('x');
        assert_eq!(block_on(stayer), 'x');
    }

    #[test]
    fn a_gift_that_is_not_taken_is_dropped_with_its_seat() {
        let queue = Queue::default();
        let gift = Rc::new(());
        let seat = queue.wait(false);
        queue.give(Rc::clone(&gift));
        assert_eq!(Rc::strong_count(&gift), 2);
        drop(seat);
        assert_eq!(Rc::strong_count(&gift), 1);
    }
}
