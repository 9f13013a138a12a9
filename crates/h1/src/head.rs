//! Request heads: from bytes to a [`Request`] (RFC 9112, sections 2 to 6).
//!
//! httparse finds the lines and checks names and values. Refused here is what it accepts and a
//! server must not: a bare LF, a second Host, bytes that no target may have, everything that blurs
//! where the body ends.

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Header};

use tidegate_http::{Fields, Method, Request, Target, TargetError, is_host, list};

use crate::framing::BodyFields;
use crate::{Error, Framing, Limits, Version};

/// Empty lines skipped before a request line, inclusive. RFC 9112, section 2.2 asks for one: old
/// clients send it behind a body.
const EMPTY_LINES_MAX: usize = 4;

/// A request head: the request, and its HTTP/1.1 connection and body framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// Bytes of the head with the blank line at its end and empty lines before it.
    pub len: usize,
    /// The request line as received, without its end.
    pub request_line: &'b [u8],
    /// The request.
    pub request: Request<'b>,
    /// The version.
    pub version: Version,
    /// The body that follows the head.
    pub framing: Framing,
    /// Whether the client lets the connection persist (RFC 9112, section 9.3).
    pub persistent: bool,
    /// Whether a body follows that the client may hold back until it receives `100 Continue` or the
    /// response (RFC 9110, section 10.1.1).
    pub expect_continue: bool,
}

/// Parses the head at the start of `buf`; `None` when it is not yet complete.
///
/// With [`Limits::header_bytes`] or more in `buf` it never returns `None`. Some errors are found
/// before the head is complete, the others with its last byte. Nothing is allocated.
pub fn parse<'b>(buf: &'b [u8], limits: &Limits) -> Result<Option<Head<'b>>, Error> {
    let window = &buf[..buf.len().min(limits.header_bytes)];
    let start = skip_empty_lines(window)?;
    let mut parsed = parse_lines(&window[start..], limits.headers.min(Limits::HEADERS_MAX));
    match &mut parsed {
        // In place: a head is too large to be copied for this.
        Ok(Some(head)) => head.len += start,
        Ok(None) if window.len() == limits.header_bytes => {
            return Err(too_large(&window[start..]));
        }
        Ok(None) | Err(_) => {}
    }
    parsed
}

/// Bytes of the empty lines at the start. A bare LF is refused here, for
/// httparse would skip it.
fn skip_empty_lines(buf: &[u8]) -> Result<usize, Error> {
    let mut start = 0;
    while buf[start..].starts_with(b"\r\n") {
        start += 2;
        if start > EMPTY_LINES_MAX * 2 {
            return Err(Error::RequestLine);
        }
    }
    match buf.get(start) {
        Some(b'\n') => Err(Error::LineEnding),
        _ => Ok(start),
    }
}

/// The error of a head that fills its window and is not complete.
#[cold]
fn too_large(window: &[u8]) -> Error {
    if memchr::memchr(b'\n', window).is_none() {
        Error::UriTooLong
    } else {
        Error::HeadTooLarge
    }
}

/// Parses a head that starts with its request line.
fn parse_lines(buf: &[u8], headers_max: usize) -> Result<Option<Head<'_>>, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; Limits::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(buf, &mut fields[..headers_max]);
    // httparse has set both before it looks at the version.
    let (Some(method), Some(target)) = (request.method, request.path) else {
        parsed?;
        return Ok(None);
    };
    match parsed {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(len)) => {
            let version = match request.version {
                Some(0) => Version::Http10,
                _ => Version::Http11,
            };
            decide(&buf[..len], method, target, version, request.headers)
        }
        Err(httparse::Error::Version) => parse_later_version(buf, method, target, headers_max),
        Err(error) => Err(error.into()),
    }
}

/// Parses a head whose version httparse does not know: HTTP/1.2 is treated as
/// HTTP/1.1 (RFC 9110, section 2.5), HTTP/2.0 is refused as another version, and what is
/// not one digit, a dot and one digit (RFC 9112, section 2.3) as malformed.
#[cold]
fn parse_later_version<'b>(
    buf: &'b [u8],
    method: &'b str,
    target: &'b str,
    headers_max: usize,
) -> Result<Option<Head<'b>>, Error> {
    const SHAPE: &[u8; 10] = b"HTTP/0.0\r\n";
    let start = method.len() + 1 + target.len() + 1;
    let rest = &buf[start..];
    let fits =
        |(byte, shape): (&u8, &u8)| byte == shape || (*shape == b'0' && byte.is_ascii_digit());
    if !rest.iter().zip(SHAPE).all(fits) {
        return Err(Error::RequestLine);
    }
    let Some((line, lines)) = rest.split_at_checked(SHAPE.len()) else {
        return Ok(None);
    };
    if line[b"HTTP/".len()] != b'1' {
        return Err(Error::Version);
    }
    let mut fields = [EMPTY_HEADER; Limits::HEADERS_MAX];
    match httparse::parse_headers(lines, &mut fields[..headers_max])? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete((len, fields)) => {
            let head = &buf[..start + SHAPE.len() + len];
            decide(head, method, target, Version::Http11, fields)
        }
    }
}

