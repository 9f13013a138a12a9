//! The target of a redirect: a URI reference (RFC 3986, section 4.1) in which `$1` to `$9` stand
//! for captures of the pattern.
//!
//! A capture has one digit: `$10` is the first capture and a zero. A dollar sign is written
//! percent-encoded.

use crate::rules::web;
use crate::{Glob, ValueError};

/// The highest number of a capture in a target, which has one digit.
pub(crate) const CAPTURES_MAX: usize = 9;

type Checked<T> = Result<T, ValueError>;

/// A longer target is a mistake. The search for redirect loops relies on this bound, too.
const BYTES_MAX: usize = 4096;

/// A part of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    /// By number, from 1.
    Capture(usize),
}

/// Checks the target of a redirect from `from`: a path or an http(s) URL, with captures of `from`
/// after the host only. It is sent as a header value unchanged, so it may hold only the characters
/// of a URI (RFC 3986, section 2).
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

/// After the host there are no brackets and at most one `#` (RFC 3986, appendix A).
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

/// The part after the host; all of a target without a host.
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

/// Whether it is `HOST` or `HOST:PORT` with a valid host.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    !host.starts_with('*') && web::site_name(host).is_ok() && port.is_none_or(web::is_port)
}

/// Splits `path` at its captures.
pub(crate) fn parts(path: &str) -> Checked<Vec<Part<'_>>> {
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
    fn valid_targets() {
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
    fn invalid_targets() {
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
    fn a_target_is_split_at_captures() {
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
