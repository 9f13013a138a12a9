//! Decompresses files that exist only as variants, for clients that accept none of their codings.
//!
//! ```text
//!  file --(worker of the ring)--> 64 KiB --(thread, at a low priority)--> 64 KiB --> the client
//! ```
//!
//! A piece is decoded only after the piece before it was sent. Two things bound the decompressions
//! in progress: their memory ([`memory_budget`]) and the threads.

mod decoder;
mod memory_budget;

use std::ffi::CString;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tidegate_http::Coding;
use tidegate_uring::{PoolHandle, ThreadPool};

use self::decoder::{Decoder, Next, PIECE_BYTES, Step};
use self::memory_budget::{MemoryBudget, Parked, Reservation};
use crate::error::Error;
use crate::file::{Content, File};

/// Each job is short, so the queue is fair; their memory bounds its length. The nice value is below
/// the executors, but above batch work: a client waits for the result.
static THREADS: ThreadPool = ThreadPool::new("tidegate-decode", 5, 8, usize::MAX);

/// Bytes of one read of the file.
const READ_BYTES: usize = 64 * 1024;

/// A variant, to be sent without its coding.
pub struct Compressed {
    /// The metadata of the response: a file without content.
    pub description: File,
    /// The variant.
    source: Rc<File>,
    coding: Coding,
    name: CString,
}

/// The decoders of one core.
pub(crate) struct Decoders {
    budget: Rc<MemoryBudget<Decoding>>,
    /// How long a request waits for memory.
    patience: Duration,
}

/// A decompression in progress.
///
/// Dropping it drops its decoder, at once or in the thread that runs it.
pub struct Decompression {
    compressed: Rc<Compressed>,
    decoders: Rc<Decoders>,
    pool: PoolHandle,
    /// Bytes yielded so far.
    position: u64,
    /// The first piece, decoded by [`Decoders::start`].
    first: Option<Bytes>,
    state: State,
    /// Memory of the piece that is being sent.
    _piece: Reservation,
}

enum State {
    /// Before the first piece.
    New,
    Parked(Parked<Decoding>),
    Ended,
}

/// A decoder with its progress.
struct Decoding {
    decoder: Decoder,
    next: Next,
    /// Bytes of the file that were read.
    read: u64,
    /// Bytes of output.
    decoded: u64,
    _memory: Reservation,
}

impl Compressed {
    /// `description` is the metadata of `source`, the file `name`, without its `coding`.
    pub(crate) fn new(description: File, source: &Rc<File>, coding: Coding, name: CString) -> Self {
        Self {
            description,
            source: Rc::clone(source),
            coding,
            name,
        }
    }

    /// Some bytes of the file from `offset` on; empty at its end.
    async fn read(&self, offset: u64) -> Result<Bytes, Error> {
        let source = &self.source;
        if offset >= source.len {
            return Ok(Bytes::new());
        }
        match &source.content {
            Content::Memory(bytes) => Ok(bytes.slice(offset as usize..)),
            Content::File(fd) => {
                let buffer = Vec::with_capacity(READ_BYTES);
                // A worker reads: the bytes may not be in the page cache.
                let read = source.ops.read(fd, buffer, offset, true).await;
                let (_, bytes) = read.map_err(|error| self.failed("cannot be read", &error))?;
                Ok(bytes.into())
            }
            Content::Sliced(_) => Err(Error::Failed(io::ErrorKind::Unsupported.into())),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        let name = self.name.to_bytes().escape_ascii();
        let reason = format!("{name} {what}: {error}");
        Error::Failed(io::Error::new(error.kind(), reason))
    }
}

/// The coding whose decoder takes the least memory.
pub(crate) fn cheapest(codings: impl IntoIterator<Item = Coding>) -> Option<Coding> {
    let codings = codings.into_iter();
    codings.min_by_key(|coding| Decoder::memory(*coding, &[]))
}

impl Decoders {
    /// `patience`: how long a request waits for memory.
    pub(crate) fn new(patience: Duration) -> Rc<Self> {
        Rc::new(Self {
            budget: MemoryBudget::new(),
            patience,
        })
    }

