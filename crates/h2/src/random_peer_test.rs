//! A random peer and a random server against the state of a connection.
//!
//! Whatever they do: nothing panics, no window is exceeded, no state is lost or handed over twice,
//! no frame follows the end of its stream, and memory is bounded.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::frame::{FRAME_HEADER_BYTES, PREFACE, flag, kind};
use crate::testing::{
    GET, Sent, block, data, frame, frames, headers, priority_update, settings, window_update,
};
use crate::{Connection, ErrorCode, Event, HeadBuffer, Limits, StreamId};

const LIMITS: Limits = Limits {
    concurrent_streams: 8,
    stream_window: 65_535,
    connection_window: 65_535,
    header_list: 1000,
    headers: 10,
    body_discard: 3000,
    linger_bytes: 20_000,
    linger: Duration::from_millis(20),
    continuations: 3,
    continuation_bytes: 2000,
    resets: crate::Rate {
        burst: 100,
        per_second: 100,
    },
    idle_frames: crate::Rate {
        burst: 200,
        per_second: 1000,
    },
};

/// Both ends.
struct Run {
    rng: Rng,
    connection: Connection<Rc<()>>,
    head: HeadBuffer,
    now: Instant,
    /// Each state is a reference to it.
    states: Rc<()>,
    /// The streams that the server knows, which it may not give up when they are over.
    ids: Vec<StreamId>,
    /// The last stream of the peer, and the next.
    highest: u32,
    next: u32,
    /// What the server may send: on the connection (0), and on streams.
    windows: HashMap<u32, i64>,
    initial_window: i64,
    /// Streams that the server ended or reset.
    ended: Vec<u32>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            rng: Rng::with_seed(seed),
            connection: Connection::new(Arc::new(LIMITS), now),
            head: HeadBuffer::default(),
            now,
            states: Rc::new(()),
            ids: Vec::new(),
            highest: 1,
            next: 1,
            windows: HashMap::from([(0, 65_535)]),
            initial_window: 65_535,
            ended: Vec::new(),
        }
    }

    /// The number of a stream, most often one that was opened.
    fn stream(&mut self) -> u32 {
        match self.rng.u32(..3000) {
            0 => self.rng.u32(..self.next + 4),
            _ => self.highest.saturating_sub(self.rng.u32(..20) * 2).max(1),
        }
    }

    fn flags(&mut self, flags: &[u8]) -> u8 {
        flags
            .iter()
            .filter(|_| self.rng.bool())
            .fold(0, |all, flag| all | flag)
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.rng.usize(..=max);
        std::iter::repeat_with(|| self.rng.u8(..))
            .take(len)
            .collect()
    }

    /// Some frames of the peer.
    fn next_frames(&mut self) -> Vec<u8> {
        let stream = self.stream();
        match self.rng.u32(..1000) {
            300..450 => {
                let flags = self.flags(&[flag::END_STREAM]);
                data(stream, flags, &self.bytes(600))
            }
            450..500 => {
                let payload = [&[3][..], &self.bytes(600), &[0; 3]].concat();
                data(stream, flag::PADDED, &payload)
            }
            500..650 => self.window_update(stream),
            650..700 => self.settings(),
            700..750 => frame(kind::PING, 0, 0, &[0; 8]),
            750..800 => frame(kind::RST_STREAM, 0, stream, &[0; 4]),
            800..850 => frame(kind::PRIORITY, 0, stream, &[0; 5]),
            850..900 => {
                let value = *self.rng.choice(&["u=0", "i", "u=7, i", "?"]).unwrap();
                priority_update(stream | 1, value)
            }
            900..904 => headers(stream, flag::END_STREAM, &block(&[("x", "y")])),
            904..990 => frame(0x42, self.rng.u8(..), stream, &self.bytes(30)),
            990..993 => {
                let ack = [flag::ACK];
                frame(kind::PING, self.flags(&ack), 0, b"tidegate")
            }
            // Anything at all: most of it ends the connection. Windows are as they are known here.
            993..995 => {
                let kinds = [0, 1, 2, 3, 5, 6, 7, 9, 16];
                let (kind, flags) = (*self.rng.choice(&kinds).unwrap(), self.rng.u8(..));
                frame(kind, flags, stream, &self.bytes(40))
            }
            995 => headers(self.next, 0, b"\xbe\xbf"),
            _ => self.request(),
        }
    }

    fn request(&mut self) -> Vec<u8> {
        let stream = self.next;
        self.highest = stream;
        self.next += 2 * self.rng.u32(1..3);
        self.windows.insert(stream, self.initial_window);
        let mut fields = GET.to_vec();
        for _ in 0..self.rng.usize(..12) {
            let others = [
                ("x", "y"),
                ("cookie", "a=b"),
                ("priority", "u=2, i"),
                ("priority", "u=5"),
                ("content-length", "7"),
            ];
            fields.push(*self.rng.choice(&others).unwrap());
        }
        if self.rng.u32(..30) == 0 {
            fields.push((":path", "X"));
        }
        let block = block(&fields);
        let flags = self.flags(&[flag::END_STREAM]);
        if self.rng.u32(..4) > 0 {
            return headers(stream, flags, &block);
        }
        let (front, back) = block.split_at(self.rng.usize(..block.len()));
        let mut bytes = frame(kind::HEADERS, flags, stream, front);
        bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, stream, back));
        bytes
    }

    fn window_update(&mut self, stream: u32) -> Vec<u8> {
        let stream = if self.rng.bool() { stream } else { 0 };
        let increment = self.rng.u32(1..50_000);
        if let Some(window) = self.windows.get_mut(&stream) {
            *window += i64::from(increment);
        }
        window_update(stream, increment)
    }

    fn settings(&mut self) -> Vec<u8> {
        let bytes = self.rng.u32(..100_000);
        let delta = i64::from(bytes) - self.initial_window;
        self.initial_window = i64::from(bytes);
        for (stream, window) in &mut self.windows {
            if *stream != 0 {
                *window += delta;
            }
        }
        settings(4, bytes)
    }

    /// Receives bytes in pieces. `false` after an error.
    fn receive(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let (mut piece, rest) = bytes.split_at(self.rng.usize(1..=bytes.len()));
            bytes = rest;
            loop {
                let received = self
                    .connection
                    .receive(&mut piece, self.now, &mut self.head);
                let opened = match received {
                    Err(_) => return false,
                    Ok(None) => break,
                    Ok(Some(Event::Request(head))) => head.stream,
                    Ok(Some(Event::Refused(head))) => head.stream,
                    Ok(Some(Event::Reset { .. } | Event::BodyTooLarge(_))) => continue,
                };
                self.ids.push(opened);
                if self.rng.u32(..10) > 0 {
                    let state = Rc::clone(&self.states);
                    assert!(self.connection.attach(opened, state).is_none());
                }
            }
            assert!(piece.is_empty());
        }
        true
    }

    /// The server does something.
    fn serve(&mut self) {
        let Some(id) = self.rng.choice(&self.ids).copied() else {
            return;
        };
        let connection = &mut self.connection;
        match self.rng.u32(..100) {
            0..30 => connection.set_ready(id, self.rng.u32(..4) > 0),
            30..50 => {
                let end_stream = self.rng.u32(..4) == 0;
                let mut out = Vec::new();
                let write = |_: &mut crate::hpack::Encoder, out: &mut Vec<u8>| out.push(0x88);
                connection.write_head(id, end_stream, &mut out, write);
                self.check(&frames(&out));
            }
            50..95 => self.send_data(),
            95..97 => {
                connection.reset(id, ErrorCode::INTERNAL_ERROR);
            }
            97 => connection.shrink(),
            98 if self.rng.u32(..20) == 0 => connection.go_away(),
            _ => self.ids.retain(|id| connection.state_mut(*id).is_some()),
        }
    }

    fn send_data(&mut self) {
        let max = self.rng.usize(1..40_000);
        let Some(grant) = self.connection.next_to_send(max) else {
            return;
        };
        let (id, stream) = (grant.stream, grant.stream.number);
        assert!(grant.bytes > 0 && grant.bytes <= max.min(16_384));
        assert!(grant.bytes <= self.connection.send_window(id));
        for key in [0, stream] {
            let window = self.windows.get_mut(&key).unwrap();
            *window -= grant.bytes as i64;
            assert!(*window >= 0, "the window of {key}");
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        let end_stream = self.rng.u32(..5) == 0;
        let connection = &mut self.connection;
        connection.write_data_header(id, grant.bytes, end_stream, &mut header);
        let flags = if end_stream { flag::END_STREAM } else { 0 };
        self.check(&[crate::testing::sent(kind::DATA, flags, stream, b"")]);
    }

    /// No frame of a stream follows its end but a reset, once.
    fn check(&mut self, sent: &[Sent]) {
        for frame in sent {
            let is_reset = frame.kind == kind::RST_STREAM;
            let is_end = frame.kind < 2 && frame.flags & flag::END_STREAM != 0;
            if frame.stream == 0 || frame.kind == kind::WINDOW_UPDATE {
                continue;
            }
            assert!(is_reset || !self.ended.contains(&frame.stream), "{frame:?}");
            if is_reset || is_end {
                self.ended.push(frame.stream);
            }
        }
    }

    fn check_bounds(&mut self) {
        let connection = &mut self.connection;
        assert!(connection.open_streams() <= LIMITS.concurrent_streams as usize);
        let attached = connection.states_mut().count();
        assert_eq!(Rc::strong_count(&self.states), attached + 1);
        let mut out = Vec::new();
        connection.write_control(&mut out);
        assert!(out.len() < 64 << 10);
        self.check(&frames(&out));
    }
}

#[test]
fn a_random_peer_breaks_nothing() {
    let mut served = 0;
    let mut errors = 0;
    for seed in 0..200 {
        let mut run = Run::new(seed);
        let start = [PREFACE.as_slice(), &frame(kind::SETTINGS, 0, 0, b"")].concat();
        let first = run.request();
        assert!(run.receive(&[start, first].concat()));
        for _ in 0..500 {
            let mut bytes = Vec::new();
            for _ in 0..run.rng.u32(1..4) {
                bytes.extend(run.next_frames());
            }
            let goes_on = run.receive(&bytes);
            run.check_bounds();
            if !goes_on {
                errors += 1;
                break;
            }
            for _ in 0..run.rng.u32(..10) {
                run.serve();
            }
            run.check_bounds();
            run.now += Duration::from_millis(run.rng.u64(..30));
        }
        served += run.ended.len();
    }
    // The test is of no use if nothing goes right, or nothing wrong.
    assert!(served > 5000, "{served}");
    assert!(errors > 20, "{errors}");
}
