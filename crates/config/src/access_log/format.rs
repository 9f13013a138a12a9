//! The format of a line: text and variables in turn.

use serde::ser::{Serialize, Serializer};

use super::Variable;
use crate::ValueError;

/// The longest format, which bounds the length of a line.
const FORMAT_BYTES_MAX: usize = 4096;

/// The most request fields of a format, `$remote_user` among them: they are looked for together.
pub const REQUEST_FIELDS_MAX: usize = 16;

/// nginx's `combined`.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
     $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// A short line for people.
const SHORT: &str = "$remote_addr $status $request_method $scheme://$host$request_uri \
     $body_bytes_sent ${request_time}s";

/// An object of JSON, with names of nginx where there is one. [`FormatPart::CacheMember`] and a brace
/// end it.
const JSON: &str = "{\"time\":\"$time_iso8601\",\"msec\":$msec,\"remote_addr\":\"$remote_addr\",\
     \"remote_user\":\"$remote_user\",\"scheme\":\"$scheme\",\"host\":\"$host\",\
     \"request_method\":\"$request_method\",\"request_uri\":\"$request_uri\",\
     \"server_protocol\":\"$server_protocol\",\"status\":$status,\
     \"body_bytes_sent\":$body_bytes_sent,\"bytes_sent\":$bytes_sent,\
     \"request_time\":$request_time,\"first_byte_time\":$first_byte_time,\
     \"complete\":$complete,\"cold\":$cold,\"coding\":\"$coding\",\"range\":\"$http_range\",\
     \"http_referer\":\"$http_referer\",\"http_user_agent\":\"$http_user_agent\",\
     \"ssl_protocol\":\"$ssl_protocol\",\"ssl_cipher\":\"$ssl_cipher\",\"core\":$core";

/// A compiled format.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFormat {
    /// As typed.
    text: String,
    parts: Vec<FormatPart>,
    escape: Escape,
}

/// A part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatPart {
    /// Written as it stands.
    Text(String),
    /// Replaced by its value.
    Variable(Variable),
    /// In JSON, between the last member of an object and its brace: `,"cache_status":"hit"`, if the
    /// response has a cache status.
    CacheMember,
}

/// How values are escaped, so that a client cannot forge a line or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As nginx's `default`: `"`, `\`, and bytes below 32 or above 126 are `\xHH`; a value that is
    /// not there is `-`.
    Default,
    /// As nginx's `json`: for strings of JSON; a value that is not there is empty.
    Json,
}

impl LogFormat {
    /// nginx's `combined`.
    pub fn combined() -> Self {
        Self::compiled("combined", COMBINED).expect("it is correct")
    }

    /// A short line for people.
    pub(super) fn short() -> Self {
        Self::compiled(SHORT, SHORT).expect("it is correct")
    }

    /// Compiles `combined`, `json`, or a format of the user's own: text with nginx's variables, and
    /// `$$` for a dollar sign. One that begins with a brace is JSON, and its values are escaped so.
    pub fn typed(text: &str) -> Result<Self, ValueError> {
        match text {
            "combined" => Self::compiled(text, COMBINED),
            "json" => {
                let mut format = Self::compiled(text, JSON)?;
                format.parts.push(FormatPart::CacheMember);
                format.parts.push(FormatPart::Text("}".to_owned()));
                Ok(format)
            }
            "" => refuse("empty: write \"combined\", \"json\" or a format such as \"$request\""),
            _ if text.len() > FORMAT_BYTES_MAX => {
                refuse(format!("longer than {FORMAT_BYTES_MAX} bytes"))
            }
            _ if text.contains(|char: char| char.is_control() && char != '\t') => {
                refuse("a line is one line: it cannot hold control characters")
            }
            _ if !text.contains('$') => refuse(format!(
                "`{text}` has no variable: write \"combined\", \"json\" or a format such as \
                 \"$remote_addr $request\""
            )),
            _ => Self::compiled(text, text),
        }
    }

