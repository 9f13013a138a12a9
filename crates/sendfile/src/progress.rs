//! How far a transfer and its step under way are: the bytes in the file, staged and in the socket.

use std::ops::Range;

use crate::options::{Opening, Step};

/// Pure state machine of one transfer; the caller reports which bytes were moved.
///
/// ```text
///   start              position           next           end of the step            end
///     |-- in the socket --|-- staged bytes --|-- in the file --|-- in the file --------|
/// ```
///
/// Staged bytes left the file and have not reached the socket: they are in a pipe, or encoded in
/// memory. A pipe may hold bytes past the end of the step.
#[derive(Debug)]
pub(crate) struct TransferProgress {
    /// The next byte of the file to be staged.
    next: u64,
    /// The end of the range, exclusive.
    end: u64,
    staged: u64,
    sent: u64,
    /// The value of `sent` at which the step ends.
    step_end: u64,
    /// Other bytes follow the step on the socket soon.
    more: bool,
    /// The staged bytes came from the disk.
    is_cold: bool,
    /// The short sends at the start of the range; none for a step that does not use them.
    opening: Opening,
}

impl TransferProgress {
    /// A range that ends before it starts is empty.
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self {
            next: range.start,
            end: range.end.max(range.start),
            staged: 0,
            sent: 0,
            step_end: 0,
            more: false,
            is_cold: false,
            opening: Opening::NONE,
        }
    }

    /// Begins the next step, which ends with the range at the latest.
    pub(crate) fn begin_step(&mut self, step: Step, opening: Opening) {
        self.step_end = self.sent + step.bytes_max.min(self.remaining());
        self.more = step.more;
        self.opening = opening;
    }

    /// Bytes of the step that the socket has yet to take.
    pub(crate) fn step_remaining(&self) -> u64 {
        self.step_end.saturating_sub(self.sent)
    }

    /// Bytes of the range that the socket has yet to take.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.position()
    }

    pub(crate) fn staged(&self) -> u64 {
        self.staged
    }

    /// Bytes that the socket took.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The next byte of the file to go into the socket.
    pub(crate) fn position(&self) -> u64 {
        self.next - self.staged
    }

    /// How many of the staged bytes to send next, and whether others follow them soon. `None` if
    /// nothing is staged or the step is complete.
    pub(crate) fn next_send(&self) -> Option<(u64, bool)> {
        let len = self.staged.min(self.step_remaining());
        if len == 0 {
            return None;
        }
        let Opening { bytes, each } = self.opening;
        let opening = u64::from(bytes).saturating_sub(self.sent);
        if opening > 0 {
            return Some((opening.min(each.into()).min(len), false));
        }
        Some((len, self.more || len < self.step_remaining()))
    }

    /// The bytes to stage next, at most as many as an empty pipe of `capacity` bytes holds. The
    /// step does not bound them.
    pub(crate) fn chunk(&self, capacity: usize, page: usize) -> Range<u64> {
        self.next..chunk_end(self.next, self.end, capacity, page)
    }

    /// The bytes of the step to stage next, at most `len`.
    pub(crate) fn chunk_of_step(&self, len: usize) -> Range<u64> {
        let unstaged = self.step_remaining().saturating_sub(self.staged);
        self.next..self.next + unstaged.min(len as u64)
    }

    /// `count` bytes were staged.
    pub(crate) fn filled(&mut self, count: usize) {
        self.next += count as u64;
        self.staged += count as u64;
        debug_assert!(self.next <= self.end, "at most the chunk is staged");
    }

    /// Sets whether the staged bytes came from the disk.
    pub(crate) fn set_cold(&mut self, is_cold: bool) {
        self.is_cold = is_cold;
    }

    pub(crate) fn is_cold(&self) -> bool {
        self.is_cold
    }

    /// The socket took `count` of the staged bytes.
    pub(crate) fn drained(&mut self, count: u64) {
        debug_assert!(count <= self.staged, "only staged bytes are sent");
        self.staged -= count;
        self.sent += count;
    }

    /// The staged bytes are lost. They are still in the file.
    pub(crate) fn rewind(&mut self) {
        self.next -= self.staged;
        self.staged = 0;
    }
}

