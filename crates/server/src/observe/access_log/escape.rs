//! Escapes values, so that a client can forge neither a line nor a part of one.

use tidegate_config::Escape;

/// Bytes that are compared at a time.
const CHUNK: usize = 16;
const HALF: usize = CHUNK / 2;

/// Bytes of the longest escape of one byte, `\u00ff`.
const ESCAPE_BYTES_MAX: usize = 6;

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

/// Appends `value` to `out`, escaped, up to a length of `out` of `max`; what is beyond is left out.
/// An empty value is `-`, except in JSON.
pub(super) fn push(escape: Escape, value: &[u8], max: usize, out: &mut Vec<u8>) {
    match escape {
        Escape::Default if value.is_empty() => out.push(b'-'),
        Escape::Json if value.is_empty() => {}
        Escape::Default => push_default(value, max, out),
        Escape::Json => push_json(value, max, out),
    }
}

/// As nginx's `escape=default`.
fn push_default(mut value: &[u8], max: usize, out: &mut Vec<u8>) {
    loop {
        let plain = plain_len(value);
        if !push_plain(&value[..plain], max, out) {
            return;
        }
        let Some((byte, rest)) = value[plain..].split_first() else {
            return;
        };
        if out.len() + ESCAPE_BYTES_MAX > max {
            return;
        }
        out.extend_from_slice(b"\\x");
        push_hex(*byte, HEX_UPPER, out);
        value = rest;
    }
}

/// As nginx's `escape=json`. A byte that is not UTF-8, which JSON cannot hold, becomes the
/// character with its number.
fn push_json(mut value: &[u8], max: usize, out: &mut Vec<u8>) {
    loop {
        let plain = plain_len(value);
        if !push_plain(&value[..plain], max, out) {
            return;
        }
        value = &value[plain..];
        if value.is_empty() || out.len() + ESCAPE_BYTES_MAX > max {
            return;
        }
        let taken = push_char(value, out);
        value = &value[taken..];
    }
}

/// Appends what `value` begins with: a character that is not ASCII, or the escape of a byte. Returns
/// the number of bytes of it.
fn push_char(value: &[u8], out: &mut Vec<u8>) -> usize {
    if let Some(len) = char_len(value) {
        out.extend_from_slice(&value[..len]);
        return len;
    }
    let short = match value[0] {
        byte @ (b'"' | b'\\') => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        byte => {
            out.extend_from_slice(b"\\u00");
            push_hex(byte, HEX_LOWER, out);
            return 1;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

/// The length of the character beyond ASCII that `value` begins with.
fn char_len(value: &[u8]) -> Option<usize> {
    if value[0].is_ascii() {
        return None;
    }
    let most = value.len().min(4);
    (2..=most).find(|len| str::from_utf8(&value[..*len]).is_ok())
}

/// Appends `plain` as far as there is room. Returns whether all of it fitted.
fn push_plain(plain: &[u8], max: usize, out: &mut Vec<u8>) -> bool {
    let room = max.saturating_sub(out.len());
    out.extend_from_slice(&plain[..plain.len().min(room)]);
    plain.len() <= room
}

fn push_hex(byte: u8, digits: &[u8; 16], out: &mut Vec<u8>) {
    let [high, low] = [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]);
    out.extend_from_slice(&[high, low]);
}

/// Whether a byte stands for itself in both notations.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Whether all bytes are plain. They are compared by chunks without a branch for each byte; the
/// last chunk may overlap the one before.
fn are_all_plain(value: &[u8]) -> bool {
    let (chunks, rest) = value.as_chunks::<CHUNK>();
    let are_plain = chunks.iter().all(is_chunk_plain);
    are_plain
        && match (value.last_chunk::<CHUNK>(), value.last_chunk::<HALF>()) {
            _ if rest.is_empty() => true,
            (Some(last), _) => is_chunk_plain(last),
            (None, Some(last)) => {
                value.first_chunk::<HALF>().is_some_and(is_chunk_plain) && is_chunk_plain(last)
            }
            (None, None) => rest.iter().all(|byte| is_plain(*byte)),
        }
}

fn is_chunk_plain<const N: usize>(chunk: &[u8; N]) -> bool {
    chunk
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte))
}

/// The number of plain bytes at the start.
fn plain_len(value: &[u8]) -> usize {
    if are_all_plain(value) {
        return value.len();
    }
    value.iter().take_while(|byte| is_plain(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: Escape, value: &[u8], max: usize) -> String {
        let mut out = Vec::new();
        push(escape, value, max, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_escaped_as_nginx_does() {
        let long = b"0123456789abcdef0123456789abcdef\"0123456789abcdef".as_slice();
        let rows: &[(&[u8], &str, &str)] = &[
            (b"", "-", ""),
            (b"a b~", "a b~", "a b~"),
            (b"\"\\", "\\x22\\x5C", "\\\"\\\\"),
            (
                b"a\r\nb\t\0\x7f",
                "a\\x0D\\x0Ab\\x09\\x00\\x7F",
                "a\\r\\nb\\t\\u0000\\u007f",
            ),
            (b"\x08\x0c\x1b", "\\x08\\x0C\\x1B", "\\b\\f\\u001b"),
            (
                "\u{e4}\u{20ac}\u{1f600}".as_bytes(),
                "\\xC3\\xA4\\xE2\\x82\\xAC\\xF0\\x9F\\x98\\x80",
                "\u{e4}\u{20ac}\u{1f600}",
            ),
            (
                b"\xff\xc3\xa4\xc3",
                "\\xFF\\xC3\\xA4\\xC3",
                "\\u00ff\u{e4}\\u00c3",
            ),
            (b"\xed\xa0\x80", "\\xED\\xA0\\x80", "\\u00ed\\u00a0\\u0080"),
            (
                long,
                "0123456789abcdef0123456789abcdef\\x220123456789abcdef",
                "0123456789abcdef0123456789abcdef\\\"0123456789abcdef",
            ),
        ];
        for (value, default, json) in rows {
            assert_eq!(escaped(Escape::Default, value, 1000), *default);
            assert_eq!(escaped(Escape::Json, value, 1000), *json);
        }
    }

    #[test]
    fn no_byte_ends_a_line_or_a_string() {
        for byte in 0..=255_u8 {
            for value in [[byte].as_slice(), &[b'a', byte], &[byte, 0xa4]] {
                let default = escaped(Escape::Default, value, 1000);
                assert!(default.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                assert!(!default.contains('"'), "{default}");
                let json = escaped(Escape::Json, value, 1000);
                assert!(!json.contains(|char: char| char < ' '), "{json}");
                assert!(
                    !json.replace("\\\\", "").replace("\\\"", "").contains('"'),
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn a_value_ends_within_its_room() {
        for value in [
            b"a".repeat(100),
            b"\n".repeat(100),
            "\u{e4}".repeat(100).into_bytes(),
        ] {
            for escape in [Escape::Default, Escape::Json] {
                for max in 0..50 {
                    assert!(escaped(escape, &value, max).len() <= max, "{max}");
                }
            }
        }
    }
}
