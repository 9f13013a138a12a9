//! Reads bodies of type multipart/byteranges (RFC 9110, section 14.6; RFC 2046, section 5.1).

use std::ops::Range;

use super::Response;

/// One part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) content_type: String,
    /// The end is exclusive.
    pub(crate) range: Range<u64>,
    /// Bytes of the whole file.
    pub(crate) length: u64,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The parts of the body, which must be made of delimiters and parts and nothing else.
    #[track_caller]
    pub(crate) fn parts(&self) -> Vec<Part> {
        let content_type = self.header("content-type").expect("Content-Type");
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.unwrap_or_else(|| panic!("not multipart: {content_type}"));
        let boundary = boundary.trim_matches('"');
        assert!((1..=70).contains(&boundary.len()), "{boundary}");
        let mut rest = strip(&self.body, &format!("\r\n--{boundary}"));
        let mut parts = Vec::new();
        while !rest.starts_with(b"--") {
            let (part, behind) = part(strip(rest, "\r\n"));
            rest = strip(behind, &format!("\r\n--{boundary}"));
            parts.push(part);
        }
        let end = strip(rest, "--");
        assert!(
            end.is_empty() || end == b"\r\n",
            "{end:?} behind the last part"
        );
        parts
    }
}

/// The range that a Content-Range tells, its end exclusive, and the length of the whole.
#[track_caller]
pub(crate) fn content_range(value: &str) -> (Range<u64>, u64) {
    let numbers = || {
        let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let [first, last, length] = [first, last, length].map(|number| number.parse::<u64>().ok());
        Some((first?..last? + 1, length?))
    };
    numbers().unwrap_or_else(|| panic!("not a Content-Range: {value:?}"))
}

/// The part at the start of `text`, and what follows it.
#[track_caller]
fn part(text: &[u8]) -> (Part, &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let parsed = httparse::parse_headers(text, &mut headers).expect("the head of a part");
    let httparse::Status::Complete((length, headers)) = parsed else {
        panic!(
            "the head of a part has no end: {:?}",
            String::from_utf8_lossy(text)
        );
    };
    let (range, whole) = content_range(field(headers, "content-range"));
    let (body, rest) = text[length..].split_at((range.end - range.start) as usize);
    let part = Part {
        content_type: field(headers, "content-type").to_owned(),
        range,
        length: whole,
        body: body.to_owned(),
    };
    (part, rest)
}

#[track_caller]
fn field<'a>(headers: &[httparse::Header<'a>], name: &str) -> &'a str {
    let field = headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name));
    let field = field.unwrap_or_else(|| panic!("a part without {name}"));
    std::str::from_utf8(field.value).expect("a field in UTF-8")
}

#[track_caller]
fn strip<'a>(text: &'a [u8], prefix: &str) -> &'a [u8] {
    let rest = text.strip_prefix(prefix.as_bytes());
    rest.unwrap_or_else(|| panic!("{prefix:?} is not where it should be"))
}
