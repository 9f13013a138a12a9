//! The order in which streams send (RFC 9218, section 10).

use std::collections::VecDeque;
use std::num::NonZeroU64;

use crate::priority::Priority;

/// The streams that can send, in their order: urgency first; then those that are not incremental,
/// by their ids; then the incremental ones in turn.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// By key. New streams are near the end, and those that finish near the front, so a change
    /// moves few.
    queue: VecDeque<(Key, u32)>,
    /// Turns that were given.
    turns: u64,
}

/// The place of a stream. No two streams have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(NonZeroU64);

impl Schedule {
    /// The place of a stream that was in none: that of its id, or behind all others.
    pub(crate) fn key(&mut self, priority: Priority, number: u32) -> Key {
        let class = u64::from(priority.urgency) << 1 | u64::from(priority.incremental);
        let order = if priority.incremental {
            self.turns += 1;
            self.turns
        } else {
            u64::from(number)
        };
        // One more, so that it never is 0.
        Key(NonZeroU64::MIN.saturating_add(class << 60 | order))
    }

    /// Adds a stream, which is kept in `slot`.
    #[inline]
    pub(crate) fn insert(&mut self, key: Key, slot: u32) {
        let at = self.queue.partition_point(|(other, _)| *other < key);
        self.queue.insert(at, (key, slot));
    }

    /// Removes a stream, if it is there.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) {
        if let Ok(at) = self.queue.binary_search_by_key(&key, |(key, _)| *key) {
            self.queue.remove(at);
        }
    }

    /// The slot of the first.
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        self.queue.front().map(|(_, slot)| *slot)
    }

    pub(crate) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_first_then_ids_then_turns() {
        let mut schedule = Schedule::default();
        let values = ["u=3", "u=0, i", "u=3, i", "u=7", "u=3", "u=0, i", "u=0"];
        let mut keys = Vec::new();
        // The higher ids first: the order of arrival does not matter.
        for (slot, value) in values.into_iter().enumerate().rev() {
            let key = schedule.key(Priority::of(value.as_bytes()), slot as u32 * 2 + 1);
            schedule.insert(key, slot as u32);
            keys.push((slot, key));
        }
        let mut order = Vec::new();
        while let Some(slot) = schedule.first() {
            order.push(slot);
            let (_, key) = keys
                .iter()
                .find(|(other, _)| *other == slot as usize)
                .unwrap();
            schedule.remove(*key);
            schedule.remove(*key);
        }
        assert_eq!(order, [6, 5, 1, 0, 4, 2, 3]);
    }
}
