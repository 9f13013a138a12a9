//! Where the content of a response ends (RFC 9112, section 6).

use std::io::Write;

use tidegate_http::Status;

use crate::Version;

/// How the end of the content is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// By the status: 204 and 304 have no content (RFC 9112, section 6.3).
    None,
    /// By Content-Length, in bytes. For HEAD it is what GET would have sent.
    Length(u64),
    /// By a last chunk (RFC 9112, section 7.1).
    Chunked,
    /// By closing the connection (RFC 9112, section 6.3): for HTTP/1.0, if the length is not known
    /// beforehand.
    UntilClose,
}

impl ResponseFraming {
    /// The framing of content of `length` bytes, or of unknown length, for a client of this
    /// version.
    pub fn of(status: Status, length: Option<u64>, version: Version) -> Self {
        match (length, version) {
            (Some(length), _) => Self::Length(length),
            (None, _) if matches!(status, Status::NO_CONTENT | Status::NOT_MODIFIED) => Self::None,
            (None, Version::Http11) => Self::Chunked,
            (None, Version::Http10) => Self::UntilClose,
        }
    }

    /// Whether the connection can persist after such content.
    pub fn can_persist(self) -> bool {
        self != Self::UntilClose
    }

    /// Appends CRLF and the header field, if it has one, without the CRLF at its end.
    pub(crate) fn write_field(self, out: &mut Vec<u8>) {
        match self {
            Self::Length(length) => {
                out.extend_from_slice(b"\r\nContent-Length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            }
            Self::Chunked => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
            Self::None | Self::UntilClose => {}
        }
    }

    /// Appends a piece of the content. An empty piece appends nothing, since an empty chunk would
    /// end the content.
    pub fn write_piece(self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        if self != Self::Chunked {
            out.extend_from_slice(piece);
            return;
        }
        let written = write!(out, "{:x}\r\n", piece.len());
        debug_assert!(written.is_ok(), "a Vec takes everything");
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the end of the content.
    pub fn write_end(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::written;
    use crate::{Discard, Framing};

    #[test]
    fn content_of_unknown_length_is_framed_as_the_client_knows() {
        let cases = [
            // RFC 9112, 7.1: the size in hexadecimal; an empty piece would be the last chunk.
            (
                Version::Http11,
                "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
            ),
            // RFC 9112, 6.3: up to the end of the connection.
            (Version::Http10, "abc0123456789abcdef"),
        ];
        for (version, expected) in cases {
            let framing = ResponseFraming::of(Status::OK, None, version);
            let body = written(|out| {
                for piece in [b"abc".as_slice(), b"", b"0123456789abcdef"] {
                    framing.write_piece(piece, out);
                }
                framing.write_end(out);
            });
            assert_eq!(body, expected, "{version:?}");
        }
    }

    #[test]
    fn the_connection_persists_where_the_end_is_told() {
        use Version::{Http10, Http11};
        #[rustfmt::skip] // one row a line
        let cases = [
            (Status::OK, Some(0), Http11, ResponseFraming::Length(0), true),
            (Status::OK, Some(5), Http10, ResponseFraming::Length(5), true),
            (Status::OK, None, Http11, ResponseFraming::Chunked, true),
            (Status::OK, None, Http10, ResponseFraming::UntilClose, false),
            (Status::NO_CONTENT, None, Http11, ResponseFraming::None, true),
            (Status::NOT_MODIFIED, None, Http10, ResponseFraming::None, true),
        ];
        for (status, length, version, expected, persists) in cases {
            let framing = ResponseFraming::of(status, length, version);
            assert_eq!(framing, expected);
            assert_eq!(framing.can_persist(), persists, "{framing:?}");
        }
    }

    #[test]
    fn chunks_are_read_back() {
        let body = written(|out| {
            for len in [1, 15, 16, 4096, 65_536] {
                ResponseFraming::Chunked.write_piece(&vec![b'a'; len], out);
            }
            ResponseFraming::Chunked.write_end(out);
        });
        let read = Discard::new(Framing::Chunked, 1 << 20).feed(body.as_bytes());
        let read = read.unwrap();
        assert!(read.done && read.consumed == body.len());
    }
}
