//! Several ranges in one response: multipart/byteranges (RFC 9110, section 14.6).
//!
//! ```text
//!   part(0).head | bytes of part(0).range | part(1).head | bytes of part(1).range | end()
//! ```
//!
//! All but the bytes of the file is built at once, so that the length of the whole is known and the
//! bytes can go from the file to the socket without passing here.

use std::ops::Range;

use crate::Coding;
use crate::range::write_content_range;
use crate::response::write_field;

/// Bytes of a part's head beside its Content-Type, about.
const HEAD_BYTES: usize = 128;

/// A multipart/byteranges body, without the bytes of the ranges.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// The heads of the parts one behind the other, then the closing delimiter.
    text: Vec<u8>,
    /// Where in `text` the head of each part ends, and its range.
    parts: Vec<(usize, Range<u64>)>,
    boundary: String,
}

/// One part of a [`Multipart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What is sent before the bytes of the range: the end of the part before, the delimiter and
    /// the fields of the part.
    pub head: &'a [u8],
    /// The bytes of the file, the end exclusive.
    pub range: Range<u64>,
}

impl Multipart {
    /// The body for `ranges`, none of them empty, of a representation of `len` bytes, type
    /// `content_type` and `coding`, which each part says: it is the representation that is of this
    /// type and coded, not the body of this response (RFC 9110, section 15.3.7.2).
    ///
    /// `boundary` is random, so that nobody can put the delimiter that is made of it into a file
    /// beforehand.
    pub fn new(
        ranges: &[Range<u64>],
        len: u64,
        content_type: &str,
        coding: Option<Coding>,
        boundary: u64,
    ) -> Self {
        let boundary = format!("{boundary:016x}");
        let mut text = Vec::with_capacity((HEAD_BYTES + content_type.len()) * (ranges.len() + 1));
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            write_delimiter(&mut text, &boundary);
            text.extend_from_slice(b"\r\n");
            write_field(&mut text, "Content-Type", content_type);
            if let Some(coding) = coding {
                write_field(&mut text, "Content-Encoding", coding.token());
            }
            write_content_range(&mut text, range, len);
            text.extend_from_slice(b"\r\n");
            parts.push((text.len(), range.clone()));
        }
        write_delimiter(&mut text, &boundary);
        text.extend_from_slice(b"--\r\n");
        Self {
            text,
            parts,
            boundary,
        }
    }

    /// Bytes of the whole body.
    pub fn content_length(&self) -> u64 {
        let bytes = self.parts.iter().map(|(_, range)| range.end - range.start);
        self.text.len() as u64 + bytes.sum::<u64>()
    }

    /// Appends the Content-Type line of the response.
    pub fn write_content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
        out.extend_from_slice(self.boundary.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Part<'_>> {
        self.parts
            .iter()
            .enumerate()
            .map(|(index, (end, range))| Part {
                head: &self.text[self.head_start(index)..*end],
                range: range.clone(),
            })
    }

    /// The part with this number, counted from 0.
    pub fn part(&self, index: usize) -> Option<Part<'_>> {
        self.parts().nth(index)
    }

    /// What is sent behind the last part.
    pub fn end(&self) -> &[u8] {
        &self.text[self.head_start(self.parts.len())..]
    }

    /// Where the head of a part starts, or behind the last one the closing delimiter: where the
    /// head of the part before ends.
    fn head_start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            Some(before) => self.parts[before].0,
            None => 0,
        }
    }
}

/// Appends a delimiter without what ends it. The line end before it belongs to it (RFC 2046,
/// section 5.1.1); before the first one there is nothing that it could end.
fn write_delimiter(text: &mut Vec<u8>, boundary: &str) {
    if !text.is_empty() {
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"--");
    text.extend_from_slice(boundary.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::written;

    /// What goes over the wire, with the bytes of `content` between the heads.
    fn sent(multipart: &Multipart, content: &[u8]) -> String {
        let mut out = Vec::new();
        for part in multipart.parts() {
            out.extend_from_slice(part.head);
            out.extend_from_slice(&content[part.range.start as usize..part.range.end as usize]);
        }
        out.extend_from_slice(multipart.end());
        String::from_utf8(out).unwrap()
    }

    /// The form of the example in RFC 9110, 15.3.7.2.
    #[test]
    fn a_multipart_has_a_head_for_each_range() {
        let content = b"0123456789\n";
        let multipart = Multipart::new(&[0..2, 9..11], 11, "text/plain", None, 0x00c0_ffee);
        let body = sent(&multipart, content);
        assert_eq!(
            body,
            "--0000000000c0ffee\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/11\r\n\r\n\
             01\r\n--0000000000c0ffee\r\nContent-Type: text/plain\r\n\
             Content-Range: bytes 9-10/11\r\n\r\n9\n\r\n--0000000000c0ffee--\r\n"
        );
        assert_eq!(multipart.content_length(), body.len() as u64);
        assert_eq!(
            written(|out| multipart.write_content_type(out)),
            "Content-Type: multipart/byteranges; boundary=0000000000c0ffee\r\n"
        );
    }

    #[test]
    fn the_length_is_true_for_any_ranges() {
        let content = [b'x'; 300];
        for count in 1..=16 {
            let ranges: Vec<_> = (0..count).map(|at| at * 17..at * 18 + 1).collect();
            let multipart = Multipart::new(&ranges, 300, "a/b", None, u64::MAX);
            let body = sent(&multipart, &content);
            assert_eq!(
                multipart.content_length(),
                body.len() as u64,
                "{count} ranges"
            );
            assert_eq!(multipart.parts().len(), ranges.len());
        }
    }

    #[test]
    fn the_length_of_large_ranges_is_not_cut() {
        let len = 1 << 62;
        let multipart = Multipart::new(&[0..1 << 61, 1 << 61..len], len, "a/b", None, 1);
        assert!(multipart.content_length() > len);
    }

    #[test]
    fn parts_are_found_by_number() {
        let multipart = Multipart::new(&[5..6, 0..2], 11, "a/b", None, 1);
        let parts: Vec<_> = multipart.parts().collect();
        assert_eq!(multipart.part(0).as_ref(), Some(&parts[0]));
        assert_eq!(multipart.part(1).as_ref(), Some(&parts[1]));
        assert_eq!(multipart.part(2), None);
        assert_eq!(parts[0].range, 5..6, "the order is kept");
        assert!(
            parts[0].head.starts_with(b"--"),
            "nothing before the first delimiter"
        );
        assert!(parts[1].head.starts_with(b"\r\n--"), "RFC 2046, 5.1.1");
    }

    /// RFC 9110, 15.3.7.2: it is the representation that is coded.
    #[test]
    fn each_part_says_how_it_is_coded() {
        let multipart = Multipart::new(&[0..1, 2..3], 11, "a/b", Some(Coding::Gzip), 1);
        for part in multipart.parts() {
            let head = str::from_utf8(part.head).unwrap();
            assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
        }
    }
}
