//! Response heads.

use tidegate_http::{FieldLines, HttpDate, Status};

use crate::{ResponseFraming, Version};

/// Bytes of a head without its fields, at most.
const START_BYTES_MAX: usize = 192;

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: Status,
    /// Now.
    pub date: &'a HttpDate,
    /// Whether the connection persists after this response.
    pub persistent: bool,
    /// The version of the request: an HTTP/1.0 client must be told that the connection persists.
    pub version: Version,
    /// How the length of the content is told.
    pub framing: ResponseFraming,
    /// Further fields: those of the representation, then those of this response.
    pub fields: [FieldLines<'a>; 2],
}

impl ResponseHead<'_> {
    /// Appends the head with the blank line at its end. The status line always says
    /// HTTP/1.1, the version of this server (RFC 9110, section 6.2).
    pub fn write(&self, out: &mut Vec<u8>) {
        let [first, second] = self.fields.map(FieldLines::as_bytes);
        out.reserve(START_BYTES_MAX + first.len() + second.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.code_and_reason().as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(self.date.as_bytes());
        self.framing.write_field(out);
        out.extend_from_slice(match (self.persistent, self.version) {
            (true, Version::Http11) => b"\r\n",
            (true, Version::Http10) => b"\r\nConnection: keep-alive\r\n",
            (false, _) => b"\r\nConnection: close\r\n",
        });
        out.extend_from_slice(first);
        if !second.is_empty() {
            out.extend_from_slice(second);
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::testing::written;

    fn date() -> HttpDate {
        HttpDate::new(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn a_head_tells_persistence_by_the_version_of_the_client() {
        let cases = [
            (Version::Http11, true, ""), // the default: RFC 9112, 9.3
            (Version::Http11, false, "Connection: close\r\n"),
            (Version::Http10, true, "Connection: keep-alive\r\n"),
            (Version::Http10, false, "Connection: close\r\n"),
        ];
        for (version, persistent, connection) in cases {
            let head = ResponseHead {
                status: Status::OK,
                date: &date(),
                persistent,
                version,
                framing: ResponseFraming::Length(u64::MAX),
                fields: ["A: b\r\n", "C: d\r\n"].map(FieldLines::from_static),
            };
            let expected = format!(
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Content-Length: 18446744073709551615\r\n{connection}A: b\r\nC: d\r\n\r\n"
            );
            assert_eq!(written(|out| head.write(out)), expected);
        }
    }

    #[test]
    fn a_head_tells_the_length_of_the_content() {
        let cases = [
            (ResponseFraming::Length(0), "Content-Length: 0\r\n"),
            (ResponseFraming::Chunked, "Transfer-Encoding: chunked\r\n"),
            (ResponseFraming::UntilClose, ""),
            (ResponseFraming::None, ""),
        ];
        for (framing, field) in cases {
            let head = ResponseHead {
                status: Status::NOT_FOUND,
                date: &date(),
                persistent: true,
                version: Version::Http11,
                framing,
                fields: <[FieldLines<'_>; 2]>::default(),
            };
            let expected = format!(
                "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{field}\r\n"
            );
            assert_eq!(written(|out| head.write(out)), expected);
        }
    }

    #[test]
    fn the_longest_start_fits_the_reserved_bytes() {
        let head = ResponseHead {
            status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            date: &date(),
            persistent: true,
            version: Version::Http10,
            framing: ResponseFraming::Length(u64::MAX),
            fields: <[FieldLines<'_>; 2]>::default(),
        };
        assert!(written(|out| head.write(out)).len() <= START_BYTES_MAX);
    }
}
