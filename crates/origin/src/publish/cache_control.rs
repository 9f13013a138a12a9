//! The value of Cache-Control that an object is stored with.

use std::str::FromStr;

use http::HeaderValue;
use tidegate_config::{CachePreset, Glob};

/// For what is neither a page nor has a hash in its name.
const OTHERS: &str = "public, max-age=3600";

/// The length of a hash in base 32 or 64, as bundlers write it.
const HASH_LEN: usize = 8;

/// `GLOB=VALUE`: a rule of the user's.
#[derive(Clone, Debug)]
pub struct CacheControl {
    /// Of the paths that it is for.
    pub paths: Glob,
    /// The value of the field; empty: the object gets none.
    pub value: String,
}

impl FromStr for CacheControl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((glob, value)) = text.split_once('=') else {
            return Err("write GLOB=VALUE, as in '/assets/**=max-age=60'".to_owned());
        };
        let (glob, value) = (glob.trim(), value.trim());
        if HeaderValue::from_str(value).is_err() {
            return Err("a field has no control characters".to_owned());
        }
        Ok(Self {
            paths: path_glob(glob)?,
            value: value.to_owned(),
        })
    }
}

/// A pattern for paths below the directory, with a leading slash. One that has none is for any
/// depth: `*.map` is `/**/*.map`.
///
/// # Errors
///
/// The text is no pattern.
pub fn path_glob(text: &str) -> Result<Glob, String> {
    let glob = if text.starts_with('/') {
        Glob::new(text, false)
    } else {
        Glob::new(&format!("/**/{text}"), false)
    };
    glob.map_err(|error| error.to_string())
}

/// The value for an object at `path`, which has a leading slash: of the first rule that applies, or
/// the default for its name and type. `None`: the object gets no field.
pub(super) fn value<'a>(
    rules: &'a [CacheControl],
    path: &str,
    content_type: &str,
) -> Option<&'a str> {
    let mut rules = rules.iter();
    if let Some(rule) = rules.find(|rule| rule.paths.is_match(path.as_bytes())) {
        return Some(rule.value.as_str()).filter(|value| !value.is_empty());
    }
    Some(if content_type.starts_with("text/html") {
        CachePreset::Revalidate.value()
    } else if has_hash(path) {
        CachePreset::Immutable.value()
    } else {
        OTHERS
    })
}

/// Whether the last segment of a path has a hash between dots, hyphens and underscores. One that
/// looks like a word or a date is none: to take it for one costs a year, and the reverse an hour.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    stem.split(['.', '-', '_'])
        .any(|part| is_hex(part) || is_base(part))
}

/// Eight hexadecimal digits or more, two of them letters, that do not begin like a date.
fn is_hex(part: &str) -> bool {
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
    part.len() >= HASH_LEN
        && part.bytes().all(is_lower)
        && letters >= 2
        && letters < part.len()
        && !part.starts_with("19")
        && !part.starts_with("20")
}

/// Eight letters and digits, with a capital, and with a digit before a letter.
fn is_base(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() == HASH_LEN
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes.iter().any(u8::is_ascii_uppercase)
        && bytes
            .windows(2)
            .any(|two| two[0].is_ascii_digit() && two[1].is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: &str = "public, max-age=31536000, immutable";

    fn rule(text: &str) -> CacheControl {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_go_by_name_and_type() {
        for (path, content_type, expected) in [
            ("/index.html", "text/html; charset=utf-8", "no-cache"),
            ("/page.0f3c9ad1be27.html", "text/html", "no-cache"),
            ("/app.0f3c9ad1be27.js", "text/javascript", YEAR),
            ("/a/app.0f3c9ad1be27.js.map", "application/json", YEAR),
            ("/main-BX3k9aZ1.css", "text/css", YEAR),
            ("/chunk-6M3XKQ2A.js", "text/javascript", YEAR),
            ("/4c3b2a1f.woff2", "font/woff2", YEAR),
            ("/app.js", "text/javascript", OTHERS),
            ("/0f3c9ad1be27/app.js", "text/javascript", OTHERS),
            ("/0f3c9ad1be27", "application/octet-stream", OTHERS),
            ("/report-20240101.pdf", "application/pdf", OTHERS),
            ("/backup-2024dec24.zip", "application/zip", OTHERS),
            ("/my-document.pdf", "application/pdf", OTHERS),
            ("/my-Report24.pdf", "application/pdf", OTHERS),
            ("/deadbeef.js", "text/javascript", OTHERS),
            ("/jquery-3.7.1.min.js", "text/javascript", OTHERS),
        ] {
            assert_eq!(value(&[], path, content_type), Some(expected), "{path}");
        }
    }

    #[test]
    fn the_first_rule_counts() {
        let rules = [
            rule("/assets/**=max-age=60, public"),
            rule("*.html = no-store"),
            rule("**/*.json="),
            rule("/assets/a.css=never"),
        ];
        for (path, expected) in [
            ("/assets/a.css", Some("max-age=60, public")),
            ("/index.html", Some("no-store")),
            ("/a/b/c.html", Some("no-store")),
            ("/a/b.json", None),
            ("/b.css", Some(OTHERS)),
        ] {
            assert_eq!(value(&rules, path, "text/plain"), expected, "{path}");
        }
    }

    #[test]
    fn wrong_rules_are_refused() {
        for text in ["no-cache", "/a=x\u{1}", "/a=x\nX: y", "/[a=x"] {
            assert!(text.parse::<CacheControl>().is_err(), "{text}");
        }
    }
}
