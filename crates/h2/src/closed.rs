//! Streams that are over.

use std::collections::VecDeque;

/// How many are remembered. Frames on older ones are treated as on one that the peer reset.
const CLOSED_MAX: usize = 64;

/// How a stream ended, which decides what a frame on it means (RFC 9113, section 5.1, "closed").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Both sides sent all.
    Ended,
    /// The peer reset it: more frames are errors.
    ByPeer,
    /// This side reset it, or ignores it: frames may be under way, and are ignored.
    ByUs,
}

/// The streams that were closed last.
#[derive(Debug, Default)]
pub(crate) struct ClosedStreams {
    streams: VecDeque<(u32, Closed)>,
}

impl ClosedStreams {
    #[inline]
    pub(crate) fn push(&mut self, number: u32, closed: Closed) {
        if self.streams.len() == CLOSED_MAX {
            self.streams.pop_front();
        }
        self.streams.push_back((number, closed));
    }

    /// How this stream ended; `None` if that was long ago, or it never was.
    pub(crate) fn find(&self, number: u32) -> Option<Closed> {
        let mut streams = self.streams.iter().rev();
        let (_, closed) = streams.find(|(other, _)| *other == number)?;
        Some(*closed)
    }

    /// Whether streams may be forgotten.
    pub(crate) fn is_full(&self) -> bool {
        self.streams.len() == CLOSED_MAX
    }

    pub(crate) fn shrink(&mut self) {
        self.streams.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_streams_are_remembered() {
        let mut closed = ClosedStreams::default();
        for number in 0..100 {
            assert_eq!(closed.is_full(), number >= 64);
            closed.push(number, Closed::Ended);
        }
        closed.push(99, Closed::ByUs);
        assert_eq!(closed.find(99), Some(Closed::ByUs), "the last word");
        assert_eq!(closed.find(37), Some(Closed::Ended));
        assert_eq!(closed.find(36), None);
    }
}
