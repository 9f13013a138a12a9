//! Rules that answer a path before the lookup of files.
//!
//! They are compared with the path as it is looked up: decoded once, without dot segments and empty
//! segments, so that no other spelling bypasses them. A path that a rule responds to is not served
//! for another path either, by `try-files` or as an index: see [`is_answered`].

use tidegate_config::{Respond, Site};
use tidegate_http::Status;

use crate::rules::redirects;

/// The answer of a rule for a path.
pub enum RuleMatch<'s> {
    /// A status.
    Respond(&'s Respond),
    /// A redirect.
    Redirect {
        /// One of the 3xx that have a Location.
        status: Status,
        /// Percent-encoded, with its query.
        location: String,
    },
}

/// The match of the first rule of `site` that applies to `path`: `[[site.respond]]` comes before
/// `[[site.redirects]]`.
pub(crate) fn first_match<'s>(
    site: &'s Site,
    path: &[u8],
    query: Option<&str>,
) -> Option<RuleMatch<'s>> {
    let mut respond = site.respond.iter();
    if let Some(rule) = respond.find(|rule| rule.applies_to(path)) {
        return Some(RuleMatch::Respond(rule));
    }
    let mut redirects = site.redirects.iter();
    let redirect = redirects.find(|rule| rule.from.is_match(path))?;
    let captures = redirect.from.regex().captures(path)?;
    Some(RuleMatch::Redirect {
        status: redirect.status,
        location: redirects::location(&redirect.to, &captures, query),
    })
}

/// Whether a rule responds to `path`: lookups of other paths skip it then.
pub(crate) fn is_answered(site: &Site, path: &[u8]) -> bool {
    site.respond.iter().any(|rule| rule.applies_to(path))
}

#[cfg(test)]
mod tests {
    use tidegate_config::{Glob, Redirect};

    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().expect(text)
    }

    fn respond(pattern: &str, except: &[&str], status: Status) -> Respond {
        Respond {
            pattern: glob(pattern),
            except: except.iter().map(|text| glob(text)).collect(),
            ignore_case: false,
            status,
            retry_after: None,
            page: None,
        }
    }

    fn redirect(from: &str, to: &str) -> Redirect {
        Redirect {
            from: glob(from),
            ignore_case: false,
            to: to.to_owned(),
            status: Status::SEE_OTHER,
        }
    }

    fn told(site: &Site, path: &[u8]) -> Option<String> {
        Some(match first_match(site, path, Some("q"))? {
            RuleMatch::Respond(respond) => respond.status.code().to_string(),
            RuleMatch::Redirect { status, location } => format!("{} {location}", status.code()),
        })
    }

    #[test]
    fn the_first_rule_that_is_for_a_path_answers() {
        let site = Site {
            respond: vec![
                respond("/a/**", &["/a/x", "/a/y*"], Status::FORBIDDEN),
                respond("/a/x", &[], Status::GONE),
            ],
            redirects: vec![redirect("/{a,b}/**", "/c/$2"), redirect("/b/**", "/d")],
            ..Site::default()
        };
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
            assert_eq!(told(&site, path).as_deref(), expected, "{place}");
            assert_eq!(is_answered(&site, path), answered, "{place}");
        }
    }
}
