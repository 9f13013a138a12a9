//! Templates in which `$1` to `$9` stand for the captures of a path, by one digit. `$$` is a dollar
//! sign, and a dollar sign before any other character is literal.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use regex::bytes::Captures;
use tidegate_http::ENCODED_SLASH;

/// The characters to encode in a query or a header value: all except letters, digits and those that
/// neither end a parameter or an item of a list nor stand for a space.
pub(crate) const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    /// By number, from 1.
    Capture(usize),
}

/// Splits a template into its parts.
pub(crate) fn parts(mut text: &str) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (part, rest) = first_part(text)?;
        text = rest;
        Some(part)
    })
}

fn first_part(text: &str) -> Option<(Part<'_>, &str)> {
    match *text.as_bytes() {
        [] => None,
        [b'$', digit @ b'1'..=b'9', ..] => {
            Some((Part::Capture(usize::from(digit - b'0')), &text[2..]))
        }
        [b'$', b'$', ..] => Some((Part::Text("$"), &text[2..])),
        [first, ..] => {
            let start = usize::from(first == b'$');
            let end = text[start..].find('$').map_or(text.len(), |at| start + at);
            Some((Part::Text(&text[..end]), &text[end..]))
        }
    }
}

/// The bytes of a capture; empty if its group takes no part in the match.
pub(crate) fn captured<'p>(captures: &Captures<'p>, number: usize) -> &'p [u8] {
    let group = captures.get(number);
    group.map_or(b"", |group| group.as_bytes())
}

/// Appends a capture of a decoded path, with the bytes of `encoded` percent-encoded.
pub(crate) fn put(out: &mut String, captured: &[u8], encoded: &'static AsciiSet) {
    for (index, part) in captured.split(|byte| *byte == ENCODED_SLASH).enumerate() {
        if index > 0 {
            out.push_str("%2F");
        }
        out.extend(percent_encode(part, encoded));
    }
}

#[cfg(test)]
mod tests {
    use super::Part::{Capture, Text};
    use super::*;

    #[test]
    fn templates_are_split() {
        let table: [(&str, &[Part<'_>]); 10] = [
            ("", &[]),
            ("a", &[Text("a")]),
            ("$1", &[Capture(1)]),
            (
                "/a$12$9é",
                &[Text("/a"), Capture(1), Text("2"), Capture(9), Text("é")],
            ),
            ("$$1", &[Text("$"), Text("1")]),
            ("$$$1", &[Text("$"), Capture(1)]),
            ("$0", &[Text("$0")]),
            ("a$", &[Text("a"), Text("$")]),
            ("$é$$", &[Text("$é"), Text("$")]),
            ("${1}", &[Text("${1}")]),
        ];
        for (text, expected) in table {
            assert_eq!(parts(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn captures_are_encoded() {
        let every: Vec<u8> = (0..=255).collect();
        let mut out = String::new();
        put(&mut out, &every, PLAIN);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
        assert!(out.bytes().all(is_plain), "{out}");
        assert!(out.starts_with("%2F%01"), "{out}");
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(&out).collect();
        assert_eq!(decoded[1..], every[1..]);
    }
}
