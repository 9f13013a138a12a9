//! The header fields that a site's rules set for a path.

use std::borrow::Cow;
use std::cell::LazyCell;

use regex::bytes::Captures;
use tidegate_config::HeaderRule;
use tidegate_http::{FieldBlock, Status};

use crate::rules::template::{self, Part, parts};

/// A field whose value becomes longer by its captures is left out. A truncated value would mean
/// something else, and many proxies accept heads of at most 8 KiB.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// The fields that the rules set for one path; no name twice.
#[derive(Default)]
pub(crate) struct HeaderSet<'a> {
    fields: Vec<(&'a str, Cow<'a, str>)>,
}

/// Applies all rules whose pattern matches `path`, in order. If several set the same field, the
/// last one wins.
pub(crate) fn apply<'a>(rules: &'a [HeaderRule], path: &[u8]) -> HeaderSet<'a> {
    let mut set = HeaderSet::default();
    for rule in rules.iter().filter(|rule| rule.pattern.is_match(path)) {
        let captures = LazyCell::new(|| rule.pattern.regex().captures(path));
        for (name, value) in rule.fields() {
            set.put(name, expand(value, || captures.as_ref()));
        }
    }
    set
}

/// Replaces `$1` to `$9` by the captures, percent-encoded. Empty if the result is too long.
fn expand<'a, 'c>(
    value: &'a str,
    captures: impl FnOnce() -> Option<&'c Captures<'c>>,
) -> Cow<'a, str> {
    if !value.contains('$') {
        return Cow::Borrowed(value);
    }
    let Some(captures) = captures() else {
        return Cow::Borrowed("");
    };
    let mut expanded = String::new();
    for part in parts(value) {
        match part {
            Part::Text(text) => expanded.push_str(text),
            Part::Capture(number) => {
                let text = template::captured(captures, number);
                template::put(&mut expanded, text, template::PLAIN);
            }
        }
        if expanded.len() > VALUE_BYTES_MAX {
            return Cow::Borrowed("");
        }
    }
    Cow::Owned(expanded)
}

impl<'a> HeaderSet<'a> {
    /// Adds a field that no rule set.
    pub(crate) fn put_default(&mut self, name: &'a str, value: Cow<'a, str>) {
        if !self
            .fields
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            self.fields.push((name, value));
        }
    }

    fn put(&mut self, name: &'a str, value: Cow<'a, str>) {
        self.take(name);
        if !value.is_empty() {
            self.fields.push((name, value));
        }
    }

    /// Removes a field and returns its value.
    pub(crate) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let is_it = |field: &(&str, Cow<'_, str>)| field.0.eq_ignore_ascii_case(name);
        let index = self.fields.iter().position(is_it)?;
        Some(self.fields.remove(index).1)
    }

    pub(crate) fn fields(&self) -> Vec<(&str, &str)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (*name, &**value)).collect()
    }

    /// The fields of a response without the path's own file: a listing (200), a redirect, an
    /// error. The lifetime of a file does not apply to its absence, so errors get no caching
    /// fields. A listing or a redirect may change, even where a rule marks the files there as
    /// immutable.
    pub(crate) fn block(mut self, status: Status) -> FieldBlock {
        self.take("content-type");
        self.fields
            .retain(|(name, value)| !controls_caching(name) || applies_without_file(value, status));
        if status == Status::OK && !self.fields.iter().any(|(name, _)| controls_caching(name)) {
            self.fields.push(("Cache-Control", "no-cache".into()));
        }
        let mut block = FieldBlock::new();
        for (name, value) in self.fields {
            block.push(name, value.as_bytes());
        }
        block
    }
}

/// Whether a field controls caching: Cache-Control, Expires, and targeted fields such as
/// CDN-Cache-Control (RFC 9213).
fn controls_caching(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let fields = ["cache-control", "expires", "surrogate-control"];
    fields.contains(&name.as_str()) || name.ends_with("-cache-control")
}