/// The end of the bytes from `start` on that fit into an empty pipe of `capacity` bytes, at most
/// `end`.
///
/// A pipe holds a number of pages, however few bytes of its first page are asked for. So a chunk
/// ends at the end of a page, and the chunks that follow start with a page.
pub(crate) fn chunk_end(start: u64, end: u64, capacity: usize, page: usize) -> u64 {
    let in_first = start % page as u64;
    end.min(start.saturating_add(capacity as u64 - in_first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    #[test]
    fn an_opening_is_sent_in_short_sends_without_more() {
        let opening = Opening {
            bytes: 8192,
            each: 4096,
        };
        let mut bytes = TransferProgress::new(100..20_000);
        bytes.begin_step(Step::ALL, opening);
        bytes.filled(9000);
        assert_eq!(bytes.next_send(), Some((4096, false)));
        bytes.drained(4000);
        assert_eq!(bytes.next_send(), Some((4096, false)));
        bytes.drained(4096);
        assert_eq!(bytes.next_send(), Some((96, false)));
        // The staged bytes are staged again.
        bytes.rewind();
        bytes.filled(10);
        assert_eq!(bytes.next_send(), Some((10, false)));
        bytes.drained(10);
        bytes.filled(200);
        assert_eq!(bytes.next_send(), Some((86, false)));
        bytes.drained(86);
        assert_eq!(bytes.next_send(), Some((114, true)));
    }

    #[test]
    fn an_empty_or_reversed_range_is_complete() {
        #[expect(clippy::reversed_empty_ranges, reason = "one of the cases")]
        for range in [0..0, 7..7, 9..7] {
            let mut bytes = TransferProgress::new(range);
            bytes.begin_step(Step::ALL, Opening::NONE);
            assert_eq!((bytes.remaining(), bytes.step_remaining()), (0, 0));
        }
    }

    #[test]
    fn bytes_are_accounted_for_through_short_moves_and_a_rewind() {
        let mut bytes = TransferProgress::new(100..10_000);
        bytes.begin_step(Step::ALL, Opening::NONE);
        bytes.filled(8000);
        assert_eq!(bytes.next_send(), Some((8000, true)));
        bytes.drained(3000);
        assert_eq!(
            (bytes.next, bytes.staged(), bytes.sent()),
            (8100, 5000, 3000)
        );
        bytes.rewind();
        assert_eq!((bytes.next, bytes.staged(), bytes.sent()), (3100, 0, 3000));
        assert_eq!(bytes.position(), 3100);
        bytes.filled(6900);
        assert_eq!(bytes.next_send(), Some((6900, false)));
        bytes.drained(6900);
        assert_eq!((bytes.next_send(), bytes.remaining()), (None, 0));
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
            let bytes = TransferProgress::new(start..end);
            assert_eq!(
                bytes.chunk(capacity, PAGE),
                start..expected,
                "{start}..{end}"
            );
        }
    }

    fn step(bytes_max: u64, more: bool) -> Step {
        Step { bytes_max, more }
    }

    #[test]
    fn a_step_bounds_what_is_sent_and_not_what_is_in_the_pipe() {
        let mut bytes = TransferProgress::new(0..20_000);
        bytes.begin_step(step(9, true), Opening::NONE);
        bytes.filled(8192);
        assert_eq!(bytes.next_send(), Some((9, true)), "the caller's follow");
        bytes.drained(9);
        assert_eq!((bytes.next_send(), bytes.staged()), (None, 8183));
        bytes.begin_step(step(10_000, false), Opening::NONE);
        assert_eq!(bytes.next_send(), Some((8183, true)), "the step goes on");
        bytes.drained(8183);
        bytes.filled(8192);
        assert_eq!(bytes.next_send(), Some((1817, false)));
        bytes.drained(1817);
        bytes.rewind();
        assert_eq!((bytes.sent(), bytes.remaining()), (10_009, 9991));
        bytes.begin_step(step(u64::MAX, true), Opening::NONE);
        assert_eq!(bytes.step_remaining(), 9991);
        bytes.filled(9991);
        assert_eq!(bytes.next_send(), Some((9991, true)));
    }

    #[test]
    fn a_chunk_of_a_step_ends_with_it() {
        let mut bytes = TransferProgress::new(5..100);
        bytes.begin_step(step(30, false), Opening::NONE);
        assert_eq!(bytes.chunk_of_step(20), 5..25);
        bytes.filled(20);
        assert_eq!(bytes.chunk_of_step(20), 25..35);
        bytes.drained(20);
        assert_eq!(bytes.chunk_of_step(20), 25..35);
        bytes.begin_step(Step::ALL, Opening::NONE);
        assert_eq!(bytes.chunk_of_step(1000), 25..100);
    }
}
