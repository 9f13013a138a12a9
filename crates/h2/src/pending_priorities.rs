//! Priorities of streams that are not open yet (RFC 9218, section 7.1).

use crate::priority::Priority;

/// The priorities that PRIORITY_UPDATE gave to streams before their requests came.
#[derive(Debug, Default)]
pub(crate) struct PendingPriorities {
    streams: Vec<(u32, Priority)>,
}

impl PendingPriorities {
    /// Keeps the priority of a stream, if at most `max` streams have one then.
    pub(crate) fn set(&mut self, number: u32, priority: Priority, max: usize) -> bool {
        let mut streams = self.streams.iter_mut();
        if let Some((_, known)) = streams.find(|(other, _)| *other == number) {
            *known = priority;
            return true;
        }
        let fits = self.streams.len() < max;
        if fits {
            self.streams.push((number, priority));
        }
        fits
    }

    /// Takes that of a stream that is opened. Lower ones can never be opened (RFC 9113, section
    /// 5.1.1).
    #[inline]
    pub(crate) fn take(&mut self, number: u32) -> Option<Priority> {
        if self.streams.is_empty() {
            return None;
        }
        let mut streams = self.streams.iter();
        let taken = streams.find(|(other, _)| *other == number);
        let taken = taken.map(|(_, priority)| *priority);
        self.streams.retain(|(other, _)| *other > number);
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_wait_for_their_streams() {
        let [low, high] = [b"u=7", b"u=0"].map(|value| Priority::of(value));
        let mut pending = PendingPriorities::default();
        assert_eq!(pending.take(1), None);
        assert!(pending.set(3, low, 3));
        assert!(pending.set(5, low, 3));
        assert!(pending.set(9, low, 3));
        assert!(!pending.set(11, low, 3), "too many");
        assert!(pending.set(9, high, 3), "a new one for the same stream");
        assert_eq!(pending.take(5), Some(low));
        assert_eq!(pending.take(3), None, "it cannot be opened any more");
        assert_eq!(pending.take(9), Some(high));
    }
}
