//! Gives back the memory of what a transfer had read from the disk, behind what its peer took.
//!
//! A scan over files that are together larger than memory would otherwise leave its pages in place
//! of those that are asked for again and again. `POSIX_FADV_DONTNEED` drops pages that nobody uses;
//! those that are mapped, in a pipe or in a socket's send queue it skips. Hence *behind*: a page
//! that the peer has not acknowledged is still in the queue.
//!
//! A file that is all in memory stays there. From the first part on that is not, all counts as brought
//! in by the transfer: the kernel reads ahead of it, so what the probes find further on says nothing
//! of how it was before. What was asked for before the first look counts with what that look found. (cachestat(2) and mincore(2) would tell, but only to who may write to
//! the file, which a server should not.) A file that others ask for as well is kept: [`Popularity`].
//!
//! `RWF_DONTCACHE` is no way to do this: there is none for splice(2), and a read that has it drops the
//! pages once they are copied, before they could be spliced.

use std::ops::Range;
use std::time::Duration;

use glommio::timer::sleep;
use rustix::fs::Advice;
use rustix::param::page_size;
use tidegate_uring::advise::Advise;
use tidegate_uring::{Fd, Op, Ring, unacknowledged};

use crate::pool::Pool;
use crate::popularity::Popularity;

/// What is given back at a time.
const STEP: u64 = 2 * 1024 * 1024;

/// How far behind what was given back before is given back once more: pages that were skipped, since
/// a peer on the same host had acknowledged them but not read them, and folios of several pages of
/// which only a part lay in the range before.
const AGAIN: u64 = 8 * 1024 * 1024;

/// How long after the end of a transfer the last of it is given back. By then most peers have taken
/// what was still in the socket.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The pages that one transfer brought in.
pub(crate) struct Behind {
    popularity: Popularity,
    faulted: FaultedRange,
    /// The last one started. Not awaited; the next one covers what it did as well.
    advice: Option<Op<Advise>>,
}

impl Behind {
    /// For a transfer of `file` that begins at `start`.
    pub(crate) fn new(file: &Fd, start: u64) -> Self {
        Self {
            popularity: Popularity::new(file, start),
            faulted: FaultedRange::default(),
            advice: None,
        }
    }

    /// Of what is filled next a part was not in memory, nor, as far as can be told, what lies `since`
    /// there.
    pub(crate) fn absent(&mut self, since: u64) {
        self.faulted.absent(since);
    }

    /// `range` is on its way to the socket.
    pub(crate) fn filled(&mut self, range: Range<u64>) {
        self.faulted.filled(range);
    }

    /// The socket took all before `position`: gives back what its peer has taken of that, once it is enough.
    pub(crate) fn follow(&mut self, ring: &Ring, file: &Fd, socket: &Fd, position: u64) {
        self.popularity.reached(position);
        if self.faulted.is_due(position) {
            // A socket that cannot tell counts as one that holds nothing.
            let queued = unacknowledged(socket).unwrap_or(0) as u64;
            self.give_back(ring, file, position.saturating_sub(queued));
        }
    }

    /// Gives back what lies before `taken`, up to which the peer has taken the file.
    fn give_back(&mut self, ring: &Ring, file: &Fd, taken: u64) {
        if !self.faulted.is_due(taken) {
            return;
        }
        let range = self.faulted.behind(taken);
        if !self.popularity.is_popular() {
            self.advice = Some(dont_need(ring, file, &range));
        }
    }

    /// Gives back the last of it a while after the transfer is over.
    pub(crate) fn finish(mut self, ring: &Ring, pool: &Pool, file: &Fd) {
        let range = self.faulted.behind(u64::MAX);
        if range.is_empty() {
            return;
        }
        let late = pool.late.try_acquire();
        let (own_ring, file) = (ring.clone(), file.clone());
        let last = async move {
            if late.is_some() {
                sleep(LAST_WAIT).await;
            }
            if !self.popularity.is_popular() {
                // Advice that is not taken leaves things as they are.
                let _ = dont_need(&own_ring, &file, &range).await;
            }
            drop(self);
            // The last descriptor of a file that was deleted frees its content: not on this core.
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

/// The account of what was brought in: all from the first absent part on. It does no I/O.
#[derive(Debug, Default)]
struct FaultedRange {
    /// From where on, if a part was absent.
    since: Option<u64>,
    range: Range<u64>,
    /// All before it was given back once.
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
            // Only whole pages are given back.
            self.range.start = since - since % page_size() as u64;
            self.given = self.range.start;
        }
        // It falls behind that when a pipe was taken away, and what it held is spliced again.
        self.range.end = self.range.end.max(filled.end);
    }

    fn is_due(&self, until: u64) -> bool {
        !self.range.is_empty() && until >= self.given + STEP
    }

    /// What is to be given back now that all before `until` was taken.
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
    fn what_was_in_memory_is_not_given_back() {
        let mut faulted = FaultedRange::default();
        faulted.filled(0..50 * MIB);
        assert!(!faulted.is_due(50 * MIB));
        assert!(faulted.behind(u64::MAX).is_empty());
    }

    #[test]
    fn all_is_from_the_first_absent_part_on() {
        let mut faulted = FaultedRange::default();
        faulted.filled(0..5000);
        faulted.absent(5000);
        faulted.filled(5000..2 * MIB);
        faulted.absent(2 * MIB);
        faulted.filled(2 * MIB..3 * MIB);
        assert_eq!(faulted.behind(u64::MAX), 4096..3 * MIB);
    }

    #[test]
    fn what_was_asked_for_before_the_first_look_is_given_back_too() {
        let mut faulted = FaultedRange::default();
        faulted.filled(5000..MIB);
        faulted.absent(5000);
        faulted.filled(MIB..2 * MIB);
        assert_eq!(faulted.behind(u64::MAX), 4096..2 * MIB);
    }

    #[test]
    fn it_is_given_back_in_steps_and_each_part_again() {
        let mut faulted = FaultedRange::default();
        faulted.absent(4096);
        faulted.filled(4096..40 * MIB);
        assert!(!faulted.is_due(STEP));
        assert!(faulted.is_due(4096 + STEP));
        assert_eq!(faulted.behind(30 * MIB), 4096..30 * MIB);
        assert!(!faulted.is_due(30 * MIB + STEP - 1));
        assert_eq!(faulted.behind(33 * MIB), 30 * MIB - AGAIN..33 * MIB);
        // A part of it again, out of a pipe that was taken away.
        faulted.filled(39 * MIB..39 * MIB + 1);
        assert_eq!(faulted.behind(u64::MAX), 33 * MIB - AGAIN..40 * MIB);
    }
}
