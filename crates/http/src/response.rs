//! Response heads, and the small responses that come with no file.
//!
//! Bytes are appended to a buffer the caller keeps; nothing is formatted but
//! Content-Length. The fields that describe a file are built once, when it is
//! opened.

use crate::{ETag, HttpDate, Status, Version};

/// Bytes of a head without its prebuilt fields, at most.
const START_BYTES_MAX: usize = 192;

const TEXT: &[u8] = b"Content-Type: text/plain; charset=utf-8\r\n";
/// 405 must say what is allowed (RFC 9110, section 15.5.6).
const TEXT_AND_ALLOW: &[u8] = b"Content-Type: text/plain; charset=utf-8\r\nAllow: GET, HEAD\r\n";

/// What the head of a response says.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: Status,
    /// Now.
    pub date: &'a HttpDate,
    /// Whether the connection is kept behind this response.
    pub persistent: bool,
    /// The version of the request: an HTTP/1.0 client must be told that the connection is kept.
    pub version: Version,
    /// Bytes of the body; for HEAD what GET would have sent. `None` leaves the field out.
    pub content_length: Option<u64>,
    /// Further field lines, each ended by CRLF.
    pub fields: &'a [u8],
}

impl ResponseHead<'_> {
    /// Appends the head with the blank line at its end. The status line always says
    /// HTTP/1.1, the version of this server (RFC 9110, section 6.2).
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_start(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Everything but the blank line.
    fn write_start(&self, out: &mut Vec<u8>) {
        out.reserve(START_BYTES_MAX + self.fields.len());
        write_status(out, self.status);
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(self.date.as_bytes());
        if let Some(length) = self.content_length {
            out.extend_from_slice(b"\r\nContent-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        }
        out.extend_from_slice(match (self.persistent, self.version) {
            (true, Version::Http11) => b"\r\n",
            (true, Version::Http10) => b"\r\nConnection: keep-alive\r\n",
            (false, _) => b"\r\nConnection: close\r\n",
        });
        out.extend_from_slice(self.fields);
    }
}

/// The field lines that describe a file: Content-Type, Last-Modified and [`ETag`], each ended by CRLF.
///
/// `last_modified` is `None` for a file whose time cannot be told in an HTTP date.
pub fn representation_fields(
    content_type: &str,
    last_modified: Option<&HttpDate>,
    etag: &ETag,
) -> Vec<u8> {
    let mut fields = Vec::with_capacity(160);
    write_field(&mut fields, b"Content-Type: ", content_type);
    if let Some(date) = last_modified {
        fields.extend_from_slice(b"Last-Modified: ");
        fields.extend_from_slice(date.as_bytes());
        fields.extend_from_slice(b"\r\n");
    }
    fields.extend_from_slice(b"ETag: ");
    fields.extend_from_slice(etag.as_bytes());
    fields.extend_from_slice(b"\r\n");
    fields
}

/// Appends a complete response that says `status` in plain text.
///
/// `version` and `persistent` are as in [`ResponseHead`]. `with_body` is false for HEAD: the head
/// is the same, Content-Length too (RFC 9110, section 8.6). A 405 says `Allow: GET, HEAD`.
pub fn write_error(
    out: &mut Vec<u8>,
    status: Status,
    date: &HttpDate,
    version: Version,
    persistent: bool,
    with_body: bool,
) {
    let fields = match status {
        Status::METHOD_NOT_ALLOWED => TEXT_AND_ALLOW,
        _ => TEXT,
    };
    text_head(status, date, version, persistent, fields).write(out);
    if with_body {
        write_text(out, status);
    }
}

/// Appends a complete response that sends the client to `location`, a URI reference in which
/// everything is encoded that must be ([`encode_path`](crate::encode_path)).
///
/// A control character in `location` is an error of the caller; it is left out, so that no second
/// field can be made of it. The other arguments are those of [`write_error`].
pub fn write_redirect(
    out: &mut Vec<u8>,
    status: Status,
    location: &str,
    date: &HttpDate,
    version: Version,
    persistent: bool,
    with_body: bool,
) {
    text_head(status, date, version, persistent, TEXT).write_start(out);
    write_field(out, b"Location: ", location);
    out.extend_from_slice(b"\r\n");
    if with_body {
        write_text(out, status);
    }
}

/// The head of a response whose body is [`write_text`].
fn text_head<'a>(
    status: Status,
    date: &'a HttpDate,
    version: Version,
    persistent: bool,
    fields: &'a [u8],
) -> ResponseHead<'a> {
    // "404 Not Found\n"
    let length = 3 + 1 + status.reason().len() + 1;
    ResponseHead {
        status,
        date,
        persistent,
        version,
        content_length: Some(length as u64),
        fields,
    }
}

