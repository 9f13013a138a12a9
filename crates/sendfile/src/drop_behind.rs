//! Drop-behind: drops from the page cache what a transfer read from the disk, once its peer has
//! taken it.
//!
//! A scan over files that are together larger than memory would otherwise evict the pages that are
//! in demand. `POSIX_FADV_DONTNEED` drops unused pages and skips those that are mapped, in a pipe
//! or in a socket's send queue. Hence *behind*: a page that the peer has not acknowledged is still
//! in the send queue.
//!
//! A file that is all in memory stays there. From the first absent part on, everything counts as
//! faulted in by the transfer: the kernel reads ahead of it, so later probes do not show the state
//! before. A range that was prefetched before the first probe counts with the result of that probe.
//! (cachestat(2) and mincore(2) would show the state, but only to a process that may write to the
//! file, which a server should not.) A file that other clients request as well is kept:
//! [`Popularity`].
//!
//! `RWF_DONTCACHE` does not serve: splice(2) has no such flag, and a read with it drops the pages
//! once they are copied, before they could be spliced.

use std::ops::Range;
use std::time::Duration;

use rustix::fs::Advice;
use rustix::param::page_size;
use tidegate_uring::advise::Advise;
use tidegate_uring::executor::coarse_sleep;
use tidegate_uring::{Fd, Op, Ring, unacknowledged};

use crate::pool::Pool;
use crate::popularity::Popularity;

/// Bytes dropped at a time.
const STEP: u64 = 2 * 1024 * 1024;

/// Overlap of each range with the ranges dropped before. It catches pages that were skipped: those
/// that a peer on the same host had acknowledged but not read, and large folios that lay only
/// partly in the range before.
const AGAIN: u64 = 8 * 1024 * 1024;

/// Delay between the end of a transfer and the last drop. By then most peers have taken what was
/// still in the socket.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The pages that one transfer faulted in.
pub(crate) struct DropBehind {
    popularity: Popularity,
    faulted: FaultedRange,
    /// The last advice given. Not awaited; the next one covers its range as well.
    advice: Option<Op<Advise>>,
}

impl DropBehind {
    /// For a transfer of `file` that begins at `start`.
    pub(crate) fn new(file: &Fd, start: u64) -> Self {
        Self {
            popularity: Popularity::new(file, start),
            faulted: FaultedRange::default(),
            advice: None,
        }
    }

    /// A part of the next chunk was absent, and so, as far as can be known, was everything from
    /// `since` to there.
    pub(crate) fn absent(&mut self, since: u64) {
        self.faulted.absent(since);
    }

    /// `range` is on its way to the socket.
    pub(crate) fn filled(&mut self, range: Range<u64>) {
        self.faulted.filled(range);
    }

    /// The socket took all before `position`: drops what its peer has acknowledged of that, once it
    /// is a whole step.
    pub(crate) fn follow(&mut self, ring: &Ring, file: &Fd, socket: &Fd, position: u64) {
        self.popularity.reached(position);
        if self.faulted.is_due(position) {
            // A socket without the count is treated as empty.
            let queued = unacknowledged(socket).unwrap_or(0) as u64;
            self.drop_pages(ring, file, position.saturating_sub(queued));
        }
    }

    /// Drops the pages before `taken`, the offset up to which the peer has taken the file.
    fn drop_pages(&mut self, ring: &Ring, file: &Fd, taken: u64) {
        if !self.faulted.is_due(taken) {
            return;
        }
        let range = self.faulted.behind(taken);
        if !self.popularity.is_popular() {
            self.advice = Some(dont_need(ring, file, &range));
        }
    }

