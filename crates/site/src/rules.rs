//! Header fields that a site's rules set for a path.

use tidegate_http::{Status, write_field};

use crate::config::HeaderRule;

/// What the rules set for one path: name and value of each field once.
#[derive(Default)]
pub(crate) struct Set<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

/// All rules whose pattern matches `path` apply in their order; of a field that several set the
/// last holds.
pub(crate) fn apply<'a>(rules: &'a [HeaderRule], path: &[u8]) -> Set<'a> {
    let mut set = Set::default();
    for rule in rules.iter().filter(|rule| rule.pattern.is_match(path)) {
        for (name, value) in &rule.set {
            set.put(name, value);
        }
    }
    set
}

impl<'a> Set<'a> {
    fn put(&mut self, name: &'a str, value: &'a str) {
        self.take(name);
        if !value.is_empty() {
            self.fields.push((name, value));
        }
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a str> {
        let is_it = |field: &(&str, &str)| field.0.eq_ignore_ascii_case(name);
        let index = self.fields.iter().position(is_it)?;
        Some(self.fields.remove(index).1)
    }

    pub(crate) fn fields(&self) -> &[(&'a str, &'a str)] {
        &self.fields
    }

    /// The lines for an answer that comes with no file of the path: a listing (200), a redirect, an
    /// error. How long a file may be kept says nothing of its absence; and neither where it went nor
    /// what is listed now is for ever, though the rules say so of what lies there.
    pub(crate) fn lines(mut self, status: Status) -> Vec<u8> {
        self.take("content-type");
        self.fields
            .retain(|(name, value)| !is_of_caching(name) || outlives(value, status));
        if status == Status::OK && !self.fields.iter().any(|(name, _)| is_of_caching(name)) {
            self.fields.push(("Cache-Control", "no-cache"));
        }
        let mut lines = Vec::new();
        for (name, value) in self.fields {
            write_field(&mut lines, name, value);
        }
        lines
    }
}

/// Whether a field tells how long something may be kept: Cache-Control, and what tells it to some caches
/// only (RFC 9213, such as CDN-Cache-Control).
fn is_of_caching(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let fields = ["cache-control", "expires", "surrogate-control"];
    fields.contains(&name.as_str()) || name.ends_with("-cache-control")
}

/// Whether what a rule says of caching holds for more than files (RFC 8246: `immutable`).
fn outlives(value: &str, status: Status) -> bool {
    matches!(status.code(), 200 | 300..=399) && !value.to_ascii_lowercase().contains("immutable")
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn rule(pattern: &str, set: &[(&str, &str)]) -> HeaderRule {
        HeaderRule {
            pattern: Regex::new(pattern).unwrap(),
            set: set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn rules() -> Vec<HeaderRule> {
        vec![
            rule(
                "^.*$",
                &[("X-Frame-Options", "DENY"), ("cache-control", "no-cache")],
            ),
            rule(
                "^/assets/.*$",
                &[("Cache-Control", "max-age=1"), ("Content-Type", "a/b")],
            ),
            rule("^/assets/open/.*$", &[("x-frame-options", "")]),
        ]
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
    fn only_files_carry_caching_and_a_type() {
        let mut rules = rules();
        rules.push(rule(
            "^.*$",
            &[
                ("Expires", "0"),
                ("CDN-Cache-Control", "max-age=9"),
                ("cloudflare-cdn-cache-control", "max-age=9"),
                ("Surrogate-Control", "max-age=9"),
                ("X-Cache-Control-Of", "me"),
            ],
        ));
        let lines = |status| String::from_utf8(apply(&rules, b"/assets/a").lines(status)).unwrap();
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
    fn what_is_for_ever_is_so_for_files() {
        let rules = [rule("^.*$", &[("Cache-Control", "max-age=9, Immutable")])];
        let lines = |status| apply(&rules, b"/").lines(status);
        assert_eq!(lines(Status::OK), b"Cache-Control: no-cache\r\n");
        assert_eq!(lines(Status::MOVED_PERMANENTLY), b"");
    }
}
