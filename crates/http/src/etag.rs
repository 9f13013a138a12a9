//! Entity tags, made from a file's metadata or its content.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use crate::Coding;

/// Those of object stores: two quotes, an MD5, a dash and the number of parts, with room to spare.
/// Of a file it is two quotes, two numbers of 16 hexadecimal digits, a dash and `-zst`.
const BYTES_MAX: usize = 55;

/// A strong entity tag (RFC 9110, section 8.8.3).
///
/// Of a file it is `"<modification time>-<length>"`: the time is in nanoseconds since 1970, both
/// numbers are hexadecimal. A file that is written again within the resolution of the file system's
/// clock and keeps its length keeps its tag. Every content coding has a tag of its own
/// ([`ETag::with_coding`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag {
    /// Zeros behind the tag.
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl ETag {
    /// The tag of a file last modified at `modified`, of `size` bytes.
    pub fn new(modified: SystemTime, size: u64) -> Self {
        Self::of(format_args!("\"{:x}-{size:x}\"", nanoseconds(modified)))
    }

    /// The tag of a content by a hash of it, `"<hash>"`: the same on every host and at any time.
    pub fn of_content(hash: [u8; 16]) -> Self {
        Self::of(format_args!("\"{:032x}\"", u128::from_be_bytes(hash)))
    }

    /// A strong tag as another server sent it, with its quotes. `None`: it is weak, malformed or
    /// longer than 55 bytes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let opaque = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_etagc = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e);
        if text.len() > BYTES_MAX || !opaque.iter().all(is_etagc) {
            return None;
        }
        let mut bytes = [0; BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        let len = text.len();
        Some(Self { bytes, len })
    }

    /// This tag with `-br`, `-zst` or `-gz` at its end: the tag of a variant must differ from the
    /// original's (RFC 9110, section 8.8.3.3). A tag has one coding only.
    #[must_use]
    pub fn with_coding(self, coding: Coding) -> Self {
        let text = str::from_utf8(self.as_bytes()).unwrap_or_default();
        let start = text.strip_suffix('"').unwrap_or(text);
        Self::of(format_args!("{start}-{}\"", coding.extension()))
    }

    /// The tag with its quotes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn of(tag: fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; BYTES_MAX];
        let mut rest = &mut bytes[..];
        let written = rest.write_fmt(tag);
        debug_assert!(written.is_ok(), "all that a tag is made of fits");
        let len = BYTES_MAX - rest.len();
        Self { bytes, len }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Nanoseconds since 1970 modulo 2^64, so that times before it differ as well.
fn nanoseconds(time: SystemTime) -> u64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as u64,
        Err(before) => (before.duration().as_nanos() as u64).wrapping_neg(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tag_tells_time_and_length() {
        let epoch = SystemTime::UNIX_EPOCH;
        let latest = epoch + Duration::from_nanos(u64::MAX);
        let cases = [
            (epoch, 0, "\"0-0\""),
            (epoch + Duration::new(1, 1), 255, "\"3b9aca01-ff\""),
            (latest, u64::MAX, "\"ffffffffffffffff-ffffffffffffffff\""),
            (epoch - Duration::from_nanos(1), 1, "\"ffffffffffffffff-1\""),
        ];
        for (modified, size, expected) in cases {
            let tag = ETag::new(modified, size);
            assert_eq!(tag.to_string(), expected);
            assert_eq!(tag.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn a_tag_of_another_server_is_taken_if_it_is_strong() {
        let long = format!("\"{}\"", "x".repeat(54));
        let table = [
            ("\"\"", true),
            ("\"5d41402abc4b2a76b9719d911017c592-10000\"", true),
            ("W/\"x\"", false),
            ("x", false),
            ("\"", false),
            ("\"a\"b\"", false),
            ("\"a b\"", false),
            (&long, false),
        ];
        for (text, is_taken) in table {
            let tag = ETag::parse(text.as_bytes());
            let expected = is_taken.then(|| text.to_owned());
            assert_eq!(tag.map(|tag| tag.to_string()), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_tells_its_coding() {
        let latest = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::MAX);
        let longest = ETag::new(latest, u64::MAX);
        let content = ETag::of_content([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        #[rustfmt::skip] // one row a line
        let cases = [
            (ETag::new(SystemTime::UNIX_EPOCH, 1).with_coding(Coding::Gzip), "\"0-1-gz\""),
            (content, "\"000102030405060708090a0b0c0d0eff\""),
            (content.with_coding(Coding::Brotli), "\"000102030405060708090a0b0c0d0eff-br\""),
            (
                longest.with_coding(Coding::Zstd),
                "\"ffffffffffffffff-ffffffffffffffff-zst\"",
            ),
        ];
        for (tag, expected) in cases {
            assert_eq!(tag.to_string(), expected);
        }
    }

    #[test]
    fn each_coding_has_a_tag_of_its_own() {
        let tag = ETag::new(SystemTime::UNIX_EPOCH, 1);
        let mut tags = vec![tag];
        tags.extend(Coding::ALL.map(|coding| tag.with_coding(coding)));
        for (index, one) in tags.iter().enumerate() {
            for other in &tags[index + 1..] {
                assert_ne!(one, other, "RFC 9110, 8.8.3.3");
            }
        }
    }
}
