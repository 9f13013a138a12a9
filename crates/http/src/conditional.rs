//! Whether the preconditions of a request hold (RFC 9110, section 13).
//!
//! They compare the validators that the client has with those of the variant it would get, not of
//! the original. A malformed value matches nothing, which is safe: If-None-Match then gets the
//! file, and If-Match is refused.

use crate::date::parse_seconds;
use crate::{ETag, Field, Fields, HttpDate, Request};

/// The validators of a representation (RFC 9110, section 8.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag; `None` while there is none.
    pub etag: Option<ETag>,
    /// Last-Modified, in whole seconds since 1970. `None` if the time of the file has no meaning,
    /// such as one set by a reproducible build, and if it is in the future (RFC 9110, section
    /// 8.8.2.1).
    pub modified: Option<u64>,
    /// Whether no other content has the same date (RFC 9110, section 8.8.2.2).
    pub is_date_strong: bool,
}

impl Validators {
    /// The date to send as Last-Modified.
    pub fn last_modified(&self) -> Option<HttpDate> {
        self.modified.map(HttpDate::of_seconds)
    }
}

/// The result of the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// They hold: respond as if there were none.
    Met,
    /// The client has the current representation: respond with 304.
    NotModified,
    /// The representation is not the one that the client expects: respond with 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD that would be answered with 200, in the order of
/// RFC 9110, section 13.2.2. [`ranges`](crate::ranges) evaluates If-Range.
pub fn evaluate(request: &Request<'_>, validators: &Validators) -> Precondition {
    if !may_go_on(request.fields, validators) {
        Precondition::Failed
    } else if is_known(request.fields, validators) {
        Precondition::NotModified
    } else {
        Precondition::Met
    }
}

/// Steps 1 and 2: If-Match, or without it If-Unmodified-Since.
fn may_go_on(fields: Fields<'_>, validators: &Validators) -> bool {
    if fields.has(Field::IfMatch) {
        names(fields, Field::IfMatch, |tag| is_same(tag, validators))
    } else {
        is_unmodified(fields, Field::IfUnmodifiedSince, validators).unwrap_or(true)
    }
}

/// Steps 3 and 4: If-None-Match, or without it If-Modified-Since.
fn is_known(fields: Fields<'_>, validators: &Validators) -> bool {
    if fields.has(Field::IfNoneMatch) {
        // Weak comparison looks at the tags alone (RFC 9110, section 8.8.3.2).
        let matches = |tag: &[u8]| is_same(tag.strip_prefix(b"W/").unwrap_or(tag), validators);
        names(fields, Field::IfNoneMatch, matches)
    } else {
        is_unmodified(fields, Field::IfModifiedSince, validators).unwrap_or(false)
    }
}

/// Whether there is no If-Range, or it holds: its tag or date is exactly the current one, and a
/// date is a strong validator (RFC 9110, section 13.1.5).
pub(crate) fn range_still_applies(fields: Fields<'_>, validators: &Validators) -> bool {
    if !fields.has(Field::IfRange) {
        return true;
    }
    match fields.only(Field::IfRange) {
        Some(tag @ ([b'"', ..] | [b'W', b'/', ..])) => is_same(tag, validators),
        Some(date) => {
            let modified = validators.modified.filter(|_| validators.is_date_strong);
            modified.is_some() && parse_seconds(date) == modified
        }
        None => false,
    }
}

/// Whether `tag`, quotes included, is the current tag. A weak one (`W/`) never is: ours are strong.
fn is_same(tag: &[u8], validators: &Validators) -> bool {
    validators
        .etag
        .is_some_and(|current| current.as_bytes() == tag)
}

/// Whether a list of entity tags has one that `matches`, or is `*`, which matches any
/// representation.
fn names(fields: Fields<'_>, field: Field, matches: impl Fn(&[u8]) -> bool) -> bool {
    fields
        .all(field)
        .any(|line| line == b"*" || Tags(line).any(&matches))
}

/// Whether the file has not been modified since the date in `field`. `None` if the field is ignored
/// because it is absent, repeated or no valid date, or the file has no time of modification.
fn is_unmodified(fields: Fields<'_>, field: Field, validators: &Validators) -> Option<bool> {
    if !fields.has(field) {
        return None;
    }
    let date = parse_seconds(fields.only(field)?)?;
    Some(validators.modified? <= date)
}

