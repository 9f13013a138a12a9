//! Where the bytes of a transfer are: in the file, in the pipe, in the socket.

use std::ops::Range;

use crate::Opening;

/// Pure state machine of one transfer; the caller reports what was moved.
///
/// ```text
///   start              start + sent                  next            end
///     |-- in the socket --|-- in the pipe (in_pipe) --|-- in the file --|
/// ```
#[derive(Debug)]
pub(crate) struct Transfer {
    /// The next byte of the file to go into a pipe.
    next: u64,
    /// The end of the range, exclusive.
    end: u64,
    in_pipe: u64,
    sent: u64,
    opening: Opening,
}

impl Transfer {
    /// A range that ends before it starts is empty.
    pub(crate) fn new(range: Range<u64>, opening: Opening) -> Self {
        Self {
            next: range.start,
            end: range.end.max(range.start),
            in_pipe: 0,
            sent: 0,
            opening,
        }
    }

    /// Whether the socket took the whole range.
    pub(crate) fn is_complete(&self) -> bool {
        self.next == self.end && self.in_pipe == 0
    }

    /// Bytes in the pipe.
    pub(crate) fn in_pipe(&self) -> u64 {
        self.in_pipe
    }

    /// Bytes that the socket took.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The next byte of the file to go into the socket.
    pub(crate) fn position(&self) -> u64 {
        self.next - self.in_pipe
    }

    /// How much of what is in the pipe is sent next, and whether what follows goes with it.
    pub(crate) fn next_send(&self) -> (u64, bool) {
        let Opening { bytes, each } = self.opening;
        let opening = u64::from(bytes).saturating_sub(self.sent);
        if opening > 0 {
            return (opening.min(each.into()).min(self.in_pipe), false);
        }
        (self.in_pipe, self.next < self.end)
    }

    /// Whether more than `len` bytes were not put into a pipe yet.
    pub(crate) fn is_longer_than(&self, len: usize) -> bool {
        self.end - self.next > len as u64
    }

    /// The bytes that come next, at most as many as an empty pipe of `capacity` bytes holds.
    pub(crate) fn chunk(&self, capacity: usize, page: usize) -> Range<u64> {
        self.next..self.chunk_end(self.next, capacity, page)
    }

    /// The chunk after the next one.
    pub(crate) fn chunk_after(
        &self,
        chunk: &Range<u64>,
        capacity: usize,
        page: usize,
    ) -> Range<u64> {
        chunk.end..self.chunk_end(chunk.end, capacity, page)
    }

    /// A pipe holds so many pages of a file, however few bytes of its first one are asked for: a
    /// chunk ends where a page does, and those that follow it begin there.
    fn chunk_end(&self, start: u64, capacity: usize, page: usize) -> u64 {
        let in_first = start % page as u64;
        self.end
            .min(start.saturating_add(capacity as u64 - in_first))
    }

    /// `count` bytes went from the file into the pipe.
    pub(crate) fn filled(&mut self, count: usize) {
        self.next += count as u64;
        self.in_pipe += count as u64;
        debug_assert!(self.next <= self.end, "no more than was asked for");
    }

    /// `count` bytes went from the pipe into the socket.
    pub(crate) fn drained(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.in_pipe, "no more than was there");
        self.in_pipe -= count as u64;
        self.sent += count as u64;
    }

    /// The pipe is gone with what it held, which is still in the file.
    pub(crate) fn rewind(&mut self) {
        self.next -= self.in_pipe;
        self.in_pipe = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    #[test]
    fn an_opening_leaves_in_short_sends_that_nothing_follows() {
        let opening = Opening {
            bytes: 8192,
            each: 4096,
        };
        let mut bytes = Transfer::new(100..20_000, opening);
        bytes.filled(9000);
        assert_eq!(bytes.next_send(), (4096, false));
        bytes.drained(4000);
        assert_eq!(bytes.next_send(), (4096, false));
        bytes.drained(4096);
        assert_eq!(bytes.next_send(), (96, false));
        // What was in the pipe comes again.
        bytes.rewind();
        bytes.filled(10);
        assert_eq!(bytes.next_send(), (10, false));
        bytes.drained(10);
        bytes.filled(200);
        assert_eq!(bytes.next_send(), (86, false));
        bytes.drained(86);
        assert_eq!(bytes.next_send(), (114, true));
    }

    #[test]
    fn an_empty_or_reversed_range_is_complete() {
        assert!(Transfer::new(0..0, Opening::NONE).is_complete());
        assert!(Transfer::new(7..7, Opening::NONE).is_complete());
        #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
        let reversed = Transfer::new(9..7, Opening::NONE);
        assert!(reversed.is_complete());
    }

    #[test]
    fn bytes_are_accounted_for_through_short_moves_and_a_rewind() {
        let mut bytes = Transfer::new(100..10_000, Opening::NONE);
        bytes.filled(8000);
        assert!(bytes.next_send().1);
        bytes.drained(3000);
        assert_eq!(
            (bytes.next, bytes.in_pipe(), bytes.sent()),
            (8100, 5000, 3000)
        );
        bytes.rewind();
        assert_eq!((bytes.next, bytes.in_pipe(), bytes.sent()), (3100, 0, 3000));
        assert_eq!(bytes.position(), 3100);
        bytes.filled(6900);
        assert!(!bytes.next_send().1 && !bytes.is_complete());
        bytes.drained(6900);
        assert!(bytes.is_complete());
        assert_eq!(bytes.sent(), 9900);
    }

    #[test]
    fn chunks_fit_the_pages_of_a_pipe() {
        // start, end, capacity; end of the chunk
        let cases = [
            (0, 1, PAGE, 1),
            (0, 10_000, PAGE, 4096),
            (1, 10_000, PAGE, 4096),
            (4095, 10_000, PAGE, 4096),
            (4096, 10_000, 2 * PAGE, 10_000),
            (5000, 1 << 40, 64 * PAGE, 65 * 4096),
            (u64::MAX - 9, u64::MAX, PAGE, u64::MAX),
        ];
        for (start, end, capacity, expected) in cases {
            let bytes = Transfer::new(start..end, Opening::NONE);
            assert_eq!(
                bytes.chunk(capacity, PAGE),
                start..expected,
                "{start}..{end}"
            );
        }
    }

    #[test]
    fn the_chunk_after_begins_where_the_next_one_ends() {
        let bytes = Transfer::new(1..9000, Opening::NONE);
        let chunk = bytes.chunk(PAGE, PAGE);
        assert_eq!(bytes.chunk_after(&chunk, PAGE, PAGE), 4096..8192);
        let last = bytes.chunk(4 * PAGE, PAGE);
        assert!(bytes.chunk_after(&last, 4 * PAGE, PAGE).is_empty());
    }
}
