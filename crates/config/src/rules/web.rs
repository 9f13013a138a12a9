//! What browsers and other clients see: host names, media types, origins, statuses.

use std::net::{Ipv4Addr, Ipv6Addr};

use tidegate_http::{Coding, EncodedSlash, Status};

use super::{Checked, is_host_name, is_token, one_of, refuse};
use crate::units::{BoolOrList, Count};
use crate::{CachePreset, CompressedOnly, EtagSource, HiddenFiles, Symlinks};

/// The longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The errors that a site may have a page for. Of the others 412 and 416 are for programs, and the rest
/// are answered before it is known which site is meant.
const ERRORS: &[Status] = &[
    Status::BAD_REQUEST,
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

/// What a site may answer by rule: what a path can be, whoever asks and whatever is there.
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

/// The redirects there are (RFC 9110, section 15.4).
const REDIRECTS: &[Status] = &[
    Status::MOVED_PERMANENTLY,
    Status::FOUND,
    Status::SEE_OTHER,
    Status::TEMPORARY_REDIRECT,
    Status::PERMANENT_REDIRECT,
];

/// The name of a site, in lower case and without a final dot: a host name, an
/// IP address (IPv6 in brackets, as RFC 5952 writes it), or `*.` and a host name
/// for all below it.
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

/// An origin as browsers write it (RFC 6454, section 6.2), or `*`.
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

/// A status that has a page of its own: one of the errors.
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

/// The status of a rule that answers by itself.
pub(crate) fn rule_status(Count(code): Count) -> Checked<Status> {
    if let Some(status) = status_in(BY_RULE, code) {
        return Ok(status);
    }
    let reason = match code {
        300..=399 => "[[site.redirects]] sends clients elsewhere",
        401 | 407 => "there is no password that it could ask for (WWW-Authenticate)",
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

/// A cache preset; empty leaves Cache-Control alone.
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

/// A MIME type, `TYPE/SUBTYPE`, with parameters or without. It becomes a header
/// value as it is, so nothing outside visible ASCII and spaces is let in.
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

/// The extension a MIME type is given for.
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

/// RFC 3986, section 3.1, in lower case.
fn is_scheme(scheme: &str) -> bool {
    let other = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    scheme.starts_with(|first: char| first.is_ascii_lowercase()) && scheme.bytes().all(other)
}

/// In brackets, and no other text.
fn ipv6_address(host: &str) -> Option<Ipv6Addr> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok()
}

fn is_address(host: &str) -> bool {
    ipv6_address(host).is_some() || host.parse::<Ipv4Addr>().is_ok()
}

/// The port that a scheme has anyway is not written.
fn is_port_of(scheme: &str, port: &str) -> bool {
    is_port(port) && !matches!((scheme, port), ("http", "80") | ("https", "443"))
}

/// A port that can be connected to, as clients write it: without zeros in front.
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
