//! URLs of origins, and what of a request names an object there.
//!
//! A refusal never shows a user, a password or a query: they may be secrets.

use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Checked, none_of, one_of, refuse, web};
use crate::units::TextOrList;
use crate::{CacheKey, Credentials, OriginUrl, S3Style, ValueError};

/// How a URL is written.
const EXAMPLE: &str = "write https://HOST/PATH or http://HOST/PATH";

/// An absolute URL without user, query and fragment.
pub(crate) fn url(text: &str) -> Checked<OriginUrl> {
    let shown = text.escape_debug();
    refuse_secrets(text)?;
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(format!("`{shown}` is no URL: {EXAMPLE}"));
    };
    let is_https = match &*scheme.to_ascii_lowercase() {
        "https" => true,
        "http" => false,
        "s3" => {
            return refuse(format!(
                "`{shown}` does not name the host of the store: write https://HOST/BUCKET/PREFIX"
            ));
        }
        _ => return refuse(format!("`{shown}` is neither https nor http: {EXAMPLE}")),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    Ok(OriginUrl {
        is_https,
        host,
        port: port.unwrap_or(OriginUrl::default_port(is_https)),
        path: url_path(path.trim_end_matches('/'))?,
    })
}

impl FromStr for OriginUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        url(text)
    }
}

/// The URL of an S3 store.
pub(crate) fn s3_url(text: &str, style: S3Style) -> Checked<OriginUrl> {
    let url = url(text)?;
    let bucket = url.path.split('/').nth(1).unwrap_or_default();
    if style == S3Style::Path && bucket.is_empty() {
        return refuse(format!(
            "`{url}` has no bucket: write https://HOST/BUCKET/PREFIX, or style = \"virtual-host\" \
             if the host names it"
        ));
    }
    Ok(url)
}

/// Refuses parts that an origin's URL does not have, without showing them.
fn refuse_secrets(text: &str) -> Checked<()> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if rest[..end].contains('@') {
        return refuse(
            "the URL has a user (`@`): leave it out; an S3 store has credentials and profile",
        );
    }
    if rest.contains('?') {
        return refuse("the URL has a query (`?`): leave it out; cache-key says what is sent");
    }
    if rest.contains('#') {
        return refuse("the URL has a fragment (`#`): leave it out, or write %23");
    }
    Ok(())
}

/// `HOST` or `HOST:PORT`. The host is in lower case, an IPv6 address in brackets.
fn host_and_port(text: &str) -> Checked<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let shown = text.escape_debug();
    if host.is_empty() {
        return refuse(format!("`{shown}` names no host: {EXAMPLE}"));
    }
    if host.starts_with("*.") {
        return refuse(format!("`{shown}` is no single host"));
    }
    let host = web::site_name(host)?;
    let Some(port) = port else {
        return Ok((host, None));
    };
    match port.parse::<u16>().ok().filter(|_| web::is_port(port)) {
        Some(port) => Ok((host, Some(port))),
        None => refuse(format!(
            "`{}` is not a port: write 1 to 65535",
            port.escape_debug()
        )),
    }
}

/// The path of a URL, percent-encoded (RFC 3986, section 3.3).
fn url_path(path: &str) -> Checked<String> {
    let is_plain =
        |char: char| char.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(char);
    let shown = path.escape_debug();
    if let Some(char) = path.chars().find(|char| !is_plain(*char)) {
        let mut bytes = [0; 4];
        let encoded = utf8_percent_encode(char.encode_utf8(&mut bytes), NON_ALPHANUMERIC);
        return refuse(format!(
            "`{shown}`: a URL has `{}` percent-encoded: write {encoded}",
            char.escape_debug()
        ));
    }
    let is_escape = |digits: &str| {
        let digits = digits.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !path.split('%').skip(1).all(is_escape) {
        return refuse(format!(
            "`{shown}`: two hexadecimal digits follow a `%`; itself it is %25"
        ));
    }
    let decoded = path.to_ascii_lowercase().replace("%2e", ".");
    if decoded.split('/').any(|part| matches!(part, "." | "..")) {
        return refuse(format!(
            "`{shown}` has a segment `.` or `..`: write where it leads"
        ));
    }
    Ok(path.to_owned())
}

/// The path that tells whether an origin is up; empty: `None`.
pub(crate) fn health(path: &str) -> Checked<Option<String>> {
    if path.is_empty() {
        return Ok(None);
    }
    if !path.starts_with('/') {
        return refuse(format!(
            "`{}` does not begin with a slash: write a path below that of the URL, such as \
             \"/health\"",
            path.escape_debug()
        ));
    }
    url_path(path).map(Some)
}

/// The value of the field Host (RFC 9110, section 7.2); empty: `None`.
pub(crate) fn host(text: &str) -> Checked<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('/') {
        return refuse(format!(
            "`{}` is no host: write HOST or HOST:PORT",
            text.escape_debug()
        ));
    }
    Ok(match host_and_port(text)? {
        (host, None) => Some(host),
        (host, Some(port)) => Some(format!("{host}:{port}")),
    })
}

/// The region of an S3 store.
pub(crate) fn region(name: String) -> Checked<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return refuse(format!(
            "`{}` is no region: write a name such as \"us-east-1\"",
            name.escape_debug()
        ));
    }
    Ok(name)
}

