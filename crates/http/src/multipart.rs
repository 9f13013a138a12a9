//! Several ranges in one response: multipart/byteranges (RFC 9110, section 14.6).
//!
//! ```text
//!   head(range 0) | bytes of range 0 | head(range 1) | bytes of range 1 | end
//! ```
//!
//! Only the ranges are held, and part heads are made when they are sent: a client that asks for a
//! thousand ranges and takes none holds 16 KiB.

use std::ops::Range;

use crate::range::write_content_range;
use crate::{Coding, FieldBlock};

/// A multipart/byteranges body, without the bytes of the ranges.
#[derive(Clone, Debug)]
pub struct Multipart {
    ranges: Box<[Range<u64>]>,
    /// Bytes of the representation.
    len: u64,
    /// The start of every part's head: all but its Content-Range.
    head_start: Box<[u8]>,
    boundary: String,
}

impl Multipart {
    /// The body for `ranges`, none of them empty, of a representation of `len` bytes, type
    /// `content_type` and `coding`. These are fields of each part: they describe the
    /// representation, not the body of this response (RFC 9110, section 15.3.7.2).
    ///
    /// `boundary` must be random, so that nobody can put its delimiter into a file beforehand.
    pub fn new(
        ranges: Vec<Range<u64>>,
        len: u64,
        content_type: &str,
        coding: Option<Coding>,
        boundary: u64,
    ) -> Self {
        let boundary = format!("{boundary:016x}");
        let mut head_start = Vec::new();
        write_delimiter(&mut head_start, &boundary);
        head_start.extend_from_slice(b"\r\n");
        let mut fields = FieldBlock::new();
        fields.push("Content-Type", content_type);
        if let Some(coding) = coding {
            fields.push("Content-Encoding", coding.token());
        }
        head_start.extend_from_slice(fields.lines().as_bytes());
        Self {
            ranges: ranges.into(),
            len,
            head_start: head_start.into(),
            boundary,
        }
    }

    /// Bytes of the whole body.
    pub fn content_length(&self) -> u64 {
        let mut text = Vec::new();
        self.write_end(&mut text);
        let end = text.len() as u64;
        self.ranges.iter().fold(end, |sum, range| {
            text.clear();
            self.write_head(range, &mut text);
            sum + text.len() as u64 + (range.end - range.start)
        })
    }

    /// Appends the Content-Type of the response.
    pub fn push_content_type(&self, out: &mut FieldBlock) {
        out.push_line(|line| {
            line.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
            line.extend_from_slice(self.boundary.as_bytes());
        });
    }

    /// The ranges, in the order of the parts.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Appends the head of a part, which is sent before the bytes of `range`: the delimiter and the
    /// fields.
    pub fn write_head(&self, range: &Range<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head_start);
        write_content_range(out, range, self.len);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends the closing delimiter, which is sent behind the last part.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        write_delimiter(out, &self.boundary);
        out.extend_from_slice(b"--\r\n");
    }
}

/// Appends a delimiter without its end. The CRLF before it belongs to it (RFC 2046, section 5.1.1).
/// The first one has it too, behind an empty preamble, which RFC 9110, section 14.6 allows: nginx
/// sends it, and zsync expects it.
fn write_delimiter(text: &mut Vec<u8>, boundary: &str) {
    text.extend_from_slice(b"\r\n--");
    text.extend_from_slice(boundary.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pushed, written};

    /// What goes over the wire, with the bytes of `content` between the heads.
    fn sent(multipart: &Multipart, content: &[u8]) -> String {
        let mut out = Vec::new();
        for range in multipart.ranges() {
            multipart.write_head(range, &mut out);
            out.extend_from_slice(&content[range.start as usize..range.end as usize]);
        }
        multipart.write_end(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The form of the example in RFC 9110, 15.3.7.2, behind an empty preamble.
    #[test]
    fn a_multipart_has_a_head_for_each_range() {
        let content = b"0123456789\n";
        let multipart = Multipart::new(vec![0..2, 9..11], 11, "text/plain", None, 0x00c0_ffee);
        let body = sent(&multipart, content);
        assert_eq!(
            body,
            "\r\n--0000000000c0ffee\r\nContent-Type: text/plain\r\n\
             Content-Range: bytes 0-1/11\r\n\r\n\
             01\r\n--0000000000c0ffee\r\nContent-Type: text/plain\r\n\
             Content-Range: bytes 9-10/11\r\n\r\n9\n\r\n--0000000000c0ffee--\r\n"
        );
        assert_eq!(multipart.content_length(), body.len() as u64);
        assert_eq!(
            pushed(|out| multipart.push_content_type(out)),
            "Content-Type: multipart/byteranges; boundary=0000000000c0ffee\r\n"
        );
    }

    #[test]
    fn the_length_is_true_for_any_ranges() {
        let content = [b'x'; 300];
        for count in 1..=16 {
            let ranges: Vec<_> = (0..count).map(|at| at * 17..at * 18 + 1).collect();
            let multipart = Multipart::new(ranges, 300, "a/b", None, u64::MAX);
            let body = sent(&multipart, &content);
            assert_eq!(
                multipart.content_length(),
                body.len() as u64,
                "{count} ranges"
            );
        }
    }

    #[test]
    fn the_length_of_large_ranges_is_not_cut() {
        let len = 1 << 62;
        let multipart = Multipart::new(vec![0..1 << 61, 1 << 61..len], len, "a/b", None, 1);
        assert!(multipart.content_length() > len);
    }

    /// A client that asks for many and takes none must not hold much.
    #[test]
    fn many_ranges_hold_no_more_than_their_ends() {
        let ranges: Vec<_> = (0..1024).map(|at| at * 2..at * 2 + 1).collect();
        let multipart = Multipart::new(ranges, 1 << 40, "a/b", None, 1);
        let held = size_of_val(&*multipart.ranges) + multipart.head_start.len();
        assert!(held <= 17 << 10, "{held} bytes");
    }

    /// RFC 9110, 15.3.7.2: it is the representation that is coded.
    #[test]
    fn each_part_says_how_it_is_coded() {
        let multipart = Multipart::new(vec![0..1, 2..3], 11, "a/b", Some(Coding::Gzip), 1);
        for range in multipart.ranges() {
            let head = written(|out| multipart.write_head(range, out));
            assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
        }
    }
}
