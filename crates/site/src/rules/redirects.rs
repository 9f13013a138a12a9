//! Locations of redirects: of a site's rules, and of a directory to its final slash.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use regex::bytes::Captures;
use tidegate_http::encode_path;

use crate::rules::template::{self, Part, parts};

/// The characters to encode in a path: all except those of RFC 3986, section 3.3.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The location for the target `to` with these captures, and the query of the request.
pub(crate) fn location(to: &str, captures: &Captures<'_>, query: Option<&str>) -> String {
    with_query(expand(to, captures), query)
}

/// `path` with a final slash, percent-encoded.
pub(crate) fn with_slash(path: &[u8]) -> String {
    let mut location = String::new();
    encode_path(path, &mut location);
    location.push('/');
    location
}

/// Replaces `$1` to `$9` by the captures, percent-encoded.
fn expand(to: &str, captures: &Captures<'_>) -> String {
    let mut location = String::with_capacity(to.len() + captures[0].len());
    for part in parts(to) {
        match part {
            Part::Text(text) => location.push_str(text),
            Part::Capture(number) => put(&mut location, template::captured(captures, number)),
        }
    }
    on_this_host(location)
}

/// Appends a capture. After a host it becomes a path, never a part of the host; in a query it stays
/// within its parameter.
fn put(location: &mut String, captured: &[u8]) {
    let captured = if ends_in_host(location) {
        location.push('/');
        let slashes = captured.iter().take_while(|byte| **byte == b'/').count();
        &captured[slashes..]
    } else {
        captured
    };
    let encoded = if ends_in_query(location) {
        template::PLAIN
    } else {
        IN_PATH
    };
    template::put(location, captured, encoded);
}

/// Whether `location` ends within its query.
fn ends_in_query(location: &str) -> bool {
    location.contains('?') && !location.contains('#')
}

/// Whether `location` ends in a host, which a capture would extend: `https://host` and `@elsewhere`
/// make another host.
fn ends_in_host(location: &str) -> bool {
    let authority = location.split_once("://").map(|(_, rest)| rest);
    authority.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#']))
}

/// Merges slashes at the start: `//elsewhere` would be another host.
fn on_this_host(location: String) -> String {
    let slashes = location.bytes().take_while(|byte| *byte == b'/').count();
    if slashes > 1 {
        location[slashes - 1..].to_owned()
    } else {
        location
    }
}

/// Adds the query of the request, unless the target has one.
fn with_query(mut location: String, query: Option<&str>) -> String {
    let Some(query) = query else { return location };
    let end = location.find('#').unwrap_or(location.len());
    if !location[..end].contains('?') {
        location.insert_str(end, query);
        location.insert(end, '?');
    }
    location
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    /// From, to, path, query, location.
    type Case = (
        &'static str,
        &'static str,
        &'static [u8],
        Option<&'static str>,
        Option<&'static str>,
    );

    #[test]
    fn rules_send_elsewhere() {
        let table: [Case; 22] = [
            ("^/old/([^/]*)$", "/new/$1", b"/old/a", None, Some("/new/a")),
            ("^/old/([^/]*)$", "/new/$1", b"/old/a/b", None, None),
            (
                "^/old/([^/]*)$",
                "/new/$1",
                b"/old/a",
                Some("b=c"),
                Some("/new/a?b=c"),
            ),
            ("^/a$", "/b?own=1", b"/a", Some("b=c"), Some("/b?own=1")),
            ("^/a$", "/b#part", b"/a", Some("c"), Some("/b?c#part")),
            ("^/a$", "/b#is?it", b"/a", Some("c"), Some("/b?c#is?it")),
            ("^/a$", "/b", b"/a", Some(""), Some("/b?")),
            ("^/(.*)-(.*)$", "/$2/$1", b"/a-b", None, Some("/b/a")),
            (
                "^/(.*)$",
                "https://example.org/$1",
                b"/a b%\xff?",
                None,
                Some("https://example.org/a%20b%25%FF%3F"),
            ),
            // An encoded slash stays encoded, as part of a name.
            (
                "^/npm/([^/]*)$",
                "/packages/$1",
                b"/npm/@s\0pkg",
                None,
                Some("/packages/@s%2Fpkg"),
            ),
            (
                "^/npm/([^/]*)$",
                "https://example.org$1",
                b"/npm/\0evil.org",
                None,
                Some("https://example.org/%2Fevil.org"),
            ),
            (
                "^/npm/([^/]*)$",
                "/?name=$1",
                b"/npm/@s\0pkg",
                None,
                Some("/?name=%40s%2Fpkg"),
            ),
            // RFC 3986, section 3.2: the capture must not become a part of the host.
            (
                "^/x(.*)$",
                "https://example.org$1",
                b"/x@evil.org",
                None,
                Some("https://example.org/@evil.org"),
            ),
            (
                "^/x(.*)$",
                "https://example.org$1",
                b"/x/a",
                None,
                Some("https://example.org/a"),
            ),
            // RFC 3986, section 4.2: two slashes begin a host.
            ("^/x(.*)$", "/$1", b"/x/evil.org", None, Some("/evil.org")),
            (
                "^/x(.*)$",
                "/$1",
                b"/x\\evil.org",
                None,
                Some("/%5Cevil.org"),
            ),
            ("^/x(.*)$", "$1", b"/x/evil.org", None, Some("/evil.org")),
            // A capture adds no parameter, and a plus is not a space.
            (
                "^/q/(.*)$",
                "/search?q=$1",
                b"/q/a/b&admin=1+2;c#d%\xff",
                None,
                Some("/search?q=a/b%26admin%3D1%2B2%3Bc%23d%25%FF"),
            ),
            (
                "^/(.*)-(.*)$",
                "/$1?$2#$1",
                b"/a=&-b=&",
                None,
                Some("/a=&?b%3D%26#a=&"),
            ),
            (
                "^/(.*)$",
                "https://example.org?$1",
                b"/a&",
                None,
                Some("https://example.org?a%26"),
            ),
            ("^/a$", "/costs$", b"/a", None, Some("/costs$")),
            ("^/(a)$", "/$1$9!", b"/a", None, Some("/a!")),
        ];
        for (from, to, path, query, expected) in table {
            let from = Regex::new(&format!("(?s-u){from}")).unwrap();
            let captures = from.captures(path);
            let location = captures.map(|captures| location(to, &captures, query));
            assert_eq!(location.as_deref(), expected, "{from} {to}");
        }
    }

    #[test]
    fn a_directory_is_never_another_host() {
        let table: [(&[u8], &str); 3] = [
            (b"/a b", "/a%20b/"),
            (b"//evil.org", "/evil.org/"),
            (b"/\\evil.org", "/%5Cevil.org/"),
        ];
        for (path, expected) in table {
            assert_eq!(with_slash(path), expected);
        }
    }
}
