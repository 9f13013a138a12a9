//! The course of one transfer: fill a pipe, drain it, give way.

use std::io;
use std::mem;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::sleep;
use rustix::event::PollFlags;
use rustix::fs::Advice;
use rustix::io::Errno;
use rustix::param::page_size;
use tidegate_uring::advise::Advise;
use tidegate_uring::{Fd, Op, Ring, unacknowledged};

use crate::Options;
use crate::behind::Behind;
use crate::cork::Cork;
use crate::error::ErrorKind;
use crate::pool::{Lease, Permit, Pool};
use crate::residency::{Prober, Residency};
use crate::stall::Stall;
use crate::transfer::Transfer;

/// The most that a transfer sends before others run. Less is dearer: what the socket takes in one go
/// is sent on by acknowledgements.
const QUANTUM: u64 = 512 * 1024;

/// Shorter transfers are not corked and take no turns: they have few chunks to keep together, and
/// are soon over.
const LONG_BYTES_MIN: u64 = 512 * 1024;

/// What is asked of the disk before the first look at a file: a chunk, as a pipe usually holds it.
const FIRST_BYTES: usize = 256 * 1024;

/// The most that is asked of the disk ahead of a transfer: each time costs a switch to a worker.
const AHEAD_MAX: usize = 2 * 1024 * 1024;