/// Checks a complete head.
fn decide<'b>(
    head: &'b [u8],
    method: &'b str,
    target: &'b str,
    version: Version,
    fields: &[Header<'b>],
) -> Result<Option<Head<'b>>, Error> {
    // httparse takes a bare LF for a line end, but never a bare CR. So all line
    // ends are CRLF if there are as many CRs as lines.
    let lines = fields.len() + 2;
    if count_crs(head) != lines {
        return Err(Error::LineEnding);
    }
    // " HTTP/1.1" follows the target.
    let line_len = offset(head, target.as_bytes()) + target.len() + " HTTP/0.0".len();
    let (target, authority) = match method {
        "CONNECT" => (Target::connect(target)?, None),
        _ => Target::parse(target)?,
    };
    let method = Method::of(method);
    // Only OPTIONS asks about the server as a whole (RFC 9112, section 3.2.4), and maybe a method
    // that is not known here.
    if target.is_asterisk() && !matches!(method, Method::Options | Method::Unknown) {
        return Err(TargetError::Malformed.into());
    }
    let mut seen = Seen::new(field_lines(head, fields));
    for field in fields {
        seen.add(field)?;
    }
    let framing = seen.body.framing(version)?;
    let host = seen.host(version)?;
    Ok(Some(Head {
        len: head.len(),
        request_line: &head[..line_len],
        request: Request {
            method,
            target,
            host: authority.or(host),
            fields: seen.fields,
        },
        version,
        framing,
        persistent: seen.persistent(version),
        expect_continue: seen.expects_continue(version)? && framing != Framing::None,
    }))
}

/// The number of CRs. In blocks whose counts fit into a byte, so that it compiles to SIMD without a
/// call.
fn count_crs(head: &[u8]) -> usize {
    let count = |block: &[u8]| {
        let is_cr = |byte: &u8| u8::from(*byte == b'\r');
        block.iter().map(is_cr).fold(0, u8::wrapping_add)
    };
    head.chunks(128)
        .map(|block| usize::from(count(block)))
        .sum()
}

/// The lines of `fields`, which were parsed from `head`.
fn field_lines<'b>(head: &'b [u8], fields: &[Header<'b>]) -> &'b [u8] {
    match fields.first() {
        Some(first) => &head[offset(head, first.name.as_bytes())..],
        None => &[],
    }
}

/// Where in `bytes` its `part` starts.
fn offset(bytes: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - bytes.as_ptr().addr()
}

/// The fields that matter, collected line by line.
struct Seen<'b> {
    /// All field lines.
    lines: &'b [u8],
    fields: Fields<'b>,
    host: Option<&'b str>,
    body: BodyFields,
    close: bool,
    keep_alive: bool,
    expectation: Expectation,
}

/// The expectations of all Expect lines so far.
#[derive(Clone, Copy, PartialEq)]
enum Expectation {
    Nothing,
    Continue,
    Other,
}

impl<'b> Seen<'b> {
    fn new(lines: &'b [u8]) -> Self {
        Self {
            lines,
            fields: Fields::new(lines),
            host: None,
            body: BodyFields::default(),
            close: false,
            keep_alive: false,
            expectation: Expectation::Nothing,
        }
    }

