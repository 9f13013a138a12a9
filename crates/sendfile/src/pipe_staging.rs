//! Bytes that go through a pipe: spliced from the file into it, and from it into the socket.

use std::io;
use std::mem;
use std::ops::Range;

use rustix::io::Errno;
use rustix::param::page_size;
use tidegate_uring::{Fd, Permit};

use crate::by_thread::lacks_worker;
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::pipe::Pipe;
use crate::pool::{Parked, PipeGuard, Pool};
use crate::progress::TransferProgress;
use crate::readahead::CHUNK_BYTES;
use crate::residency::Residency;
use crate::staging::{Staging, Taken};

/// The pipe of a transfer during a step.
#[derive(Default)]
pub(crate) enum PipeStaging {
    #[default]
    Empty,
    Held(PipeGuard),
    /// With bytes in it, which the pool may discard.
    Parked(Parked),
}

impl PipeStaging {
    /// With the pipe that an earlier step left.
    pub(crate) fn new(parked: Option<Parked>) -> Self {
        parked.map_or(Self::Empty, Self::Parked)
    }

    fn guard(&self) -> &PipeGuard {
        match self {
            Self::Held(guard) => guard,
            Self::Empty | Self::Parked(_) => unreachable!("a pipe was reserved or resumed"),
        }
    }

    fn pipe(&self) -> &Pipe {
        self.guard().pipe()
    }

    /// The pipe, which counts as holding bytes from here on.
    fn pipe_to_fill(&mut self) -> &Pipe {
        match self {
            Self::Held(guard) => guard.fill(),
            Self::Empty | Self::Parked(_) => unreachable!("a pipe was reserved"),
        }
    }
}

impl Staging for PipeStaging {
    /// A smaller quantum costs more: acknowledgements send on what the socket takes in one go.
    const QUANTUM: u64 = 512 * 1024;
    /// A file of a MiB leaves in one go. More would delay small requests beside many clients that
    /// drain their sockets slowly, which ask for long files.
    const FIRST_QUANTUM: u64 = 1024 * 1024;

    async fn reserve(&mut self, source: &FileSource) -> Result<(), ErrorKind> {
        let taken = source.pool().take(source.ring()).await;
        *self = Self::Held(taken.map_err(ErrorKind::Pipe)?);
        Ok(())
    }

    fn release(&mut self, _pool: &Pool) {
        if let Self::Held(guard) = self {
            guard.emptied();
        }
        *self = Self::Empty;
    }

    /// A pipe full, if all is hot.
    fn chunk(&self, source: &FileSource, progress: &TransferProgress) -> Range<u64> {
        let len = if source.is_hot() {
            self.pipe().capacity()
        } else {
            self.chunk_bytes()
        };
        progress.chunk(len, page_size())
    }

    fn chunk_bytes(&self) -> usize {
        self.pipe().capacity().min(CHUNK_BYTES)
    }

    fn fill_from_memory(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
    ) -> Result<Option<usize>, ErrorKind> {
        match source.probe(chunk) {
            Residency::Ended => return Ok(Some(0)),
            Residency::Absent => return Ok(None),
            Residency::Resident => {}
        }
        // Nothing is awaited between probe and splice.
        match self.pipe_to_fill().fill(source.file(), chunk) {
            Ok(count) => Ok(Some(count)),
            // The file system would wait for something else.
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(ErrorKind::File(error.into())),
        }
    }

    async fn fill_by_worker(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
        permit: Permit,
    ) -> Result<usize, ErrorKind> {
        let splice = self
            .pipe_to_fill()
            .fill_cold(source.ring(), source.file(), chunk)
            .holding(permit);
        source.absent(chunk, self.chunk_bytes());
        let count = match splice.await {
            Err(error) if lacks_worker(&error) => {
                // Boxed, as it is rare: a transfer has no room for it.
                Box::pin(self.pipe().fill_by_thread(source.file(), chunk)).await
            }
            count => count,
        };
        count.map_err(ErrorKind::File)
    }

    fn send(&mut self, socket: &Fd, len: u64, more: bool) -> io::Result<Taken> {
        match self.pipe().drain(socket, len, more)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(Taken {
                file_bytes: count as u64,
                full: (count as u64) < len,
            }),
        }
    }

    fn suspend(&mut self) {
        *self = match mem::take(self) {
            Self::Held(guard) => Self::Parked(guard.park()),
            other => other,
        };
    }

    fn resume(&mut self) -> bool {
        *self = match mem::take(self) {
            Self::Parked(parked) => parked.reclaim().map_or(Self::Empty, Self::Held),
            other => other,
        };
        matches!(self, Self::Held(_))
    }
}
