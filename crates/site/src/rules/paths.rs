//! Rules that answer a path before any file is looked for.
//!
//! They are held against the path as it is looked up: decoded once, without dot segments and empty
//! ones, so that no other spelling of it gets past them. What a rule responds to is not served
//! under another path either, where `try-files` or an index would find it: see [`is_answered`].

use tidegate_http::Status;

use crate::config::{PathRule, Respond, RuleAnswer};
use crate::rules::redirects;

/// What a rule says of a path.
pub enum Ruling<'s> {
    /// That it is answered with a status.
    Respond(&'s Respond),
    /// That it is elsewhere.
    Redirect {
        /// One of the 3xx that have a Location.
        status: Status,
        /// Encoded; with a query.
        location: String,
    },
}

/// What the first rule that is for `path` says.
pub(crate) fn rule<'s>(
    rules: &'s [PathRule],
    path: &[u8],
    query: Option<&str>,
) -> Option<Ruling<'s>> {
    let rule = rules.iter().find(|rule| rule.is_for(path))?;
    Some(match &rule.answer {
        RuleAnswer::Respond(respond) => Ruling::Respond(respond),
        RuleAnswer::Redirect { status, to } => Ruling::Redirect {
            status: *status,
            location: redirects::location(to, &rule.pattern.captures(path)?, query),
        },
    })
}

/// Whether a rule responds to `path`: then no file there is found for another path.
pub(crate) fn is_answered(rules: &[PathRule], path: &[u8]) -> bool {
    let mut responding = rules
        .iter()
        .filter(|rule| matches!(rule.answer, RuleAnswer::Respond(_)));
    responding.any(|rule| rule.is_for(path))
}

impl PathRule {
    fn is_for(&self, path: &[u8]) -> bool {
        self.pattern.is_match(path) && !self.except.iter().any(|except| except.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    fn regex(text: &str) -> Regex {
        Regex::new(text).unwrap()
    }

    fn respond(pattern: &str, except: &[&str], status: Status) -> PathRule {
        PathRule {
            pattern: regex(pattern),
            except: except.iter().map(|text| regex(text)).collect(),
            answer: RuleAnswer::Respond(Respond {
                status,
                retry_after: None,
                page: None,
            }),
        }
    }

    fn redirect(pattern: &str, to: &str) -> PathRule {
        PathRule {
            pattern: regex(pattern),
            except: Vec::new(),
            answer: RuleAnswer::Redirect {
                status: Status::SEE_OTHER,
                to: to.to_owned(),
            },
        }
    }

    fn told(rules: &[PathRule], path: &[u8]) -> Option<String> {
        Some(match rule(rules, path, Some("q"))? {
            Ruling::Respond(respond) => respond.status.code().to_string(),
            Ruling::Redirect { status, location } => format!("{} {location}", status.code()),
        })
    }

    #[test]
    fn the_first_rule_that_is_for_a_path_answers() {
        let rules = [
            respond("^/a/.*$", &["^/a/x$", "^/a/y.*$"], Status::FORBIDDEN),
            respond("^/a/x$", &[], Status::GONE),
            redirect("^/(a|b)/(.*)$", "/c/$2"),
            redirect("^/b/.*$", "/d"),
        ];
        let table: [(&[u8], Option<&str>, bool); 6] = [
            (b"/a/", Some("403"), true),
            (b"/a/x", Some("410"), true),
            (b"/a/y1", Some("303 /c/y1?q"), false),
            (b"/b/1", Some("303 /c/1?q"), false),
            (b"/a", None, false),
            (b"/c", None, false),
        ];
        for (path, expected, answered) in table {
            let place = path.escape_ascii();
            assert_eq!(told(&rules, path).as_deref(), expected, "{place}");
            assert_eq!(is_answered(&rules, path), answered, "{place}");
        }
    }
}
