//! Names and values of the header fields that a site sets.

use super::{Checked, is_token, refuse, web};
use crate::Glob;

/// Fields that only the server sets, and why.
const OWNED: &[(&str, &str)] = &[
    ("accept-ranges", FRAMING),
    ("age", "only caches can say it"),
    ("allow", "it names the methods that there are"),
    ("connection", CONNECTION),
    ("content-encoding", FRAMING),
    ("content-length", FRAMING),
    ("content-range", FRAMING),
    ("date", FRAMING),
    ("etag", "it is made from the file, for each variant of it"),
    ("keep-alive", CONNECTION),
    ("last-modified", "it is the file's own time of change"),
    ("location", "[[site.redirects]] is for that"),
    ("proxy-connection", CONNECTION),
    ("te", CONNECTION),
    ("trailer", CONNECTION),
    ("transfer-encoding", FRAMING),
    ("upgrade", CONNECTION),
];

const FRAMING: &str = "it must fit the bytes that are sent";
const CONNECTION: &str = "it is about the connection, not about the file";

/// Checks the name of a field that a site sets. `with_cors`: the site has origins in `site.cors`,
/// which sets the fields of CORS then.
pub(crate) fn name(name: &str, with_cors: bool) -> Checked<()> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return refuse(format!(
            "`{}` is not the name of a header field (RFC 9110, section 5.1)",
            name.escape_debug()
        ));
    }
    let lower = name.to_ascii_lowercase();
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == lower) {
        return refuse(format!("the server sets {name} itself: {reason}"));
    }
    if with_cors && lower.starts_with("access-control-") {
        return refuse(format!(
            "site.cors sets {name} itself: leave its origins empty, or this field out"
        ));
    }
    Ok(())
}

/// Checks the value of a field, which may be empty; it never holds a line break. Its captures must
/// be captures of `pattern`, which is `None` if it was refused.
pub(crate) fn value(name: &str, text: &str, pattern: Option<&Glob>) -> Checked<String> {
    let value = printable(text)?;
    let captures = captures(&value);
    if let Some(pattern) = pattern {
        pattern.check_captures(captures.iter().copied())?;
    }
    match name.to_ascii_lowercase().as_str() {
        "content-type" | "vary" if !captures.is_empty() => refuse(format!(
            "`${}`: what a client asks for cannot say {name}; a dollar itself is $$",
            captures[0]
        )),
        "content-type" if !value.is_empty() => web::mime_type(value),
        // RFC 9110, section 12.5.5: `*` excludes names, and the server adds its own.
        "vary" if value.contains('*') => refuse(
            "`*` cannot be beside the names that the server adds; Cache-Control is to say that nothing may be kept",
        ),
        _ => Ok(value),
    }
}

/// The numbers of `$1` to `$9` in a value; `$$` is a dollar sign.
fn captures(value: &str) -> Vec<usize> {
    let without_dollars = value.replace("$$", "");
    let pieces = without_dollars.split('$').skip(1);
    let numbers = pieces.filter_map(|piece| match piece.bytes().next() {
        Some(digit @ b'1'..=b'9') => Some(usize::from(digit - b'0')),
        _ => None,
    });
    numbers.collect()
}

fn printable(text: &str) -> Checked<String> {
    let other = |char: &char| !matches!(char, '\t' | ' '..='~');
    if let Some(char) = text.chars().find(other) {
        return refuse(format!(
            "a header field cannot hold `{}`: write printable ASCII",
            char.escape_debug()
        ));
    }
    Ok(text.trim().to_owned())
}
