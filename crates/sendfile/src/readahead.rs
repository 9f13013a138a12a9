//! What a worker prefetches for a transfer before the core probes it.
//!
//! A probe of an absent page starts to read it, and for that the file system must know where the
//! page is on the disk. If that has to be read as well, the probe blocks the core. After a worker's
//! prefetch the page is there or under way, and the probe does not block. So two kinds of ranges
//! are prefetched before they are probed: the first chunk of a range that nothing read lately, and
//! all that follows an absent chunk.
//!
//! A prefetched chunk no longer shows whether it was in memory before. So the prefetch leaves out
//! the last page of the first chunk, the *sentinel page*: the probe finds it in memory or not, and
//! its state stands for the rest of the file. Its location on the disk is known by then, since its
//! neighbours needed the same metadata.

use std::ops::Range;

use rustix::param::page_size;

/// The most bytes of a chunk that may be on the disk, and those that are prefetched before the first
/// probe. The first byte of a longer one would have to wait for more of the disk.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Bytes prefetched at once, at most. Each prefetch costs a switch to a worker.
const AHEAD_MAX: usize = 2 * 1024 * 1024;

/// Pure state machine of one transfer: returns the ranges to prefetch; the caller reports
/// residency.
#[derive(Debug)]
pub(crate) struct Readahead {
    expected: Expected,
    /// The end of what was prefetched.
    prefetched_until: u64,
    /// Bytes of the last prefetch, which its op counts in 32 bits, too.
    prefetched_bytes: u32,
    met_disk: bool,
}

/// Where the bytes that come next are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// In memory.
    Memory,
    /// Unknown, and treated as on the disk.
    Unread,
    /// In the same place as the page at `sentinel_page`. All from `start` to there was prefetched.
    AsSentinel { start: u64, sentinel_page: u64 },
    /// On the disk.
    Disk,
}

impl Readahead {
    /// `unread`: nothing read the range lately, as far as the caller knows.
    pub(crate) fn new(unread: bool) -> Self {
        Self {
            expected: if unread {
                Expected::Unread
            } else {
                Expected::Memory
            },
            prefetched_until: 0,
            prefetched_bytes: 0,
            met_disk: false,
        }
    }

    /// Whether the core may probe without a prefetch.
    pub(crate) fn is_trusting(&self) -> bool {
        matches!(
            self.expected,
            Expected::Memory | Expected::AsSentinel { .. }
        )
    }

    /// Whether a probe found a part absent.
    pub(crate) fn met_disk(&self) -> bool {
        self.met_disk
    }

    /// The range to prefetch before the core probes the first bytes of `chunk`; it counts as
    /// prefetched from here on. `tell`: the caller must know whether the chunk was in memory
    /// before.
    pub(crate) fn before_probe(&mut self, chunk: &Range<u64>, tell: bool) -> Option<Range<u64>> {
        let wanted = match self.expected {
            Expected::Memory | Expected::AsSentinel { .. } => return None,
            Expected::Disk if chunk.start < self.prefetched_until => return None,
            Expected::Disk => chunk.clone(),
            Expected::Unread => self.first(chunk, tell),
        };
        self.prefetched(&wanted);
        (!wanted.is_empty()).then_some(wanted)
    }

    fn first(&mut self, chunk: &Range<u64>, tell: bool) -> Range<u64> {
        let last = chunk.end.saturating_sub(1);
        let sentinel_page = last - last % page_size() as u64;
        let start = chunk.start;
        if tell && sentinel_page > start {
            self.expected = Expected::AsSentinel {
                start,
                sentinel_page,
            };
            start..sentinel_page
        } else {
            self.expected = Expected::Disk;
            chunk.clone()
        }
    }

    /// The probe found all of `chunk` in memory.
    pub(crate) fn resident(&mut self, chunk: &Range<u64>) {
        if let Expected::AsSentinel { sentinel_page, .. } = self.expected
            && chunk.end > sentinel_page
        {
            self.expected = Expected::Memory;
        }
    }

    /// The probe found a part of `chunk` absent. Returns the offset from which on the file is taken
    /// to have been absent.
    pub(crate) fn absent(&mut self, chunk: &Range<u64>) -> u64 {
        let since = match self.expected {
            Expected::AsSentinel { start, .. } => start,
            Expected::Memory | Expected::Unread | Expected::Disk => chunk.start,
        };
        self.expected = Expected::Disk;
        self.met_disk = true;
        since
    }

    /// The range to prefetch while the previous chunk is sent, if any: at least the next `step`
    /// bytes. The size doubles while the disk `kept_up`, that is, while prefetched ranges are in
    /// memory when they are needed. `after` returns that many of the bytes that follow, or all that
    /// are left.
    pub(crate) fn further(
        &self,
        step: usize,
        kept_up: bool,
        after: impl Fn(usize) -> Range<u64>,
    ) -> Option<Range<u64>> {
        if self.expected != Expected::Disk || after(step).end <= self.prefetched_until {
            return None;
        }
        let bytes = if kept_up {
            (2 * self.prefetched_bytes as usize).clamp(step, AHEAD_MAX.max(step))
        } else {
            step
        };
        Some(after(bytes)).filter(|wanted| !wanted.is_empty())
    }

