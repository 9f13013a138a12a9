//! The bytes of an HTTP/2 connection: how they are cut decides nothing, memory and windows are
//! bounded, and no state is lost.
//!
//! One thing depends on the cut, on purpose: a stream that its peer ends with the bytes that opened
//! it is not handed over. So bytes are first received in pieces that show nothing of what follows a
//! header block, which must come to exactly the same, output included. Then in larger ones, where
//! the streams that are not reset must come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_h2::{
    Connection, ConnectionError, ErrorCode, Event, FRAME_HEADER_BYTES, HeadBuffer, Limits, Rate,
    ResetCause, StreamError, StreamId,
};
use tidegate_http::{Request, Status, StoredRequest};

use crate::cuts::pieces;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types and a flag (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GO_AWAY: u8 = 7;
/// RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE.
const CONTROL: [u8; 5] = [3, 4, 6, GO_AWAY, 8];
const END_STREAM: u8 = 1;

/// DATA frames of a response.
const DATA_FRAMES: u32 = 3;

/// The stream at which the server asks to open no more.
const LAST_STREAM: u32 = 41;

/// Limits that few frames reach.
fn tight() -> Limits {
    Limits {
        concurrent_streams: 4,
        header_list: 400,
        headers: 6,
        body_discard: 300,
        linger_bytes: 2000,
        continuations: 3,
        continuation_bytes: 200,
        resets: Rate {
            burst: 8,
            per_second: 0,
        },
        idle_frames: Rate {
            burst: 24,
            per_second: 0,
        },
        ..Limits::default()
    }
}

/// Limits that no number of frames reaches.
fn wide() -> Limits {
    let unbounded = Rate {
        burst: u32::MAX,
        per_second: 0,
    };
    Limits {
        concurrent_streams: 100_000,
        resets: unbounded,
        idle_frames: unbounded,
        linger: Duration::from_hours(1),
        ..Limits::default()
    }
}

/// `data` is what a client sends behind the preface.
pub(crate) fn check(data: &[u8]) {
    let bytes = [PREFACE.as_slice(), data].concat();
    let frames = frames_of(&bytes);
    for limits in [tight(), Limits::default()] {
        let by_frames = Server::after(frames.iter().copied(), &limits, true);
        for server in [
            Server::after(bytes.chunks(1), &limits, true),
            // No frame is so short.
            Server::after(pieces(&bytes, FRAME_HEADER_BYTES - 1), &limits, true),
        ] {
            assert_eq!(server.outcome, by_frames.outcome);
        }
    }
    let limits = wide();
    let by_frames = Server::after(frames.iter().copied(), &limits, false).outcome;
    if by_frames.seen.iter().any(is_found_later) {
        return;
    }
    for outcome in [
        Server::after([&bytes[..]], &limits, false).outcome,
        Server::after(pieces(&bytes, 100), &limits, false).outcome,
        Server::after(pieces(&bytes, 1000), &limits, false).outcome,
    ] {
        assert_eq!(outcome.error, by_frames.error);
        assert!(outcome.is_part_of(&by_frames));
        // With the connection all streams are over.
        if outcome.error.is_none() {
            assert_eq!(outcome.of_streams(), by_frames.of_streams());
        }
    }
}

/// Whether a stream was reset for what is not looked at if it is over in a moment: its head, and
/// what that says of its body. It is reset at another frame then.
fn is_found_later(seen: &Seen) -> bool {
    use StreamError::{Closed, PriorityLength, WindowIncrement, WindowOverflow};
    match seen {
        Seen::Reset(_, _, ResetCause::Error(error)) => !matches!(
            error,
            Closed | PriorityLength | WindowIncrement | WindowOverflow
        ),
        _ => false,
    }
}

/// The preface and the frames; the last may be a part.
fn frames_of(bytes: &[u8]) -> Vec<&[u8]> {
    let (preface, mut rest) = bytes.split_at(PREFACE.len());
    let mut frames = vec![preface];
    while !rest.is_empty() {
        let len = match rest {
            [high, middle, low, ..] => u32::from_be_bytes([0, *high, *middle, *low]),
            _ => 0,
        };
        let (frame, behind) = rest.split_at(rest.len().min(FRAME_HEADER_BYTES + len as usize));
        frames.push(frame);
        rest = behind;
    }
    frames
}

/// An event without what it borrows.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    /// With its request line and its fields.
    Request(u32, Vec<u8>, String, bool),
    Refused(u32, Status),
    Reset(u32, Option<u32>, ResetCause),
    BodyTooLarge(u32),
}

