//! Field lines: `name: value`, each ended by CRLF.

/// What is allowed on every target, for Allow.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Appends a field line.
///
/// A control character in `value` is an error of the caller; it is left out, so that no second
/// field can be made of it.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(!value.contains(|c: char| c.is_ascii_control()), "{value:?}");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
    out.extend_from_slice(b"\r\n");
}