/// How long to wait when a socket is said to be writable and takes nothing all the same, as the
/// kernel has it when memory for sockets is short.
const VAIN_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Sending<'a> {
    ring: &'a Ring,
    pool: &'a Rc<Pool>,
    socket: &'a Fd,
    file: &'a Fd,
    bytes: Transfer,
    /// Worth a cork, and takes turns.
    long: bool,
    prober: Prober,
    stall: Stall,
    /// What the last wait for the socket told, if nothing was sent since.
    woken_by: Option<PollFlags>,
    /// A chunk came from the disk, so those that follow it may need to as well.
    met_disk: bool,
    /// Nothing of the file was read yet, as far as the caller knows.
    unread: bool,
    /// What was asked of the disk last, until it is taken. It is cancelled, if it has not started, when the
    /// transfer ends.
    read_ahead: Option<Op<Advise>>,
    /// Bytes that were asked for last.
    ahead: usize,
    /// The end of what was asked for.
    asked_until: u64,
    /// `None`: what is brought in stays in memory.
    behind: Option<Behind>,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(
        ring: &'a Ring,
        pool: &'a Rc<Pool>,
        socket: &'a Fd,
        file: &'a Fd,
        range: Range<u64>,
        options: &Options,
    ) -> Self {
        Self {
            ring,
            pool,
            socket,
            file,
            long: range.end.saturating_sub(range.start) >= LONG_BYTES_MIN,
            behind: options.drop_behind.then(|| Behind::new(file, range.start)),
            bytes: Transfer::new(range),
            prober: Prober::default(),
            stall: Stall::new(options.stall),
            woken_by: None,
            met_disk: false,
            unread: options.unread,
            read_ahead: None,
            ahead: 0,
            asked_until: 0,
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.bytes.sent()
    }

    /// To be called after the last byte, or in place of it.
    pub(crate) fn finish(self) {
        if let Some(behind) = self.behind {
            behind.finish(self.ring, self.file);
        }
    }

    pub(crate) async fn run(&mut self) -> Result<(), ErrorKind> {
        let _cork = self.long.then(|| Cork::new(self.socket));
        let mut turn = 0;
        self.turn().await;
        while !self.bytes.is_complete() {
            let lease = self.fill().await?;
            self.drain(lease).await?;
            self.give_back();
            let sent = self.bytes.sent();
            if !self.bytes.is_complete() && sent - turn >= QUANTUM {
                turn = sent;
                self.turn().await;
            }
        }
        Ok(())
    }

    /// Lets others run first. A short transfer is no longer than the turn of a long one, and to
    /// send many of them in one go is cheaper by a quarter at 64 KiB.
    async fn turn(&self) {
        if self.long {
            self.pool.turns.next(self.ring).await;
        }
    }

    /// A pipe with the next chunk in it.
    async fn fill(&mut self) -> Result<Lease, ErrorKind> {
        self.prepare().await;
        let mut lease = self.take().await?;
        let chunk = self.chunk(&lease);
        match self.prober.probe(self.file, &chunk) {
            Residency::Ended => return Err(ErrorKind::Truncated),
            Residency::Resident => {
                // Nothing is awaited between probe and splice.
                if self.fill_inline(&mut lease, &chunk)? {
                    return Ok(lease);
                }
            }
            Residency::Absent => {}
        }
        let (mut lease, permit) = self.cold_lease(lease).await?;
        self.fill_cold(&mut lease, permit).await?;
        Ok(lease)
    }

    /// False if the file system would not do it without waiting.
    fn fill_inline(&mut self, lease: &mut Lease, chunk: &Range<u64>) -> Result<bool, ErrorKind> {
        match lease.fill().fill(self.file, chunk) {
            Ok(count) => self.filled(count)?,
            Err(Errno::AGAIN) => {
                lease.emptied();
                return Ok(false);
            }
            Err(error) => return Err(ErrorKind::File(error.into())),
        }
        self.pool.count_inline();
        if self.met_disk {
            self.read_ahead(chunk, lease, true);
        }
        Ok(true)
    }

    async fn fill_cold(&mut self, lease: &mut Lease, permit: Permit) -> Result<(), ErrorKind> {
        let chunk = self.chunk(lease);
        let splice = lease.fill().fill_cold(self.ring, self.file, &chunk);
        self.met_disk = true;
        if let Some(behind) = &mut self.behind {
            behind.absent();
        }
        self.read_ahead(&chunk, lease, false);
        let count = splice.await.map_err(ErrorKind::File)?;
        drop(permit);
        self.filled(count)?;
        self.pool.count_cold();
        Ok(())
    }

    fn filled(&mut self, count: usize) -> Result<(), ErrorKind> {
        let start = self.bytes.position();
        self.bytes.filled(count);
        if let Some(behind) = &mut self.behind {
            behind.filled(start..start + count as u64);
        }
        if count == 0 {
            Err(ErrorKind::Truncated)
        } else {
            Ok(())
        }
    }

    /// Lets a worker ask the disk for the next chunk before the core looks at it, unless it is likely
    /// to be in memory.
    ///
    /// A look at a page that is not there begins to read it, and for that the file system must know where
    /// it is on the disk; if that has to be read as well, the look waits. What a worker has
    /// asked for before is there, or under way.
    async fn prepare(&mut self) {
        if mem::take(&mut self.unread) {
            let chunk = self.bytes.chunk(FIRST_BYTES, page_size());
            self.ask_for(&chunk);
        }
        if let Some(asked) = self.read_ahead.take() {
            // A disk that fails is told by the splice.
            let _ = asked.await;
        }
    }

    /// Has what comes after this chunk read from the disk; more at a time while it `kept_up`, that
    /// is, while the chunk was in memory when it was needed.
    fn read_ahead(&mut self, chunk: &Range<u64>, lease: &Lease, kept_up: bool) {
        let capacity = lease.pipe().capacity();
        let next = self.bytes.chunk_after(chunk, capacity, page_size());
        if next.end <= self.asked_until {
            return;
        }
        self.ahead = if kept_up {
            (2 * self.ahead).clamp(capacity, AHEAD_MAX)
        } else {
            capacity
        };
        let after = self.bytes.chunk_after(chunk, self.ahead, page_size());
        self.asked_until = after.end;
        self.ask_for(&after);
    }

    fn ask_for(&mut self, chunk: &Range<u64>) {
        if chunk.is_empty() {
            return;
        }
        let len = (chunk.end - chunk.start) as u32;
        let advise = self
            .ring
            .fadvise(self.file, chunk.start, len, Advice::WillNeed);
        self.read_ahead = Some(advise);
    }

    /// Gives the memory back of what the peer has taken.
    fn give_back(&mut self) {
        if let Some(behind) = &mut self.behind {
            let position = self.bytes.position();
            behind.follow(self.ring, self.file, self.socket, position);
        }
    }

    /// Leave to read from the disk, and a pipe for it; the one at hand if there is no wait.
    async fn cold_lease(&mut self, lease: Lease) -> Result<(Lease, Permit), ErrorKind> {
        if let Some(permit) = self.pool.try_cold() {
            return Ok((lease, permit));
        }
        drop(lease);
        let permit = self.pool.cold().await;
        Ok((self.take().await?, permit))
    }

    async fn take(&self) -> Result<Lease, ErrorKind> {
        self.pool.take(self.ring).await.map_err(ErrorKind::Pipe)
    }

    fn chunk(&self, lease: &Lease) -> Range<u64> {
        self.bytes.chunk(lease.pipe().capacity(), page_size())
    }

    /// Sends what the pipe holds, or as much as it can before the pipe is given to another; the
    /// account is rewound then.
    async fn drain(&mut self, mut lease: Lease) -> Result<(), ErrorKind> {
        loop {
            self.send(&lease)?;
            if self.bytes.in_pipe() == 0 {
                lease.emptied();
                return Ok(());
            }
            let parked = lease.park();
            self.wait_writable().await?;
            self.turn().await;
            let Some(reclaimed) = parked.reclaim() else {
                self.bytes.rewind();
                return Ok(());
            };
            lease = reclaimed;
        }
    }

    /// One splice to the socket. What it leaves in the pipe found the socket full.
    fn send(&mut self, lease: &Lease) -> Result<(), ErrorKind> {
        let more = self.bytes.more_follows();
        match lease.pipe().drain(self.socket, self.bytes.in_pipe(), more) {
            Ok(0) => Err(ErrorKind::Socket(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.bytes.drained(count);
                self.stall.progress();
                self.woken_by = None;
                Ok(())
            }
            Err(Errno::AGAIN) if self.hung_up() => Err(ErrorKind::Socket(self.socket_error())),
            Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(ErrorKind::Socket(error.into())),
        }
    }

    async fn wait_writable(&mut self) -> Result<(), ErrorKind> {
        let vain = self.woken_by.is_some();
        let writable = async {
            if vain {
                sleep(VAIN_WAIT).await;
            }
            Some(self.ring.poll(self.socket, PollFlags::OUT).await)
        };
        let stalled = async {
            // A socket that cannot tell counts as one whose peer takes nothing.
            let unacknowledged = || unacknowledged(self.socket).unwrap_or(0);
            self.stall.expired(unacknowledged).await;
            None
        };
        let events = or(writable, stalled).await.ok_or(ErrorKind::Stalled)?;
        self.woken_by = Some(events.map_err(ErrorKind::Socket)?);
        Ok(())
    }

    /// Whether waiting for the socket again would be answered at once, for ever.
    fn hung_up(&self) -> bool {
        self.woken_by
            .is_some_and(|events| events.intersects(PollFlags::ERR | PollFlags::HUP))
    }

    /// The error of a socket that hung up and told no error by its splice.
    fn socket_error(&self) -> io::Error {
        match rustix::net::sockopt::socket_error(self.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => io::ErrorKind::BrokenPipe.into(),
        }
    }
}
