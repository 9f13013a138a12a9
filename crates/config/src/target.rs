//! Where a redirect leads: a reference with places for what the pattern captured.
//!
//! `$1` to `$9` stand for captures, by one digit, so that `$10` is the first one
//! and a zero. A dollar itself is percent-encoded.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::percent_decode_str;
use regex::bytes::Captures;

use crate::rules::web;
use crate::{Glob, Redirect, Respond, ValueError, example};

/// Captures have one digit in a target.
const CAPTURES_MAX: usize = 9;

type Checked<T> = Result<T, ValueError>;

/// How often a client is sent on before it gives up: browsers take 20 (Fetch standard, HTTP-redirect fetch).
const HOPS_MAX: usize = 20;

/// A path that grows beyond this when rules are tried out grows without end.
const PATH_BYTES_MAX: usize = 4096;

/// Longer targets are mistakes; and the product with the above is what trying out may take.
const BYTES_MAX: usize = 4096;

/// Where rules led in more steps than a client takes.
#[derive(Default)]
struct Walk {
    /// The rules that applied.
    rules: BTreeSet<usize>,
    /// The paths they were applied to, in their order, and the last one.
    paths: Vec<Vec<u8>>,
}

/// A part of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    /// By number, from 1.
    Capture(usize),
}

/// The target of a redirect from `from`: a path or an http(s) URL, which only
/// after its host has captures, all of them of `from`. It becomes a header value
/// as it is, so nothing that a URI cannot hold is let in (RFC 3986, section 2).
pub(crate) fn target(to: String, from: &Glob) -> Checked<String> {
    if to.len() > BYTES_MAX {
        return refuse(format!("{} bytes: {BYTES_MAX} are the most", to.len()));
    }
    refuse_other_characters(&to)?;
    refuse_broken_escapes(&to)?;
    let path = path_of(&to)?;
    refuse_brackets(path)?;
    let parts = parts(path)?;
    from.check_captures(parts.iter().filter_map(|part| match part {
        Part::Capture(number) => Some(*number),
        Part::Text(_) => None,
    }))?;
    Ok(to)
}

/// The rules of a site that send a client on and on, each with the reason. Of several that do so together
/// it is one.
///
/// They are tried out with examples of the paths that they are for: a circle that takes others is
/// not found. One that is found is true: a client may ask for any path of it.
pub(crate) fn endless(redirects: &[Redirect], respond: &[Respond]) -> Vec<(usize, ValueError)> {
    let rules = Rules::new(redirects, respond);
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (start, rule) in redirects.iter().enumerate() {
        let mut numbers = examples(rule);
        let circle = numbers.find_map(|number| {
            let walk = walk(&rules, start, number, &told)?;
            // One that only leads into a circle of others is not at fault.
            walk.rules.contains(&start).then_some(walk)
        });
        if let Some(walk) = circle {
            found.push((start, walk.reason()));
            told.extend(walk.rules);
        }
    }
    found
}

/// The numbers of the examples that are tried: with no capture empty, with each of those that a
/// target can name, and with all of them.
fn examples(rule: &Redirect) -> impl Iterator<Item = usize> {
    let count = rule.from.captures();
    (0..=count.min(CAPTURES_MAX)).chain((count > 1).then_some(count + 1))
}

