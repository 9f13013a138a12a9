//! A connection, as the server uses it.

use std::sync::Arc;
use std::time::Instant;

use crate::ahead::Ahead;
use crate::closed::Closed;
use crate::control::Control;
use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameReader, INITIAL_WINDOW, PAYLOAD_BYTES_MAX, flag, kind,
    write,
};
use crate::header_block::HeaderBlock;
use crate::hpack::{Decoder, Encoder};
use crate::pending_priorities::PendingPriorities;
use crate::stream::Stream;
use crate::streams::Streams;
use crate::token_bucket::TokenBucket;
use crate::{ErrorCode, Limits, StreamId};

/// A stream that may send DATA now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The stream.
    pub stream: StreamId,
    /// Bytes that it may send in one frame, at most; never 0.
    pub bytes: usize,
    /// Whether it keeps its turn until it waits or ends: no stream of the same urgency takes turns
    /// with it.
    pub stays: bool,
}

/// The server's half of an HTTP/2 connection. `T` is what the server keeps for a stream.
#[derive(Debug)]
pub struct Connection<T> {
    pub(crate) limits: Arc<Limits>,
    pub(crate) start: Instant,
    /// Nanoseconds from the start to the last call.
    pub(crate) age: u64,
    pub(crate) reader: FrameReader,
    /// Streams that end with the input that is being received, once it is known.
    pub(crate) ahead: Ahead,
    pub(crate) is_ahead_known: bool,
    /// A header block that is not complete.
    pub(crate) block: Option<Box<HeaderBlock>>,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    pub(crate) streams: Streams<T>,
    /// Priorities of streams that are not open yet. Boxed: most connections have none.
    pub(crate) priorities: Option<Box<PendingPriorities>>,
    pub(crate) control: Control,
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    /// The send window of new streams, which the peer chooses.
    pub(crate) initial_send_window: u32,
    pub(crate) resets: TokenBucket,
    pub(crate) idle_frames: TokenBucket,
    /// Streams that were opened and told to nobody.
    pub(crate) untold: u16,
    pub(crate) phase: Phase,
    /// See [`Connection::set_crowded`].
    pub(crate) is_crowded: bool,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// The first GOAWAY is out.
    GoingAway,
    /// The second GOAWAY is out: streams above this one are ignored.
    Gone(u32),
    /// It ended with an error.
    Failed,
}

