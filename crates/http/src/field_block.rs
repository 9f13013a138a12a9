//! Header fields to send: names and values, kept as field lines.
//!
//! A field line is `name: value` and CRLF (RFC 9112, section 5). HTTP/1.1 copies a block as it is;
//! another version iterates over its names and values.

use crate::syntax::trim_whitespace;

/// The methods allowed on every target, for Allow.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// An owned list of header fields. An empty one holds no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldBlock {
    lines: Vec<u8>,
}

/// A borrowed list of header fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldLines<'a>(&'a [u8]);

impl FieldBlock {
    /// An empty list.
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// An empty list with room for field lines of `bytes` in all.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            lines: Vec::with_capacity(bytes),
        }
    }

    /// Appends a field.
    ///
    /// A control character in `value` is an error of the caller; it is left out, so that no second
    /// field can be made of it.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.push_line(|line| {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(b": ");
            if value.iter().any(u8::is_ascii_control) {
                debug_assert!(false, "{}", value.escape_ascii());
                line.extend(value.iter().filter(|byte| !byte.is_ascii_control()));
            } else {
                line.extend_from_slice(value);
            }
        });
    }

    /// Appends a field. `write` appends its line without the CRLF, and no control character.
    #[inline]
    pub(crate) fn push_line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.lines);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Appends all of `fields`.
    pub fn extend(&mut self, fields: FieldLines<'_>) {
        self.lines.extend_from_slice(fields.0);
    }

    /// Takes all fields out; the memory is kept.
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    /// Gives memory back that holds no field.
    pub fn shrink_to_fit(&mut self) {
        self.lines.shrink_to_fit();
    }

    /// Bytes of the field lines.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The fields.
    pub fn lines(&self) -> FieldLines<'_> {
        FieldLines(&self.lines)
    }

    /// The fields from the `start`th to the `end`th byte of the block, `end` exclusive: both are
    /// lengths that it once had.
    pub(crate) fn lines_between(&self, start: usize, end: usize) -> FieldLines<'_> {
        FieldLines(&self.lines[start..end])
    }
}

impl<'a> FieldLines<'a> {
    /// The fields in `lines`: `name: value` and CRLF for each.
    pub const fn from_static(lines: &'static str) -> Self {
        Self(lines.as_bytes())
    }

    /// The fields as they are on the wire of HTTP/1.1: lines, each ended by CRLF.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first field with this name, in any case.
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        Lines(self.0).find_map(|line| value_of(line, name.as_bytes()))
    }

    /// The name and the value of each field, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        Lines(self.0).filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let name = str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii_start()))
        })
    }
}

/// The lines of a block, without their ends.
pub(crate) struct Lines<'b>(pub(crate) &'b [u8]);

impl<'b> Iterator for Lines<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The value of a line whose name is `name`, in any case.
pub(crate) fn value_of<'b>(line: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    if line.get(name.len()) != Some(&b':') || !line[..name.len()].eq_ignore_ascii_case(name) {
        return None;
    }
    Some(trim_whitespace(&line[name.len() + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_as_lines() {
        let mut block = FieldBlock::new();
        assert!(block.lines().is_empty());
        block.push("Vary", "Origin");
        block.push("X-A", b"\xc3\xa4");
        block.push_line(|line| line.extend_from_slice(b"X-C: d"));
        block.push("X-Empty", "");
        block.extend(FieldLines::from_static("X-B: c:d\r\n"));
        let lines = b"Vary: Origin\r\nX-A: \xc3\xa4\r\nX-C: d\r\nX-Empty: \r\nX-B: c:d\r\n";
        assert_eq!(block.lines().as_bytes(), lines);
        assert_eq!(block.lines().first("x-b"), Some(b"c:d".as_slice()));
        assert_eq!(block.lines().first("x"), None);
        let fields: Vec<_> = block.lines().iter().collect();
        let expected: [(&str, &[u8]); 5] = [
            ("Vary", b"Origin"),
            ("X-A", b"\xc3\xa4"),
            ("X-C", b"d"),
            ("X-Empty", b""),
            ("X-B", b"c:d"),
        ];
        assert_eq!(fields, expected);
        block.clear();
        assert_eq!(block.lines().iter().count(), 0);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "Evil"))]
    fn a_value_makes_no_second_field() {
        let mut block = FieldBlock::new();
        block.push("Location", "/a\r\nEvil: yes");
        assert_eq!(block.lines().as_bytes(), b"Location: /aEvil: yes\r\n");
    }
}
