//! A connection.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::hpack::Encoder;
use crate::{ConnectionError, ErrorCode, Event, FRAME_HEADER_BYTES, HeadBuffer, Limits, StreamId};

/// A stream that may send DATA now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The stream.
    pub stream: StreamId,
    /// Bytes that it may send in one frame, at most; never 0.
    pub bytes: usize,
}

/// The server's half of an HTTP/2 connection. `T` is what the server keeps for a stream.
#[derive(Debug)]
pub struct Connection<T> {
    limits: Arc<Limits>,
    states: PhantomData<T>,
}

#[allow(unused_variables, clippy::unused_self, clippy::needless_pass_by_value)]
impl<T> Connection<T> {
    /// A connection before its first byte, which is that of the preface. SETTINGS wait in the
    /// control output.
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            limits,
            states: PhantomData,
        }
    }

    /// Reads frames from the front of `input` up to the next event, and shortens it. `None`: all of
    /// it is used; the start of an incomplete frame is kept, which is at most 16 KiB.
    ///
    /// After an error GOAWAY waits in the control output: send it, close in a way that it is not
    /// lost, and drop the connection with all states. What else arrives is ignored.
    pub fn receive<'a>(
        &mut self,
        input: &mut &[u8],
        now: Instant,
        head: &'a mut HeadBuffer,
    ) -> Result<Option<Event<'a, T>>, ConnectionError> {
        *input = &[];
        Ok(None)
    }

    /// Bytes of control output that wait: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY. With
    /// 64 KiB or more, receive nothing before they are sent.
    pub fn control_bytes(&self) -> usize {
        0
    }

    /// Moves the control output to the end of `out`.
    pub fn write_control(&mut self, out: &mut Vec<u8>) {}

    /// Attaches what the server keeps for a stream, and returns what was there before. If the
    /// stream is over, it returns `state`.
    pub fn attach(&mut self, stream: StreamId, state: T) -> Option<T> {
        None
    }

    /// What is attached to a stream.
    pub fn state_mut(&mut self, stream: StreamId) -> Option<&mut T> {
        None
    }

    /// All that is attached to streams, in no order.
    pub fn states_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut T)> {
        std::iter::empty()
    }

    /// Appends the head of a response: HEADERS, and CONTINUATION where the block is longer than a
    /// frame. `write` appends the block. With `end_stream` there is no body, the stream is over,
    /// and what was attached to it is returned.
    ///
    /// Nothing is written if the stream is over.
    pub fn write_head(
        &mut self,
        stream: StreamId,
        end_stream: bool,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Option<T> {
        None
    }

    /// Says whether the stream has bytes of its body to send at once. No stream has at first.
    pub fn set_ready(&mut self, stream: StreamId, ready: bool) {}

    /// The stream to send from next, and how much: at most `max` bytes, or 16,384 (the peer's
    /// `SETTINGS_MAX_FRAME_SIZE`). `None` if no stream is ready, or windows are closed.
    ///
    /// The order is that of RFC 9218, section 10: urgency first; then those that are not
    /// incremental by their ids, then the incremental ones in turn. It stays the same stream until
    /// [`write_data_header`](Self::write_data_header), [`set_ready`](Self::set_ready) or a reset.
    pub fn next_to_send(&self, max: usize) -> Option<Grant> {
        None
    }

    /// Bytes that a stream may send now by its windows, ready or not, whatever the priorities.
    pub fn send_window(&self, stream: StreamId) -> usize {
        0
    }

    /// Writes the header of a DATA frame of `len` bytes, which was granted or is within
    /// [`send_window`](Self::send_window), and counts the bytes as sent. With `end_stream` the
    /// response is whole, and what was attached to the stream is returned. `len` may be 0 then.
    pub fn write_data_header(
        &mut self,
        stream: StreamId,
        len: usize,
        end_stream: bool,
        header: &mut [u8; FRAME_HEADER_BYTES],
    ) -> Option<T> {
        None
    }

    /// Resets a stream, if it is not over, and returns what was attached to it.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) -> Option<T> {
        None
    }

    /// Asks the peer to open no more streams: GOAWAY with the highest id, and PING (RFC 9113,
    /// section 6.8). Streams that are opened until its answer are served. After the answer, or
    /// [`finish_go_away`](Self::finish_go_away), new ones are ignored.
    pub fn go_away(&mut self) {}

    /// Sends the second GOAWAY without the answer to PING. For a peer that does not answer it.
    pub fn finish_go_away(&mut self) {}

    /// Whether the second GOAWAY is out, and all responses are: the connection is to be closed
    /// once its output is sent.
    pub fn is_finished(&self) -> bool {
        false
    }

    /// Streams whose response is not whole.
    pub fn open_streams(&self) -> usize {
        0
    }

    /// Whether the peer owes something to be received: the preface, SETTINGS, the rest of a frame,
    /// of a header block or of a request body.
    pub fn is_midway(&self) -> bool {
        false
    }

    /// Whether a stream is ready, but the peer's windows are closed.
    pub fn is_blocked_by_peer(&self) -> bool {
        false
    }

    /// Returns memory that no stream uses. For a connection without streams that will be idle.
    pub fn shrink(&mut self) {}
}
