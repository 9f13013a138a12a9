//! Redirects of a site that send a client round in a loop.
//!
//! The rules are tried with example paths of each pattern, so a loop that only other paths take is
//! missed. A loop that is found is real: a client may request any of its paths.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::percent_decode_str;
use regex::bytes::Captures;

use crate::target::{CAPTURES_MAX, Part, parts};
use crate::{Redirect, Respond, ValueError, example};

/// Redirects that a client follows before it gives up (Fetch standard, HTTP-redirect fetch).
const HOPS_MAX: usize = 20;

/// A path that grows longer than this grows without end.
const PATH_BYTES_MAX: usize = 4096;

/// A chain of redirects that is longer than a client follows.
#[derive(Default)]
struct Loop {
    /// Indices of the redirects that applied.
    redirects: BTreeSet<usize>,
    /// The paths they applied to, in order, and where the last one leads.
    paths: Vec<Vec<u8>>,
}

/// Finds the redirects that loop: the index of one redirect of each loop, and the reason to report.
pub(crate) fn find(redirects: &[Redirect], respond: &[Respond]) -> Vec<(usize, ValueError)> {
    let rules = Rules::new(redirects, respond);
    let mut reported = BTreeSet::new();
    let mut found = Vec::new();
    for (start, redirect) in redirects.iter().enumerate() {
        let mut examples = example_numbers(redirect);
        let own_loop = examples.find_map(|number| {
            let example = example::path(&redirect.from, number);
            let cycle = follow(&rules, start, &example, &reported)?;
            // A redirect that only leads into a loop of others is not at fault.
            cycle.redirects.contains(&start).then_some(cycle)
        });
        if let Some(own_loop) = own_loop {
            found.push((start, own_loop.reason()));
            reported.extend(own_loop.redirects);
        }
    }
    found
}

/// The numbers of the examples to try, see [`example::path`]: no capture empty, each capture that a
/// target can name empty, and all of them empty.
fn example_numbers(redirect: &Redirect) -> impl Iterator<Item = usize> {
    let count = redirect.from.captures();
    (0..=count.min(CAPTURES_MAX)).chain((count > 1).then_some(count + 1))
}

/// Follows the redirects as a client would that redirect `start` sends on from `path`. `None`: the
/// chain ends, or reaches a redirect of a loop that was `reported`.
fn follow(
    rules: &Rules<'_>,
    start: usize,
    path: &[u8],
    reported: &BTreeSet<usize>,
) -> Option<Loop> {
    if rules.responds_to(path) {
        return None;
    }
    let mut path = rules.redirects[start].destination(path)?;
    let mut chain = Loop::default();
    while chain.paths.len() < HOPS_MAX && path.len() <= PATH_BYTES_MAX {
        if rules.responds_to(&path) {
            return None;
        }
        let index = rules.first_redirect(&path)?;
        if reported.contains(&index) {
            return None;
        }
        let next = rules.redirects[index].destination(&path)?;
        chain.redirects.insert(index);
        chain.paths.push(std::mem::replace(&mut path, next));
    }
    chain.paths.push(path);
    Some(chain)
}

/// The rules of a site. Redirects are indexed by the literal prefix of their patterns, so thousands
/// of redirects for one path each are not all tried for every path.
struct Rules<'r> {
    redirects: &'r [Redirect],
    respond: &'r [Respond],
    /// Indices of the redirects, ascending.
    by_prefix: HashMap<&'r [u8], Vec<usize>>,
    prefix_lengths: BTreeSet<usize>,
}

impl<'r> Rules<'r> {
    fn new(redirects: &'r [Redirect], respond: &'r [Respond]) -> Self {
        let mut by_prefix: HashMap<_, Vec<_>> = HashMap::new();
        for (index, redirect) in redirects.iter().enumerate() {
            let indices = by_prefix.entry(redirect.from.prefix()).or_default();
            indices.push(index);
        }
        Self {
            redirects,
            respond,
            prefix_lengths: by_prefix.keys().map(|prefix| prefix.len()).collect(),
            by_prefix,
        }
    }

    /// Whether a `[[site.respond]]` answers `path`: these come before all redirects.
    fn responds_to(&self, path: &[u8]) -> bool {
        self.respond.iter().any(|rule| rule.applies_to(path))
    }

    /// The index of the first redirect that matches `path`.
    fn first_redirect(&self, path: &[u8]) -> Option<usize> {
        let lengths = self.prefix_lengths.range(..=path.len());
        let lists = lengths.filter_map(|length| self.by_prefix.get(&path[..*length]));
        lists.fold(None, |first, list| {
            let is_earlier = |index: &&usize| first.is_none_or(|first| **index < first);
            let mut earlier = list.iter().take_while(is_earlier);
            let found = earlier.find(|index| self.redirects[**index].from.is_match(path));
            found.copied().or(first)
        })
    }
}

