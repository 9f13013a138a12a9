//! The file of a transfer: what of it is in memory, and having workers ask the disk for what [`Readahead`]
//! tells.
//!
//! When the queue of a disk is full, or a file system does not answer, a worker that asks waits. So only
//! so many transfers ask at once, and those of one device leave as many to others. The leave of a transfer
//! that is dropped goes on until its worker comes back.

use std::ops::Range;
use std::rc::Rc;

use rustix::fs::Advice;
use tidegate_uring::advise::Advise;
use tidegate_uring::{Fd, Op, Owner, Permit, Ring};

use crate::Options;
use crate::ahead::Readahead;
use crate::pool::Pool;
use crate::residency::{Prober, Residency};

/// What one transfer reads from.
pub(crate) struct Source<'a> {
    ring: &'a Ring,
    pool: &'a Rc<Pool>,
    file: &'a Fd,
    owner: Owner,
    prober: Prober,
    ahead: Readahead,
    /// What was asked for last. It is cancelled, if it has not started, when the transfer ends.
    under_way: Option<Op<Advise>>,
}

impl<'a> Source<'a> {
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

    /// Who waits for the file.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether a part was not in memory when it was looked at.
    pub(crate) fn met_disk(&self) -> bool {
        self.ahead.met_disk()
    }

    /// To be awaited before each look, with no pipe in hand: lets a worker ask for what comes `next`, unless
    /// it is likely to be in memory or was asked for. `tell`: it matters whether it was in memory before.
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

    /// A look: whether `chunk` is in memory.
    pub(crate) fn probe(&mut self, chunk: &Range<u64>) -> Residency {
        self.prober.probe(self.file, chunk)
    }

    /// A look that takes what it finds: what of the file is in memory from `offset` on; see
    /// [`Prober::read`].
    pub(crate) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        self.prober.read(self.file, offset, buffer)
    }

    /// The look found all of `chunk` in memory. `step` and `after` as for [`Readahead::further`].
    pub(crate) fn resident(
        &mut self,
        chunk: &Range<u64>,
        step: usize,
        after: impl Fn(usize) -> Range<u64>,
    ) {
        self.ahead.resident(chunk);
        self.ask_further(step, true, after);
    }

    /// The look found a part of `chunk` absent. Gives from where on the file was, as far as can be told.
    /// `step` and `after` as for [`Readahead::further`].
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

    /// Where there is no leave, `prepare` waits for it before the next look.
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
            // A disk that fails is told by the read.
            let _ = advise.await;
        }
    }
}
