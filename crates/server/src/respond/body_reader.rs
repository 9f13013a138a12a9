//! Copies a body into buffers of its protocol, for one that mixes several bodies on a connection.

use std::error::Error as StdError;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use tidegate_sendfile::{ErrorKind, FileReader};
use tidegate_site::{Content, File};
use tidegate_uring::Fd;

use super::body::{BodySource, Next, Piece};
use super::exchange::Exchange;
use super::send_range::{is_unreadable, options};
use crate::context::Context;
use crate::frame_buffer::Payload;

/// A body that is read piece by piece. It holds bytes only if they are in memory anyway, were read
/// from the disk, or have just been made.
pub(crate) struct BodyReader {
    source: BodySource,
    /// The part of the last piece that was not read yet: bytes, or a range of a file.
    bytes: Bytes,
    file: Option<Box<OpenRange>>,
}

struct OpenRange {
    file: Rc<File>,
    /// Its first byte.
    first: u64,
    start: Instant,
    reader: FileReader,
}

// A body that waits for its peer holds one. Its size class is not that of the future that waits for
// the disk: they come by turns, and the holes that the futures leave would not be given back.
const _: () = assert!(size_of::<OpenRange>() <= 192);

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    /// Nothing follows.
    End,
    /// What follows must be waited for, by [`BodyReader::make`].
    Waits,
}

/// The body cannot be completed. It is logged.
#[derive(Debug)]
pub(crate) struct CutShort;

impl BodyReader {
    pub(crate) fn new(source: BodySource) -> Self {
        Self {
            source,
            bytes: Bytes::new(),
            file: None,
        }
    }

    /// Whether its pieces take CPU time to make.
    pub(crate) fn is_costly(&self) -> bool {
        !self.source.has_length()
    }

    /// Appends the next bytes, as many as there is room for, without waiting. Returns how far the
    /// body is. `socket` took all bytes before them.
    pub(crate) fn read(
        &mut self,
        out: &mut Payload<'_>,
        socket: &Fd,
        context: &Context,
        exchange: &mut Exchange,
    ) -> Result<Progress, CutShort> {
        if let Some(open) = &mut self.file {
            open.reader.follow(socket);
        }
        loop {
            match self.load(context, exchange) {
                Progress::More if !out.is_full() => {}
                progress => return Ok(progress),
            }
            match self.copy(out, exchange) {
                Ok(0) => return Ok(Progress::Waits),
                Ok(_) => {}
                Err(error) => return Err(cut_short(context, &error)),
            }
        }
    }

    /// Sees to it that `bytes` or `file` have something.
    fn load(&mut self, context: &Context, exchange: &mut Exchange) -> Progress {
        if !self.bytes.is_empty() {
            return Progress::More;
        }
        if let Some(open) = self.file.take_if(|open| open.reader.remaining() == 0) {
            open.finish(exchange);
        }
        if self.file.is_some() {
            return Progress::More;
        }
        match self.source.next_now(NonZeroUsize::MAX) {
            Next::Piece(Piece::Bytes(bytes)) => self.bytes = bytes,
            Next::Piece(Piece::File(file, range)) => {
                self.file = OpenRange::new(context, file, range).map(Box::new);
            }
            Next::End => return Progress::End,
            Next::Waits => return Progress::Waits,
        }
        Progress::More
    }

    /// Appends some bytes of what is loaded; none if they must be waited for.
    fn copy(&mut self, out: &mut Payload<'_>, exchange: &mut Exchange) -> Result<usize, ErrorKind> {
        if let Some(open) = &mut self.file {
            let max = usize::try_from(open.reader.remaining()).unwrap_or(usize::MAX);
            let count = out.append_with(max, |parts| open.reader.read_now(parts))?;
            let count = count.unwrap_or(0);
            exchange.file_sent(count as u64);
            return Ok(count);
        }
        let count = out.append(&self.bytes);
        self.bytes.advance(count);
        exchange.body_sent(count as u64);
        Ok(count)
    }

    /// Frees what was read from the disk ahead of its time.
    pub(crate) fn forget_fetched(&mut self) {
        if let Some(open) = &mut self.file {
            open.reader.forget_fetched();
        }
    }

    /// Waits until the next bytes can be read.
    ///
    /// Dropped: bytes may be lost, and with them the body.
    pub(crate) async fn make(&mut self, context: &Context) -> Result<(), CutShort> {
        match &mut self.file {
            Some(open) => match open.reader.fetch().await {
                Ok(()) => Ok(()),
                Err(error) => {
                    if is_unreadable(&error) {
                        Box::pin(open.file.forget_unreadable()).await;
                    }
                    Err(cut_short(context, &error))
                }
            },
            None => (self.source.make().await).map_err(|error| cut_short(context, &error)),
        }
    }
}

impl OpenRange {
    fn new(context: &Context, file: Rc<File>, range: Range<u64>) -> Option<Self> {
        let start = Instant::now();
        let options = options(context, &file, &range, start);
        let io = &context.io;
        let reader = match &file.content {
            Content::File(fd) => FileReader::new(&io.ring, &io.pipes, fd, range.clone(), &options),
            // Content in memory comes as bytes. A body without them is cut short.
            Content::Memory(_) | Content::Sliced(_) => return None,
        };
        Some(Self {
            file,
            first: range.start,
            start,
            reader,
        })
    }

    /// All of it was read.
    fn finish(self, exchange: &mut Exchange) {
        let range = self.first..self.reader.position();
        if self.reader.finish().from_disk {
            self.file.residency_hint.forget();
            exchange.read_from_disk();
        } else {
            self.file.residency_hint.add(&range, self.start);
        }
    }
}

fn cut_short(context: &Context, error: &dyn StdError) -> CutShort {
    if context.file_warnings.is_due() {
        tracing::warn!(%error, "response cut short");
    }
    CutShort
}
