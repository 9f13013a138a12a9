//! Values that clients see: host names, media types, origins, statuses.

use std::net::{Ipv4Addr, Ipv6Addr};

use tidegate_http::{Coding, EncodedSlash, Status};

use super::{Checked, is_host_name, is_token, one_of, refuse};
use crate::units::{BoolOrList, Count};
use crate::{CachePreset, CompressedOnly, EtagSource, HiddenFiles, Symlinks};

/// The longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The errors that a site may have a page for. Of the others, 412 and 416 are for programs, and the
/// rest are sent before the site of the request is known.
const ERRORS: &[Status] = &[
    Status::BAD_REQUEST,
    Status::UNAUTHORIZED,
    Status::FORBIDDEN,
    Status::NOT_FOUND,
    Status::METHOD_NOT_ALLOWED,
    Status::NOT_ACCEPTABLE,
    Status::GONE,
    Status::IM_A_TEAPOT,
    Status::MISDIRECTED_REQUEST,
    Status::TOO_MANY_REQUESTS,
    Status::UNAVAILABLE_FOR_LEGAL_REASONS,
    Status::INTERNAL_SERVER_ERROR,
    Status::NOT_IMPLEMENTED,
    Status::SERVICE_UNAVAILABLE,
];

/// The statuses that a rule may answer: they depend on the path only.
const BY_RULE: &[Status] = &[
    Status::OK,
    Status::NO_CONTENT,
    Status::BAD_REQUEST,
    Status::FORBIDDEN,
    Status::NOT_FOUND,
    Status::GONE,
    Status::IM_A_TEAPOT,
    Status::MISDIRECTED_REQUEST,
    Status::TOO_MANY_REQUESTS,
    Status::UNAVAILABLE_FOR_LEGAL_REASONS,
    Status::INTERNAL_SERVER_ERROR,
    Status::SERVICE_UNAVAILABLE,
];

/// The statuses of redirects with a Location (RFC 9110, section 15.4).
const REDIRECTS: &[Status] = &[
    Status::MOVED_PERMANENTLY,
    Status::FOUND,
    Status::SEE_OTHER,
    Status::TEMPORARY_REDIRECT,
    Status::PERMANENT_REDIRECT,
];

/// The name of a site, in lower case and without a final dot: a host name, an IP address (IPv6 in
/// brackets, in the form of RFC 5952), or `*.` and a host name for all names below it.
pub(crate) fn site_name(text: &str) -> Checked<String> {
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let host = lower.strip_prefix("*.").unwrap_or(&lower);
    if let Some(address) = ipv6_address(&lower) {
        return Ok(format!("[{address}]"));
    }
    let is_below_address = host != lower && is_address(host);
    if is_host_name(host) && lower.len() <= HOST_BYTES_MAX && !is_below_address {
        return Ok(lower);
    }
    if let Some(host) = lower.strip_prefix('.').filter(|host| is_host_name(host)) {
        return refuse(format!(
            "`{lower}` is not the name of a host: write \"{host}\" and, for all below it, \"*.{host}\""
        ));
    }
    let hint = match host {
        _ if is_below_address => "an address has no names below it",
        "*" => "the site without names answers for all that no other has",
        host if host.starts_with('~') => {
            "there are no regular expressions for hosts; \"*.example.org\" is all below one"
        }
        host if host.contains(':') => "it has no scheme, no port, and IPv6 addresses in brackets",
        host if host.contains('*') => "a `*` is for the first label, as in \"*.example.org\"",
        host if !host.is_ascii() => "write it as it is in DNS, beginning with xn--",
        _ => "write a name such as \"example.org\"",
    };
    refuse(format!(
        "`{}` is not the name of a host: {hint}",
        text.escape_debug()
    ))
}

/// An origin in its serialised form (RFC 6454, section 6.2), or `*`.
pub(crate) fn origin(text: String) -> Checked<String> {
    if text == "*" {
        return Ok(text);
    }
    if text.split_once("://").is_some_and(is_origin) {
        return Ok(text);
    }
    refuse(format!(
        "`{}` is not an origin: write it as browsers do, such as \"https://example.org\", in lower case and without a path",
        text.escape_debug()
    ))
}

/// The status of an error page.
pub(crate) fn error_status(text: &str) -> Checked<Status> {
    let code = text.parse().ok().filter(|_| text.len() == 3);
    match code.and_then(|code| status_in(ERRORS, code)) {
        Some(status) => Ok(status),
        None => refuse(format!(
            "`{}` is none of the errors that can have a page: {}",
            text.escape_debug(),
            list(ERRORS)
        )),
    }
}

/// The status of a redirect.
pub(crate) fn redirect_status(Count(code): Count) -> Checked<Status> {
    match status_in(REDIRECTS, code) {
        Some(status) => Ok(status),
        None => refuse(format!("{code} is none of {}", list(REDIRECTS))),
    }
}

/// The status of a `[[site.respond]]`.
pub(crate) fn rule_status(Count(code): Count) -> Checked<Status> {
    if let Some(status) = status_in(BY_RULE, code) {
        return Ok(status);
    }
    let reason = match code {
        300..=399 => "[[site.redirects]] sends clients elsewhere",
        401 | 407 => "[[site.auth]] asks for passwords",
        405 => "that a method is not allowed does not hang on the path: GET and HEAD always are",
        444 => "every request gets an answer; 403 or 404 says the least",
        502 | 504 => "it is about a server behind this one, and there is none",
        _ => "write one of these",
    };
    refuse(format!("{code} is none of {}: {reason}", list(BY_RULE)))
}