impl Redirect {
    /// Where the redirect leads from `path`, as a decoded path of this host. `None`: it does not
    /// match, or leads to another host.
    fn destination(&self, path: &[u8]) -> Option<Vec<u8>> {
        let captures = self.from.regex().captures(path)?;
        target_path(&self.to, |number| capture(&captures, number))
    }
}

impl Loop {
    fn reason(&self) -> ValueError {
        let mut paths = self.paths.iter().map(|path| path.escape_ascii());
        let first = paths.next().map(|path| path.to_string());
        let mut text = format!("without end: `{}` is sent on", first.unwrap_or_default());
        // Two more show a pair of rules that send to each other, and a rule that adds to the path.
        let shown: Vec<String> = paths.take(2).map(|path| format!(" to `{path}`")).collect();
        text.push_str(&shown.join(", that"));
        text.push_str(", and so on");
        ValueError::new(text)
    }
}

/// The path of a target, as the server looks it up: decoded, without query and fragment, repeated
/// slashes merged. `None`: it is on another host.
fn target_path<'c>(to: &'c str, capture: impl Fn(usize) -> &'c [u8]) -> Option<Vec<u8>> {
    if !to.starts_with('/') {
        return None;
    }
    let end = to.find(['?', '#']).unwrap_or(to.len());
    let mut path = Vec::new();
    for part in parts(&to[..end]).ok()? {
        match part {
            Part::Capture(number) => path.extend_from_slice(capture(number)),
            Part::Text(text) => path.extend(percent_decode_str(text)),
        }
    }
    path.dedup_by(|next, last| (*next, *last) == (b'/', b'/'));
    Some(path)
}

