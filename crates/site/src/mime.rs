//! The media type of a file, by its name.

use std::collections::BTreeMap;

/// How media types are chosen.
#[derive(Clone, Debug)]
pub struct Types {
    /// Added to types that are text; empty: none.
    pub charset: String,
    /// For names that tell nothing.
    pub default: String,
    /// Extension, in lower case and without its dot, to type: before all others.
    pub overrides: BTreeMap<String, String>,
}

impl Default for Types {
    fn default() -> Self {
        Self {
            charset: "utf-8".to_owned(),
            default: "application/octet-stream".to_owned(),
            overrides: BTreeMap::new(),
        }
    }
}

impl Types {
    /// The value of Content-Type for a file named `name`.
    pub(crate) fn of(&self, name: &[u8]) -> String {
        let Some(extension) = extension(name) else {
            return self.with_charset(&self.default);
        };
        if let Some(media_type) = self.overrides.get(&extension) {
            return self.with_charset(media_type);
        }
        match mime_guess::from_ext(&extension).first_raw() {
            // Obsolete (RFC 9239, section 6).
            Some("application/javascript") => self.with_charset("text/javascript"),
            Some(media_type) => self.with_charset(media_type),
            None => self.with_charset(&self.default),
        }
    }

    /// The charset is for text that says nothing of itself: parameters are left as they were written.
    fn with_charset(&self, media_type: &str) -> String {
        if self.charset.is_empty() || !is_text(media_type) {
            media_type.to_owned()
        } else {
            format!("{media_type}; charset={}", self.charset)
        }
    }
}

fn extension(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Whether a type without parameters has a charset that browsers heed. JSON has none (RFC 8259,
/// section 11). Types are compared without regard to case (RFC 9110, section 8.3.1).
fn is_text(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    !media_type.contains(';')
        && (media_type.starts_with("text/")
            || media_type.ends_with("+xml")
            || media_type == "application/xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Types {
        Types {
            charset: "utf-8".into(),
            default: "application/octet-stream".into(),
            overrides: [("foo".to_owned(), "text/x-foo".to_owned())].into(),
        }
    }

    #[test]
    fn types_are_told_by_the_extension() {
        let table = [
            ("a.html", "text/html; charset=utf-8"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.png", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.mp4", "video/mp4"),
            ("a.tar.gz", "application/gzip"),
            ("a.foo", "text/x-foo; charset=utf-8"),
            ("a.unknown-extension", "application/octet-stream"),
            ("no-extension", "application/octet-stream"),
            ("dir.html/none", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("ends.", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(types().of(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_charset_is_added_to_types_of_the_configuration_too() {
        let of = |media_type: &str| {
            let types = Types {
                default: media_type.to_owned(),
                overrides: [("log".to_owned(), media_type.to_owned())].into(),
                ..types()
            };
            let found = types.of(b"a.log");
            assert_eq!(types.of(b"a.unknown-extension"), found);
            assert_eq!(types.of(b"README"), found);
            found
        };
        for (media_type, expected) in [
            ("text/plain", "text/plain; charset=utf-8"),
            ("Text/Plain", "Text/Plain; charset=utf-8"),
            (
                "application/atom+xml",
                "application/atom+xml; charset=utf-8",
            ),
            ("text/plain; charset=latin1", "text/plain; charset=latin1"),
            ("text/plain;format=flowed", "text/plain;format=flowed"),
            ("application/octet-stream", "application/octet-stream"),
            ("application/json", "application/json"),
        ] {
            assert_eq!(of(media_type), expected);
        }
    }

    #[test]
    fn no_charset_is_added_when_there_is_none() {
        let types = Types {
            charset: String::new(),
            ..types()
        };
        assert_eq!(types.of(b"a.html"), "text/html");
    }

    #[test]
    fn a_name_that_is_not_utf8_has_the_default_type() {
        assert_eq!(types().of(b"\xff.html"), "application/octet-stream");
    }
}