/// All that can be told from outside.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    control: Vec<u8>,
    responses: Vec<u8>,
    error: Option<ConnectionError>,
    /// Of no meaning after an error.
    is_midway: bool,
    open_streams: usize,
    highest_stream: u32,
}

impl Outcome {
    /// Which streams are reset, and what is told of the others.
    fn of_streams(&self) -> (BTreeSet<u32>, Vec<&Seen>) {
        let resets = self.seen.iter().filter_map(|seen| match seen {
            Seen::Reset(stream, ..) => Some(*stream),
            _ => None,
        });
        let reset: BTreeSet<_> = resets.collect();
        let others = self.seen.iter();
        let others = others.filter(|seen| !reset.contains(&seen.stream()));
        let others = others.collect();
        (reset, others)
    }

    /// Whether all heads that are told of are told of in `other`, too.
    fn is_part_of(&self, other: &Self) -> bool {
        let mut told = self.seen.iter();
        told.all(|seen| !seen.is_head() || other.seen.contains(seen))
    }
}

impl Seen {
    fn is_head(&self) -> bool {
        matches!(self, Self::Request(..) | Self::Refused(..))
    }

    fn stream(&self) -> u32 {
        match self {
            Self::Request(stream, ..)
            | Self::Refused(stream, _)
            | Self::Reset(stream, ..)
            | Self::BodyTooLarge(stream) => *stream,
        }
    }
}

/// A server of one connection, which keeps the number of a stream as its state.
struct Server {
    connection: Connection<u32>,
    start: Instant,
    head: HeadBuffer,
    /// Whether it answers; else all streams stay open.
    answers: bool,
    concurrent_streams: usize,
    attached: BTreeSet<u32>,
    /// DATA frames that were sent.
    sent: BTreeMap<u32, u32>,
    outcome: Outcome,
}

impl Server {
    fn after<'d>(
        pieces: impl IntoIterator<Item = &'d [u8]>,
        limits: &Limits,
        answers: bool,
    ) -> Self {
        // No time passes: it would, or not, between two pieces.
        let start = Instant::now();
        let mut server = Self {
            connection: Connection::new(Arc::new(limits.clone()), start),
            start,
            head: HeadBuffer::default(),
            answers,
            concurrent_streams: limits.concurrent_streams as usize,
            attached: BTreeSet::new(),
            sent: BTreeMap::new(),
            outcome: Outcome::default(),
        };
        for piece in pieces {
            server.receive(piece);
        }
        server.finish();
        server
    }

    fn receive(&mut self, mut piece: &[u8]) {
        loop {
            let received = self
                .connection
                .receive(&mut piece, self.start, &mut self.head);
            let event = match received {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(self.outcome.error.replace(error), None, "one error");
                    break;
                }
            };
            let opened = match &event {
                Event::Request(head) => Some(head.stream),
                Event::Refused(head) => Some(head.stream),
                Event::Reset { .. } | Event::BodyTooLarge(_) => None,
            };
            let seen = seen(&event);
            self.take(seen, opened);
        }
        assert!(piece.is_empty(), "all is used");
        assert!(self.connection.open_streams() <= self.concurrent_streams);
        self.connection.write_control(&mut self.outcome.control);
    }

    fn take(&mut self, seen: Seen, opened: Option<StreamId>) {
        if let Seen::Reset(stream, state, _) = &seen {
            let attached = self.attached.remove(stream).then_some(*stream);
            assert_eq!(*state, attached);
        }
        if let Some(id) = opened {
            assert_eq!(self.connection.attach(id, number_of(id)), None);
            assert!(self.attached.insert(number_of(id)));
        }
        self.outcome.seen.push(seen);
        if self.answers {
            if let Some(id) = opened {
                self.answer(id);
            }
            self.send();
            self.send();
        }
    }

    /// Each way that a stream can go, by its number.
    fn answer(&mut self, id: StreamId) {
        if number_of(id) == LAST_STREAM {
            self.connection.go_away();
        }
        match number_of(id) / 2 % 5 {
            0 => self.write_head(id, true),
            1 | 2 => {
                self.write_head(id, false);
                self.connection.set_ready(id, true);
            }
            3 => {
                let state = self.connection.reset(id, ErrorCode::INTERNAL_ERROR);
                self.is_over(number_of(id), state);
            }
            _ => {}
        }
    }

    fn write_head(&mut self, id: StreamId, end_stream: bool) {
        let out = &mut self.outcome.responses;
        let state = self
            .connection
            .write_head(id, end_stream, out, |encoder, block| {
                encoder.status(Status::OK, block);
            });
        if end_stream {
            self.is_over(number_of(id), state);
        } else {
            assert_eq!(state, None);
        }
    }

    /// Sends DATA of the stream whose turn it is.
    fn send(&mut self) {
        const MAX: usize = 10_000;
        let Some(grant) = self.connection.next_to_send(MAX) else {
            return;
        };
        let (id, bytes) = (grant.stream, grant.bytes);
        assert!(bytes > 0 && bytes <= MAX);
        assert!(bytes <= self.connection.send_window(id));
        let sent = self.sent.entry(number_of(id)).or_default();
        *sent += 1;
        let is_end = *sent == DATA_FRAMES;
        let mut header = [0; FRAME_HEADER_BYTES];
        let state = self
            .connection
            .write_data_header(id, bytes, is_end, &mut header);
        let out = &mut self.outcome.responses;
        out.extend_from_slice(&header);
        out.resize(out.len() + bytes, 0);
        if is_end {
            self.is_over(number_of(id), state);
        } else {
            assert_eq!(state, None);
        }
    }

    /// The state comes back, once.
    fn is_over(&mut self, stream: u32, state: Option<u32>) {
        assert_eq!(state, Some(stream));
        assert!(self.attached.remove(&stream));
    }

    fn finish(&mut self) {
        let states: BTreeSet<_> = self
            .connection
            .states_mut()
            .map(|(_, state)| *state)
            .collect();
        assert_eq!(states, self.attached);
        let outcome = &mut self.outcome;
        outcome.is_midway = outcome.error.is_none() && self.connection.is_midway();
        outcome.open_streams = self.connection.open_streams();
        outcome.highest_stream = self.connection.highest_stream();
        check_control(&outcome.control, outcome.error);
        check_responses(&outcome.responses);
    }
}

