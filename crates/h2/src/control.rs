//! The control output: what waits to be sent besides responses.

use crate::frame::{FRAME_HEADER_BYTES, INITIAL_WINDOW, MAX_31_BITS, flag, kind, write};
use crate::{ErrorCode, Limits};

/// The opaque data of the PING behind the first GOAWAY.
const GO_AWAY_PING: [u8; 8] = *b"tidegate";

/// The numbers of settings (RFC 9113, section 6.5.2; RFC 9218, section 2.1).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(crate) const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// Whole frames, in their order.
#[derive(Debug, Default)]
pub(crate) struct Control {
    frames: Vec<u8>,
}

impl Control {
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Moves all to the end of `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.frames);
    }

    /// The first frames of a connection.
    pub(crate) fn begin(&mut self, limits: &Limits) {
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, limits.concurrent_streams),
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window()),
            (setting::MAX_HEADER_LIST_SIZE, limits.header_list),
            (setting::NO_RFC7540_PRIORITIES, 1),
        ];
        self.frames
            .reserve(2 * FRAME_HEADER_BYTES + 6 * settings.len() + 4);
        let mut payload = [0; 24];
        for (bytes, (number, value)) in payload.as_chunks_mut::<6>().0.iter_mut().zip(settings) {
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            bytes[2..].copy_from_slice(&value.to_be_bytes());
        }
        write(kind::SETTINGS, 0, 0, &payload, &mut self.frames);
        let increment = limits.connection_window() - INITIAL_WINDOW;
        if increment > 0 {
            self.window_update(0, increment);
        }
    }

    pub(crate) fn settings_ack(&mut self) {
        write(kind::SETTINGS, flag::ACK, 0, &[], &mut self.frames);
    }

    /// The answer to PING.
    pub(crate) fn ping_ack(&mut self, data: [u8; 8]) {
        write(kind::PING, flag::ACK, 0, &data, &mut self.frames);
    }

    pub(crate) fn window_update(&mut self, stream: u32, increment: u32) {
        let payload = increment.to_be_bytes();
        write(kind::WINDOW_UPDATE, 0, stream, &payload, &mut self.frames);
    }

    pub(crate) fn reset(&mut self, stream: u32, code: ErrorCode) {
        let payload = code.number().to_be_bytes();
        write(kind::RST_STREAM, 0, stream, &payload, &mut self.frames);
    }

    /// The first GOAWAY, with a PING whose answer says that the peer has received it.
    pub(crate) fn announce_go_away(&mut self) {
        self.go_away(MAX_31_BITS, ErrorCode::NO_ERROR, "");
        write(kind::PING, 0, 0, &GO_AWAY_PING, &mut self.frames);
    }

    /// Whether this is the answer to the PING of [`announce_go_away`](Self::announce_go_away).
    pub(crate) fn is_go_away_ping(data: [u8; 8]) -> bool {
        data == GO_AWAY_PING
    }

    /// `last` is the highest stream that was looked at.
    pub(crate) fn go_away(&mut self, last: u32, code: ErrorCode, debug: &str) {
        let mut payload = Vec::with_capacity(8 + debug.len());
        payload.extend_from_slice(&last.to_be_bytes());
        payload.extend_from_slice(&code.number().to_be_bytes());
        payload.extend_from_slice(debug.as_bytes());
        write(kind::GOAWAY, 0, 0, &payload, &mut self.frames);
    }

    pub(crate) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }
}
