//! The course of one transfer through memory: read a piece, have it encoded, send it, give way.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tidegate_uring::{Fd, Ring};

use crate::Options;
use crate::by_thread::{self, lacks_worker};
use crate::drop_behind::DropBehind;
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::pool::Pool;
use crate::readahead::FIRST_BYTES;
use crate::socket_sink::SocketSink;

/// Bytes that are read and encoded at a time: few calls for each, and all of it stays in the
/// processor's cache from the read to the send.
const PIECE_BYTES: usize = 64 * 1024;

/// The most that a transfer sends before others run. A byte costs several times what it costs to
/// splice it, so this is less than there.
const QUANTUM: u64 = 256 * 1024;

pub(crate) struct Encoding<'a, E> {
    sink: SocketSink<'a>,
    encode: E,
    /// What was not read yet.
    left: Range<u64>,
    /// Bytes of the file that the socket took, as a whole piece each.
    sent: u64,
    source: FileSource<'a>,
    /// `None`: what is brought in stays in memory.
    drop_behind: Option<DropBehind>,
}

/// A piece on its way to the socket.
struct Piece {
    buffer: Vec<u8>,
    /// What of the buffer the socket has yet to take.
    unsent: Range<usize>,
    /// Bytes of the file that it stands for.
    plain_bytes: u64,
}

impl<'a, E: FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>> Encoding<'a, E> {
    pub(crate) fn new(
        ring: &'a Ring,
        pool: &'a Rc<Pool>,
        (socket, file): (&'a Fd, &'a Fd),
        range: Range<u64>,
        options: &Options,
        encode: E,
    ) -> Self {
        Self {
            sink: SocketSink::new(socket, &range, options.stall),
            encode,
            drop_behind: options
                .drop_behind
                .then(|| DropBehind::new(file, range.start)),
            left: range,
            sent: 0,
            source: FileSource::new(ring, pool, file, options),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
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
        while !self.left.is_empty() {
            let piece = self.next_piece().await?;
            self.drain(piece).await?;
            self.give_back();
            if !self.left.is_empty() && self.sent - turn >= QUANTUM {
                turn = self.sent;
                self.turn().await;
            }
        }
        Ok(())
    }

    /// Lets others run first.
    async fn turn(&self) {
        if self.sink.is_long() {
            self.pool().fair_queue.next(self.source.ring()).await;
        }
    }

    async fn next_piece(&mut self) -> Result<Piece, ErrorKind> {
        let left = &self.left;
        let tell = self.drop_behind.is_some() || left.end - left.start > FIRST_BYTES as u64;
        self.source.prepare(tell, || head(left, FIRST_BYTES)).await;
        match self.piece_in_memory()? {
            Some(piece) => Ok(piece),
            None => self.piece_on_disk().await,
        }
    }

    /// What of the next piece can be had without waiting; `None`: nothing.
    fn piece_in_memory(&mut self) -> Result<Option<Piece>, ErrorKind> {
        let wanted = head(&self.left, PIECE_BYTES);
        let len = (wanted.end - wanted.start) as usize;
        // Whatever it holds is overwritten.
        let mut plain = self.pool().buffers.take();
        if plain.len() < len {
            plain.resize(len, 0);
        }
        let piece = match self.source.read(wanted.start, &mut plain[..len]) {
            Some(0) => Err(ErrorKind::Truncated),
            Some(count) => self.encoded(&plain[..count]).map(Some),
            None => Ok(None),
        };
        self.pool().buffers.give(plain);
        if let Ok(Some(_)) = &piece {
            self.pool().count_inline();
            let left = &self.left;
            let taken = wanted.start..left.start;
            self.source
                .resident(&taken, PIECE_BYTES, |len| head(left, len));
        }
        piece
    }

    async fn piece_on_disk(&mut self) -> Result<Piece, ErrorKind> {
        let permit = self.pool().cold(self.source.owner()).await;
        let wanted = head(&self.left, PIECE_BYTES);
        let buffer = Vec::with_capacity((wanted.end - wanted.start) as usize);
        let (ring, file) = (self.source.ring(), self.source.file());
        let read = ring
            .read_by_worker(file, buffer, wanted.start)
            .holding(permit);
        let after = wanted.end..self.left.end;
        let since = self
            .source
            .absent(&wanted, PIECE_BYTES, |len| head(&after, len));
        if let Some(behind) = &mut self.drop_behind {
            behind.absent(since);
        }
        let plain = match read.await {
            (Err(error), _) if lacks_worker(&error) => {
                Box::pin(by_thread::read(file, &wanted)).await
            }
            (count, plain) => count.map(|_| plain),
        };
        let plain = plain.map_err(ErrorKind::File)?;
        if plain.is_empty() {
            return Err(ErrorKind::Truncated);
        }
        self.pool().count_cold();
        self.encoded(&plain)
    }

    /// The next bytes of the file, encoded.
    fn encoded(&mut self, plain: &[u8]) -> Result<Piece, ErrorKind> {
        let mut buffer = self.pool().buffers.take();
        let len = (self.encode)(plain, &mut buffer).map_err(ErrorKind::Encode)?;
        let start = self.left.start;
        self.left.start += plain.len() as u64;
        if let Some(behind) = &mut self.drop_behind {
            behind.filled(start..self.left.start);
        }
        Ok(Piece {
            buffer,
            unsent: 0..len,
            plain_bytes: plain.len() as u64,
        })
    }

    async fn drain(&mut self, mut piece: Piece) -> Result<(), ErrorKind> {
        loop {
            self.send(&mut piece)?;
            if piece.unsent.is_empty() {
                self.sent += piece.plain_bytes;
                self.pool().buffers.give(piece.buffer);
                return Ok(());
            }
            self.sink.writable(self.source.ring()).await?;
            self.turn().await;
        }
    }

    /// One send. What it leaves found the socket full.
    fn send(&mut self, piece: &mut Piece) -> Result<(), ErrorKind> {
        let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if !self.left.is_empty() {
            flags |= SendFlags::MORE;
        }
        let bytes = &piece.buffer[piece.unsent.clone()];
        match send(self.sink.socket(), bytes, flags) {
            Ok(count) => {
                piece.unsent.start += count;
                self.sink.progress();
                Ok(())
            }
            Err(Errno::AGAIN) => self.sink.full(),
            Err(error) => Err(ErrorKind::Socket(error.into())),
        }
    }

    /// Gives the memory back of what the peer has taken.
    fn give_back(&mut self) {
        if let Some(behind) = &mut self.drop_behind {
            let (source, socket) = (&self.source, self.sink.socket());
            behind.follow(source.ring(), source.file(), socket, self.left.start);
        }
    }

    fn pool(&self) -> &'a Rc<Pool> {
        self.source.pool()
    }
}

/// The first bytes of `range`, `len` at the most.
fn head(range: &Range<u64>, len: usize) -> Range<u64> {
    range.start..range.end.min(range.start.saturating_add(len as u64))
}