    /// Drops the last pages, a while after the transfer.
    pub(crate) fn finish(mut self, ring: &Ring, pool: &Pool, file: &Fd) {
        let range = self.faulted.behind(u64::MAX);
        if range.is_empty() {
            return;
        }
        let late = pool.late.try_acquire();
        let (own_ring, file) = (ring.clone(), file.clone());
        let last = async move {
            if late.is_some() {
                coarse_sleep(LAST_WAIT).await;
            }
            if !self.popularity.is_popular() {
                // A failure leaves the pages in memory.
                let _ = dont_need(&own_ring, &file, &range).await;
            }
            drop(self);
            // Closing the last descriptor of a deleted file frees its content, which may block: not
            // on this core.
            if let Ok(file) = file.try_unwrap() {
                let _ = own_ring.close(file).await;
            }
            drop(late);
        };
        ring.spawn(last).detach();
    }
}

fn dont_need(ring: &Ring, file: &Fd, range: &Range<u64>) -> Op<Advise> {
    let len = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
    ring.fadvise(file, range.start, len, Advice::DontNeed)
}

/// Pure state machine: the range that was faulted in, from the first absent part on.
#[derive(Debug, Default)]
struct FaultedRange {
    /// The start of the first absent part, if any.
    since: Option<u64>,
    range: Range<u64>,
    /// All before this offset was dropped once.
    given: u64,
}

impl FaultedRange {
    /// The first time counts.
    fn absent(&mut self, since: u64) {
        self.since.get_or_insert(since);
    }

    fn filled(&mut self, filled: Range<u64>) {
        let Some(since) = self.since else {
            return;
        };
        if self.range.is_empty() {
            // Only whole pages can be dropped.
            self.range.start = since - since % page_size() as u64;
            self.given = self.range.start;
        }
        // `filled` ends lower when a pipe was taken away and its bytes are spliced again.
        self.range.end = self.range.end.max(filled.end);
    }

    fn is_due(&self, until: u64) -> bool {
        !self.range.is_empty() && until >= self.given + STEP
    }

    /// The range to drop, now that the peer has taken all before `until`.
    fn behind(&mut self, until: u64) -> Range<u64> {
        let from = self.given.saturating_sub(AGAIN);
        self.given = until;
        self.range.start.max(from)..self.range.end.min(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_file_in_memory_is_not_dropped() {
        let mut faulted = FaultedRange::default();
        faulted.filled(0..50 * MIB);
        assert!(!faulted.is_due(50 * MIB));
        assert!(faulted.behind(u64::MAX).is_empty());
    }

    #[test]
    fn all_is_dropped_from_the_first_absent_part_on() {
        let mut faulted = FaultedRange::default();
        faulted.filled(0..5000);
        faulted.absent(5000);
        faulted.filled(5000..2 * MIB);
        faulted.absent(2 * MIB);
        faulted.filled(2 * MIB..3 * MIB);
        assert_eq!(faulted.behind(u64::MAX), 4096..3 * MIB);
    }

    #[test]
    fn a_chunk_prefetched_before_the_first_probe_is_dropped_too() {
        let mut faulted = FaultedRange::default();
        faulted.filled(5000..MIB);
        faulted.absent(5000);
        faulted.filled(MIB..2 * MIB);
        assert_eq!(faulted.behind(u64::MAX), 4096..2 * MIB);
    }

    #[test]
    fn pages_are_dropped_in_steps_and_each_part_again() {
        let mut faulted = FaultedRange::default();
        faulted.absent(4096);
        faulted.filled(4096..40 * MIB);
        assert!(!faulted.is_due(STEP));
        assert!(faulted.is_due(4096 + STEP));
        assert_eq!(faulted.behind(30 * MIB), 4096..30 * MIB);
        assert!(!faulted.is_due(30 * MIB + STEP - 1));
        assert_eq!(faulted.behind(33 * MIB), 30 * MIB - AGAIN..33 * MIB);
        // A part is filled again after its pipe was taken.
        faulted.filled(39 * MIB..39 * MIB + 1);
        assert_eq!(faulted.behind(u64::MAX), 33 * MIB - AGAIN..40 * MIB);
    }
}