/// The bytes that a group captured; empty if it took no part in the match.
fn capture<'c>(captures: &Captures<'c>, number: usize) -> &'c [u8] {
    let group = captures.get(number);
    group.map_or(b"", |group| group.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_http::Status;

    use super::*;
    use crate::Glob;
    use crate::target::target;

    #[test]
    fn a_loop_is_found_where_case_is_ignored() {
        let rule = |ignore_case| Redirect {
            from: Glob::new("/About/*", ignore_case).unwrap(),
            to: "/about/$1".to_owned(),
            status: Status::MOVED_PERMANENTLY,
            ignore_case,
        };
        assert_eq!(find(&[rule(false)], &[]), []);
        let (number, reason) = &find(&[rule(true)], &[])[0];
        assert_eq!(*number, 0);
        let expected = "without end: `/about/x` is sent on to `/about/x`";
        assert!(reason.to_string().starts_with(expected), "{reason}");
    }

    #[test]
    fn a_respond_rule_ends_a_loop() {
        let redirects = [Redirect {
            from: "/**".parse().unwrap(),
            to: "/sorry/$1".to_owned(),
            status: Status::FOUND,
            ignore_case: false,
        }];
        let respond = |pattern: &str, except: &[&str]| Respond {
            pattern: pattern.parse().unwrap(),
            except: except.iter().map(|text| text.parse().unwrap()).collect(),
            ignore_case: false,
            status: Status::SERVICE_UNAVAILABLE,
            retry_after: None,
            page: None,
        };
        let rows = [
            ("/sorry/**", &[][..], true),
            ("/**", &[], true),
            ("/other", &[], false),
            ("/sorry/**", &["/sorry/**"], false),
        ];
        for (pattern, except, ends) in rows {
            let found = find(&redirects, &[respond(pattern, except)]);
            assert_eq!(found.is_empty(), ends, "{pattern} {except:?}");
        }
    }

    /// From and to.
    type Rows<'r> = &'r [(&'r str, &'r str)];

    /// The redirects at fault and the reasons.
    fn found(rules: Rows<'_>) -> Vec<(usize, String)> {
        let rule = |(from, to): &(&str, &str)| Redirect {
            from: from.parse().expect(from),
            to: (*to).to_owned(),
            status: Status::MOVED_PERMANENTLY,
            ignore_case: false,
        };
        let rules: Vec<Redirect> = rules.iter().map(rule).collect();
        let found = find(&rules, &[]).into_iter();
        found
            .map(|(number, reason)| (number, reason.to_string()))
            .collect()
    }

    #[test]
    fn chains_that_end() {
        let rows: &[Rows<'_>] = &[
            // One turn, then it is over.
            &[("/?", "/$1/")],
            &[("/a/*", "/b/$1/")],
            &[("/**/?", "/$1")],
            &[("/a", "/a/")],
            &[("/*.htm", "/$1.html")],
            &[("/a", "/b"), ("/b", "/c"), ("/c", "/d")],
            // The first that matches applies.
            &[("/en/**", "https://en.example.org/$1"), ("/**", "/en/$1")],
            &[("/a", "https://a/a"), ("/**", "http://b/$1")],
            // Names with an escape in them: paths are compared decoded, once.
            &[(r"/\%61", "/a")],
            &[("/{a,b}", "/c/$1"), ("/[0-9]{4}/*", "/$2/$1")],
        ];
        for rules in rows {
            assert_eq!(found(rules), [], "{rules:?}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn loops() {
        let rows: &[(Rows<'_>, usize, &str)] = &[
            (&[("/**", "/sorry.html")], 0, "`/sorry.html` is sent on to `/sorry.html`, that to `/sorry.html`, and"),
            (&[("/**", "/new/$1")], 0, "`/new/x` is sent on to `/new/new/x`, that to `/new/new/new/x`, and so on"),
            (&[("/a", "/a?b=c")], 0, "`/a` is sent on to `/a`"),
            (&[("/a/**", "/a/$1/")], 0, ""),
            (&[("/**", "/$1$1$1$1$1$1$1$1$1$1")], 0, ""),
            (&[("/a", "//a")], 0, "`/a` is sent on"),
            // Only what is empty comes back.
            (&[("/**/", "/$1")], 0, "`/` is sent on to `/`"),
            (&[("/*", "/$1/")], 0, "`/` is sent on to `/`"),
            (&[("/a/*/*", "/a/$1/$2/")], 0, "`/a/x/` is sent on to `/a/x/`"),
            (&[("/a", "/b"), ("/b", "/a")], 0, "`/b` is sent on to `/a`, that to `/b`, and so on"),
            (&[("/a/index", "/b/index"), ("/b/*", "/a/$1")], 0, "`/b/index` is sent on to `/a/index`"),
            (&[("/c", "/a"), ("/a", "/b"), ("/b", "/a")], 1, "`/b` is sent on"),
            (&[("/**", "/en/$1"), ("/en/**", "https://en.example.org/$1")], 0, ""),
            (&[("/café", "/caf%C3%A9")], 0, r"`/caf\xc3\xa9` is sent on"),
            (&[("/a b", "/%61%20b#c")], 0, "`/a b` is sent on"),
            // What is captured is what the pattern lets it be.
            (&[("/{en,de}/**", "/$1/$2")], 0, "`/en/x` is sent on"),
            (&[("/[0-9]{4}/*", "/$1/b/$2"), ("/[0-9]{4}/b/*", "/$1/$2")], 0, "`/0000/b/x` is sent on"),
            (&[("/{en,de}/a", "/$1/b"), ("/de/b", "/de/a")], 0, "`/de/b` is sent on"),
        ];
        for (rules, number, reason) in rows {
            let found = found(rules);
            assert_eq!(found.len(), 1, "{rules:?}: {found:?}");
            assert_eq!(found[0].0, *number, "{rules:?}");
            let expected = format!("without end: {reason}");
            assert!(found[0].1.starts_with(&expected), "{rules:?}: {}", found[0].1);
        }
        let twice = [("/a", "/b"), ("/c", "/d"), ("/b", "/a"), ("/d", "/c")];
        let numbers: Vec<usize> = found(&twice).iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1]);
    }

    proptest! {
        #[test]
        fn no_target_panics(to in "(https?://|/)?[a/$%0-9?#]{0,8}") {
            let from: Glob = "/*/**".parse().unwrap();
            if target(to.clone(), &from).is_ok() {
                let _ = found(&[("/*/**", &to)]);
            }
        }
    }

    fn redirects(from: &[&str]) -> Vec<Redirect> {
        let redirects = from.iter().map(|from| Redirect {
            from: from.parse().expect(from),
            ignore_case: false,
            to: "/".to_owned(),
            status: Status::MOVED_PERMANENTLY,
        });
        redirects.collect()
    }

    #[test]
    fn the_first_match_is_found_by_its_prefix() {
        let from = ["/a/b", "/a/*", "/**", "/a/b", "/a/c", "/b*", "/{a,b}", "/a"];
        for start in 0..from.len() {
            let redirects = redirects(&from[start..]);
            let rules = Rules::new(&redirects, &[]);
            for path in ["/a", "/a/b", "/a/c", "/a/d", "/b", "/bc", "/c", "/", ""] {
                let matches = |rule: &Redirect| rule.from.is_match(path.as_bytes());
                let first = redirects.iter().position(matches);
                assert_eq!(
                    rules.first_redirect(path.as_bytes()),
                    first,
                    "{start} {path}"
                );
            }
        }
    }

    #[test]
    fn redirects_for_one_path_each_are_not_tried_for_others() {
        let from: Vec<String> = (100..200).map(|number| format!("/a/{number}")).collect();
        let from: Vec<&str> = from.iter().map(String::as_str).collect();
        let redirects = redirects(&from);
        let rules = Rules::new(&redirects, &[]);
        assert_eq!(rules.prefix_lengths.len(), 1);
        assert!(rules.by_prefix.values().all(|numbers| numbers.len() == 1));
    }
}
