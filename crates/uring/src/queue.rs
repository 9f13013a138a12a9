//! The completions of a stream that are not read yet.
//!
//! There is seldom more than one, and each connection has a queue: the first item is stored inline,
//! and memory for more exists only while it is needed.

use std::collections::VecDeque;

pub(crate) struct Queue<T> {
    first: Option<T>,
    #[expect(
        clippy::box_collection,
        reason = "a pointer's size where it is not there"
    )]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.get_or_insert_default().push_back(item);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.first.take()?;
        if let Some(rest) = &mut self.rest {
            self.first = rest.pop_front();
            if rest.is_empty() {
                self.rest = None;
            }
        }
        Some(item)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first
            .iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first
            .iter_mut()
            .chain(self.rest.iter_mut().flat_map(|rest| rest.iter_mut()))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            first: None,
            rest: None,
        }
    }
}

impl<T> FromIterator<T> for Queue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut queue = Self::default();
        items.into_iter().for_each(|item| queue.push(item));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_they_came() {
        let mut queue: Queue<u32> = (0..3).collect();
        assert_eq!((queue.pop(), queue.len()), (Some(0), 2));
        queue.push(3);
        queue.iter_mut().for_each(|item| *item *= 2);
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop(), queue.pop()],
            [Some(2), Some(4), Some(6), None]
        );
        assert!(queue.rest.is_none());
        queue.push(5);
        assert_eq!((queue.pop(), queue.len()), (Some(5), 0));
    }
}
