//! A peer for the tests of several modules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_http::Field;

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, PREFACE, flag, kind, write};
use crate::{
    Connection, ConnectionError, ErrorCode, Event, HeadBuffer, Limits, ResetCause, StreamError,
    StreamId,
};

/// An event without the text that it borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Request {
        stream: u32,
        line: String,
        fields: String,
        is_body_too_large: bool,
    },
    Refused(u32, u16),
    Reset(u32, Option<u32>, ResetCause),
    BodyTooLarge(u32),
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection with its peer.
pub(crate) struct Peer {
    pub(crate) connection: Connection<u32>,
    pub(crate) now: Instant,
    head: HeadBuffer,
    ids: Vec<StreamId>,
}

impl Peer {
    /// Before the preface.
    pub(crate) fn unopened(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(Arc::new(limits), now),
            now,
            head: HeadBuffer::default(),
            ids: Vec::new(),
        }
    }

    /// Behind the SETTINGS of both sides.
    pub(crate) fn with(limits: Limits) -> Self {
        let mut peer = Self::unopened(limits);
        let start = [PREFACE.as_slice(), &frame(kind::SETTINGS, 0, 0, b"")].concat();
        assert_eq!(peer.send(&start), Ok(vec![]));
        peer.sent();
        peer
    }

    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Sends bytes. A new stream gets its number as its state.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) -> Result<Vec<Seen>, ConnectionError> {
        let mut events = Vec::new();
        let mut head = std::mem::take(&mut self.head);
        loop {
            let event = self.connection.receive(&mut bytes, self.now, &mut head)?;
            let Some(event) = event else { break };
            let id = match &event {
                Event::Request(request) => Some(request.stream),
                Event::Refused(refused) => Some(refused.stream),
                _ => None,
            };
            events.push(seen(&event));
            if let Some(id) = id {
                assert_eq!(self.connection.attach(id, id.number), None);
                self.ids.push(id);
            }
        }
        assert_eq!(bytes, b"", "all is used");
        self.head = head;
        Ok(events)
    }

    /// Sends bytes one by one: what happens must not depend on how they are cut.
    pub(crate) fn send_single(&mut self, bytes: &[u8]) -> Result<Vec<Seen>, ConnectionError> {
        let mut events = Vec::new();
        for byte in bytes.chunks(1) {
            events.extend(self.send(byte)?);
        }
        Ok(events)
    }

    /// Sends bytes that make nothing happen.
    #[track_caller]
    pub(crate) fn send_quietly(&mut self, bytes: &[u8]) {
        assert_eq!(self.send(bytes), Ok(vec![]));
    }

    /// Sends a request without a body, and returns its stream.
    #[track_caller]
    pub(crate) fn request(&mut self, stream: u32) -> StreamId {
        self.request_with(stream, flag::END_STREAM, &[])
    }

    /// Sends a request with these fields behind those that it must have.
    #[track_caller]
    pub(crate) fn request_with(
        &mut self,
        stream: u32,
        flags: u8,
        fields: &[(&str, &str)],
    ) -> StreamId {
        let block = block(&[&GET, fields].concat());
        let events = self.send(&headers(stream, flags, &block)).unwrap();
        assert!(matches!(events[..], [Seen::Request { .. }]), "{events:?}");
        self.id(stream)
    }

    /// The stream that was opened with this number.
    #[track_caller]
    pub(crate) fn id(&self, stream: u32) -> StreamId {
        let mut ids = self.ids.iter().copied();
        ids.find(|id| id.number == stream).unwrap()
    }

    /// The control output since the last call.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut out = Vec::new();
        self.connection.write_control(&mut out);
        assert_eq!(self.connection.control_bytes(), 0);
        frames(&out)
    }

    /// Answers with a head alone.
    pub(crate) fn answer(&mut self, stream: u32) {
        let id = self.id(stream);
        let mut out = Vec::new();
        let write = |_: &mut crate::hpack::Encoder, out: &mut Vec<u8>| out.push(0x88);
        let state = self.connection.write_head(id, true, &mut out, write);
        assert_eq!(state, Some(stream));
        assert_eq!(out, headers(stream, flag::END_STREAM, b"\x88"));
    }

    /// Sends DATA of what is granted. Returns the stream and the bytes.
    pub(crate) fn grant(&mut self, max: usize) -> Option<(u32, usize)> {
        let grant = self.connection.next_to_send(max)?;
        let mut header = [0; FRAME_HEADER_BYTES];
        let (stream, bytes) = (grant.stream, grant.bytes);
        let state = self
            .connection
            .write_data_header(stream, bytes, false, &mut header);
        assert_eq!(state, None);
        assert_eq!(header[3..], data(stream.number, 0, b"")[3..]);
        Some((stream.number, bytes))
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

/// The fields of a request that is as it must be.
pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/"),
];