/// The name of a profile; empty: `None`.
pub(crate) fn profile(name: String, credentials: Credentials) -> Checked<Option<String>> {
    if name.is_empty() {
        return Ok(None);
    }
    if credentials == Credentials::None {
        return refuse("credentials = \"none\" has no use for it: leave one of the two out");
    }
    if name.contains(|char: char| char.is_control() || matches!(char, '[' | ']')) {
        return refuse(format!(
            "`{}` is no name that a section of a file can have",
            name.escape_debug()
        ));
    }
    Ok(Some(name))
}

pub(crate) fn style(name: &str) -> Checked<S3Style> {
    let known = [
        ("path", S3Style::Path),
        ("virtual-host", S3Style::VirtualHost),
    ];
    one_of(name, &known)
}

pub(crate) fn credentials(name: &str) -> Checked<Credentials> {
    let known = [("auto", Credentials::Auto), ("none", Credentials::None)];
    one_of(name, &known)
}

/// `"query"`, `"path"` or a list of parameters.
pub(crate) fn cache_key(typed: TextOrList) -> Checked<CacheKey> {
    match typed {
        TextOrList::Text(name) => match &*name {
            "query" => Ok(CacheKey::Query),
            "path" => Ok(CacheKey::Path),
            name => {
                let reason = none_of(name, &["query", "path"]);
                refuse(format!(
                    "{reason}: a parameter is in a list, such as [\"v\"]"
                ))
            }
        },
        TextOrList::List(names) if names.is_empty() => {
            refuse("no parameter is named: write \"path\" to leave the query out")
        }
        TextOrList::List(names) => {
            for (number, name) in names.iter().enumerate() {
                refuse_no_parameter(name)?;
                if names[..number].contains(name) {
                    return refuse(format!("`{name}` is named twice"));
                }
            }
            Ok(CacheKey::Parameters(names))
        }
    }
}

fn refuse_no_parameter(name: &str) -> Checked<()> {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'&' | b'=' | b'#');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return refuse(format!(
            "`{}` is not the name of a parameter: write it as it is in a query, percent-encoded \
             and without its value",
            name.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_spelling() {
        let rows = [
            ("https://s3.example/b", "https://s3.example/b", 443),
            ("HTTPS://S3.Example:443/b/", "https://s3.example/b", 443),
            ("http://a", "http://a", 80),
            ("http://a/", "http://a", 80),
            ("http://a:443/x//y/", "http://a:443/x//y", 443),
            (
                "http://[::1]:9000/b/p%20q",
                "http://[::1]:9000/b/p%20q",
                9000,
            ),
            ("http://[::1]/b@c", "http://[::1]/b@c", 80),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443", 8443),
        ];
        for (text, expected, port) in rows {
            let parsed = url(text).expect(text);
            assert_eq!(parsed.to_string(), expected, "{text}");
            assert_eq!(parsed.port, port, "{text}");
            assert_eq!(url(expected), Ok(parsed), "{text}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn what_is_no_url_is_refused() {
        let rows = [
            ("", "`` is no URL: "),
            ("a/b", "`a/b` is no URL: "),
            ("ftp://a", "`ftp://a` is neither https nor http: "),
            ("s3://b/p", "`s3://b/p` does not name the host of the store"),
            ("https:///b", "`` names no host"),
            ("https://:80/b", "`:80` names no host"),
            ("https://*.a/b", "`*.a` is no single host"),
            ("https://a b/", "`a b` is not the name of a host"),
            ("https://a:0/", "`0` is not a port"),
            ("https://a:99999/", "`99999` is not a port"),
            ("https://a:/", "`` is not a port"),
            ("https://::1/", "`:` is not the name of a host"),
            ("https://a/b c", "`/b c`: a URL has ` ` percent-encoded: write %20"),
            ("https://a/\u{e9}", "`/\u{e9}`: a URL has `\u{e9}` percent-encoded: write %C3%A9"),
            ("https://a/%2", "`/%2`: two hexadecimal digits"),
            ("https://a/b/../c", "`/b/../c` has a segment `.` or `..`"),
            ("https://a/%2E/c", "`/%2E/c` has a segment `.` or `..`"),
        ];
        for (text, expected) in rows {
            let error = url(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for text in [
            "https://name:secret@a/b",
            "https://secret@a?x",
            "name:secret@a/b",
            "https://a/b?X-Amz-Signature=secret",
            "a?secret",
            "https://a/#secret",
        ] {
            let error = url(text).expect_err(text).to_string();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_host() {
        for text in ["https://a", "https://a/", "https://a//b"] {
            assert!(s3_url(text, S3Style::Path).is_err(), "{text}");
            assert!(s3_url(text, S3Style::VirtualHost).is_ok(), "{text}");
        }
        assert!(s3_url("https://a/b", S3Style::Path).is_ok());
    }

    #[test]
    fn a_host_has_one_spelling() {
        let rows = [
            ("", Some(None)),
            ("A.example", Some(Some("a.example"))),
            ("a:8080", Some(Some("a:8080"))),
            ("[::1]:80", Some(Some("[::1]:80"))),
            ("https://a", None),
            ("a/b", None),
            ("*.a", None),
            ("a\r\nb", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|host| host.map(str::to_owned));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }
}