fn seen(event: &Event<'_, u32>) -> Seen {
    match event {
        Event::Request(head) => {
            check_request(&head.request);
            let fields = format!("{:?}", StoredRequest::new(&head.request));
            let line = head.request_line.to_vec();
            Seen::Request(number_of(head.stream), line, fields, head.is_body_too_large)
        }
        Event::Refused(head) => Seen::Refused(number_of(head.stream), head.error.status()),
        Event::Reset {
            stream,
            state,
            cause,
        } => Seen::Reset(number_of(*stream), *state, *cause),
        Event::BodyTooLarge(stream) => Seen::BodyTooLarge(number_of(*stream)),
    }
}

/// The number on the wire, of which there is nothing but the text.
fn number_of(stream: StreamId) -> u32 {
    let text = format!("{stream:?}");
    let mut digits = text.split(|char: char| !char.is_ascii_digit());
    let number = digits.find_map(|digits| digits.parse().ok());
    number.expect("a number")
}

/// No field can end its line, or speaks of the connection.
fn check_request(request: &Request<'_>) {
    for name in [
        "connection",
        "transfer-encoding",
        "upgrade",
        "keep-alive",
        "",
    ] {
        assert_eq!(request.fields.named(name).next(), None, "{name}");
    }
    assert!(request.fields.named("host").count() <= 1);
    assert!(request.fields.named("cookie").count() <= 1);
    crate::target::check_paths(&request.target);
}

/// The header and the payload of each frame.
fn frames_in(mut bytes: &[u8]) -> Vec<([u8; FRAME_HEADER_BYTES], &[u8])> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        assert!(len <= 16_384);
        let (payload, rest) = rest.split_at(len as usize);
        frames.push((*header, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}

/// The connection ends with GOAWAY, after an error with its code.
fn check_control(control: &[u8], error: Option<ConnectionError>) {
    let frames = frames_in(control);
    assert!(
        frames
            .iter()
            .all(|(header, _)| CONTROL.contains(&header[3]))
    );
    let last = frames.iter().rfind(|(header, _)| header[3] == GO_AWAY);
    if let Some(error) = error {
        let (_, payload) = last.expect("GOAWAY");
        assert_eq!(payload[4..8], error.code().number().to_be_bytes());
        assert_eq!(payload[8..], *error.to_string().as_bytes());
    }
}

/// Nothing follows the end of a stream.
fn check_responses(responses: &[u8]) {
    let mut ended = BTreeSet::new();
    for (header, _) in frames_in(responses) {
        let [_, _, _, kind, flags, stream @ ..] = header;
        assert!(kind == DATA || kind == HEADERS);
        assert!(!ended.contains(&stream));
        if flags & END_STREAM != 0 {
            ended.insert(stream);
        }
    }
}