    /// Notes that `range`, returned by [`Readahead::further`], is being prefetched.
    pub(crate) fn prefetched(&mut self, range: &Range<u64>) {
        self.prefetched_until = range.end;
        self.prefetched_bytes = (range.end - range.start) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const CHUNK: u64 = 256 * KIB;
    const STEP: usize = CHUNK as usize;
    const LEN: u64 = 100 * CHUNK;

    /// What follows `chunk` in a file of [`LEN`] bytes.
    fn after(chunk: &Range<u64>) -> impl Fn(usize) -> Range<u64> {
        let start = chunk.end;
        move |bytes| start..LEN.min(start + bytes as u64)
    }

    fn chunk(number: u64) -> Range<u64> {
        number * CHUNK..(number + 1) * CHUNK
    }

    /// One that found its first chunk absent.
    fn on_the_disk() -> Readahead {
        let mut ahead = Readahead::new(false);
        ahead.absent(&chunk(0));
        ahead
    }

    #[test]
    fn nothing_is_prefetched_of_a_file_in_memory() {
        let mut ahead = Readahead::new(false);
        for number in 0..10 {
            let chunk = chunk(number);
            assert!(ahead.is_trusting());
            assert_eq!(ahead.before_probe(&chunk, true), None);
            ahead.resident(&chunk);
            assert_eq!(ahead.further(STEP, true, after(&chunk)), None);
        }
        assert!(!ahead.met_disk());
    }

    #[test]
    fn all_but_the_last_page_of_an_unread_first_chunk_is_prefetched() {
        let page = page_size() as u64;
        // The first chunk, whether its residency must be known, the range to prefetch.
        let cases = [
            (0..CHUNK, true, 0..CHUNK - page),
            (7..CHUNK, true, 7..CHUNK - page),
            (0..page + 1, true, 0..page),
            (CHUNK..2 * CHUNK - 9, true, CHUNK..2 * CHUNK - page),
            (0..CHUNK, false, 0..CHUNK),
            (0..page, true, 0..page),
            (page + 3..page + 4, true, page + 3..page + 4),
        ];
        for (first, tell, expected) in cases {
            let mut ahead = Readahead::new(true);
            assert!(!ahead.is_trusting());
            let asked = ahead.before_probe(&first, tell);
            assert_eq!(asked, Some(expected), "{first:?} {tell}");
            let again = ahead.before_probe(&first, tell);
            assert_eq!(again, None, "{first:?} {tell}: once");
        }
        assert_eq!(Readahead::new(true).before_probe(&(5..5), true), None);
    }

    #[test]
    fn a_resident_sentinel_page_stands_for_the_rest_of_the_file() {
        let mut ahead = Readahead::new(true);
        ahead.before_probe(&chunk(0), true);
        // Small pipes: a prefetched part shows nothing.
        ahead.resident(&(0..CHUNK / 2));
        assert_ne!(ahead.expected, Expected::Memory);
        ahead.resident(&(CHUNK / 2..CHUNK));
        assert_eq!(ahead.expected, Expected::Memory);
        assert_eq!(ahead.further(STEP, true, after(&chunk(0))), None);
        assert_eq!(ahead.before_probe(&chunk(1), true), None);
        assert!(!ahead.met_disk());
        assert_eq!(ahead.absent(&chunk(3)), 3 * CHUNK, "the rest was there");
    }

    #[test]
    fn an_absent_sentinel_page_stands_for_the_prefetched_range_too() {
        let mut ahead = Readahead::new(true);
        ahead.before_probe(&(7..CHUNK), true);
        ahead.resident(&(7..CHUNK / 2));
        assert_eq!(ahead.absent(&(CHUNK / 2..CHUNK)), 7);
        assert!(ahead.met_disk() && !ahead.is_trusting());
        let next = ahead.further(STEP, false, after(&chunk(0)));
        assert_eq!(next, Some(chunk(1)));
    }

    #[test]
    fn a_chunk_on_the_disk_is_prefetched_before_it_is_probed() {
        let mut ahead = on_the_disk();
        let next = ahead.further(STEP, false, after(&chunk(0))).unwrap();
        // No permit was free: it is not prefetched yet, and must be before the probe.
        assert_eq!(ahead.before_probe(&chunk(1), true), Some(next));
        assert_eq!(ahead.before_probe(&chunk(1), true), None);
        let next = ahead.further(STEP, true, after(&chunk(1))).unwrap();
        ahead.prefetched(&next);
        ahead.resident(&chunk(1));
        assert_eq!(ahead.before_probe(&chunk(2), true), None);
        assert!(!ahead.is_trusting(), "to the end");
    }

    #[test]
    fn prefetches_grow_while_the_disk_keeps_up() {
        let mut ahead = on_the_disk();
        let mut asked = Vec::new();
        for number in 0..30 {
            let chunk = chunk(number);
            let kept_up = number != 20;
            if let Some(next) = ahead.further(STEP, kept_up, after(&chunk)) {
                ahead.prefetched(&next);
                asked.push((next.end - next.start) / CHUNK);
            }
        }
        assert_eq!(asked, [1, 2, 4, 8, 8, 8], "and no more than 2 MiB");
        let last = chunk(99);
        assert_eq!(ahead.further(STEP, true, after(&last)), None, "the end");
    }

    #[test]
    fn prefetches_shrink_once_the_disk_is_late() {
        let mut ahead = on_the_disk();
        ahead.prefetched(&(0..2 * 1024 * KIB));
        let late = ahead.further(STEP, false, after(&chunk(7)));
        assert_eq!(late, Some(chunk(8)));
    }
}