/// The entity tags of a list, with their quotes and `W/`, up to the first malformed one.
struct Tags<'b>(&'b [u8]);

impl<'b> Iterator for Tags<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let start = self.0.iter().position(|byte| !is_between(*byte))?;
        let rest = &self.0[start..];
        let opaque = rest
            .strip_prefix(b"W/")
            .unwrap_or(rest)
            .strip_prefix(b"\"")?;
        let end = rest.len() - opaque.len() + memchr::memchr(b'"', opaque)? + 1;
        let (tag, behind) = rest.split_at(end);
        self.0 = behind;
        behind
            .first()
            .is_none_or(|byte| is_between(*byte))
            .then_some(tag)
    }
}

/// A byte between two elements of a list.
fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{EXAMPLE_SECONDS, example, with_get, with_request};

    const TAG: &str = "\"ae1b981bc490a00-b\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// The lines with `TAG` and so on filled in.
    fn lines(template: &str) -> String {
        let lines = template.replace("TAG", TAG).replace("DATE", DATE);
        lines.replace("BEFORE", BEFORE).replace("AFTER", AFTER)
    }

    #[track_caller]
    fn check(template: &str, validators: &Validators, expected: Precondition, why: &str) {
        for method in ["GET", "HEAD"] {
            let precondition = with_request(method, &lines(template), |request| {
                evaluate(request, validators)
            });
            assert_eq!(precondition, expected, "{method} {template:?}: {why}");
        }
    }

    #[test]
    fn the_example_has_the_tag_of_the_tables() {
        assert_eq!(example().etag.unwrap().to_string(), TAG);
        assert_eq!(
            example().last_modified().unwrap().as_bytes(),
            DATE.as_bytes()
        );
    }

    #[test]
    fn single_preconditions() {
        use Precondition::{Failed, Met, NotModified};
        #[rustfmt::skip] // one row a line
        let cases = [
            ("", Met, "none"),
            ("If-None-Match: TAG\r\n", NotModified, "13.1.2: the same tag"),
            ("If-None-Match: W/TAG\r\n", NotModified, "13.1.2: weak comparison"),
            ("If-None-Match: \"x\"\r\n", Met, "13.1.2: another tag"),
            ("If-None-Match: *\r\n", NotModified, "13.1.2: there is a representation"),
            ("If-None-Match: \"x\", TAG\r\n", NotModified, "13.1.2: a list"),
            ("If-None-Match: \"x\",TAG,\r\n", NotModified, "5.6.1: without spaces, an empty element"),
            ("If-None-Match: ,, \t TAG\r\n", NotModified, "5.6.1: empty elements"),
            ("If-None-Match: \"a,b\", W/\"c d\", TAG\r\n", NotModified, "8.8.3: a comma in a tag"),
            ("If-None-Match: \"x\"\r\nIf-None-Match: TAG\r\n", NotModified, "5.3: two lines are one list"),
            ("If-None-Match: \"x\", \"y\"\r\n", Met, "13.1.2: none of the list"),
            ("If-None-Match:\r\n", Met, "13.1.2: an empty list"),
            ("If-None-Match: ae1b981bc490a00-b\r\n", Met, "8.8.3: no quotes, no tag"),
            ("If-None-Match: w/TAG\r\n", Met, "8.8.3: W/ is case-sensitive"),
            ("If-None-Match: W/ TAG\r\n", Met, "8.8.3: and has no space behind it"),
            ("If-None-Match: x, TAG\r\n", Met, "8.8.3: nothing is read behind what is no tag"),
            ("If-None-Match: TAG\"x\"\r\n", Met, "8.8.3: nothing may follow a tag but a comma"),
            ("If-None-Match: \"x\r\n", Met, "8.8.3: a quote that is not closed"),
            ("If-None-Match: *, TAG\r\n", Met, "13.1.2: * is no element of a list"),
            ("If-Match: TAG\r\n", Met, "13.1.1: the same tag"),
            ("If-Match: \"x\", TAG\r\n", Met, "13.1.1: a list"),
            ("If-Match: *\r\n", Met, "13.1.1: there is a representation"),
            ("If-Match: \"x\"\r\n", Failed, "13.1.1: another tag"),
            ("If-Match: W/TAG\r\n", Failed, "13.1.1: strong comparison"),
            ("If-Match: \"x\r\n", Failed, "13.1.1: malformed matches nothing"),
            ("If-Match:\r\n", Failed, "13.1.1: an empty list"),
            ("If-Modified-Since: DATE\r\n", NotModified, "13.1.3: the same time"),
            ("If-Modified-Since: AFTER\r\n", NotModified, "13.1.3: a later one"),
            ("If-Modified-Since: BEFORE\r\n", Met, "13.1.3: modified since"),
            ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", NotModified, "5.6.7: RFC 850"),
            ("If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n", NotModified, "5.6.7: asctime"),
            ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n", NotModified, "13.1.3: far in the future"),
            ("If-Modified-Since: 784111777\r\n", Met, "13.1.3: no date, ignored"),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 CET\r\n", Met, "5.6.7: always GMT"),
            ("If-Modified-Since: Sun, 31 Feb 1995 08:49:37 GMT\r\n", Met, "5.6.7: no such day"),
            ("If-Modified-Since: Mon, 06 Nov 1995 24:00:00 GMT\r\n", Met, "5.6.7: no such hour"),
            ("If-Modified-Since: DATE; length=11\r\n", Met, "13.1.3: an old extension is no date"),
            ("If-Modified-Since: DATE\r\nIf-Modified-Since: DATE\r\n", Met, "5.3: twice"),
            ("If-Modified-Since:\r\n", Met, "13.1.3: empty"),
            ("If-Unmodified-Since: DATE\r\n", Met, "13.1.4: the same time"),
            ("If-Unmodified-Since: AFTER\r\n", Met, "13.1.4: a later one"),
            ("If-Unmodified-Since: BEFORE\r\n", Failed, "13.1.4: modified since"),
            ("If-Unmodified-Since: yesterday\r\n", Met, "13.1.4: no date, ignored"),
            ("If-Unmodified-Since: BEFORE\r\nIf-Unmodified-Since: BEFORE\r\n", Met, "5.3: twice"),
            ("If-Range: \"x\"\r\n", Met, "13.1.5: no precondition of its own"),
        ];
        for (template, expected, why) in cases {
            check(template, &example(), expected, why);
        }
    }

    /// The order of RFC 9110, 13.2.2.
    #[test]
    fn several_preconditions() {
        use Precondition::{Failed, Met, NotModified};
        #[rustfmt::skip] // one row a line
        let cases = [
            ("If-Match: TAG\r\nIf-Unmodified-Since: BEFORE\r\n", Met, "13.1.4: ignored beside If-Match"),
            ("If-Match: \"x\"\r\nIf-Unmodified-Since: DATE\r\n", Failed, "13.2.2, step 1"),
            ("If-Match: \"x\"\r\nIf-None-Match: TAG\r\n", Failed, "13.2.2: step 1 before step 3"),
            ("If-Match: TAG\r\nIf-None-Match: TAG\r\n", NotModified, "13.2.2: step 3 after step 1"),
            ("If-Unmodified-Since: BEFORE\r\nIf-None-Match: TAG\r\n", Failed, "13.2.2: step 2 before step 3"),
            ("If-Unmodified-Since: DATE\r\nIf-Modified-Since: DATE\r\n", NotModified, "13.2.2: step 4 after step 2"),
            ("If-None-Match: \"x\"\r\nIf-Modified-Since: DATE\r\n", Met, "13.1.3: ignored beside If-None-Match"),
            ("If-None-Match: TAG\r\nIf-Modified-Since: BEFORE\r\n", NotModified, "13.1.3: the other way round"),
            ("If-None-Match:\r\nIf-Modified-Since: DATE\r\n", Met, "13.1.3: beside an empty one too"),
        ];
        for (template, expected, why) in cases {
            check(template, &example(), expected, why);
        }
    }

    #[test]
    fn files_without_validators() {
        use Precondition::{Failed, Met, NotModified};
        let none = Validators::default();
        #[rustfmt::skip] // one row a line
        let cases = [
            ("If-None-Match: TAG\r\n", Met, "13.1.2: no tag matches"),
            ("If-None-Match: *\r\n", NotModified, "13.1.2: there is a representation nevertheless"),
            ("If-Match: TAG\r\n", Failed, "13.1.1: no tag matches"),
            ("If-Match: *\r\n", Met, "13.1.1: there is a representation nevertheless"),
            ("If-Modified-Since: DATE\r\n", Met, "13.1.3: no date of modification, ignored"),
            ("If-Unmodified-Since: BEFORE\r\n", Met, "13.1.4: no date of modification, ignored"),
        ];
        for (template, expected, why) in cases {
            check(template, &none, expected, why);
        }
    }

    #[test]
    fn ranges_of_what_the_client_has() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("", true, "none"),
            ("If-Range: TAG\r\n", true, "13.1.5: the same tag"),
            ("If-Range: \"x\"\r\n", false, "13.1.5: another"),
            ("If-Range: W/TAG\r\n", false, "13.1.5: strong comparison"),
            ("If-Range: TAG, TAG\r\n", false, "13.1.5: no list"),
            ("If-Range: *\r\n", false, "13.1.5: no *"),
            ("If-Range: DATE\r\n", true, "13.1.5: the same date"),
            ("If-Range: Sunday, 06-Nov-94 08:49:37 GMT\r\n", true, "5.6.7: in another format"),
            ("If-Range: BEFORE\r\n", false, "13.1.5: another date"),
            ("If-Range: AFTER\r\n", false, "13.1.5: a later date is another one too"),
            ("If-Range: x\r\n", false, "13.1.5: neither tag nor date"),
            ("If-Range:\r\n", false, "13.1.5: empty"),
            ("If-Range: TAG\r\nIf-Range: TAG\r\n", false, "5.3: twice"),
        ];
        for (template, expected, why) in cases {
            let lines = lines(template);
            let applies = with_get(&lines, |request| {
                range_still_applies(request.fields, &example())
            });
            assert_eq!(applies, expected, "{template:?}: {why}");
        }
        let none = Validators::default();
        for template in ["If-Range: TAG\r\n", "If-Range: DATE\r\n", "If-Range: x\r\n"] {
            let lines = lines(template);
            let applies = with_get(&lines, |request| range_still_applies(request.fields, &none));
            assert!(!applies, "{template:?}: nothing to compare with");
        }
        let weak = Validators {
            is_date_strong: false,
            ..example()
        };
        for (template, expected) in [("If-Range: TAG\r\n", true), ("If-Range: DATE\r\n", false)] {
            let lines = lines(template);
            let applies = with_get(&lines, |request| range_still_applies(request.fields, &weak));
            assert_eq!(
                applies, expected,
                "{template:?}: 13.1.5: a date that is not strong"
            );
        }
    }

    fn tricky_tags() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "\"", "W/", "w/", "*", ",", " ", "\t", "a", "\"a\"", TAG, "\u{e4}", DATE,
        ]);
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_list_of_tags_is_read(value in tricky_tags()) {
            let evaluated = |name: &str| {
                with_get(&format!("{name}: {value}\r\n"), |request| evaluate(request, &example()))
            };
            // What If-Match finds by strong comparison, If-None-Match finds by weak.
            if evaluated("If-Match") == Precondition::Met {
                prop_assert_eq!(evaluated("If-None-Match"), Precondition::NotModified);
            }
        }

        #[test]
        fn any_date_is_read(value in "[ -~]{0,40}") {
            for name in ["If-Modified-Since", "If-Unmodified-Since", "If-Range"] {
                with_get(&format!("{name}: {value}\r\n"), |request| {
                    evaluate(request, &example());
                    range_still_applies(request.fields, &example());
                });
            }
        }

        #[test]
        fn a_date_is_compared_by_seconds(seconds in 0..2 * EXAMPLE_SECONDS) {
            let date = HttpDate::of_seconds(seconds);
            let date = str::from_utf8(date.as_bytes()).unwrap().to_owned();
            let evaluated = |name: &str| {
                with_get(&format!("{name}: {date}\r\n"), |request| evaluate(request, &example()))
            };
            let is_known = evaluated("If-Modified-Since") == Precondition::NotModified;
            let is_met = evaluated("If-Unmodified-Since") == Precondition::Met;
            prop_assert_eq!(is_known, EXAMPLE_SECONDS <= seconds);
            prop_assert_eq!(is_met, EXAMPLE_SECONDS <= seconds);
        }
    }
}