fn write_text(out: &mut Vec<u8>, status: Status) {
    write_code_and_reason(out, status);
    out.push(b'\n');
}

fn write_status(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_code_and_reason(out, status);
}

fn write_code_and_reason(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(itoa::Buffer::new().format(status.code()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
}

/// Appends a field line, controls in its value left out.
fn write_field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    debug_assert!(!value.contains(|c: char| c.is_ascii_control()), "{value:?}");
    out.extend_from_slice(name);
    out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn date() -> HttpDate {
        HttpDate::new(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    /// What `write` appends behind bytes that are already there, as text.
    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
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
                content_length: Some(u64::MAX),
                fields: b"A: b\r\n",
            };
            let expected = format!(
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Content-Length: 18446744073709551615\r\n{connection}A: b\r\n\r\n"
            );
            assert_eq!(written(|out| head.write(out)), expected);
        }
    }

    #[test]
    fn a_head_may_have_no_length() {
        let head = ResponseHead {
            status: Status::NOT_FOUND,
            date: &date(),
            persistent: true,
            version: Version::Http11,
            content_length: None,
            fields: b"",
        };
        assert_eq!(
            written(|out| head.write(out)),
            "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn the_longest_start_fits_what_is_reserved() {
        let head = ResponseHead {
            status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            date: &date(),
            persistent: true,
            version: Version::Http10,
            content_length: Some(u64::MAX),
            fields: b"",
        };
        assert!(written(|out| head.write(out)).len() <= START_BYTES_MAX);
    }

    #[test]
    fn an_error_says_its_status() {
        let write = |status, with_body| {
            written(|out| {
                write_error(out, status, &date(), Version::Http11, false, with_body);
            })
        };
        let head = "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Content-Length: 14\r\nConnection: close\r\n\
                    Content-Type: text/plain; charset=utf-8\r\n\r\n";
        assert_eq!(
            write(Status::NOT_FOUND, true),
            format!("{head}404 Not Found\n")
        );
        assert_eq!(write(Status::NOT_FOUND, false), head);
        assert!(write(Status::METHOD_NOT_ALLOWED, true).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn the_length_of_a_text_is_right_for_every_status() {
        for status in [
            Status::BAD_REQUEST,
            Status::CONTENT_TOO_LARGE,
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Status::PERMANENT_REDIRECT,
        ] {
            let response = written(|out| {
                write_error(out, status, &date(), Version::Http11, true, true);
            });
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        }
    }

    #[test]
    fn a_redirect_says_where() {
        let write = |with_body| {
            written(|out| {
                let status = Status::MOVED_PERMANENTLY;
                let version = Version::Http10;
                write_redirect(out, status, "/a%20b/?c", &date(), version, true, with_body);
            })
        };
        let head = "HTTP/1.1 301 Moved Permanently\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Content-Length: 22\r\nConnection: keep-alive\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nLocation: /a%20b/?c\r\n\r\n";
        assert_eq!(write(true), format!("{head}301 Moved Permanently\n"));
        assert_eq!(write(false), head);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "Evil"))]
    fn a_location_makes_no_second_field() {
        let response = written(|out| {
            let location = "/a\r\nEvil: yes";
            let status = Status::FOUND;
            write_redirect(out, status, location, &date(), Version::Http11, true, true);
        });
        assert!(response.contains("\r\nLocation: /aEvil: yes\r\n"));
    }

    #[test]
    fn fields_describe_a_file() {
        let etag = ETag::new(SystemTime::UNIX_EPOCH, 16);
        let fields = |modified: Option<HttpDate>| {
            let content_type = "text/html; charset=utf-8";
            let fields = representation_fields(content_type, modified.as_ref(), &etag);
            String::from_utf8(fields).unwrap()
        };
        assert_eq!(
            fields(Some(date())),
            "Content-Type: text/html; charset=utf-8\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"0-10\"\r\n"
        );
        assert_eq!(
            fields(None),
            "Content-Type: text/html; charset=utf-8\r\nETag: \"0-10\"\r\n"
        );
    }
}