    /// The length of a name rules out nearly every other field.
    fn add(&mut self, field: &Header<'b>) -> Result<(), Error> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => self.add_host(field.value)?,
            6 if is("expect") => self.add_expect(field.value),
            10 if is("connection") => self.add_connection(field.value),
            14 if is("content-length") => self.body.content_length(field.value)?,
            17 if is("transfer-encoding") => self.body.transfer_encoding(field.value),
            _ => {
                let start = offset(self.lines, field.name.as_bytes());
                self.fields.note(field.name, start);
            }
        }
        Ok(())
    }

    /// A second Host is an error whatever its value (RFC 9112, section 3.2).
    fn add_host(&mut self, value: &'b [u8]) -> Result<(), Error> {
        let value = str::from_utf8(value).map_err(|_| Error::Host)?;
        if self.host.replace(value).is_some() || !is_host(value) {
            return Err(Error::Host);
        }
        Ok(())
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn add_expect(&mut self, value: &[u8]) {
        for expectation in list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expectation = Expectation::Other;
            } else if self.expectation == Expectation::Nothing {
                self.expectation = Expectation::Continue;
            }
        }
    }

    fn host(&self, version: Version) -> Result<Option<&'b str>, Error> {
        match self.host {
            None if version == Version::Http11 => Err(Error::Host),
            None | Some("") => Ok(None),
            host => Ok(host),
        }
    }

    fn persistent(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// HTTP/1.0 has no expectations: they are ignored (RFC 9110, section 10.1.1).
    fn expects_continue(&self, version: Version) -> Result<bool, Error> {
        match (version, self.expectation) {
            (Version::Http10, _) | (_, Expectation::Nothing) => Ok(false),
            (Version::Http11, Expectation::Continue) => Ok(true),
            (Version::Http11, Expectation::Other) => Err(Error::Expectation),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_http::Field;

    use super::*;

    const BAD_TARGET: Error = Error::Target(TargetError::Malformed);

    fn parse_all(raw: &[u8]) -> Result<Option<Head<'_>>, Error> {
        parse(raw, &Limits::default())
    }

    /// Parses a valid head, whatever follows it and wherever it is cut.
    #[track_caller]
    fn valid<'b>(raw: &'b [u8], why: &str) -> Head<'b> {
        let head = parse_all(raw)
            .unwrap()
            .unwrap_or_else(|| panic!("{why}: complete"));
        assert_eq!(head.len, raw.len(), "{why}");
        for at in 0..raw.len() {
            assert_eq!(parse_all(&raw[..at]), Ok(None), "{why}: cut at {at}");
        }
        for next in [b"\r\n".as_slice(), b"\n", b"GET / HTTP/1.1\r\n", b"\0\xff"] {
            let more = [raw, next].concat();
            assert_eq!(parse_all(&more), Ok(Some(head)), "{why}: more behind it");
        }
        head
    }

    /// A head is refused with its last byte at the latest, and for the same reason however it
    /// comes.
    #[track_caller]
    fn invalid(raw: &[u8], error: Error, why: &str) {
        assert_eq!(parse_all(raw), Err(error), "{why}");
        for at in 0..raw.len() {
            match parse_all(&raw[..at]) {
                Ok(None) => {}
                early => assert_eq!(early, Err(error), "{why}: cut at {at}"),
            }
        }
    }

    /// A request with these field lines behind `Host: a`.
    fn with_fields(version: &str, fields: &str) -> Vec<u8> {
        format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn a_plain_request() {
        let raw = b"GET /a%20b?c HTTP/1.1\r\nHost: example.org:80\r\nAccept: */*\r\n\r\n";
        let expected = Head {
            len: raw.len(),
            request_line: b"GET /a%20b?c HTTP/1.1",
            request: Request {
                method: Method::Get,
                target: Target::parse("/a%20b?c").unwrap().0,
                host: Some("example.org:80"),
                fields: valid(raw, "a plain request").request.fields,
            },
            version: Version::Http11,
            framing: Framing::None,
            persistent: true,
            expect_continue: false,
        };
        assert_eq!(valid(raw, "a plain request"), expected);
    }

    #[test]
    fn request_lines() {
        use Method::{Get, Head, Known, Options, Unknown};
        use Version::{Http10, Http11};
        #[rustfmt::skip] // one row a line
        let cases = [
            ("GET / HTTP/1.1\r\n", Get, Http11, "/", "origin form"),
            ("HEAD / HTTP/1.0\r\n", Head, Http10, "/", "HTTP/1.0"),
            ("GET / HTTP/1.2\r\n", Get, Http11, "/", "a later minor version: RFC 9110, 2.5"),
            ("GET / HTTP/1.9\r\n", Get, Http11, "/", "the last minor version"),
            ("POST /a HTTP/1.1\r\n", Known, Http11, "/a", "405"),
            ("M-SEARCH * HTTP/1.1\r\n", Unknown, Http11, "*", "a method that is not known here: 501"),
            ("OPTIONS * HTTP/1.1\r\n", Options, Http11, "*", "asterisk form: RFC 9112, 3.2.4"),
            ("CONNECT a:443 HTTP/1.1\r\n", Known, Http11, "", "authority form: RFC 9112, 3.2.3"),
            ("BREW /a HTTP/1.1\r\n", Unknown, Http11, "/a", "501"),
            ("get / HTTP/1.1\r\n", Unknown, Http11, "/", "case-sensitive: RFC 9110, 9.1"),
            ("M-S!#$%&'*+.^_`|~9 / HTTP/1.1\r\n", Unknown, Http11, "/", "any token: RFC 9110, 9.1"),
            ("GET /{|}^\"<>[\\]` HTTP/1.1\r\n", Get, Http11, "/{|}^\"<>[\\]`", "browsers send these"),
            ("\r\nGET / HTTP/1.1\r\n", Get, Http11, "/", "an empty line before: RFC 9112, 2.2"),
            ("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", Get, Http11, "/", "four of them"),
        ];
        for (line, method, version, path, why) in cases {
            let raw = format!("{line}Host: a\r\n\r\n");
            let head = valid(raw.as_bytes(), why);
            assert_eq!(head.request.method, method, "{why}");
            assert_eq!(head.request_line, line.trim().as_bytes(), "{why}");
            assert_eq!(head.version, version, "{why}");
            assert_eq!(head.request.target.path(), path, "{why}");
        }
    }

    #[test]
    fn malformed_request_lines() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("GET / HTTP/2.0", Error::Version, "another major version: RFC 9110, 15.6.6"),
            ("GET / HTTP/0.9", Error::Version, "another major version"),
            ("PRI * HTTP/2.0", Error::Version, "the preface of HTTP/2"),
            ("GET / HTTP/9.9", Error::Version, "another major version"),
            ("GET / HTTP/2", Error::RequestLine, "no minor version: RFC 9112, 2.3"),
            ("GET / HTTP/01.01", Error::RequestLine, "two digits: RFC 9112, 2.3"),
            ("GET / HTTP/01.1", Error::RequestLine, "two digits"),
            ("GET / HTTP/11.1", Error::RequestLine, "two digits"),
            ("GET / HTTP/2.00", Error::RequestLine, "two digits"),
            ("GET / HTTP/2.0 ", Error::RequestLine, "a space behind it"),
            ("GET / HTTP/2,0", Error::RequestLine, "no dot"),
            ("GET / HTTP/0x1.1", Error::RequestLine, "hexadecimal"),
            ("GET /", Error::RequestLine, "HTTP/0.9 has no version: RFC 9112, 3"),
            ("GET / HTTP/1.10", Error::LineEnding, "two digits: RFC 9112, 2.3"),
            ("GET / HTTP/1.20", Error::RequestLine, "two digits of a later version"),
            ("GET / HTTP/11", Error::RequestLine, "no dot"),
            ("GET / http/1.1", Error::RequestLine, "case-sensitive: RFC 9112, 2.3"),
            ("GET / HTTP/1.1 ", Error::LineEnding, "a space behind the version"),
            ("GET  / HTTP/1.1", Error::RequestLine, "two spaces: RFC 9112, 3"),
            ("GET /  HTTP/1.1", Error::RequestLine, "two spaces behind the target"),
            ("GET\t/ HTTP/1.1", Error::RequestLine, "a tab"),
            (" GET / HTTP/1.1", Error::RequestLine, "a space in front"),
            ("GET /a b HTTP/1.1", Error::RequestLine, "a space in the target: RFC 9112, 3.2"),
            ("GET /a\tb HTTP/1.1", Error::RequestLine, "a control in the target"),
            ("GET /a\0b HTTP/1.1", Error::RequestLine, "NUL in the target"),
            ("GET /a\u{7f}b HTTP/1.1", Error::RequestLine, "DEL in the target"),
            ("GET /a\rb HTTP/1.1", Error::RequestLine, "a bare CR in the target"),
            ("GET /\u{e4} HTTP/1.1", BAD_TARGET, "not ASCII: RFC 3986, 2"),
            ("GET /a#b HTTP/1.1", BAD_TARGET, "a fragment: RFC 9112, 3.2"),
            ("GET a HTTP/1.1", BAD_TARGET, "a relative path"),
            ("GET * HTTP/1.1", BAD_TARGET, "asterisk form is for OPTIONS: RFC 9112, 3.2.4"),
            ("TRACE * HTTP/1.1", BAD_TARGET, "and for no other method"),
            ("OPTIONS a:80 HTTP/1.1", BAD_TARGET, "OPTIONS has no authority form"),
            ("GET / ", Error::RequestLine, "a space for the version"),
            ("GET / ICE/1.0", Error::RequestLine, "another protocol"),
            ("GET / IHTTP/1.0", Error::RequestLine, "nearly this one"),
            ("GET / HTTP/1.1.1", Error::LineEnding, "three numbers"),
            ("GET / HTTP/1.\u{661}", Error::RequestLine, "a digit that is not ASCII"),
            ("GET a:80 HTTP/1.1", BAD_TARGET, "authority form is for CONNECT"),
            ("CONNECT / HTTP/1.1", BAD_TARGET, "CONNECT has no other form"),
            ("G(T / HTTP/1.1", Error::RequestLine, "a delimiter in the method"),
            ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1", Error::RequestLine, "five empty lines"),
            ("\nGET / HTTP/1.1", Error::LineEnding, "an empty line of a bare LF"),
            ("\rGET / HTTP/1.1", Error::LineEnding, "an empty line of a bare CR"),
        ];
        for (line, error, why) in cases {
            let raw = format!("{line}\r\nHost: a\r\n\r\n");
            invalid(raw.as_bytes(), error, why);
        }
    }

    /// httparse looks at a target in blocks of up to 32 bytes: a bad byte is found wherever it is.
    #[test]
    fn a_bad_byte_anywhere_in_a_target() {
        for bad in (0..=b' ').chain([b'#']).chain(0x7f..=0xff) {
            for at in 1..70 {
                let mut target = [b'a'; 70];
                target[0] = b'/';
                target[at] = bad;
                let raw = [b"GET ", target.as_slice(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
                assert!(parse_all(&raw).is_err(), "byte {bad} at {at}");
            }
        }
    }

    #[test]
    fn hosts() {
        #[rustfmt::skip] // one row a line
        let cases: [(&[u8], Option<&str>, &str); 8] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some("a"), "from the field"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nFrom: b\r\n\r\n", Some("a"), "another name of four letters"),
            (b"GET / HTTP/1.1\r\nhOsT:\ta:80 \r\n\r\n", Some("a:80"), "any case, whitespace off"),
            (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", None, "empty: RFC 9112, 3.2"),
            (b"GET / HTTP/1.0\r\n\r\n", None, "HTTP/1.0 need not have one"),
            (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Some("a"), "but may"),
            (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Some("b"), "RFC 9112, 3.2.2"),
            (b"GET http://b/ HTTP/1.0\r\n\r\n", Some("b"), "from the target alone"),
        ];
        for (raw, host, why) in cases {
            assert_eq!(valid(raw, why).request.host, host, "{why}");
        }
    }

    #[test]
    fn malformed_hosts() {
        #[rustfmt::skip] // one row a line
        let cases: [(&[u8], &str); 12] = [
            (b"GET / HTTP/1.1\r\n\r\n", "none: RFC 9112, 3.2"),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", "none, and no path"),
            (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "a port and no host: RFC 9110, 4.2.1"),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "two words"),
            (b"GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", "a URI"),
            (b"GET / HTTP/1.2\r\n\r\n", "none, and a later minor version"),
            (b"GET http://b/ HTTP/1.1\r\n\r\n", "none beside the absolute form"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two: RFC 9112, 3.2"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "two that agree"),
            (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "two in HTTP/1.0"),
            (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "no host: RFC 9110, 7.2"),
            (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", "not ASCII"),
        ];
        for (raw, why) in cases {
            invalid(raw, Error::Host, why);
        }
    }

    /// The fields of a request are its own, not those of the next one or of lines before it.
    #[test]
    fn fields_end_with_their_head() {
        let raw = b"\r\nGET / HTTP/1.2\r\nHost: a\r\nRange: a\r\n\r\nRange: b\r\n\r\n";
        let head = parse_all(raw).unwrap().unwrap();
        let values: Vec<_> = head.request.fields.all(Field::Range).collect();
        assert_eq!(values, [b"a"]);
    }

    /// The first line is noted like any other, and every name in any order.
    #[test]
    fn fields_are_noted_wherever_they_are() {
        for lines in ["Range: a\r\nHost: a\r\n", "Host: a\r\nRange: a\r\n"] {
            let raw = format!("GET / HTTP/1.1\r\n{lines}\r\n");
            let fields = valid(raw.as_bytes(), lines).request.fields;
            assert_eq!(fields.only(Field::Range), Some(b"a".as_slice()));
            assert!(!fields.has(Field::Origin));
        }
    }

    #[test]
    fn malformed_fields() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("A : b\r\n", Error::FieldName, "whitespace before the colon: RFC 9112, 5.1"),
            ("A\t: b\r\n", Error::FieldName, "a tab before the colon"),
            ("A: b\r\n c\r\n", Error::FieldName, "a folded line: RFC 9112, 5.2"),
            ("A: b\r\n\tc\r\n", Error::FieldName, "folded by a tab"),
            ("A: \r\n b\r\n", Error::FieldName, "folded at once"),
            ("A\r\n", Error::FieldName, "no colon"),
            ("A\r\n : b\r\n", Error::FieldName, "a name and its colon in two lines"),
            ("A B: c\r\n", Error::FieldName, "a space within the name"),
            ("A[]: b\r\n", Error::FieldName, "brackets in the name"),
            ("A\u{1}: b\r\n", Error::FieldName, "a control in the name"),
            ("A\r\u{1b}: b\r\n", Error::FieldName, "a bare CR in the name"),
            ("A: b\r\n\rC: d\r\n", Error::LineEnding, "a bare CR in front of the name"),
            ("A:\rB: c\r\n", Error::FieldValue, "a bare CR as an empty value"),
            ("A: b\u{7}\r\n", Error::FieldValue, "a control: RFC 9110, 5.5"),
            (": b\r\n", Error::FieldName, "no name: RFC 9110, 5.1"),
            ("A(: b\r\n", Error::FieldName, "a delimiter in the name"),
            ("\u{c4}: b\r\n", Error::FieldName, "a name that is not ASCII"),
            ("A: b\0c\r\n", Error::FieldValue, "NUL: RFC 9110, 5.5"),
            ("A: b\u{7f}c\r\n", Error::FieldValue, "DEL"),
            ("A: b\rc\r\n", Error::FieldValue, "a bare CR: RFC 9112, 2.2"),
            ("A: b\r\r\n", Error::FieldValue, "a bare CR at the end"),
            ("A: b\n", Error::LineEnding, "a bare LF: RFC 9112, 2.2"),
            ("A:\n", Error::LineEnding, "a bare LF behind an empty value"),
            ("A: b\nC: d\r\n", Error::LineEnding, "a bare LF between fields"),
        ];
        for (fields, error, why) in cases {
            invalid(&with_fields("1.1", fields), error, why);
        }
    }

    #[test]
    fn whitespace_between_request_line_and_fields() {
        for line in [" Host: a", "\tHost: a", " ", " \r\nHost: a"] {
            let raw = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
            invalid(raw.as_bytes(), Error::FieldName, "RFC 9112, 2.2");
        }
    }

    #[test]
    fn bare_line_feeds() {
        #[rustfmt::skip] // one row a line
        let cases: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", "behind the request line"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "as the blank line"),
            (b"GET / HTTP/1.1\nHost: a\n\n", "everywhere"),
            (b"GET / HTTP/1.0\n\n", "without fields"),
        ];
        for (raw, why) in cases {
            invalid(raw, Error::LineEnding, why);
        }
        invalid(
            b"GET / HTTP/1.2\nHost: a\n\n",
            Error::RequestLine,
            "a later version",
        );
    }

    #[test]
    fn framings() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("", Framing::None, "nothing said: RFC 9112, 6.3, 7"),
            ("Content-Length: 0\r\n", Framing::None, "an empty body"),
            ("Content-Length: 5\r\n", Framing::Length(5), "RFC 9112, 6.2"),
            ("content-length:\t007 \r\n", Framing::Length(7), "leading zeros: 1*DIGIT"),
            ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX), "the largest"),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, "RFC 9112, 6.1"),
            ("transfer-encoding: CHUNKED\r\n", Framing::Chunked, "any case: RFC 9112, 7"),
            ("Transfer-Encoding: , chunked ,\r\n", Framing::Chunked, "empty elements: RFC 9110, 5.6.1"),
        ];
        for (fields, framing, why) in cases {
            for version in ["1.1", "1.2"] {
                assert_eq!(
                    valid(&with_fields(version, fields), why).framing,
                    framing,
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn smuggling() {
        let length = Error::ContentLength;
        let coding = Error::TransferEncoding;
        #[rustfmt::skip] // one row a line
        let cases = [
            ("Content-Length: 5\r\nContent-Length: 6\r\n", length, "two lengths: RFC 9112, 6.3"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", length, "two that agree"),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", length, "two zeros"),
            ("Content-Length: 5, 5\r\n", length, "two in a list"),
            ("Content-Length:\r\n", length, "no number"),
            ("Content-Length: +5\r\n", length, "a sign"),
            ("Content-Length: -5\r\n", length, "a sign"),
            ("Content-Length: 5 5\r\n", length, "a space"),
            ("Content-Length: 0x5\r\n", length, "hexadecimal"),
            ("Content-Length: 5.0\r\n", length, "a fraction"),
            ("Content-Length: 18446744073709551616\r\n", length, "2^64"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Error::TwoLengths, "both: RFC 9112, 6.1"),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Error::TwoLengths, "both, the other way round"),
            ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", Error::TwoLengths, "both, whatever the coding"),
            ("Transfer-Encoding:\r\n", coding, "no coding"),
            ("Transfer-Encoding: gzip\r\n", coding, "chunked is not last: RFC 9112, 6.3, 4"),
            ("Transfer-Encoding: identity\r\n", coding, "identity is gone: RFC 9112, 7"),
            ("Transfer-Encoding: chunked, gzip\r\n", coding, "chunked is not last"),
            ("Transfer-Encoding: chunked, chunked\r\n", coding, "twice: RFC 9112, 6.1"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", coding, "twice, in two lines"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", coding, "not last in the last line"),
            ("Transfer-Encoding: xchunked\r\n", coding, "another word"),
            ("Transfer-Encoding: \u{b}chunked\r\n", Error::FieldValue, "a control in front"),
            ("Transfer-Encoding: chunked;a=b\r\n", coding, "chunked has no parameters: RFC 9112, 7.1"),
            ("Transfer-Encoding: \"chunked\"\r\n", coding, "a quoted string is no token"),
            ("Transfer-Encoding: chunked, identity\r\n", coding, "identity is not last either"),
            ("Transfer-Encoding: pigeons\r\n", coding, "no coding: RFC 9112, 6.3, 4"),
            ("Transfer-Encoding: chunkedchunked\r\n", coding, "two words in one"),
            ("Transfer-Encoding: chunked abc\r\n", coding, "two words"),
            ("Transfer-Encoding: chunk\u{e9}d\r\n", coding, "not ASCII"),
            ("Transfer-Encoding : chunked\r\n", Error::FieldName, "whitespace before the colon"),
            ("Transfer-Encoding:\r\n chunked\r\n", Error::FieldName, "in a folded line"),
            ("A: b\nTransfer-Encoding: chunked\r\n", Error::LineEnding, "behind a bare LF"),
            ("A: b\rTransfer-Encoding: chunked\r\n", Error::FieldValue, "behind a bare CR"),
            ("Content-Length : 5\r\n", Error::FieldName, "whitespace before the colon"),
            (" Content-Length: 5\r\n", Error::FieldName, "whitespace in front: a folded Host"),
            ("Content-Length: 5,\r\n", length, "a list of one"),
            ("Content-Length: \u{661}\r\n", length, "a digit that is not ASCII"),
            ("Transfer-Encoding: gzip, chunked\r\n", Error::UnknownCoding, "501: RFC 9112, 6.1"),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Error::UnknownCoding, "in two lines"),
        ];
        for (fields, error, why) in cases {
            invalid(&with_fields("1.1", fields), error, why);
        }
        invalid(
            &with_fields("1.0", "Transfer-Encoding: chunked\r\n"),
            coding,
            "HTTP/1.0 has none: RFC 9112, 6.1",
        );
    }

    #[test]
    fn persistence() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("1.1", "", true, "the default: RFC 9112, 9.3"),
            ("1.1", "Connection: close\r\n", false, "close: RFC 9112, 9.6"),
            ("1.1", "connection: CLOSE\r\n", false, "any case: RFC 9110, 7.6.1"),
            ("1.1", "Connection: a, close ,b\r\n", false, "in a list"),
            ("1.1", "Connection: a\r\nConnection: close\r\n", false, "in the second line"),
            ("1.1", "Connection: keep-alive, close\r\n", false, "close wins: RFC 9112, 9.3"),
            ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false, "in any order"),
            ("1.1", "Connection: closed\r\n", true, "another word"),
            ("1.1", "Connection: upgrade\r\n", true, "another option"),
            ("1.2", "", true, "a later minor version"),
            ("1.0", "", false, "not the default of HTTP/1.0"),
            ("1.0", "Connection: Keep-Alive\r\n", true, "but may be asked for"),
            ("1.0", "Connection: keep-alive, close\r\n", false, "close wins"),
        ];
        for (version, fields, persistent, why) in cases {
            let raw = with_fields(version, fields);
            assert_eq!(valid(&raw, why).persistent, persistent, "{why}");
        }
    }

    #[test]
    fn expectations() {
        let body = "Content-Length: 5\r\n";
        #[rustfmt::skip] // one row a line
        let cases = [
            ("1.1", "Expect: 100-continue\r\n", body, true, "RFC 9110, 10.1.1"),
            ("1.1", "expect: 100-CONTINUE\r\n", body, true, "any case"),
            ("1.1", "Expect: 100-continue, 100-continue\r\n", body, true, "twice"),
            ("1.1", "Expect:\r\n", body, false, "an empty list"),
            ("1.1", "Expect: 100-continue\r\n", "", false, "no body to wait with"),
            ("1.0", "Expect: 100-continue\r\n", body, false, "ignored in HTTP/1.0"),
            ("1.0", "Expect: tea\r\n", body, false, "ignored in HTTP/1.0"),
        ];
        for (version, fields, body, expected, why) in cases {
            let raw = with_fields(version, &format!("{fields}{body}"));
            assert_eq!(valid(&raw, why).expect_continue, expected, "{why}");
        }
        for fields in [
            "Expect: tea\r\n",
            "Expect: tea, 100-continue\r\n",
            "Expect: 100-continue, tea\r\n",
        ] {
            invalid(&with_fields("1.1", fields), Error::Expectation, fields);
        }
    }

    #[test]
    fn heads_are_bounded() {
        let raw = b"\r\nGET /abc HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
        let line = raw.iter().rposition(|byte| *byte == b'H').unwrap();
        let with = |header_bytes| Limits {
            header_bytes,
            ..Limits::default()
        };
        let exact = parse(raw, &with(raw.len()));
        assert!(matches!(exact, Ok(Some(_))), "exactly the limit");
        for header_bytes in 0..raw.len() {
            let limits = with(header_bytes);
            let refused = parse(raw, &limits);
            assert!(
                matches!(refused, Err(Error::HeadTooLarge | Error::UriTooLong)),
                "complete, but larger than {header_bytes}"
            );
            assert_eq!(
                parse(&raw[..header_bytes], &limits),
                refused,
                "incomplete and full"
            );
            if header_bytes > 0 {
                let room = parse(&raw[..header_bytes - 1], &limits);
                assert_eq!(room, Ok(None), "incomplete with room for one more byte");
            }
            let is_line = header_bytes < line;
            assert_eq!(
                refused == Err(Error::UriTooLong),
                is_line,
                "{header_bytes}: the line alone"
            );
        }
    }

    #[test]
    fn fields_are_counted() {
        for version in ["1.1", "1.2"] {
            for headers in [1, 2, 100] {
                let limits = Limits {
                    headers,
                    ..Limits::default()
                };
                let most = with_fields(version, &"A: b\r\n".repeat(headers - 1));
                assert!(matches!(parse(&most, &limits), Ok(Some(_))), "{headers}");
                let more = with_fields(version, &"A: b\r\n".repeat(headers));
                assert_eq!(
                    parse(&more, &limits),
                    Err(Error::TooManyFields),
                    "{headers}"
                );
            }
            let limits = Limits {
                headers: usize::MAX,
                ..Limits::default()
            };
            let more = with_fields(version, &"A: b\r\n".repeat(Limits::HEADERS_MAX));
            assert_eq!(
                parse(&more, &limits),
                Err(Error::TooManyFields),
                "counts as 100"
            );
        }
    }

    /// Heads made of what matters to parsing.
    fn tricky_head() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "GET ",
            "CONNECT ",
            "/ ",
            "* ",
            "a:1 ",
            "http://a/ ",
            "HTTP/1.1\r\n",
            "HTTP/1.0\r\n",
            "HTTP/1.5\r\n",
            "HTTP/2.0\r\n",
            "Host: a\r\n",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "Expect: 100-continue\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            " ",
            ":",
            "\0",
            "\u{e4}",
            "GET / HTTP/1.1\r\nHost: a\r\n",
        ]);
        prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat().into_bytes())
    }

    fn assert_sound(raw: &[u8], limits: &Limits) {
        match parse(raw, limits) {
            Ok(Some(head)) => {
                assert!(head.len <= raw.len().min(limits.header_bytes));
                assert!(raw[..head.len].ends_with(b"\r\n\r\n"));
                assert_eq!(parse(&raw[..head.len], limits), Ok(Some(head)));
            }
            Ok(None) => assert!(raw.len() < limits.header_bytes),
            Err(_) => {}
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(raw in any::<Vec<u8>>()) {
            assert_sound(&raw, &Limits::default());
        }

        #[test]
        fn any_parts_are_parsed_or_refused(raw in tricky_head(), header_bytes in 0..200_usize) {
            assert_sound(&raw, &Limits { header_bytes, ..Limits::default() });
        }

        /// What a client sends does not depend on how it is cut: once there is an answer, it stays.
        #[test]
        fn an_answer_stays(raw in tricky_head()) {
            let first = (0..=raw.len()).find_map(|at| parse_all(&raw[..at]).transpose());
            prop_assert_eq!(first, parse_all(&raw).transpose());
        }
    }
}