    /// Starts a decompression with its first piece, so that an error there becomes a status.
    ///
    /// Dropped: the decompression is cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]: no memory became free in time, or no thread can be started.
    /// [`Error::Failed`]: the file is corrupt or cannot be read.
    pub(crate) async fn start(
        self: &Rc<Self>,
        compressed: &Rc<Compressed>,
    ) -> Result<Decompression, Error> {
        let piece = self.reserve(PIECE_BYTES).await?;
        let mut decompression = Decompression {
            compressed: Rc::clone(compressed),
            decoders: Rc::clone(self),
            pool: PoolHandle::new(&THREADS, compressed.source.ops.ring())?,
            position: 0,
            first: None,
            state: State::New,
            _piece: piece,
        };
        decompression.first = decompression.decode().await?;
        Ok(decompression)
    }

    async fn reserve(&self, bytes: usize) -> Result<Reservation, Error> {
        let reservation = self.budget.reserve(bytes, self.patience).await;
        let reason = "too many files are being decompressed";
        reservation.ok_or_else(|| Error::Busy(io::Error::other(reason)))
    }
}

impl Decompression {
    /// The metadata of the response: a file without content.
    pub fn description(&self) -> &File {
        &self.compressed.description
    }

    /// The next bytes, at most 64 KiB; `None` at the end.
    ///
    /// Dropped: the decompression is over.
    ///
    /// # Errors
    ///
    /// No memory or no thread is free, or the file is corrupt or cannot be read.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, Error> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.decode().await,
        }
    }

    async fn decode(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut decoding) = self.resume().await? else {
            return Ok(None);
        };
        while decoding.next != Next::End {
            let (stepped, bytes) = self.step(decoding).await?;
            decoding = stepped;
            if !bytes.is_empty() {
                self.position = decoding.decoded;
                self.state = State::Parked(self.decoders.budget.park(decoding));
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The parked decoder, or a new one if it was evicted. `None`: the file is decoded.
    async fn resume(&mut self) -> Result<Option<Decoding>, Error> {
        let decoding = match mem::replace(&mut self.state, State::Ended) {
            State::New => None,
            State::Parked(parked) => parked.reclaim(),
            State::Ended => return Ok(None),
        };
        match decoding {
            Some(decoding) => Ok(Some(decoding)),
            None => self.begin().await.map(Some),
        }
    }

    /// A decoder with the start of the file as its input.
    async fn begin(&self) -> Result<Decoding, Error> {
        let start = self.compressed.read(0).await?;
        let coding = self.compressed.coding;
        let memory = Decoder::memory(coding, &start) + READ_BYTES;
        let memory = self.decoders.reserve(memory).await?;
        let mut decoder = Decoder::new(coding).map_err(Error::Busy)?;
        let read = start.len() as u64;
        decoder.feed(start);
        Ok(Decoding {
            decoder,
            next: Next::Step,
            read,
            decoded: 0,
            _memory: memory,
        })
    }

    /// One step, with the part of its output that was not yielded before.
    async fn step(&mut self, mut decoding: Decoding) -> Result<(Decoding, Bytes), Error> {
        if decoding.next == Next::Input {
            let bytes = self.compressed.read(decoding.read).await?;
            decoding.read += bytes.len() as u64;
            decoding.decoder.feed(bytes);
        }
        let mut decoder = decoding.decoder;
        let work = move || {
            let step = decoder.step();
            (decoder, step)
        };
        let (decoder, step) = self.pool.run(work).await.map_err(Error::Busy)?;
        decoding.decoder = decoder;
        let failed = |error| self.compressed.failed("cannot be decompressed", &error);
        let Step { bytes, next } = step.map_err(failed)?;
        decoding.next = next;
        // A decoder that replaces an evicted one repeats its output.
        let repeated = self.position.saturating_sub(decoding.decoded);
        decoding.decoded += bytes.len() as u64;
        let mut bytes = Bytes::from(bytes);
        bytes.advance(
            bytes
                .len()
                .min(usize::try_from(repeated).unwrap_or(usize::MAX)),
        );
        Ok((decoding, bytes))
    }
}

/// Decompresses a file in memory. `None`: its output is longer than `len_max`, it is corrupt, or no
/// thread can be started.
///
/// Dropped: the decompression is cancelled.
pub(crate) async fn decompress_small(
    file: &File,
    coding: Coding,
    len_max: usize,
) -> Option<Vec<u8>> {
    let Content::Memory(bytes) = &file.content else {
        return None;
    };
    if bytes.len() > len_max {
        return None;
    }
    let mut decoder = Decoder::new(coding).ok()?;
    let bytes = (**bytes).clone();
    let work = move || decoder.all(bytes, len_max);
    let mut pool = PoolHandle::new(&THREADS, file.ops.ring()).ok()?;
    pool.run(work).await.ok()?
}
