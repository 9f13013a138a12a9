//! A stream (RFC 9113, section 5.1).

use std::time::Instant;

use crate::flow::{ReceiveWindow, SendWindow};
use crate::priority::Priority;
use crate::schedule::Key;
use crate::{Limits, StreamError};

/// A stream of a connection: its number, and where the connection keeps it. That of a stream which
/// is over never means another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The number on the wire: odd, less than 2^31.
    pub(crate) number: u32,
    pub(crate) slot: u32,
}

impl StreamId {
    /// That of a stream that is not kept.
    pub(crate) fn unknown(number: u32) -> Self {
        Self {
            number,
            slot: u32::MAX,
        }
    }
}

/// An open stream, or one of which a side is still open.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    pub(crate) number: u32,
    pub(crate) state: Option<T>,
    pub(crate) priority: Priority,
    pub(crate) body: Body,
    /// Whether the response is whole: the stream is half-closed (local).
    pub(crate) is_answered: bool,
    /// Whether the server has bytes to send.
    pub(crate) is_ready: bool,
    pub(crate) send_window: SendWindow,
    /// The place in the schedule, if it can send.
    pub(crate) key: Option<Key>,
}

/// The body of a request, which is dropped.
#[derive(Debug)]
pub(crate) struct Body {
    /// Whether it is whole: the stream is half-closed (remote).
    pub(crate) is_whole: bool,
    /// Whether it is larger than what is received before the response: its window stays as it is
    /// until then.
    pub(crate) is_too_large: bool,
    pub(crate) window: ReceiveWindow,
    content_length: Option<u64>,
    received: u64,
    /// When the first of it came behind the response, if it is too large.
    linger_start: Option<Instant>,
}

impl Body {
    /// The body behind a head with this Content-Length, none with `is_whole`, of which at most
    /// `limit` bytes are received.
    pub(crate) fn new(content_length: Option<u64>, is_whole: bool, limit: u64) -> Self {
        Self {
            is_whole,
            is_too_large: content_length.is_some_and(|length| length > limit),
            window: ReceiveWindow::default(),
            content_length,
            received: 0,
            linger_start: None,
        }
    }

    /// Counts bytes of it. At its end it must be as long as Content-Length says, and before no
    /// longer (RFC 9113, section 8.1.1).
    pub(crate) fn receive(&mut self, bytes: usize, is_end: bool) -> Result<(), StreamError> {
        self.received += bytes as u64;
        self.is_whole = is_end;
        let fits = match self.content_length {
            None => true,
            Some(length) if is_end => self.received == length,
            Some(length) => self.received <= length,
        };
        if fits {
            Ok(())
        } else {
            Err(StreamError::ContentLength)
        }
    }

    /// Whether it just became larger than `limit`.
    pub(crate) fn passes(&mut self, limit: u64) -> bool {
        let passes = !self.is_too_large && self.received > limit;
        self.is_too_large |= passes;
        passes
    }

    /// Whether more of it is received behind the response. Some clients take a response as lost if
    /// the stream is reset while they are sending.
    pub(crate) fn lingers(&mut self, limits: &Limits, now: Instant) -> bool {
        let start = *self.linger_start.get_or_insert(now);
        self.received <= limits.linger_bytes && now.saturating_duration_since(start) < limits.linger
    }
}
