//! Response heads, and the small responses that come with no file.
//!
//! Bytes are appended to a buffer the caller keeps; nothing is formatted but
//! Content-Length. The fields that describe a file are built once, when it is
//! looked up ([`Representation`](tidegate_http::Representation)).

use tidegate_http::{ALLOW, HttpDate, Status, write_field};

use crate::Version;

/// Bytes of a head without its prebuilt fields, at most.
const START_BYTES_MAX: usize = 192;

/// Bytes of the lines that a page adds to a head, at most.
const LINES_BYTES_MAX: usize = 96;

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

    /// Appends the head without the blank line at its end: more field lines may follow, then CRLF.
    pub fn write_start(&self, out: &mut Vec<u8>) {
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

/// The type of [`Status::page`].
const PAGE_TYPE: &[u8] = b"Content-Type: text/html; charset=utf-8\r\n";

/// A complete response that says its status in a page for people ([`Status::page`]).
///
/// It is HTML whatever the client accepts: it has no Vary then, and a program reads the status.
#[derive(Clone, Copy, Debug)]
pub struct TextResponse<'a> {
    /// The status.
    pub status: Status,
    /// Now.
    pub date: &'a HttpDate,
    /// The version of the request.
    pub version: Version,
    /// Whether the connection is kept behind this response.
    pub persistent: bool,
    /// False for HEAD: the head is the same, Content-Length too (RFC 9110, section 8.6).
    pub with_body: bool,
    /// Further field lines, each ended by CRLF.
    pub fields: &'a [u8],
}

impl TextResponse<'_> {
    /// Appends the response. A 405 says what is allowed (RFC 9110, section 15.5.6).
    pub fn write(&self, out: &mut Vec<u8>) {
        let page = self.status.page();
        // All at once: most of it is the page.
        let reserved = START_BYTES_MAX + self.fields.len() + LINES_BYTES_MAX;
        out.reserve(reserved + page.len());
        let head = ResponseHead {
            status: self.status,
            date: self.date,
            persistent: self.persistent,
            version: self.version,
            content_length: Some(page.len() as u64),
            fields: self.fields,
        };
        head.write_start(out);
        out.extend_from_slice(PAGE_TYPE);
        if self.status == Status::METHOD_NOT_ALLOWED {
            write_field(out, "Allow", ALLOW);
        }
        out.extend_from_slice(b"\r\n");
        if self.with_body {
            out.extend_from_slice(page.as_bytes());
        }
    }
}

/// Appends a complete response that says `status` in a page.
///
/// The arguments are as in [`TextResponse`].
pub fn write_error(
    out: &mut Vec<u8>,
    status: Status,
    date: &HttpDate,
    version: Version,
    persistent: bool,
    with_body: bool,
) {
    let response = TextResponse {
        status,
        date,
        version,
        persistent,
        with_body,
        fields: b"",
    };
    response.write(out);
}

/// Appends a complete response that sends the client to `location`, a URI reference in which
/// everything is encoded that must be ([`encode_path`](tidegate_http::encode_path)).
///
/// A control character in `location` is left out, as [`write_field`] does. The other arguments are
/// as in [`TextResponse`], which with a Location among its fields is this response.
pub fn write_redirect(
    out: &mut Vec<u8>,
    status: Status,
    location: &str,
    date: &HttpDate,
    version: Version,
    persistent: bool,
    with_body: bool,
) {
    let mut fields = Vec::with_capacity(location.len() + 16);
    write_field(&mut fields, "Location", location);
    let response = TextResponse {
        status,
        date,
        version,
        persistent,
        with_body,
        fields: &fields,
    };
    response.write(out);
}

/// Appends a complete response to OPTIONS: 204 with what is allowed (RFC 9110, section 9.3.7).
///
/// `fields` are further field lines, each ended by CRLF, as [`Cors`](tidegate_http::Cors) has them for a
/// preflight. A 204 has neither a body nor a Content-Length (section 8.6).
pub fn write_options(
    out: &mut Vec<u8>,
    date: &HttpDate,
    version: Version,
    persistent: bool,
    fields: &[u8],
) {
    let head = ResponseHead {
        status: Status::NO_CONTENT,
        date,
        persistent,
        version,
        content_length: None,
        fields,
    };
    head.write_start(out);
    write_field(out, "Allow", ALLOW);
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status.code()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
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
    fn an_error_says_its_status_in_a_page() {
        let write = |status, with_body| {
            written(|out| {
                write_error(out, status, &date(), Version::Http11, false, with_body);
            })
        };
        let page = Status::NOT_FOUND.page();
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Length: {}\r\nConnection: close\r\n\
             Content-Type: text/html; charset=utf-8\r\n\r\n",
            page.len()
        );
        assert_eq!(write(Status::NOT_FOUND, true), format!("{head}{page}"));
        assert_eq!(write(Status::NOT_FOUND, false), head);
        assert!(
            write(Status::METHOD_NOT_ALLOWED, true).contains("\r\nAllow: GET, HEAD, OPTIONS\r\n")
        );
    }

    #[test]
    fn a_page_is_as_long_as_is_said_and_has_room_from_the_start() {
        for status in (100..600).filter_map(Status::of_code) {
            let mut out = Vec::new();
            write_error(&mut out, status, &date(), Version::Http10, true, true);
            let (page, reserved) = (status.page(), START_BYTES_MAX + LINES_BYTES_MAX);
            assert!(out.len() <= reserved + page.len(), "{status:?}");
            let response = String::from_utf8(out).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", page.len())));
            assert_eq!(body, page);
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
        let page = Status::MOVED_PERMANENTLY.page();
        let head = format!(
            "HTTP/1.1 301 Moved Permanently\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Length: {}\r\nConnection: keep-alive\r\n\
             Location: /a%20b/?c\r\nContent-Type: text/html; charset=utf-8\r\n\r\n",
            page.len()
        );
        assert_eq!(write(true), format!("{head}{page}"));
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
    fn a_text_has_further_fields() {
        let response = written(|out| {
            TextResponse {
                status: Status::RANGE_NOT_SATISFIABLE,
                date: &date(),
                version: Version::Http11,
                persistent: true,
                with_body: true,
                fields: b"Content-Range: bytes */5\r\n",
            }
            .write(out);
        });
        let page = Status::RANGE_NOT_SATISFIABLE.page();
        let expected = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Length: {}\r\nContent-Range: bytes */5\r\n\
             Content-Type: text/html; charset=utf-8\r\n\r\n{page}",
            page.len()
        );
        assert_eq!(response, expected);
    }

    /// RFC 9110, 9.3.7 and 15.3.5: a 204 has neither content nor Content-Length.
    #[test]
    fn options_are_answered_without_content() {
        let response = written(|out| {
            write_options(out, &date(), Version::Http11, false, b"A: b\r\n");
        });
        assert_eq!(
            response,
            "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Connection: close\r\nA: b\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n"
        );
    }

    #[test]
    fn lines_may_follow_a_start() {
        let head = ResponseHead {
            status: Status::NOT_MODIFIED,
            date: &date(),
            persistent: true,
            version: Version::Http11,
            content_length: None,
            fields: b"A: b\r\n",
        };
        let whole = written(|out| head.write(out));
        let start = written(|out| head.write_start(out));
        assert_eq!(whole, format!("{start}\r\n"));
        assert!(start.ends_with("\r\nA: b\r\n"));
    }
}
