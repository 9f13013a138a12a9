//! Requests of field lines.

use tidegate_http::{Fields, Method, Request, Target};

/// A request for `/` with these field lines.
pub(crate) fn request(method: Method, lines: &[u8]) -> Request<'_> {
    let (target, _) = Target::parse("/").expect("a path");
    Request {
        method,
        target,
        host: Some("a"),
        fields: Fields::of_block(lines),
    }
}

/// Whether a field can have this value: a parser of heads lets no other through.
pub(crate) fn is_value(value: &[u8]) -> bool {
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    value.iter().all(is_text)
}

/// `name: value` and CRLF.
pub(crate) fn line(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b": ", value, b"\r\n"].concat()
}