/// Whether a caching field of a rule also holds for a response without a file: not for errors, and
/// not if it is `immutable` (RFC 8246).
fn applies_without_file(value: &str, status: Status) -> bool {
    matches!(status.code(), 200 | 300..=399) && !value.to_ascii_lowercase().contains("immutable")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn rule(pattern: &str, set: &[(&str, &str)]) -> HeaderRule {
        HeaderRule {
            pattern: pattern.parse().expect(pattern),
            ignore_case: false,
            cache: None,
            set: set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn rules() -> Vec<HeaderRule> {
        vec![
            rule(
                "/**",
                &[("X-Frame-Options", "DENY"), ("cache-control", "no-cache")],
            ),
            rule(
                "/assets/**",
                &[("Cache-Control", "max-age=1"), ("Content-Type", "a/b")],
            ),
            rule("/assets/open/**", &[("x-frame-options", "")]),
        ]
    }

    fn lines(fields: &FieldBlock) -> String {
        String::from_utf8(fields.lines().as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn all_that_match_apply_and_later_ones_win() {
        let rules = rules();
        let table: [(&[u8], Fields); 3] = [
            (
                b"/a",
                &[("X-Frame-Options", "DENY"), ("cache-control", "no-cache")],
            ),
            (
                b"/assets/a",
                &[
                    ("X-Frame-Options", "DENY"),
                    ("Cache-Control", "max-age=1"),
                    ("Content-Type", "a/b"),
                ],
            ),
            (
                b"/assets/open/a",
                &[("Cache-Control", "max-age=1"), ("Content-Type", "a/b")],
            ),
        ];
        for (path, expected) in table {
            assert_eq!(apply(&rules, path).fields(), expected);
        }
    }

    #[test]
    fn captures_are_in_values() {
        let value = "$1, $3: \"$2\" $$1 $0 $9$";
        let rules = [rule(
            "/*/{x**,**}",
            &[("X-A", value), ("X-B", "$3"), ("X-C", "$$")],
        )];
        let table: [(&[u8], &str); 5] = [
            (b"/de/xy/z", "de, y/z: \"xy/z\" $1 $0 $"),
            // A group that takes no part in the match is empty.
            (b"/en/", "en, : \"\" $1 $0 $"),
            (
                b"/a/\r\nSet-Cookie: a=b;\"c\",d",
                "a, : \"%0D%0ASet-Cookie%3A%20a%3Db%3B%22c%22%2Cd\" $1 $0 $",
            ),
            (b"/a/\0\xff%", "a, : \"%2F%FF%25\" $1 $0 $"),
            ("/a/é".as_bytes(), "a, : \"%C3%A9\" $1 $0 $"),
        ];
        for (path, expected) in table {
            let set = apply(&rules, path);
            assert_eq!(
                set.fields()[0],
                ("X-A", expected),
                "{}",
                path.escape_ascii()
            );
            // An empty value is not sent.
            let last = set.fields().last().copied();
            assert_eq!(last, Some(("X-C", "$")), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn a_value_that_becomes_too_long_is_left_out() {
        let rules = [
            rule("/**", &[("X-A", "before"), ("X-B", "1")]),
            rule("/**", &[("X-A", "$1$1$1$1")]),
        ];
        let path = |len| format!("/{}", "a".repeat(len)).into_bytes();
        let longest = apply(&rules, &path(VALUE_BYTES_MAX / 4)).block(Status::NOT_FOUND);
        assert!(longest.lines().as_bytes().len() > VALUE_BYTES_MAX);
        for len in [VALUE_BYTES_MAX / 4 + 1, 64 << 10, 1 << 20] {
            let set = apply(&rules, &path(len));
            assert_eq!(set.fields(), [("X-B", "1")], "{len}");
        }
    }

    #[test]
    fn only_files_carry_caching_and_a_type() {
        let mut rules = rules();
        rules.push(rule(
            "/**",
            &[
                ("Expires", "0"),
                ("CDN-Cache-Control", "max-age=9"),
                ("cloudflare-cdn-cache-control", "max-age=9"),
                ("Surrogate-Control", "max-age=9"),
                ("X-Cache-Control-Of", "me"),
            ],
        ));
        let lines = |status| lines(&apply(&rules, b"/assets/a").block(status));
        let others = "X-Frame-Options: DENY\r\nX-Cache-Control-Of: me\r\n";
        for status in [
            Status::NOT_FOUND,
            Status::NO_CONTENT,
            Status::PRECONDITION_FAILED,
        ] {
            assert_eq!(lines(status), others, "{status:?}");
        }
        for status in [Status::OK, Status::MOVED_PERMANENTLY] {
            assert!(
                lines(status).contains("Cache-Control: max-age=1\r\n"),
                "{status:?}"
            );
        }
    }

    #[test]
    fn immutable_is_for_files_only() {
        let rules = [rule("/**", &[("Cache-Control", "max-age=9, Immutable")])];
        let lines = |status| lines(&apply(&rules, b"/").block(status));
        assert_eq!(lines(Status::OK), "Cache-Control: no-cache\r\n");
        assert_eq!(lines(Status::MOVED_PERMANENTLY), "");
    }
}