pub(crate) fn hidden_files(typed: BoolOrList) -> Checked<HiddenFiles> {
    match typed {
        BoolOrList::Bool(false) => Ok(HiddenFiles::None),
        BoolOrList::Bool(true) => Ok(HiddenFiles::All),
        BoolOrList::List(names) if names.is_empty() => Ok(HiddenFiles::None),
        BoolOrList::List(names) => {
            let names: Checked<Vec<_>> = names.iter().map(|name| name.parse()).collect();
            Ok(HiddenFiles::Named(names?))
        }
    }
}

pub(crate) fn encoded_slash(name: &str) -> Checked<EncodedSlash> {
    let all = [
        ("literal", EncodedSlash::Literal),
        ("decode", EncodedSlash::Decode),
    ];
    one_of(name, &all)
}

pub(crate) fn symlinks(name: &str) -> Checked<Symlinks> {
    let all = [
        ("beneath", Symlinks::Beneath),
        ("never", Symlinks::Never),
        ("follow", Symlinks::Follow),
    ];
    one_of(name, &all)
}

pub(crate) fn etag(name: &str) -> Checked<EtagSource> {
    let all = [
        ("mtime", EtagSource::Mtime),
        ("content", EtagSource::Content),
    ];
    one_of(name, &all)
}

pub(crate) fn compressed_only(name: &str) -> Checked<CompressedOnly> {
    let all = [
        ("off", CompressedOnly::Off),
        ("decompress", CompressedOnly::Decompress),
        ("refuse", CompressedOnly::Refuse),
    ];
    one_of(name, &all)
}

pub(crate) fn coding(name: &str) -> Checked<Coding> {
    one_of(name, &Coding::ALL.map(|coding| (coding.token(), coding)))
}

/// A cache preset; empty: `None`.
pub(crate) fn cache_preset(name: &str) -> Checked<Option<CachePreset>> {
    let all = [
        ("", None),
        ("immutable", Some(CachePreset::Immutable)),
        ("revalidate", Some(CachePreset::Revalidate)),
        ("none", Some(CachePreset::None)),
    ];
    one_of(name, &all)
}

/// A charset name, or empty.
pub(crate) fn charset(name: String) -> Checked<String> {
    if !name.bytes().all(is_token) {
        return refuse(format!(
            "`{}` is not a charset name such as \"utf-8\"",
            name.escape_default()
        ));
    }
    Ok(name)
}

/// A MIME type, `TYPE/SUBTYPE`, with or without parameters. It is sent as a header value unchanged,
/// so only visible ASCII and spaces are accepted.
pub(crate) fn mime_type(text: String) -> Checked<String> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let named = essence.split_once('/').is_some_and(|(kind, subtype)| {
        !kind.is_empty() && !subtype.is_empty() && kind.bytes().chain(subtype.bytes()).all(is_token)
    });
    if !(visible && named) {
        return refuse(format!(
            "`{}` is not a MIME type: write TYPE/SUBTYPE, such as \"text/html\"",
            text.escape_default()
        ));
    }
    Ok(text)
}

/// Checks the extension of a MIME type.
pub(crate) fn extension(name: &str) -> Checked<()> {
    let reason = match name {
        "" => "it is empty",
        name if name.contains('.') => "write what follows the last dot, without the dot",
        name if name.contains(['/', '\0']) => "a file name cannot hold it",
        name if name.to_lowercase() != name => "extensions are compared in lower case",
        _ => return Ok(()),
    };
    refuse(format!(
        "`{}` is not an extension: {reason}",
        name.escape_default()
    ))
}

fn is_origin((scheme, host): (&str, &str)) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_name = site_name(name).is_ok_and(|same| same == name);
    let is_port = port.is_none_or(|port| is_port_of(scheme, port));
    is_scheme(scheme) && is_name && !name.starts_with('*') && is_port
}

/// A scheme in lower case (RFC 3986, section 3.1).
fn is_scheme(scheme: &str) -> bool {
    let other = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    scheme.starts_with(|first: char| first.is_ascii_lowercase()) && scheme.bytes().all(other)
}

/// The IPv6 address that `host` is in brackets.
fn ipv6_address(host: &str) -> Option<Ipv6Addr> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok()
}

fn is_address(host: &str) -> bool {
    ipv6_address(host).is_some() || host.parse::<Ipv4Addr>().is_ok()
}

/// Whether an origin with this scheme can have this port: the default port is left out.
fn is_port_of(scheme: &str, port: &str) -> bool {
    is_port(port) && !matches!((scheme, port), ("http", "80") | ("https", "443"))
}

/// A port without a sign or leading zeros, not 0.
pub(crate) fn is_port(port: &str) -> bool {
    !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok()
}

/// The status of `statuses` with this code.
fn status_in(statuses: &[Status], code: i64) -> Option<Status> {
    let mut statuses = statuses.iter().copied();
    statuses.find(|status| i64::from(status.code()) == code)
}

fn list(statuses: &[Status]) -> String {
    let codes = statuses.iter().map(|status| status.code().to_string());
    codes.collect::<Vec<_>>().join(", ")
}
