//! A counting semaphore without a wait queue: its users go on without a permit where none is left.

use std::cell::Cell;
use std::rc::Rc;

pub(crate) struct Semaphore {
    max: usize,
    given: Cell<usize>,
}

/// A permit, returned when dropped.
pub(crate) struct Permit(Rc<Semaphore>);

impl Semaphore {
    /// With `max` permits.
    pub(crate) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self {
            max,
            given: Cell::new(0),
        })
    }

    /// Takes a permit, if one is left.
    pub(crate) fn try_acquire(self: &Rc<Self>) -> Option<Permit> {
        let given = self.given.get();
        (given < self.max).then(|| {
            self.given.set(given + 1);
            Permit(Rc::clone(self))
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.given.set(self.0.given.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_given_than_there_are() {
        let semaphore = Semaphore::new(2);
        let first = semaphore.try_acquire();
        let second = semaphore.try_acquire();
        assert!(first.is_some() && second.is_some());
        assert!(semaphore.try_acquire().is_none());
        drop(first);
        assert!(semaphore.try_acquire().is_some());
    }
}
