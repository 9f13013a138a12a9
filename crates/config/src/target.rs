//! Where a redirect leads: a reference with places for what the pattern captured.
//!
//! `$1` to `$9` stand for captures, by one digit, so that `$10` is the first one
//! and a zero. A dollar itself is percent-encoded.

use regex::bytes::Captures;

use crate::{Glob, ValueError};

/// Stands for any capture where a rule is tried out.
const SAMPLE: &[u8] = b"x";

type Checked<T> = Result<T, ValueError>;

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
    refuse_other_characters(&to)?;
    let path = path_of(&to)?;
    let parts = parts(path)?;
    refuse_missing_captures(&parts, from)?;
    if path == to {
        refuse_endless(&parts, from)?;
    }
    Ok(to)
}

fn refuse_other_characters(to: &str) -> Checked<()> {
    let other = |char: char| {
        !matches!(char, '!'..='~')
            || matches!(char, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    };
    match to.chars().find(|char| other(*char)) {
        None => Ok(()),
        Some(char) => refuse(format!(
            "`{}` cannot be in a URL: write it percent-encoded",
            char.escape_debug()
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
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.is_empty() || host.contains(['$', '@', '?', '#']) {
        return refuse(format!(
            "`{to}`: after the scheme come a host and `/`; captures of a request's path cannot name a host"
        ));
    }
    Ok(path)
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

fn refuse_missing_captures(parts: &[Part<'_>], from: &Glob) -> Checked<()> {
    let missing = parts.iter().find_map(|part| match part {
        Part::Capture(number) if *number > from.captures() => Some(number),
        _ => None,
    });
    let Some(number) = missing else { return Ok(()) };
    let there = match from.captures() {
        0 => "no wildcard".to_owned(),
        1 => "one wildcard".to_owned(),
        count => format!("{count} wildcards"),
    };
    refuse(format!(
        "`${number}` captures nothing: `{from}` has {there}"
    ))
}

/// Refuses a rule that sends a path to one that the rule sends on, and so on.
fn refuse_endless(parts: &[Part<'_>], from: &Glob) -> Checked<()> {
    let sample = path(parts, |_| SAMPLE);
    let Some(captures) = from.regex().captures(&sample) else {
        return Ok(());
    };
    let next = path(parts, |number| capture(&captures, number));
    if !from.regex().is_match(&next) {
        return Ok(());
    }
    let (sample, next) = (sample.escape_ascii(), next.escape_ascii());
    refuse(format!(
        "without end: `{from}` matches `{sample}` too, which would lead to `{next}`, and so on"
    ))
}

/// The path of a target, without query and fragment. Escapes stay as they are:
/// a rule with escapes that never ends is not found out.
fn path<'c>(parts: &[Part<'c>], capture: impl Fn(usize) -> &'c [u8]) -> Vec<u8> {
    let mut path = Vec::new();
    for part in parts {
        match part {
            Part::Capture(number) => path.extend_from_slice(capture(*number)),
            Part::Text(text) => {
                let end = text.find(['?', '#']);
                path.extend_from_slice(&text.as_bytes()[..end.unwrap_or(text.len())]);
                if end.is_some() {
                    break;
                }
            }
        }
    }
    path
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
            // One turn, then it is over.
            ("/*", "/$1/"),
            ("/a", "/a/"),
            ("/*.htm", "/$1.html"),
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
            ("/a", "/{b}", "`{` cannot be in a URL"),
            ("/*", "/x${1}", "`{` cannot be in a URL"),
            ("/a", "/$", "after `$` comes the number"),
            ("/a", "/$path", "after `$` comes the number"),
            ("/*", "/x$0", "after `$` comes the number"),
            ("/*", "/x$$1", "after `$` comes the number"),
            ("/*", "/x$+1", "after `$` comes the number"),
            ("/a", "/b/$1", "`$1` captures nothing: `/a` has no wildcard"),
            ("/a/*", "/b/$2", "`$2` captures nothing: `/a/*` has one wildcard"),
            ("/a/*", "/b/$20", "`$2` captures nothing"),
            ("/*/*", "/b/$1/$3", "`$3` captures nothing: `/*/*` has 2 wildcards"),
            ("/**", "/sorry.html", "without end: `/**` matches `/sorry.html` too"),
            ("/**", "/new/$1", "without end: `/**` matches `/new/x` too, which would lead to `/new/new/x`"),
            ("/a", "/a?b=c", "without end: `/a` matches `/a` too"),
            ("/a/**", "/a/$1/", "without end: "),
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

    proptest! {
        #[test]
        fn no_text_panics(to in "(https?://|/)?[a/$%0-9?#]{0,8}|\\PC{0,8}") {
            let _ = check("/*/**", &to);
        }
    }
}