fn refuse_other_characters(to: &str) -> Checked<()> {
    let other = |char: char| {
        !matches!(char, '!'..='~')
            || matches!(char, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    };
    match to.chars().find(|char| other(*char)) {
        None => Ok(()),
        Some('{' | '}') => refuse(
            "braces cannot be in a URL: captures are `$1` to `$9`, without braces; a brace itself is %7B or %7D",
        ),
        Some(char) => refuse(format!(
            "`{}` cannot be in a URL: write it percent-encoded",
            char.escape_debug()
        )),
    }
}

/// RFC 3986, section 2.1.
fn refuse_broken_escapes(to: &str) -> Checked<()> {
    let escapes = to.match_indices('%').map(|(start, _)| &to[start..]);
    let is_broken = |escape: &&str| {
        let digits = escape.as_bytes().get(1..3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    match escapes.into_iter().find(is_broken) {
        None => Ok(()),
        Some(escape) => refuse(format!(
            "`{}`: after `%` come two hexadecimal digits; a percent sign itself is %25",
            escape.get(..3).unwrap_or(escape)
        )),
    }
}

/// Behind the host there are no brackets, and one fragment (RFC 3986, appendix A).
fn refuse_brackets(path: &str) -> Checked<()> {
    let fragment = path.find('#').map_or(path.len(), |start| start + 1);
    let brackets = path.find(['[', ']']);
    let second = path[fragment..].find('#').map(|at| fragment + at);
    match brackets.or(second) {
        None => Ok(()),
        Some(at) => refuse(format!(
            "`{}` cannot be there in a URL: write it percent-encoded",
            &path[at..=at]
        )),
    }
}

/// What follows the host; all of it, if there is none.
fn path_of(to: &str) -> Checked<&str> {
    if to.starts_with("//") {
        return refuse(format!("`{to}` is another host: write https:{to}"));
    }
    if to.starts_with('/') {
        return Ok(to);
    }
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| to.strip_prefix(scheme));
    let Some(rest) = rest else {
        return refuse(format!(
            "`{to}` is neither a path such as \"/new/$1\" nor a URL such as \"https://example.org/$1\""
        ));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !is_authority(authority) {
        return refuse(format!(
            "`{to}`: after the scheme come a host, a port if it needs one, and `/`; \
             captures of a request's path cannot name a host"
        ));
    }
    Ok(path)
}

/// `HOST` or `HOST:PORT`, with a host that there can be.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    !host.starts_with('*') && web::site_name(host).is_ok() && port.is_none_or(web::is_port)
}

/// Takes `path` apart.
fn parts(path: &str) -> Checked<Vec<Part<'_>>> {
    let mut pieces = path.split('$');
    let mut parts = vec![Part::Text(pieces.next().unwrap_or_default())];
    for piece in pieces {
        let Some(digit @ b'1'..=b'9') = piece.bytes().next() else {
            return refuse(
                "after `$` comes the number of a capture, 1 to 9, as in `$1`; a dollar itself is %24",
            );
        };
        parts.push(Part::Capture(usize::from(digit - b'0')));
        parts.push(Part::Text(&piece[1..]));
    }
    Ok(parts)
}

/// Follows the rules from where `start` leads for that example, as a client would. `None`: it comes
/// to an end, or to a rule that was `told`.
fn walk(rules: &Rules<'_>, start: usize, number: usize, told: &BTreeSet<usize>) -> Option<Walk> {
    let example = example::path(&rules.redirects[start].from, number);
    if rules.respond_to(&example) {
        return None;
    }
    let mut path = rules.redirects[start].lead(&example)?;
    let mut walk = Walk::default();
    while walk.paths.len() < HOPS_MAX && path.len() <= PATH_BYTES_MAX {
        if rules.respond_to(&path) {
            return None;
        }
        let number = rules.redirect(&path)?;
        if told.contains(&number) {
            return None;
        }
        let next = rules.redirects[number].lead(&path)?;
        walk.rules.insert(number);
        walk.paths.push(std::mem::replace(&mut path, next));
    }
    walk.paths.push(path);
    Some(walk)
}

/// The rules of a site. The redirects are found by what their paths begin with: thousands that are
/// for one path each are told apart without trying them all.
struct Rules<'r> {
    redirects: &'r [Redirect],
    respond: &'r [Respond],
    by_prefix: HashMap<&'r [u8], Vec<usize>>,
    /// Of the prefixes.
    lengths: BTreeSet<usize>,
}

impl<'r> Rules<'r> {
    fn new(redirects: &'r [Redirect], respond: &'r [Respond]) -> Self {
        let mut by_prefix: HashMap<_, Vec<_>> = HashMap::new();
        for (number, rule) in redirects.iter().enumerate() {
            let numbers = by_prefix.entry(rule.from.prefix()).or_default();
            numbers.push(number);
        }
        let lengths = by_prefix.keys().map(|prefix| prefix.len()).collect();
        Self {
            redirects,
            respond,
            by_prefix,
            lengths,
        }
    }

    /// Whether a rule responds to `path`, before all redirects.
    fn respond_to(&self, path: &[u8]) -> bool {
        self.respond.iter().any(|rule| rule.applies_to(path))
    }

    /// The first redirect that matches `path`.
    fn redirect(&self, path: &[u8]) -> Option<usize> {
        let prefixes = self.lengths.range(..=path.len()).map(|len| &path[..*len]);
        let lists = prefixes.filter_map(|prefix| self.by_prefix.get(prefix));
        lists.fold(None, |first, list| {
            let is_earlier = |number: &&usize| first.is_none_or(|first| **number < first);
            let mut earlier = list.iter().take_while(is_earlier);
            let found = earlier.find(|number| self.redirects[**number].from.is_match(path));
            found.copied().or(first)
        })
    }
}

