//! The course of one transfer: fill a pipe, drain it, give way.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::param::page_size;
use tidegate_uring::{Fd, Permit, Ring};

use crate::Options;
use crate::by_thread::lacks_worker;
use crate::drop_behind::DropBehind;
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::pool::{PipeGuard, Pool};
use crate::readahead::FIRST_BYTES;
use crate::residency::Residency;
use crate::socket_sink::SocketSink;
use crate::transfer::Transfer;

/// The most that a transfer sends before others run. Less is dearer: what the socket takes in one go
/// is sent on by acknowledgements.
const QUANTUM: u64 = 512 * 1024;

pub(crate) struct Sending<'a> {
    sink: SocketSink<'a>,
    bytes: Transfer,
    source: FileSource<'a>,
    /// `None`: what is brought in stays in memory.
    drop_behind: Option<DropBehind>,
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
            sink: SocketSink::new(socket, &range, options.stall),
            drop_behind: options
                .drop_behind
                .then(|| DropBehind::new(file, range.start)),
            bytes: Transfer::new(range, options.opening),
            source: FileSource::new(ring, pool, file, options),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.bytes.sent()
    }

    /// Whether a part was not in memory when it was needed.
    pub(crate) fn met_disk(&self) -> bool {
        self.source.met_disk()
    }

    /// To be called after the last byte, or in place of it.
    pub(crate) fn finish(self) {
        if let Some(behind) = self.drop_behind {
            let source = &self.source;
            behind.finish(source.ring(), source.pool(), source.file());
        }
    }

    pub(crate) async fn run(&mut self) -> Result<(), ErrorKind> {
        let _cork = self.sink.cork();
        let mut turn = 0;
        self.turn().await;
        while !self.bytes.is_complete() {
            let guard = self.fill().await?;
            self.drain(guard).await?;
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
        if self.sink.is_long() {
            self.pool().fair_queue.next(self.source.ring()).await;
        }
    }

    /// A pipe with the next chunk in it.
    async fn fill(&mut self) -> Result<PipeGuard, ErrorKind> {
        self.prepare().await;
        let mut guard = self.take().await?;
        let chunk = self.chunk(&guard);
        match self.source.probe(&chunk) {
            Residency::Ended => return Err(ErrorKind::Truncated),
            Residency::Resident => {
                // Nothing is awaited between probe and splice.
                if self.fill_inline(&mut guard, &chunk)? {
                    return Ok(guard);
                }
            }
            Residency::Absent => {}
        }
        let (mut guard, permit) = self.cold_guard(guard).await?;
        self.fill_cold(&mut guard, permit).await?;
        Ok(guard)
    }

    /// False if the file system would not do it without waiting.
    fn fill_inline(
        &mut self,
        guard: &mut PipeGuard,
        chunk: &Range<u64>,
    ) -> Result<bool, ErrorKind> {
        match guard.fill().fill(self.source.file(), chunk) {
            Ok(count) => self.filled(count)?,
            Err(Errno::AGAIN) => {
                guard.emptied();
                return Ok(false);
            }
            Err(error) => return Err(ErrorKind::File(error.into())),
        }
        self.pool().count_inline();
        let (bytes, capacity) = (&self.bytes, guard.pipe().capacity());
        let after = |len| bytes.chunk_after(chunk, len, page_size());
        self.source.resident(chunk, capacity, after);
        Ok(true)
    }

    async fn fill_cold(&mut self, guard: &mut PipeGuard, permit: Permit) -> Result<(), ErrorKind> {
        let chunk = self.chunk(guard);
        let splice = guard
            .fill()
            .fill_cold(self.source.ring(), self.source.file(), &chunk)
            .holding(permit);
        let (bytes, capacity) = (&self.bytes, guard.pipe().capacity());
        let after = |len| bytes.chunk_after(&chunk, len, page_size());
        let since = self.source.absent(&chunk, capacity, after);
        if let Some(behind) = &mut self.drop_behind {
            behind.absent(since);
        }
        let count = match splice.await {
            Err(error) if lacks_worker(&error) => {
                // Boxed, as it is rare: a transfer has no room for it.
                Box::pin(guard.pipe().fill_by_thread(self.source.file(), &chunk)).await
            }
            count => count,
        };
        let count = count.map_err(ErrorKind::File)?;
        self.filled(count)?;
        self.pool().count_cold();
        Ok(())
    }

    fn filled(&mut self, count: usize) -> Result<(), ErrorKind> {
        let start = self.bytes.position();
        self.bytes.filled(count);
        if let Some(behind) = &mut self.drop_behind {
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
    async fn prepare(&mut self) {
        let (bytes, most) = (&self.bytes, FIRST_BYTES.max(self.pool().pipe_bytes()));
        let next = || bytes.chunk(most, page_size());
        let tell = self.drop_behind.is_some() || bytes.is_longer_than(most);
        self.source.prepare(tell, next).await;
    }

    /// Gives the memory back of what the peer has taken.
    fn give_back(&mut self) {
        if let Some(behind) = &mut self.drop_behind {
            let (source, socket) = (&self.source, self.sink.socket());
            behind.follow(source.ring(), source.file(), socket, self.bytes.position());
        }
    }

    /// Leave to read from the disk, and a pipe for it; the one at hand if there is no wait.
    async fn cold_guard(&mut self, guard: PipeGuard) -> Result<(PipeGuard, Permit), ErrorKind> {
        if let Some(permit) = self.pool().try_cold(self.source.owner()) {
            return Ok((guard, permit));
        }
        drop(guard);
        let permit = self.pool().cold(self.source.owner()).await;
        Ok((self.take().await?, permit))
    }

    async fn take(&self) -> Result<PipeGuard, ErrorKind> {
        let pipe = self.pool().take(self.source.ring()).await;
        pipe.map_err(ErrorKind::Pipe)
    }

    fn pool(&self) -> &'a Rc<Pool> {
        self.source.pool()
    }

    fn chunk(&self, guard: &PipeGuard) -> Range<u64> {
        self.bytes.chunk(guard.pipe().capacity(), page_size())
    }

    /// Sends what the pipe holds, or as much as it can before the pipe is given to another; the
    /// account is rewound then.
    async fn drain(&mut self, mut guard: PipeGuard) -> Result<(), ErrorKind> {
        loop {
            self.send(&guard)?;
            if self.bytes.in_pipe() == 0 {
                guard.emptied();
                return Ok(());
            }
            let parked = guard.park();
            self.sink.writable(self.source.ring()).await?;
            self.turn().await;
            let Some(reclaimed) = parked.reclaim() else {
                self.bytes.rewind();
                return Ok(());
            };
            guard = reclaimed;
        }
    }

    /// Splices to the socket. What is left in the pipe found the socket full.
    fn send(&mut self, guard: &PipeGuard) -> Result<(), ErrorKind> {
        let socket = self.sink.socket();
        while self.bytes.in_pipe() > 0 {
            let (len, more) = self.bytes.next_send();
            let sent = match guard.pipe().drain(socket, len, more) {
                Ok(0) => return Err(ErrorKind::Socket(io::ErrorKind::WriteZero.into())),
                Ok(count) => count,
                Err(Errno::AGAIN) => return self.sink.full(),
                Err(error) => return Err(ErrorKind::Socket(error.into())),
            };
            self.bytes.drained(sent);
            self.sink.progress();
            if (sent as u64) < len {
                break;
            }
        }
        Ok(())
    }
}
