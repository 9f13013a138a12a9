//! Header blocks: requests and trailer sections (RFC 9113, sections 6.2, 6.10 and 8.1).

use super::{Happened, Outcome};
use crate::ahead::{Ahead, Opening};
use crate::closed::Closed;
use crate::connection::Phase;
use crate::flow::SendWindow;
use crate::frame::{self, FrameHeader, flag, kind};
use crate::head_fields::{decode_ignored, decode_request, decode_trailers};
use crate::header_block::HeaderBlock;
use crate::hpack;
use crate::priority::Priority;
use crate::stream::Body;
use crate::{Connection, ConnectionError, HeadBuffer, StreamError, StreamId};

/// What a list costs for each time that it is larger than the limit.
const LARGE_LIST_TOKENS: u32 = 64;

/// A whole header block.
struct Block<'b> {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    bytes: &'b [u8],
    /// The input behind it.
    rest: &'b [u8],
}

impl From<hpack::Error> for ConnectionError {
    fn from(error: hpack::Error) -> Self {
        match error {
            // Nothing is wrong with it, but that it is a flood.
            hpack::Error::Expansion => Self::TooManyIdleFrames,
            _ => Self::Compression,
        }
    }
}

impl<T> Connection<T> {
    pub(super) fn on_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        rest: &[u8],
        head: &mut HeadBuffer,
    ) -> Outcome<T> {
        if header.stream == 0 {
            return Err(ConnectionError::FrameStream);
        }
        let fragment = frame::headers(header, payload)?;
        if !header.has(flag::END_HEADERS) {
            self.block = Some(Box::new(HeaderBlock::new(header, fragment)));
            return Ok(Happened::Nothing);
        }
        let block = Block {
            stream: header.stream,
            end_stream: header.has(flag::END_STREAM),
            depends_on_itself: fragment.depends_on_itself,
            bytes: fragment.block,
            rest,
        };
        self.on_block(&block, head)
    }

    /// Any frame within a header block: it must go on with it (RFC 9113, section 6.10).
    #[cold]
    pub(super) fn on_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        rest: &[u8],
        head: &mut HeadBuffer,
    ) -> Outcome<T> {
        let Some(mut block) = self.block.take() else {
            return Err(ConnectionError::Continuation);
        };
        if header.kind != kind::CONTINUATION || header.stream != block.stream {
            return Err(ConnectionError::Continuation);
        }
        block.push(payload, &self.limits)?;
        if !header.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(Happened::Nothing);
        }
        let block = Block {
            stream: block.stream,
            end_stream: block.end_stream,
            depends_on_itself: block.depends_on_itself,
            bytes: &block.bytes,
            rest,
        };
        self.on_block(&block, head)
    }

    #[inline]
    fn on_block(&mut self, block: &Block<'_>, head: &mut HeadBuffer) -> Outcome<T> {
        if block.stream.is_multiple_of(2) {
            return Err(ConnectionError::StreamId);
        }
        if block.stream > self.streams.highest {
            self.on_request(block, head)
        } else if let Some(stream) = self.streams.find(block.stream) {
            self.on_trailers(stream, block, head)
        } else {
            self.on_block_of_closed(block, head)
        }
    }

    /// A new stream.
    #[inline]
    fn on_request(&mut self, block: &Block<'_>, head: &mut HeadBuffer) -> Outcome<T> {
        let number = block.stream;
        self.streams.highest = number;
        let pending = self.priorities.as_mut();
        let pending_priority = pending.and_then(|pending| pending.take(number));
        if matches!(self.phase, Phase::Gone(_)) {
            self.decode_ignored(block, head)?;
            self.streams.ignore(number);
            return self.idle();
        }
        let streams_max = if self.is_crowded {
            1
        } else {
            self.limits.concurrent_streams as usize
        };
        if self.streams.len() >= streams_max {
            self.decode_ignored(block, head)?;
            if self.streams.len() < self.limits.concurrent_streams as usize {
                return Ok(self.refuse_for_now(number));
            }
            self.untold = self.untold.saturating_add(1);
            return self.reset_for(number, StreamError::TooManyStreams);
        }
        if self.ends_ahead(block) {
            self.decode_ignored(block, head)?;
            return Ok(self.open_unanswered(block));
        }
        let (size, decoded) = decode_request(&mut self.decoder, block.bytes, &self.limits, head)?;
        self.count_list(size)?;
        if let Err(error) = decoded.and_then(|()| check_request(block, head)) {
            self.untold = self.untold.saturating_add(1);
            return self.reset_for(number, error);
        }
        let body = Body::new(
            head.head.content_length,
            block.end_stream,
            self.limits.body_discard,
        );
        let priority = pending_priority.or(head.head.priority).unwrap_or_default();
        let send_window = SendWindow::new(self.initial_send_window);
        Ok(Happened::Head {
            is_body_too_large: body.is_too_large,
            stream: self.streams.open(number, priority, body, send_window),
        })
    }

    /// Whether the peer ends a new stream before the end of the input.
    #[inline]
    fn ends_ahead(&mut self, block: &Block<'_>) -> bool {
        let opening = Opening {
            number: block.stream,
            end_stream: block.end_stream,
            window: self.initial_send_window,
        };
        if !self.is_ahead_known {
            self.is_ahead_known = true;
            self.ahead = Ahead::of(opening, block.rest);
        }
        self.ahead.ends(opening)
    }

    /// Opens a stream that is not told to the server, for it ends in a moment.
    fn open_unanswered(&mut self, block: &Block<'_>) -> Happened<T> {
        self.untold = self.untold.saturating_add(1);
        let body = Body::new(None, block.end_stream, self.limits.body_discard);
        let window = SendWindow::new(self.initial_send_window);
        let streams = &mut self.streams;
        streams.open(block.stream, Priority::default(), body, window);
        Happened::Nothing
    }

    /// A second header block of a stream: it ends the request.
    fn on_trailers(
        &mut self,
        id: StreamId,
        block: &Block<'_>,
        head: &mut HeadBuffer,
    ) -> Outcome<T> {
        let (size, decoded) = decode_trailers(&mut self.decoder, block.bytes, &self.limits, head)?;
        self.count_list(size)?;
        let checked = match self.streams.get(id) {
            Some(stream) if stream.body.is_whole => Err(StreamError::Closed),
            _ if block.depends_on_itself => Err(StreamError::SelfDependency),
            _ if !block.end_stream => Err(StreamError::Trailers),
            _ => decoded,
        };
        match checked {
            Ok(()) => self.on_body(id, 0, true),
            Err(error) => self.reset_for(block.stream, error),
        }
    }

    /// RFC 9113, section 5.1, "closed", and section 5.1.1. Trailers may be under way to a stream
    /// that is closed for so long that it is forgotten.
    fn on_block_of_closed(&mut self, block: &Block<'_>, head: &mut HeadBuffer) -> Outcome<T> {
        self.decode_ignored(block, head)?;
        match self.streams.closed(block.stream) {
            Some(Closed::ByUs) => self.idle(),
            Some(Closed::ByPeer) => self.reset_for(block.stream, StreamError::Closed),
            Some(Closed::Ended) => Err(ConnectionError::EndedStream),
            None if self.streams.may_have_forgotten() => {
                self.reset_for(block.stream, StreamError::Closed)
            }
            None => Err(ConnectionError::StreamId),
        }
    }

    /// A block that is of no use but for the dynamic table.
    fn decode_ignored(&mut self, block: &Block<'_>, head: &mut HeadBuffer) -> Outcome<T> {
        let size = decode_ignored(&mut self.decoder, block.bytes, &self.limits, head)?;
        self.count_list(size)
    }

    /// A list that is larger than the limit does no work, and costs more than its answer earns. One
    /// that refers to a large field again and again costs as much as a flood.
    #[inline]
    fn count_list(&mut self, size: usize) -> Outcome<T> {
        let limit = self.limits.header_list as usize;
        if size <= limit {
            return Ok(Happened::Nothing);
        }
        let times = u32::try_from(size / limit.max(1)).unwrap_or(u32::MAX);
        self.spend(times.saturating_mul(LARGE_LIST_TOKENS))
    }
}

/// What is wrong with a request besides its fields.
fn check_request(block: &Block<'_>, head: &HeadBuffer) -> Result<(), StreamError> {
    if block.depends_on_itself {
        return Err(StreamError::SelfDependency);
    }
    match head.head.content_length {
        Some(1..) if block.end_stream => Err(StreamError::ContentLength),
        _ => Ok(()),
    }
}