fn seen(event: &Event<'_, u32>) -> Seen {
    match event {
        Event::Request(head) => Seen::Request {
            stream: head.stream.number,
            line: String::from_utf8(head.request_line.to_vec()).unwrap(),
            fields: lines(&head.request),
            is_body_too_large: head.is_body_too_large,
        },
        Event::Refused(head) => Seen::Refused(head.stream.number, head.error.status().code()),
        Event::Reset {
            stream,
            state,
            cause,
        } => Seen::Reset(stream.number, *state, *cause),
        Event::BodyTooLarge(stream) => Seen::BodyTooLarge(stream.number),
    }
}

/// The fields of a request that tests have, as lines.
fn lines(request: &tidegate_http::Request<'_>) -> String {
    let names = [
        "host",
        "range",
        "accept",
        "cookie",
        "te",
        "priority",
        "content-length",
        "x",
    ];
    // The index is that of the lines.
    for field in [Field::Range, Field::Accept] {
        let values = request.fields.named(field.name());
        assert!(values.eq(request.fields.all(field)));
    }
    let lines = names.iter().flat_map(|name| {
        let values = request.fields.named(name);
        values.map(move |value| format!("{name}: {}\n", value.escape_ascii()))
    });
    lines.collect()
}

/// The event of a stream that this side reset, which had its number as its state.
pub(crate) fn reset(stream: u32, error: StreamError) -> Seen {
    Seen::Reset(stream, Some(stream), ResetCause::Error(error))
}

/// The frames in `bytes`.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let header = FrameHeader::parse(*header);
        let (payload, rest) = rest.split_at(header.len);
        frames.push(Sent {
            kind: header.kind,
            flags: header.flags,
            stream: header.stream,
            payload: payload.to_vec(),
        });
        bytes = rest;
    }
    assert_eq!(bytes, b"");
    frames
}

/// A frame of the server.
pub(crate) fn sent(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Sent {
    Sent {
        kind,
        flags,
        stream,
        payload: payload.to_vec(),
    }
}

/// RST_STREAM of the server.
pub(crate) fn sent_reset(stream: u32, code: ErrorCode) -> Sent {
    sent(kind::RST_STREAM, 0, stream, &code.number().to_be_bytes())
}

/// WINDOW_UPDATE of the server.
pub(crate) fn sent_update(stream: u32, increment: u32) -> Sent {
    let payload = increment.to_be_bytes();
    sent(kind::WINDOW_UPDATE, 0, stream, &payload)
}

/// The last stream and the code of the only GOAWAY in `frames`.
#[track_caller]
pub(crate) fn go_away(frames: &[Sent]) -> (u32, u32) {
    let mut found = frames.iter().filter(|sent| sent.kind == kind::GOAWAY);
    let payload = &found.next().expect("GOAWAY").payload;
    assert_eq!(found.next(), None);
    let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    (number(0), number(4))
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(kind, flags, stream, payload, &mut out);
    out
}

/// HEADERS with a whole block.
pub(crate) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, block)
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// SETTINGS with one setting.
pub(crate) fn settings(number: u16, value: u32) -> Vec<u8> {
    let payload = [&number.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// PRIORITY_UPDATE.
pub(crate) fn priority_update(stream: u32, value: &str) -> Vec<u8> {
    let payload = [&stream.to_be_bytes()[..], value.as_bytes()].concat();
    frame(kind::PRIORITY_UPDATE, 0, 0, &payload)
}

/// A header block of literals that are not indexed.
pub(crate) fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x00);
        push_string(name.as_ref(), &mut out);
        push_string(value.as_ref(), &mut out);
    }
    out
}

/// RFC 7541, sections 5.1 and 5.2.
fn push_string(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
}
