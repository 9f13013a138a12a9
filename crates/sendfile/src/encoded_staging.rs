//! Stages bytes through memory: read from the file, encoded, and sent.

use std::io::{self, IoSliceMut};
use std::ops::Range;

use rustix::net::{SendFlags, send};
use tidegate_uring::{Fd, Permit};

use crate::by_thread::{self, lacks_worker};
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::pool::Pool;
use crate::progress::TransferProgress;
use crate::staging::{Staging, Taken};

/// Bytes that are read and encoded at a time: few calls per byte, and they stay in the processor's
/// cache from the read to the send.
const PIECE_BYTES: usize = 64 * 1024;

/// What a transfer whose bytes are encoded holds while its client takes none: a piece, and what the
/// encoding of TLS adds to its records.
pub const ENCODED_PIECE_BYTES: usize = PIECE_BYTES + PIECE_BYTES / 64;

/// The encoded bytes of a piece of the file.
#[derive(Debug)]
pub(crate) struct Piece {
    buffer: Vec<u8>,
    /// The part of the buffer that is not sent yet.
    unsent: Range<usize>,
}

/// The encoder of a step, and the piece that the transfer is sending.
pub(crate) struct EncodedStaging<'t, E> {
    encode: E,
    /// Owned by the transfer, since a dropped step must not lose part of it.
    piece: &'t mut Option<Piece>,
}

impl<'t, E: FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>> EncodedStaging<'t, E> {
    pub(crate) fn new(encode: E, piece: &'t mut Option<Piece>) -> Self {
        Self { encode, piece }
    }

    /// Encodes the next bytes of the file. Returns their encoded number.
    fn encode(&mut self, plain: &[u8], pool: &Pool) -> Result<usize, ErrorKind> {
        if plain.is_empty() {
            return Ok(0);
        }
        let mut buffer = pool.buffers.take();
        let len = (self.encode)(plain, &mut buffer).map_err(ErrorKind::Encode)?;
        *self.piece = Some(Piece {
            buffer,
            unsent: 0..len,
        });
        Ok(plain.len())
    }
}

impl<E: FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>> Staging for EncodedStaging<'_, E> {
    /// Encoding costs several times a splice, so the quantum is smaller.
    const QUANTUM: u64 = 256 * 1024;

    async fn reserve(&mut self, _source: &FileSource) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn release(&mut self, pool: &Pool) {
        if let Some(piece) = self.piece.take() {
            pool.buffers.give(piece.buffer);
        }
    }

    fn chunk(&self, _source: &FileSource, progress: &TransferProgress) -> Range<u64> {
        progress.chunk_of_step(PIECE_BYTES)
    }

    fn chunk_bytes(&self) -> usize {
        PIECE_BYTES
    }

    fn fill_from_memory(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
    ) -> Result<Option<usize>, ErrorKind> {
        let len = (chunk.end - chunk.start) as usize;
        // The old content is overwritten.
        let mut plain = source.pool().buffers.take();
        if plain.len() < len {
            plain.resize(len, 0);
        }
        let read = source.read(chunk.start, &mut [IoSliceMut::new(&mut plain[..len])]);
        let encoded = read.map(|count| self.encode(&plain[..count], source.pool()));
        source.pool().buffers.give(plain);
        encoded.transpose()
    }

    async fn fill_by_worker(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
        permit: Permit,
    ) -> Result<usize, ErrorKind> {
        let buffer = Vec::with_capacity((chunk.end - chunk.start) as usize);
        let read = source
            .ring()
            .read_by_worker(source.file(), buffer, chunk.start)
            .holding(permit);
        source.absent(chunk, PIECE_BYTES);
        let plain = match read.await {
            (Err(error), _) if lacks_worker(&error) => {
                // Boxed, since it is rare and would enlarge the transfer.
                Box::pin(by_thread::read(source.file(), chunk)).await
            }
            (count, plain) => count.map(|_| plain),
        };
        self.encode(&plain.map_err(ErrorKind::File)?, source.pool())
    }

    /// Counts a piece once the socket took all of it.
    fn send(&mut self, socket: &Fd, len: u64, more: bool) -> io::Result<Taken> {
        let piece = self.piece.as_mut().expect("bytes are staged");
        let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        flags.set(SendFlags::MORE, more);
        piece.unsent.start += send(socket, &piece.buffer[piece.unsent.clone()], flags)?;
        let full = !piece.unsent.is_empty();
        Ok(Taken {
            file_bytes: if full { 0 } else { len },
            full,
        })
    }

    fn suspend(&mut self) {}

    fn resume(&mut self) -> bool {
        self.piece.is_some()
    }
}
