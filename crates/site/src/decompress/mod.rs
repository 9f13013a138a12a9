//! Files that are there compressed only, for clients that take no coding of them.
//!
//! ```text
//!  file --(worker of the ring)--> 64 KiB --(thread, at a low priority)--> 64 KiB --> the client
//! ```
//!
//! What is decoded is never all in memory, and a piece is decoded only when the one before it was
//! sent. How many are under way is bounded by the memory that they take ([`memory_budget`]); how much of
//! the processors they take, by the number of the threads ([`thread_pool`]).

mod decoder;
mod memory_budget;
mod thread_pool;

use std::ffi::CString;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tidegate_http::Coding;

use self::decoder::{Decoder, PIECE_BYTES, Step, Then};
use self::memory_budget::{Lease, Memory, Parked};
use self::thread_pool::Worker;
use crate::error::Error;
use crate::file::{Content, File};

/// Bytes of the file that are read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A file that is there compressed only, as it is sent to clients that take no coding of it.
pub struct Compressed {
    /// What its responses say: a file without bytes.
    pub description: File,
    /// What it is decoded from.
    source: Rc<File>,
    coding: Coding,
    name: CString,
}

/// The decoders of one core.
pub(crate) struct Decoders {
    memory: Rc<Memory<Decoding>>,
    /// How long a decoder is waited for.
    patience: Duration,
}

/// A file that is being decompressed.
///
/// Dropped: its decoder is, at once or by the thread that has it.
pub struct Decompression {
    compressed: Rc<Compressed>,
    decoders: Rc<Decoders>,
    worker: Worker,
    /// Bytes that came out, in all.
    position: u64,
    /// Decoded before it was asked for.
    first: Option<Bytes>,
    state: State,
    /// For the piece that is being sent.
    _piece: Lease,
}

enum State {
    /// Nothing is decoded yet.
    New,
    Parked(Parked<Decoding>),
    Ended,
}

/// A decoder with what it has done.
struct Decoding {
    decoder: Decoder,
    then: Then,
    /// Bytes that were read of the file.
    read: u64,
    /// Bytes that came out.
    decoded: u64,
    _lease: Lease,
}

impl Compressed {
    /// `description` says what `source`, the file `name`, is without its `coding`.
    pub(crate) fn new(description: File, source: &Rc<File>, coding: Coding, name: CString) -> Self {
        Self {
            description,
            source: Rc::clone(source),
            coding,
            name,
        }
    }

    /// The bytes of the file from `offset` on, or some of them; none: there are no more.
    async fn read(&self, offset: u64) -> Result<Bytes, Error> {
        let source = &self.source;
        if offset >= source.len {
            return Ok(Bytes::new());
        }
        match &source.content {
            Content::Memory(bytes) => Ok(bytes.slice(offset as usize..)),
            Content::File(fd) => {
                let buffer = Vec::with_capacity(READ_BYTES);
                // By a worker: whether it is in memory is not known.
                let read = source.ops.read(fd, buffer, offset, true).await;
                let (_, bytes) = read.map_err(|error| self.failed("cannot be read", &error))?;
                Ok(bytes.into())
            }
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        let name = self.name.to_bytes().escape_ascii();
        let reason = format!("{name} {what}: {error}");
        Error::Failed(io::Error::new(error.kind(), reason))
    }
}

/// Of files in these codings, the one whose decoder is likely to take the least memory.
pub(crate) fn easiest(codings: impl IntoIterator<Item = Coding>) -> Option<Coding> {
    let codings = codings.into_iter();
    codings.min_by_key(|coding| Decoder::memory(*coding, &[]))
}

impl Decoders {
    /// `patience` is how long one is waited for.
    pub(crate) fn new(patience: Duration) -> Rc<Self> {
        Rc::new(Self {
            memory: Memory::new(),
            patience,
        })
    }