    fn compiled(text: &str, format: &str) -> Result<Self, ValueError> {
        let escape = if format.starts_with('{') {
            Escape::Json
        } else {
            Escape::Default
        };
        let parts = parts(format)?;
        if count_request_fields(&parts) > REQUEST_FIELDS_MAX {
            let reason = format!("more than {REQUEST_FIELDS_MAX} fields of a request");
            return Err(ValueError::new(reason));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
            escape,
        })
    }

    /// The parts in the order of the line, which ends in a line feed that is none of them.
    pub fn parts(&self) -> &[FormatPart] {
        &self.parts
    }

    /// How values are escaped.
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// Whether the format has a variable for which `is_it` holds.
    pub fn has(&self, is_it: impl Fn(&Variable) -> bool) -> bool {
        self.parts.iter().any(|part| match part {
            FormatPart::Text(_) | FormatPart::CacheMember => false,
            FormatPart::Variable(variable) => is_it(variable),
        })
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

fn count_request_fields(parts: &[FormatPart]) -> usize {
    let is_field = |part: &&FormatPart| {
        matches!(
            part,
            FormatPart::Variable(Variable::RequestField(_) | Variable::RemoteUser)
        )
    };
    parts.iter().filter(is_field).count()
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError::new(reason))
}

fn parts(format: &str) -> Result<Vec<FormatPart>, ValueError> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('$') {
        push_text(&mut parts, text);
        if let Some(after) = after.strip_prefix('$') {
            push_text(&mut parts, "$");
            rest = after;
            continue;
        }
        let (name, after) = name(after)?;
        parts.push(FormatPart::Variable(Variable::named(name)?));
        rest = after;
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

/// Appends to a text at the end, so that no two follow each other.
fn push_text(parts: &mut Vec<FormatPart>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(FormatPart::Text(last)) => last.push_str(text),
        _ => parts.push(FormatPart::Text(text.to_owned())),
    }
}

/// The name of the variable at the start of `text`, `name` or `{name}`, and what follows.
fn name(text: &str) -> Result<(&str, &str), ValueError> {
    let (text, is_braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    let (name, after) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() {
        return refuse("a `$` without a name: write $$ for a dollar sign");
    }
    if !is_braced {
        return Ok((name, after));
    }
    match after.strip_prefix('}') {
        Some(after) => Ok((name, after)),
        None => refuse(format!("`${{{name}`: the closing brace is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> FormatPart {
        FormatPart::Text(text.to_owned())
    }

    #[test]
    fn text_and_variables_in_turn() {
        let status = || FormatPart::Variable(Variable::Status);
        let rows = [
            ("$status", vec![status()]),
            ("a ${status}b", vec![text("a "), status(), text("b")]),
            ("$status$status.", vec![status(), status(), text(".")]),
            ("1 $$ $status", vec![text("1 $ "), status()]),
        ];
        for (format, expected) in rows {
            let compiled = LogFormat::typed(format).expect(format);
            assert_eq!(compiled.parts(), expected, "{format}");
            assert_eq!(compiled.escape(), Escape::Default);
        }
    }

    #[test]
    fn one_with_a_brace_is_json() {
        for format in ["json", "{\"status\":$status}"] {
            assert_eq!(LogFormat::typed(format).unwrap().escape(), Escape::Json);
        }
        assert_eq!(LogFormat::combined().escape(), Escape::Default);
    }

    #[test]
    fn what_is_no_format_is_refused() {
        let long = "$status".repeat(FORMAT_BYTES_MAX);
        let fields = "$http_a".repeat(REQUEST_FIELDS_MAX + 1);
        let rows = [
            ("", "empty"),
            ("common", "`common` has no variable"),
            ("$status\n", "a line is one line"),
            ("$", "a `$` without a name"),
            ("$ status", "a `$` without a name"),
            ("${}", "a `$` without a name"),
            ("${status", "`${status`: the closing brace is missing"),
            (
                "$statu",
                "`$statu`: unknown variable; did you mean `$status`?",
            ),
            (&long, "longer than 4096 bytes"),
            (&fields, "more than 16 fields of a request"),
        ];
        for (format, expected) in rows {
            let error = LogFormat::typed(format).expect_err(format).to_string();
            assert!(error.starts_with(expected), "{format}: {error}");
        }
    }
}
