//! Frames (RFC 9113, sections 4 and 6).

mod payload;
mod reader;

pub(crate) use payload::{Fragment, data_len, headers, number, settings};
#[cfg(test)]
pub(crate) use reader::PREFACE;
pub(crate) use reader::{Frame, FrameReader};

/// Bytes of a frame header (RFC 9113, section 4.1).
pub const FRAME_HEADER_BYTES: usize = 9;

/// Bytes of a payload, at most: `SETTINGS_MAX_FRAME_SIZE` of both sides. A peer may allow more, but
/// larger frames only make what is urgent wait (RFC 9113, section 4.2).
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;

/// The windows that a connection starts with (RFC 9113, section 6.9.2).
pub(crate) const INITIAL_WINDOW: u32 = 65_535;

/// The largest window, and the highest id of a stream.
pub(crate) const MAX_31_BITS: u32 = (1 << 31) - 1;

/// The types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
    /// RFC 9218, section 7.1.
    pub(crate) const PRIORITY_UPDATE: u8 = 0x10;
}

/// The flags of frames.
pub(crate) mod flag {
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the payload.
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The stream, or 0 for the connection.
    pub(crate) stream: u32,
}

impl FrameHeader {
    /// Reads a header. The reserved bit is ignored.
    #[inline]
    pub(crate) fn parse(bytes: [u8; FRAME_HEADER_BYTES]) -> Self {
        let [len @ .., kind, flags, _, _, _, _] = bytes;
        let [_, _, _, _, _, stream @ ..] = bytes;
        let [high, middle, low] = len;
        Self {
            len: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & MAX_31_BITS,
        }
    }

    /// The header on the wire.
    #[inline]
    pub(crate) fn bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let len = (self.len as u32).to_be_bytes();
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..3].copy_from_slice(&len[1..]);
        bytes[3] = self.kind;
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Bytes of the payload that are looked at. That of DATA is dropped, but for the length of
    /// padding, and so is that of unknown frames.
    #[inline]
    fn kept(self) -> usize {
        match self.kind {
            kind::DATA => self.len.min(usize::from(self.has(flag::PADDED))),
            kind::HEADERS..=kind::CONTINUATION | kind::PRIORITY_UPDATE => self.len,
            _ => 0,
        }
    }

    /// Whether a flag is set.
    #[inline]
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a whole frame.
pub(crate) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader {
        len: payload.len(),
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = FrameHeader {
            len: 0x01_02_03,
            kind: 4,
            flags: 5,
            stream: 0x7f_06_07_08,
        };
        let mut bytes = header.bytes();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 0x7f, 6, 7, 8]);
        assert_eq!(FrameHeader::parse(bytes), header);
        bytes[5] |= 0x80;
        assert_eq!(FrameHeader::parse(bytes), header, "the reserved bit");
    }
}