    /// Decompresses the start of a file, so that what cannot be decompressed at all shows before
    /// anything is sent.
    ///
    /// Dropped: so is what was decompressed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where others have all the memory, or there is no thread; [`Error::Failed`]
    /// where the file is corrupt or cannot be read.
    pub(crate) async fn start(
        self: &Rc<Self>,
        compressed: &Rc<Compressed>,
    ) -> Result<Decompression, Error> {
        let piece = self.take(PIECE_BYTES).await?;
        let mut decompression = Decompression {
            compressed: Rc::clone(compressed),
            decoders: Rc::clone(self),
            worker: Worker::new(compressed.source.ops.ring())?,
            position: 0,
            first: None,
            state: State::New,
            _piece: piece,
        };
        decompression.first = decompression.decode().await?;
        Ok(decompression)
    }

    async fn take(&self, bytes: usize) -> Result<Lease, Error> {
        let lease = self.memory.take(bytes, self.patience).await;
        let reason = "too many files are being decompressed";
        lease.ok_or_else(|| Error::Busy(io::Error::other(reason)))
    }
}

impl Decompression {
    /// What its responses say: a file without bytes.
    pub fn description(&self) -> &File {
        &self.compressed.description
    }

    /// The next bytes, at most 64 KiB; `None`: that was all.
    ///
    /// Dropped: it is over.
    ///
    /// # Errors
    ///
    /// Where the file is corrupt or cannot be read, or while others have all the memory.
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
        while decoding.then != Then::End {
            let (next, bytes) = self.step(decoding).await?;
            decoding = next;
            if !bytes.is_empty() {
                self.position = decoding.decoded;
                self.state = State::Parked(self.decoders.memory.park(decoding));
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The decoder where it was left, or a new one. `None`: all was decoded.
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

    /// A decoder that was fed the start of the file.
    async fn begin(&self) -> Result<Decoding, Error> {
        let start = self.compressed.read(0).await?;
        let coding = self.compressed.coding;
        let memory = Decoder::memory(coding, &start) + READ_BYTES;
        let lease = self.decoders.take(memory).await?;
        let mut decoder = Decoder::new(coding).map_err(Error::Busy)?;
        let read = start.len() as u64;
        decoder.feed(start);
        Ok(Decoding {
            decoder,
            then: Then::More,
            read,
            decoded: 0,
            _lease: lease,
        })
    }

    /// One step, and the part of its output that was not yielded before.
    async fn step(&mut self, mut decoding: Decoding) -> Result<(Decoding, Bytes), Error> {
        if decoding.then == Then::Feed {
            let bytes = self.compressed.read(decoding.read).await?;
            decoding.read += bytes.len() as u64;
            decoding.decoder.feed(bytes);
        }
        let mut decoder = decoding.decoder;
        let work = move || {
            let step = decoder.step();
            (decoder, step)
        };
        let (decoder, step) = self.worker.run(work).await.map_err(Error::Busy)?;
        decoding.decoder = decoder;
        let failed = |error| self.compressed.failed("cannot be decompressed", &error);
        let Step { bytes, then } = step.map_err(failed)?;
        decoding.then = then;
        // Where it began anew, some was yielded by the decoder before.
        let known = self.position.saturating_sub(decoding.decoded);
        decoding.decoded += bytes.len() as u64;
        let mut bytes = Bytes::from(bytes);
        bytes.advance(
            bytes
                .len()
                .min(usize::try_from(known).unwrap_or(usize::MAX)),
        );
        Ok((decoding, bytes))
    }
}

/// All of a file in memory, without its coding; `None` if that is longer than `len_max`, or cannot
/// be told now.
///
/// Dropped: so is what was decompressed.
pub(crate) async fn decompress_small(
    file: &File,
    coding: Coding,
    len_max: usize,
) -> Option<Vec<u8>> {
    let Content::Memory(bytes) = &file.content else {
        return None;
    };
    let mut decoder = Decoder::new(coding).ok()?;
    let bytes = bytes.clone();
    let work = move || decoder.all(bytes, len_max);
    let mut worker = Worker::new(file.ops.ring()).ok()?;
    worker.run(work).await.ok()?
}
