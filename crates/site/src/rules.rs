//! Header fields that a site's rules set for a path.

use tidegate_http::{Status, write_field};

use crate::config::HeaderRule;

/// The lowest status of an error.
const ERROR: u16 = 400;

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

    /// The lines for an answer that comes with no file of the path. What the rules say of
    /// caching is meant for the file, not for its absence.
    pub(crate) fn lines(mut self, status: Status) -> Vec<u8> {
        self.take("content-type");
        if status.code() >= ERROR {
            self.take("cache-control");
            self.take("expires");
        }
        let mut lines = Vec::new();
        for (name, value) in self.fields {
            write_field(&mut lines, name, value);
        }
        lines
    }
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
    fn errors_carry_no_caching_and_nothing_carries_a_type() {
        let rules = rules();
        let lines = |status| String::from_utf8(apply(&rules, b"/assets/a").lines(status)).unwrap();
        assert_eq!(lines(Status::NOT_FOUND), "X-Frame-Options: DENY\r\n");
        assert_eq!(
            lines(Status::FOUND),
            "X-Frame-Options: DENY\r\nCache-Control: max-age=1\r\n"
        );
    }
}
