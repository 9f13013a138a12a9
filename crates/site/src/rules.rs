//! Header fields that a site's rules set for a path.

use tidegate_http::write_field;

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

    /// The lines for an answer that comes with no file of the path. What the rules say of
    /// caching is meant for the file: neither for its absence, nor for where it went, nor for a
    /// list of what is there now.
    pub(crate) fn lines(self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, value) in self.fields {
            if !is_of_file(name) {
                write_field(&mut lines, name, value);
            }
        }
        lines
    }
}

/// Whether a field tells of a file what it is, or how long it may be kept: Cache-Control, and what
/// tells it to some caches only (RFC 9213, such as CDN-Cache-Control).
fn is_of_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let fields = [
        "content-type",
        "cache-control",
        "expires",
        "surrogate-control",
    ];
    fields.contains(&name.as_str()) || name.ends_with("-cache-control")
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
        let lines = apply(&rules, b"/assets/a").lines();
        assert_eq!(
            lines,
            b"X-Frame-Options: DENY\r\nX-Cache-Control-Of: me\r\n"
        );
    }
}
