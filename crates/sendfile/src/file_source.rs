//! The file of a transfer: probes which parts are in memory, and has workers prefetch the ranges
//! that [`Readahead`] returns.
//!
//! A prefetch occupies a worker until the disk has room in its queue and the file system answers.
//! So the number of transfers that prefetch at once is bounded, in all and for each device. A
//! dropped transfer's permit is held until its worker returns.

use std::ops::Range;
use std::rc::Rc;

use rustix::fs::Advice;
use tidegate_uring::advise::Advise;
use tidegate_uring::{Fd, Op, Owner, Permit, Ring};

use crate::Options;
use crate::pool::Pool;
use crate::readahead::Readahead;
use crate::residency::{Prober, Residency};

/// The file that one transfer reads.
pub(crate) struct FileSource<'a> {
    ring: &'a Ring,
    pool: &'a Rc<Pool>,
    file: &'a Fd,
    owner: Owner,
    prober: Prober,
    ahead: Readahead,
    /// The last prefetch. Cancelled, unless it has started, when the transfer ends.
    under_way: Option<Op<Advise>>,
}

impl<'a> FileSource<'a> {
    pub(crate) fn new(ring: &'a Ring, pool: &'a Rc<Pool>, file: &'a Fd, options: &Options) -> Self {
        Self {
            ring,
            pool,
            file,
            owner: Owner {
                device: options.device,
                user: 0,
            },
            prober: Prober::default(),
            ahead: Readahead::new(options.unread),
            under_way: None,
        }
    }

    pub(crate) fn ring(&self) -> &'a Ring {
        self.ring
    }

    pub(crate) fn pool(&self) -> &'a Rc<Pool> {
        self.pool
    }

    pub(crate) fn file(&self) -> &'a Fd {
        self.file
    }

    /// The owner of the workers that wait for this file.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether a part was not in memory when it was looked at.
    pub(crate) fn met_disk(&self) -> bool {
        self.ahead.met_disk()
    }

    /// Await this before each probe, without holding a pipe: a worker prefetches the range `next`,
    /// unless it is probably in memory or was prefetched already. `tell`: the caller must know
    /// whether the range was in memory before.
    pub(crate) async fn prepare(&mut self, tell: bool, next: impl FnOnce() -> Range<u64>) {
        self.settle().await;
        if self.ahead.is_trusting() {
            return;
        }
        if let Some(wanted) = self.ahead.before_look(&next(), tell) {
            let permit = self.pool.ahead.take(self.owner).await;
            self.ask(&wanted, permit);
            self.settle().await;
        }
    }

    /// Probes whether `chunk` is in memory.
    pub(crate) fn probe(&mut self, chunk: &Range<u64>) -> Residency {
        self.prober.probe(self.file, chunk)
    }

    /// Reads the bytes of the file that are in memory, from `offset` on; see [`Prober::read`].
    pub(crate) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        self.prober.read(self.file, offset, buffer)
    }

    /// The probe found all of `chunk` in memory. `step` and `after` as for [`Readahead::further`].
    pub(crate) fn resident(
        &mut self,
        chunk: &Range<u64>,
        step: usize,
        after: impl Fn(usize) -> Range<u64>,
    ) {
        self.ahead.resident(chunk);
        self.ask_further(step, true, after);
    }

    /// The probe found a part of `chunk` absent. Returns the offset from which on the file is taken
    /// to have been absent. `step` and `after` as for [`Readahead::further`].
    pub(crate) fn absent(
        &mut self,
        chunk: &Range<u64>,
        step: usize,
        after: impl Fn(usize) -> Range<u64>,
    ) -> u64 {
        let since = self.ahead.absent(chunk);
        self.ask_further(step, false, after);
        since
    }

    /// Prefetches the next range if a permit is free; else `prepare` waits for one before the next
    /// probe.
    fn ask_further(&mut self, step: usize, kept_up: bool, after: impl Fn(usize) -> Range<u64>) {
        if let Some(wanted) = self.ahead.further(step, kept_up, after)
            && let Some(permit) = self.pool.ahead.try_take(self.owner)
        {
            self.ahead.asked(&wanted);
            self.ask(&wanted, permit);
        }
    }

    fn ask(&mut self, wanted: &Range<u64>, permit: Permit) {
        let len = (wanted.end - wanted.start) as u32;
        let advise = self
            .ring
            .fadvise(self.file, wanted.start, len, Advice::WillNeed);
        self.under_way = Some(advise.holding(permit));
        self.pool.count_ahead();
    }

    async fn settle(&mut self) {
        if let Some(advise) = self.under_way.take() {
            // The read that follows reports a disk error.
            let _ = advise.await;
        }
    }
}
