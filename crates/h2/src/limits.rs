//! Bounds on a connection.

use std::time::Duration;

use crate::frame::{INITIAL_WINDOW, MAX_31_BITS};

/// How much a peer may open, send and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams that may be open at a time, inclusive. Others are refused, and may be sent again.
    pub concurrent_streams: u32,
    /// Bytes of a request body that may be under way on a stream. Less than 65,535 counts as that,
    /// more than 2^31-1 as that.
    pub stream_window: u32,
    /// Bytes of all request bodies that may be under way. Bounded as
    /// `stream_window` is.
    pub connection_window: u32,
    /// Bytes of the fields of a request, inclusive: names and values decoded, and 32 for each field
    /// (RFC 9113, section 6.5.2).
    pub header_list: u32,
    /// Field lines of a request, inclusive, without pseudo-header fields.
    pub headers: usize,
    /// Bytes of a request body that are received and dropped, inclusive. Of a longer one nothing
    /// more is received before the response; behind it the stream lingers, and is reset.
    pub body_discard: u64,
    /// Bytes of such a body that are received in all, inclusive.
    pub linger_bytes: u64,
    /// How long more of such a body is received, from the first DATA behind the response. Nothing
    /// is if it is 0.
    pub linger: Duration,
    /// CONTINUATION frames of a header block, inclusive.
    pub continuations: u8,
    /// Bytes in the CONTINUATION frames of a header block, inclusive.
    pub continuation_bytes: u32,
    /// Streams that the peer resets, or makes this side reset.
    pub resets: Rate,
    /// Frames that do no work: PING, SETTINGS, PRIORITY, PRIORITY_UPDATE, WINDOW_UPDATE, empty DATA
    /// and unknown ones. A long one counts as several, and so does a list of fields that is larger
    /// than [`header_list`](Self::header_list). What the connection sends allows more of them.
    pub idle_frames: Rate,
}

/// How often something may happen: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// In a second from then on.
    pub per_second: u32,
}

impl Limits {
    /// The window of a stream. The peer may use the initial one before it knows another, so it is
    /// never less.
    pub(crate) fn stream_window(&self) -> u32 {
        self.stream_window.clamp(INITIAL_WINDOW, MAX_31_BITS)
    }

    /// The window of the connection, which can only be increased.
    pub(crate) fn connection_window(&self) -> u32 {
        self.connection_window.clamp(INITIAL_WINDOW, MAX_31_BITS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_streams: 128,
            stream_window: INITIAL_WINDOW,
            connection_window: INITIAL_WINDOW,
            header_list: 16 << 10,
            headers: 100,
            body_discard: 64 << 10,
            linger_bytes: 32 << 20,
            linger: Duration::from_secs(5),
            continuations: 8,
            continuation_bytes: 16 << 10,
            resets: Rate {
                burst: 1000,
                per_second: 33,
            },
            idle_frames: Rate {
                burst: 1000,
                per_second: 100,
            },
        }
    }
}