impl Redirect {
    /// The path on this host that it sends a path to, if it matches.
    fn lead(&self, path: &[u8]) -> Option<Vec<u8>> {
        let captures = self.from.regex().captures(path)?;
        landing(&self.to, |number| capture(&captures, number))
    }
}

impl Walk {
    fn reason(&self) -> ValueError {
        let mut paths = self.paths.iter().map(|path| path.escape_ascii());
        let first = paths.next().map(|path| path.to_string());
        let mut text = format!("without end: `{}` is sent on", first.unwrap_or_default());
        // Two rules that send to each other are seen with their paths, and so is one that adds to a path.
        let shown: Vec<String> = paths.take(2).map(|path| format!(" to `{path}`")).collect();
        text.push_str(&shown.join(", that"));
        text.push_str(", and so on");
        ValueError::new(text)
    }
}

/// The path of a target on this host as the server then has it: decoded, without query and fragment, and
/// with one slash where there are several.
/// `None`: it is on another host.
fn landing<'c>(to: &'c str, capture: impl Fn(usize) -> &'c [u8]) -> Option<Vec<u8>> {
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

fn capture<'c>(captures: &Captures<'c>, number: usize) -> &'c [u8] {
    captures
        .get(number)
        .map_or(b"", |capture| capture.as_bytes())
}