impl<T> Connection<T> {
    /// A connection before its first byte, which is that of the preface. SETTINGS wait in the
    /// control output.
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        let mut control = Control::default();
        control.begin(&limits);
        Self {
            resets: TokenBucket::new(limits.resets),
            idle_frames: TokenBucket::new(limits.idle_frames),
            limits,
            start: now,
            age: 0,
            reader: FrameReader::default(),
            ahead: Ahead::default(),
            is_ahead_known: false,
            block: None,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            streams: Streams::default(),
            priorities: None,
            control,
            send_window: SendWindow::new(INITIAL_WINDOW),
            receive_window: ReceiveWindow::default(),
            initial_send_window: INITIAL_WINDOW,
            untold: 0,
            phase: Phase::Open,
            is_crowded: false,
        }
    }

    /// Bytes of memory that it takes beside itself, without what the server keeps for its streams.
    pub fn memory(&self) -> usize {
        let block = self
            .block
            .as_ref()
            .map_or(0, |block| size_of_val(&**block) + block.bytes.capacity());
        self.streams.memory() + self.control.len() + self.decoder.memory() + block
    }

    /// Streams that are not over.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// While it is crowded, streams beside another one are refused, and may be sent again.
    pub fn set_crowded(&mut self, is_crowded: bool) {
        self.is_crowded = is_crowded;
    }

    /// Bytes of control output that wait: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY. With
    /// 64 KiB or more, receive nothing before they are sent.
    pub fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// Moves the control output to the end of `out`.
    pub fn write_control(&mut self, out: &mut Vec<u8>) {
        self.control.write(out);
    }

    /// Attaches what the server keeps for a stream, and returns what was there before. If the
    /// stream is over, or its response is whole, it returns `state`.
    pub fn attach(&mut self, stream: StreamId, state: T) -> Option<T> {
        match self.streams.get_mut(stream) {
            Some(stream) if !stream.is_answered => stream.state.replace(state),
            _ => Some(state),
        }
    }

    /// Takes what is attached to a stream, which stays open.
    pub fn detach(&mut self, stream: StreamId) -> Option<T> {
        self.streams.get_mut(stream)?.state.take()
    }

    /// What is attached to a stream.
    #[inline]
    pub fn state_mut(&mut self, stream: StreamId) -> Option<&mut T> {
        self.streams.get_mut(stream)?.state.as_mut()
    }

    /// All that is attached to streams, in no order.
    pub fn states_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut T)> {
        let streams = self.streams.iter_mut();
        streams.filter_map(|(id, stream)| Some((id, stream.state.as_mut()?)))
    }

    /// Appends the head of a response: HEADERS, and CONTINUATION where the block is longer than a
    /// frame. `write` appends the block. With `end_stream` there is no body, the response is whole,
    /// and what was attached to the stream is returned.
    ///
    /// Nothing is written if the stream is over, or its response is whole.
    pub fn write_head(
        &mut self,
        stream: StreamId,
        end_stream: bool,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Option<T> {
        self.streams.get_unanswered(stream)?;
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        write(&mut self.encoder, out);
        frame_block(stream.number, end_stream, start, out);
        self.idle_frames.add(4);
        if end_stream { self.end(stream) } else { None }
    }

    /// Says whether the stream has bytes of its body to send at once. No stream has at first.
    #[inline]
    pub fn set_ready(&mut self, stream: StreamId, ready: bool) {
        self.streams.set_ready(stream, ready);
    }

    /// The stream to send from next, and how much: at most `max` bytes, and 16,384, the least that
    /// a peer takes in a frame. `None` if no stream is ready, or windows are closed.
    ///
    /// The order is that of RFC 9218, section 10: urgency first; then those that are not
    /// incremental by their ids, then the incremental ones in turn. It stays the same stream until
    /// [`write_data_header`](Self::write_data_header), [`set_ready`](Self::set_ready) or a call
    /// that changes what is known of the peer.
    #[inline]
    pub fn next_to_send(&self, max: usize) -> Option<Grant> {
        let (id, stream) = self.streams.next_to_send()?;
        let window = self.send_window.bytes().min(stream.send_window.bytes());
        let bytes = window.min(max).min(PAYLOAD_BYTES_MAX);
        (bytes > 0).then_some(Grant {
            stream: id,
            bytes,
            stays: !stream.priority.incremental || self.streams.ready() == 1,
        })
    }

    /// Bytes that a stream may send in one frame now by its windows, ready or not, whatever the
    /// priorities.
    pub fn send_window(&self, stream: StreamId) -> usize {
        self.send_windows(stream).min(PAYLOAD_BYTES_MAX)
    }

    /// As [`send_window`](Self::send_window), in any number of frames.
    pub fn send_windows(&self, stream: StreamId) -> usize {
        let stream = self.streams.get_unanswered(stream);
        let window = stream.map_or(0, |stream| stream.send_window.bytes());
        window.min(self.send_window.bytes())
    }

    /// Writes the header of a DATA frame of `len` bytes, which was granted or is within
    /// [`send_window`](Self::send_window), and counts the bytes as sent. With `end_stream` the
    /// response is whole, and what was attached to the stream is returned. `len` may be 0 then. Not
    /// for a stream that is over: its frames must not be sent.
    #[inline]
    pub fn write_data_header(
        &mut self,
        stream: StreamId,
        len: usize,
        end_stream: bool,
        header: &mut [u8; FRAME_HEADER_BYTES],
    ) -> Option<T> {
        let flags = if end_stream { flag::END_STREAM } else { 0 };
        *header = FrameHeader {
            len,
            kind: kind::DATA,
            flags,
            stream: stream.number,
        }
        .bytes();
        self.streams.get_unanswered(stream)?;
        self.send_window.consume(len);
        // A peer that receives much has windows to open, some for every 4 KiB, and may measure the
        // path by PING. It may do so long after all of it was sent.
        self.idle_frames.add(2 + (len / 2048) as u32);
        self.streams.sent(stream, len);
        if end_stream { self.end(stream) } else { None }
    }

    /// The response is whole. The rest of the request body may still come. One that is too large
    /// has waited for this; nothing more of it is received if streams do not linger (RFC 9113,
    /// section 8.1).
    fn end(&mut self, id: StreamId) -> Option<T> {
        let state = self.streams.answered(id);
        let stream = self.streams.get(id);
        if stream.is_some_and(|stream| stream.body.is_too_large) {
            if self.limits.linger.is_zero() {
                self.reset(id, ErrorCode::NO_ERROR);
            } else {
                self.give_back(id);
            }
        }
        state
    }

    /// Resets a stream, if it is not over, and returns what was attached to it.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) -> Option<T> {
        self.streams.get(stream)?;
        self.control.reset(stream.number, code);
        self.streams.close(stream, Closed::ByUs)
    }

    /// Asks the peer to open no more streams: GOAWAY with the highest id, and PING (RFC 9113,
    /// section 6.8). Streams that are opened until its answer are served. After the answer, or
    /// [`finish_go_away`](Self::finish_go_away), new ones are ignored.
    pub fn go_away(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::GoingAway;
            self.control.announce_go_away();
        }
    }

    /// Sends the second GOAWAY without the answer to PING. For a peer that does not answer it.
    pub fn finish_go_away(&mut self) {
        if !matches!(self.phase, Phase::Gone(_) | Phase::Failed) {
            self.phase = Phase::Gone(self.streams.highest);
            self.control
                .go_away(self.streams.highest, ErrorCode::NO_ERROR, "");
        }
    }

    /// How many streams the peer has opened since the last call that are no
    /// [`Event::Request`](crate::Event::Request) and no
    /// [`Event::Refused`](crate::Event::Refused): they were over with the bytes that opened them, were too many, or broke
    /// the protocol.
    #[inline]
    pub fn take_untold(&mut self) -> u16 {
        std::mem::take(&mut self.untold)
    }

    /// Whether [`go_away`](Self::go_away) was called, or the connection ended with an error.
    pub fn is_going_away(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether the second GOAWAY is out, and all responses are: the connection is to be closed
    /// once its output is sent.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Gone(_)) && self.open_streams() == 0
    }

    /// Streams whose response is not whole.
    pub fn open_streams(&self) -> usize {
        self.streams.unanswered()
    }

    /// Whether the peer owes something to be received: the preface, SETTINGS, the rest of a frame
    /// or of a header block.
    pub fn is_midway(&self) -> bool {
        !self.reader.is_at_start() || self.block.is_some()
    }

    /// Whether the rest of a request body is still to come.
    pub fn is_receiving_bodies(&self) -> bool {
        self.streams.receiving() > 0
    }

    /// The highest number of a stream so far; 0 if there was none.
    pub fn highest_stream(&self) -> u32 {
        self.streams.highest
    }

    /// Resets the streams up to the number `last` whose request bodies are not whole, for they take
    /// too long: what their responses say stays true (RFC 9113, section 8.1).
    pub fn reset_unfinished(&mut self, last: u32) {
        self.reset_where(|stream| {
            let code = if stream.is_answered {
                ErrorCode::NO_ERROR
            } else {
                ErrorCode::CANCEL
            };
            (stream.number <= last && !stream.body.is_whole).then_some(code)
        });
    }

    /// Resets the streams that are ready, if [`is_blocked_by_peer`](Self::is_blocked_by_peer).
    /// Returns whether there was one.
    pub fn cancel_blocked(&mut self) -> bool {
        self.is_blocked_by_peer()
            && self.reset_where(|stream| stream.is_ready.then_some(ErrorCode::CANCEL))
    }

    /// Resets all streams whose response is not whole.
    pub fn cancel_all(&mut self) {
        self.reset_where(|stream| (!stream.is_answered).then_some(ErrorCode::CANCEL));
    }

    /// Resets the streams that have a code, and drops their states. Returns whether there was one.
    fn reset_where(&mut self, code: impl Fn(&Stream<T>) -> Option<ErrorCode>) -> bool {
        let streams = self.streams.iter_mut();
        let resets = streams.filter_map(|(id, stream)| Some((id, code(stream)?)));
        let resets: Vec<_> = resets.collect();
        for (id, code) in &resets {
            self.reset(*id, *code);
        }
        !resets.is_empty()
    }

    /// Whether a stream is ready, but the peer's windows are closed.
    pub fn is_blocked_by_peer(&self) -> bool {
        self.streams.ready() > 0 && self.next_to_send(1).is_none()
    }

    /// Returns memory that is not in use. For a connection without streams that will be idle.
    pub fn shrink(&mut self) {
        self.streams.shrink();
        self.control.shrink();
        self.priorities.take_if(|priorities| priorities.is_empty());
    }
}

/// Puts the block behind the room for a header at `start` into frames.
fn frame_block(stream: u32, end_stream: bool, start: usize, out: &mut Vec<u8>) {
    let block = start + FRAME_HEADER_BYTES;
    let len = out.len() - block;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    if len <= PAYLOAD_BYTES_MAX {
        flags |= flag::END_HEADERS;
    }
    let header = FrameHeader {
        len: len.min(PAYLOAD_BYTES_MAX),
        kind: kind::HEADERS,
        flags,
        stream,
    };
    out[start..block].copy_from_slice(&header.bytes());
    if len > PAYLOAD_BYTES_MAX {
        continue_block(stream, block + PAYLOAD_BYTES_MAX, out);
    }
}

/// Puts the block from `start` on into CONTINUATION frames.
#[cold]
fn continue_block(stream: u32, start: usize, out: &mut Vec<u8>) {
    let rest = out.split_off(start);
    let mut fragments = rest.chunks(PAYLOAD_BYTES_MAX).peekable();
    while let Some(fragment) = fragments.next() {
        let is_last = fragments.peek().is_none();
        let flags = if is_last { flag::END_HEADERS } else { 0 };
        write(kind::CONTINUATION, flags, stream, fragment, out);
    }
}
