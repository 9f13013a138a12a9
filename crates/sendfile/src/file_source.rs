//! The file of a transfer: probes which parts are in memory, has workers prefetch the ranges that
//! [`Readahead`] returns, and drops pages behind the transfer.
//!
//! A prefetch occupies a worker until the disk has room in its queue and the file system answers.
//! So the number of transfers that prefetch at once is bounded, in all and for each device. A
//! dropped transfer's permit is held until its worker returns.

use std::io::IoSliceMut;
use std::ops::Range;
use std::rc::Rc;

use rustix::fs::Advice;
use rustix::param::page_size;
use tidegate_uring::advise::Advise;
use tidegate_uring::{Fd, Op, Owner, Permit, Ring};

use crate::Options;
use crate::drop_behind::DropBehind;
use crate::pool::Pool;
use crate::progress::chunk_end;
use crate::readahead::{CHUNK_BYTES, Readahead};
use crate::residency::{Prober, Residency};

/// The file that one transfer reads.
pub(crate) struct FileSource {
    ring: Ring,
    pool: Rc<Pool>,
    file: Fd,
    owner: Owner,
    /// The end of the transfer's range, exclusive.
    end: u64,
    prober: Prober,
    readahead: Readahead,
    /// The range that must be prefetched before the next probe.
    due: Option<Range<u64>>,
    /// The last prefetch. Cancelled, unless it has started, when the transfer ends.
    under_way: Option<Op<Advise>>,
    /// `None`: pages that are brought in stay in memory. Boxed: most transfers have none.
    drop_behind: Option<Box<DropBehind>>,
}

impl FileSource {
    /// For a transfer of `range`.
    #[inline]
    pub(crate) fn new(
        ring: &Ring,
        pool: &Rc<Pool>,
        file: &Fd,
        range: Range<u64>,
        options: &Options,
    ) -> Self {
        Self {
            ring: ring.clone(),
            pool: Rc::clone(pool),
            file: file.clone(),
            owner: Owner {
                device: options.device,
                user: 0,
            },
            end: range.end,
            prober: Prober::new(options.unread),
            readahead: Readahead::new(options.unread),
            due: None,
            under_way: None,
            drop_behind: options
                .drop_behind
                .then(|| Box::new(DropBehind::new(file, range.start))),
        }
    }

    /// The end of the range, exclusive.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    pub(crate) fn file(&self) -> &Fd {
        &self.file
    }

    /// The owner of the workers that wait for this file.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether a probe found a part absent.
    pub(crate) fn met_disk(&self) -> bool {
        self.readahead.met_disk()
    }

    /// Await this before each probe at `position`, without holding a pipe: a worker prefetches the
    /// bytes there, unless they are probably in memory or were prefetched already.
    ///
    /// Dropped: the next call goes on with it.
    pub(crate) async fn prepare(&mut self, position: u64) {
        self.settle().await;
        if self.due.is_none() {
            self.due = self.due_before(position);
        }
        if let Some(due) = self.due.clone() {
            let permit = self.pool.ahead.take(self.owner).await;
            self.prefetch(&due, permit);
            self.due = None;
            self.settle().await;
        }
    }

    /// Whether [`FileSource::prepare`] has nothing to wait for.
    pub(crate) fn is_prepared(&mut self, position: u64) -> bool {
        if self.under_way.is_none() && self.due.is_none() {
            self.due = self.due_before(position);
        }
        self.under_way.is_none() && self.due.is_none()
    }

    /// Whether all of `chunk` is in memory, as far as a probe of its ends shows.
    pub(crate) fn is_resident(&mut self, chunk: &Range<u64>) -> bool {
        self.probe(chunk) == Residency::Resident
    }

    fn due_before(&mut self, position: u64) -> Option<Range<u64>> {
        if self.readahead.is_trusting() {
            return None;
        }
        let chunk = position..chunk_end(position, self.end, CHUNK_BYTES, page_size());
        let tell = self.drop_behind.is_some() || self.end - position > CHUNK_BYTES as u64;
        self.readahead.before_probe(&chunk, tell)
    }

    /// Whether all was in memory so far, or was lately: then the next chunk may be a long one.
    pub(crate) fn is_hot(&self) -> bool {
        self.prober.is_hot()
    }

    /// Probes whether `chunk` is in memory.
    pub(crate) fn probe(&mut self, chunk: &Range<u64>) -> Residency {
        self.prober.probe(&self.file, chunk)
    }

    /// Reads the bytes of the file that are in memory, from `offset` on; see [`Prober::read`].
    pub(crate) fn read(&mut self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Option<usize> {
        self.prober.read(&self.file, offset, buffers)
    }

    /// All of `chunk` was in memory. At least the next `step` bytes are prefetched, if they are
    /// probably not.
    pub(crate) fn resident(&mut self, chunk: &Range<u64>, step: usize) {
        self.readahead.resident(chunk);
        self.prefetch_after(chunk, step, true);
    }

    /// A part of `chunk` was absent. At least the next `step` bytes are prefetched.
    pub(crate) fn absent(&mut self, chunk: &Range<u64>, step: usize) {
        let since = self.readahead.absent(chunk);
        if let Some(behind) = &mut self.drop_behind {
            behind.absent(since);
        }
        self.prefetch_after(chunk, step, false);
    }

    /// `range` is on its way to the socket.
    pub(crate) fn filled(&mut self, range: Range<u64>) {
        if let Some(behind) = &mut self.drop_behind {
            behind.filled(range);
        }
    }

    /// The socket took all before `position`: drops the pages that its peer has acknowledged.
    pub(crate) fn follow(&mut self, socket: &Fd, position: u64) {
        if let Some(behind) = &mut self.drop_behind {
            behind.follow(&self.ring, &self.file, socket, position);
        }
    }

    /// Drops the last pages behind the transfer, which has ended.
    pub(crate) fn finish(&mut self) {
        if let Some(behind) = self.drop_behind.take() {
            behind.finish(&self.ring, &self.pool, &self.file);
        }
    }

    /// Prefetches the next range if a permit is free; else `prepare` waits for one before the next
    /// probe.
    fn prefetch_after(&mut self, chunk: &Range<u64>, step: usize, kept_up: bool) {
        let (start, end) = (chunk.end, self.end);
        let after = |len: usize| start..end.min(start.saturating_add(len as u64));
        if let Some(wanted) = self.readahead.further(step, kept_up, after)
            && let Some(permit) = self.pool.ahead.try_take(self.owner)
        {
            self.readahead.prefetched(&wanted);
            self.prefetch(&wanted, permit);
        }
    }

    fn prefetch(&mut self, wanted: &Range<u64>, permit: Permit) {
        let len = (wanted.end - wanted.start) as u32;
        let advise = self
            .ring
            .fadvise(&self.file, wanted.start, len, Advice::WillNeed);
        self.under_way = Some(advise.holding(permit));
        self.pool.count_prefetch();
    }

    /// Waits for the prefetch that is under way.
    async fn settle(&mut self) {
        if let Some(advise) = &mut self.under_way {
            // The read that follows reports a disk error.
            let _ = advise.await;
            self.under_way = None;
        }
    }
}