fn refuse<T>(reason: impl Into<String>) -> Checked<T> {
    Err(ValueError::new(reason))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_http::Status;

    use super::*;

    fn check(from: &str, to: &str) -> Result<String, String> {
        let from = from.parse().expect(from);
        target(to.to_owned(), &from).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_that_are_taken() {
        let rows = [
            ("/old/*", "/new/$1"),
            // The first, and a zero.
            ("/old/*", "/new/$10"),
            ("/old", "/new?a=b&c=%20#top"),
            ("/old", "/"),
            ("/*/*", "/$2/$1/"),
            ("/old", "/price%245"),
            ("/old/*", "/new?from=$1"),
            ("/**", "https://example.org/$1"),
            ("/**", "http://[::1]:8080/a$1"),
            ("/**", "https://example.org"),
            ("/**", "https://EXAMPLE.org.:8443/%c3%A9?a=%5Bb"),
        ];
        for (from, to) in rows {
            assert_eq!(check(from, to), Ok(to.to_owned()), "{from}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn targets_that_are_refused() {
        let rows = [
            ("/a", "", "`` is neither a path"),
            ("/a", "new", "`new` is neither a path"),
            ("/*", "$1", "`$1` is neither a path"),
            ("/a", "ftp://a/", "`ftp://a/` is neither a path"),
            ("/a", "javascript:alert()", "`javascript:alert()` is neither"),
            ("/a", "//evil.example/", "`//evil.example/` is another host: write https://evil.example/"),
            ("/*", "https://$1/", "`https://$1/`: after the scheme come a host"),
            ("/*", "https://example.org$1", "`https://example.org$1`: after the scheme"),
            ("/*", "https:///a", "`https:///a`: after the scheme"),
            ("/*", "https://a@b/", "`https://a@b/`: after the scheme"),
            ("/a", "/a b", "` ` cannot be in a URL: write it percent-encoded"),
            ("/a", "/é", "`é` cannot be in a URL"),
            ("/a", "/b\r\nSet-Cookie: a=b", r"`\r` cannot be in a URL"),
            ("/a", "/\"", r#"`\"` cannot be in a URL"#),
            ("/a", "/{b}", "braces cannot be in a URL: captures are `$1` to `$9`"),
            ("/*", "/x${1}", "braces cannot be in a URL"),
            ("/a", "/$", "after `$` comes the number"),
            ("/a", "/$path", "after `$` comes the number"),
            ("/*", "/x$0", "after `$` comes the number"),
            ("/*", "/x$$1", "after `$` comes the number"),
            ("/*", "/x$+1", "after `$` comes the number"),
            ("/a", "/b/$1", "`$1` captures nothing: `/a` has no captures"),
            ("/a/*", "/b/$2", "`$2` captures nothing: `/a/*` has one capture"),
            ("/a/*", "/b/$20", "`$2` captures nothing"),
            ("/*/*", "/b/$1/$3", "`$3` captures nothing: `/*/*` has 2 captures"),
            ("/a", "/b%zz", "`%zz`: after `%` come two hexadecimal digits"),
            ("/a", "/b%2", "`%2`: after `%` come"),
            ("/a", "/b?100%", "`%`: after `%` come"),
            ("/*", "/b%$1", "`%$1`: after `%` come"),
            ("/a", "https://:80/", "`https://:80/`: after the scheme come a host"),
            ("/a", "https://ex[ample/", "`https://ex[ample/`: after the scheme"),
            ("/a", "https://ex%7Aample:99999/", "`https://ex%7Aample:99999/`: after the scheme"),
            ("/a", "https://a:99999/", "`https://a:99999/`: after the scheme"),
            ("/a", "https://a:/", "`https://a:/`: after the scheme"),
            ("/a", "https://a:0/", "`https://a:0/`: after the scheme"),
            ("/a", "https://a:8x/", "`https://a:8x/`: after the scheme"),
            ("/a", "https://[::g]/", "`https://[::g]/`: after the scheme"),
            ("/a", "https://*.a/", "`https://*.a/`: after the scheme"),
            ("/a", "https://a..b/", "`https://a..b/`: after the scheme"),
            ("/a", "/b[1]", "`[` cannot be there in a URL: write it percent-encoded"),
            ("/a", "https://[::1]/?a]", "`]` cannot be there in a URL"),
            ("/a", "/b#c#d", "`#` cannot be there in a URL"),
        ];
        for (from, to, reason) in rows {
            let error = check(from, to).expect_err(to);
            assert!(error.starts_with(reason), "{from} {to}: {error}");
        }
    }

    #[test]
    fn a_target_is_taken_apart() {
        let found = parts("/a$12$3").unwrap();
        let expected = [
            Part::Text("/a"),
            Part::Capture(1),
            Part::Text("2"),
            Part::Capture(3),
            Part::Text(""),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_circle_is_seen_where_case_is_ignored() {
        let rule = |ignore_case| Redirect {
            from: Glob::new("/About/*", ignore_case).unwrap(),
            to: "/about/$1".to_owned(),
            status: Status::MOVED_PERMANENTLY,
            ignore_case,
        };
        assert_eq!(endless(&[rule(false)], &[]), []);
        let (number, reason) = &endless(&[rule(true)], &[])[0];
        assert_eq!(*number, 0);
        let expected = "without end: `/about/x` is sent on to `/about/x`";
        assert!(reason.to_string().starts_with(expected), "{reason}");
    }

    #[test]
    fn a_rule_that_responds_is_the_end_of_a_circle() {
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
            let found = endless(&redirects, &[respond(pattern, except)]);
            assert_eq!(found.is_empty(), ends, "{pattern} {except:?}");
        }
    }

    /// From and to.
    type Rules<'r> = &'r [(&'r str, &'r str)];

    /// The rules at fault and the reasons.
    fn found(rules: Rules<'_>) -> Vec<(usize, String)> {
        let rule = |(from, to): &(&str, &str)| Redirect {
            from: from.parse().expect(from),
            to: (*to).to_owned(),
            status: Status::MOVED_PERMANENTLY,
            ignore_case: false,
        };
        let rules: Vec<Redirect> = rules.iter().map(rule).collect();
        let found = endless(&rules, &[]).into_iter();
        found
            .map(|(number, reason)| (number, reason.to_string()))
            .collect()
    }

    #[test]
    fn rules_that_come_to_an_end() {
        let rows: &[Rules<'_>] = &[
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
    fn rules_without_end() {
        let rows: &[(Rules<'_>, usize, &str)] = &[
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
        fn no_text_panics(to in "(https?://|/)?[a/$%0-9?#]{0,8}|\\PC{0,8}") {
            if check("/*/**", &to).is_ok() {
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
    fn the_first_that_matches_is_found_by_its_prefix() {
        let from = ["/a/b", "/a/*", "/**", "/a/b", "/a/c", "/b*", "/{a,b}", "/a"];
        for start in 0..from.len() {
            let redirects = redirects(&from[start..]);
            let rules = super::Rules::new(&redirects, &[]);
            for path in ["/a", "/a/b", "/a/c", "/a/d", "/b", "/bc", "/c", "/", ""] {
                let matches = |rule: &Redirect| rule.from.is_match(path.as_bytes());
                let first = redirects.iter().position(matches);
                assert_eq!(rules.redirect(path.as_bytes()), first, "{start} {path}");
            }
        }
    }

    #[test]
    fn redirects_for_one_path_each_are_not_tried_for_others() {
        let from: Vec<String> = (100..200).map(|number| format!("/a/{number}")).collect();
        let from: Vec<&str> = from.iter().map(String::as_str).collect();
        let redirects = redirects(&from);
        let rules = super::Rules::new(&redirects, &[]);
        assert_eq!(rules.lengths.len(), 1);
        assert!(rules.by_prefix.values().all(|numbers| numbers.len() == 1));
    }
}
