//! Bodies whose length is not known when they begin.

use std::io::Write;

use crate::Version;

/// How the end of such a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// By a last chunk (RFC 9112, section 7.1).
    Chunked,
    /// By closing the connection (RFC 9112, section 6.3): HTTP/1.0 knows nothing else.
    UntilClose,
}

impl Streamed {
    /// How a client of this version is told.
    pub fn to(version: Version) -> Self {
        match version {
            Version::Http10 => Self::UntilClose,
            Version::Http11 => Self::Chunked,
        }
    }

    /// Whether the connection can be kept behind the body, if it is `wanted`.
    pub fn persists(self, wanted: bool) -> bool {
        wanted && self == Self::Chunked
    }

    /// The field line to send with it, ended by CRLF, or nothing. There is no Content-Length then.
    pub fn fields(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"Transfer-Encoding: chunked\r\n",
            Self::UntilClose => b"",
        }
    }

    /// Appends a piece of the body. An empty one is nothing: as a chunk it would end the body.
    pub fn write_piece(self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        match self {
            Self::UntilClose => out.extend_from_slice(piece),
            Self::Chunked => {
                let written = write!(out, "{:x}\r\n", piece.len());
                debug_assert!(written.is_ok(), "a Vec takes everything");
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends what ends the body.
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
    fn pieces_are_framed_as_the_client_knows() {
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
            let streamed = Streamed::to(version);
            let body = written(|out| {
                for piece in [b"abc".as_slice(), b"", b"0123456789abcdef"] {
                    streamed.write_piece(piece, out);
                }
                streamed.write_end(out);
            });
            assert_eq!(body, expected, "{version:?}");
        }
    }

    #[test]
    fn the_connection_is_kept_where_the_end_is_told() {
        let chunked = Streamed::to(Version::Http11);
        assert!(chunked.persists(true) && !chunked.persists(false));
        assert_eq!(chunked.fields(), b"Transfer-Encoding: chunked\r\n");
        let until_close = Streamed::to(Version::Http10);
        assert!(!until_close.persists(true) && !until_close.persists(false));
        assert_eq!(until_close.fields(), b"");
    }

    #[test]
    fn what_is_chunked_here_is_read_here() {
        let body = written(|out| {
            for len in [1, 15, 16, 4096, 65_536] {
                Streamed::Chunked.write_piece(&vec![b'a'; len], out);
            }
            Streamed::Chunked.write_end(out);
        });
        let read = Discard::new(Framing::Chunked, 1 << 20).feed(body.as_bytes());
        let read = read.unwrap();
        assert!(read.done && read.consumed == body.len());
    }
}
