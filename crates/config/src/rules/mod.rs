//! Rules for single values. Each returns the value in the type of the settings, or the reason for a
//! refusal.
//!
//! This module has the rules for numbers, addresses and TLS; its submodules those for sites.

pub(crate) mod header;
pub(crate) mod origin;
pub(crate) mod path;
pub(crate) mod web;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{
    Count, LongPeriod, Period, Size, format_duration, format_long_duration, format_size,
};
use crate::{
    ClientAuth, ForwardedHeader, Ktls, Listen, MissingCertificates, ProxyProtocol, Steering,
    TlsVersion, ValueError,
};

/// The longest timeout: a connection that is idle for a day is lost.
pub(crate) const DAY: Duration = Duration::from_hours(24);

type Checked<T> = Result<T, ValueError>;

/// A number within `allowed`. `why` completes the message "... is outside A to B: ".
pub(crate) fn count<N: TryFrom<i64>>(
    allowed: RangeInclusive<i64>,
    why: &'static str,
) -> impl FnOnce(Count) -> Checked<N> {
    move |Count(value)| within(value, allowed, i64::to_string, why)
}

/// A number of bytes within `allowed`.
pub(crate) fn size<N: TryFrom<u64>>(
    allowed: RangeInclusive<u64>,
    why: &'static str,
) -> impl FnOnce(Size) -> Checked<N> {
    move |Size(bytes)| within(bytes, allowed, |bytes| format_size(*bytes), why)
}

/// A duration within `allowed`.
pub(crate) fn duration(
    allowed: RangeInclusive<Duration>,
    why: &'static str,
) -> impl FnOnce(Period) -> Checked<Duration> {
    move |Period(value)| within(value, allowed, |value| format_duration(*value), why)
}

/// A duration within `allowed`, which may be days.
pub(crate) fn long_duration(
    allowed: RangeInclusive<Duration>,
    why: &'static str,
) -> impl FnOnce(LongPeriod) -> Checked<Duration> {
    move |LongPeriod(value)| within(value, allowed, |value| format_long_duration(*value), why)
}

/// A power of two that `rule` accepts.
pub(crate) fn power_of_two<T: AsNumber, N>(
    rule: impl FnOnce(T) -> Checked<N>,
    why: &'static str,
) -> impl FnOnce(T) -> Checked<N> {
    move |value| {
        let (number, text) = (value.number(), value.text());
        let taken = rule(value)?;
        if !number.is_some_and(u64::is_power_of_two) {
            return refuse(format!("{text} is not a power of two: {why}"));
        }
        Ok(taken)
    }
}

/// The number and the notation of a value, for [`power_of_two`].
pub(crate) trait AsNumber {
    fn number(&self) -> Option<u64>;
    fn text(&self) -> String;
}

impl AsNumber for Count {
    fn number(&self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl AsNumber for Size {
    fn number(&self) -> Option<u64> {
        Some(self.0)
    }

    fn text(&self) -> String {
        format_size(self.0)
    }
}

/// `HOST:PORT`: a host name, an IPv4 address or an IPv6 address in brackets, and a port from 0 to
/// 65535; surrounding spaces are ignored. Host names are not resolved. `:PORT` and `*:PORT` mean
/// all addresses, `[::]:PORT`. Or `unix:` and an absolute path.
pub(crate) fn address(text: &str) -> Checked<String> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(|path| format!("unix:{path}"));
    }
    let all = text.strip_prefix('*').unwrap_or(text).strip_prefix(':');
    if let Some(port) = all.filter(|port| !port.contains(':')) {
        if port.is_empty() {
            return refuse(format!("`{text}` has no port: write [::]:8080"));
        }
        refuse_no_port(port)?;
        return Ok(format!("[::]:{port}"));
    }
    refuse_no_address(text)?;
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        let example = if is_host(text) { text } else { "127.0.0.1" };
        return refuse(format!(
            "`{text}` has no port: write HOST:PORT, such as {example}:8080"
        ));
    };
    if host.contains(':') && !host.starts_with('[') {
        let is_ipv6_like = |byte: u8| byte == b':' || byte.is_ascii_hexdigit();
        let reason = if text.bytes().all(is_ipv6_like) {
            "is ambiguous: write an IPv6 address in brackets, such as [::1]:8080"
        } else {
            "has more than one colon: write HOST:PORT, such as 127.0.0.1:8080"
        };
        return refuse(format!("`{text}` {reason}"));
    }
    if port.is_empty() {
        return refuse(format!("`{text}` has no port: write {text}8080"));
    }
    refuse_no_port(port)?;
    if !is_host(host) {
        return refuse(not_a_host(host, port));
    }
    Ok(text.to_owned())
}

/// Refuses a Unix socket.
pub(crate) fn tcp_address(text: &str) -> Checked<()> {
    if text.trim().starts_with("unix:") {
        return refuse(format!(
            "`{text}`: no Unix socket can be here: write HOST:PORT, such as 127.0.0.1:9900"
        ));
    }
    Ok(())
}

/// `HOST:PORT` of another node, in lower case: one that can be connected to.
pub(crate) fn peer(text: &str) -> Checked<String> {
    tcp_address(text)?;
    let peer = address(text)?.to_ascii_lowercase();
    let shown = text.trim();
    let (host, port) = peer.rsplit_once(':').unwrap_or((&peer, ""));
    if port.parse() == Ok(0_u16) {
        return refuse(format!(
            "`{shown}` has port 0, which no node listens on: write that of its fleet.listen"
        ));
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if ip.is_ok_and(|ip| ip.is_unspecified()) {
        return refuse(format!(
            "`{shown}` is no address of one node: write HOST:PORT, such as 10.0.0.5:8081"
        ));
    }
    Ok(peer)
}

/// The most bytes of a Unix socket's path: unix(7) has 108 with the NUL at its end.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// The path of a Unix socket.
fn unix_path(path: &str) -> Checked<&str> {
    let instead = "write unix:/run/tidegate.sock";
    if path.starts_with('@') {
        let reason = "is an abstract socket, which any user may connect to";
        return refuse(format!("`{path}` {reason}: {instead}"));
    }
    if !path.starts_with('/') {
        return refuse(format!("`{path}` is not an absolute path: {instead}"));
    }
    if path.ends_with('/') {
        return refuse(format!("`{path}` is a directory: {instead}"));
    }
    if path.contains('\0') {
        return refuse("a path has no NUL");
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return refuse(format!(
            "the path has {} bytes: the kernel takes at most {UNIX_PATH_BYTES_MAX} for a socket",
            path.len()
        ));
    }
    Ok(path)
}

/// Permissions in octal digits.
pub(crate) fn mode(text: &str) -> Checked<u32> {
    let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok();
    match mode.filter(|mode| is_octal && *mode <= 0o777) {
        Some(mode) => Ok(mode),
        None => refuse(format!(
            "`{text}` is no mode: write octal digits such as \"0660\", at most \"0777\""
        )),
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    /// A listener with this address and all defaults, for flags and the environment.
    fn from_str(address: &str) -> Result<Self, ValueError> {
        Ok(Self {
            address: self::address(address)?,
            ..Self::default()
        })
    }
}

fn not_a_host(host: &str, port: &str) -> String {
    let inner = host.trim_matches(['[', ']']);
    let hint = match inner {
        inner if inner != host && is_host(inner) => {
            format!(": only IPv6 addresses are in brackets: write {inner}:{port}")
        }
        inner if inner.contains('%') => {
            ": there are no zones here: write [::]:PORT for all addresses of this host".to_owned()
        }
        _ => String::new(),
    };
    format!("`{host}` is not a host name or an IP address{hint}")
}

/// Refuses addresses in the notation of other servers, and parts of addresses.
fn refuse_no_address(text: &str) -> Checked<()> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        return refuse(format!(
            "`{text}` has no address: write 127.0.0.1:{text} for this host alone, or [::]:{text} for all of its addresses"
        ));
    }
    if text.starts_with('/') {
        return refuse(format!("`{text}` is a path: write unix:{text}"));
    }
    if text.starts_with("unix/") || text.starts_with(['@', '.']) {
        let path = text.trim_start_matches("unix/").split('|').next();
        let path = path.filter(|path| unix_path(path).is_ok());
        return refuse(format!(
            "`{text}` is a Unix socket of another server: write unix:{}",
            path.unwrap_or("/run/tidegate.sock")
        ));
    }
    if text.starts_with("fd:") || text.starts_with("systemd:") {
        return refuse(format!(
            "`{text}`: no open sockets are taken over: write HOST:PORT, such as 127.0.0.1:8080"
        ));
    }
    if let Some((first, words)) = text.split_once([' ', '\t'])
        && address(first).is_ok()
    {
        return refuse(format!(
            "`{text}` has more than an address: write {first}, and what `{}` is for as a key beside it",
            words.trim()
        ));
    }
    if let Some(rest) = text.strip_prefix("tcp/") {
        return refuse(format!("`{text}` has a network: write {rest}"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or_default();
        return refuse(format!(
            "`{text}` has a scheme: write {address}, and tls = {} beside it",
            scheme == "https"
        ));
    }
    if let Some((address, _)) = text.split_once('/') {
        return refuse(format!("`{text}` has a path: write {address}"));
    }
    if text.parse::<Ipv6Addr>().is_ok() && !text.rsplit(':').next().is_some_and(is_decimal_port) {
        return refuse(format!("`{text}` has no port: write [{text}]:8080"));
    }
    Ok(())
}

/// Whether the last part of an IPv6 address without brackets can be a port.
fn is_decimal_port(part: &str) -> bool {
    part.len() > 1 && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn refuse_no_port(port: &str) -> Checked<()> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits && port.parse::<u16>().is_ok() {
        return Ok(());
    }
    match port {
        "http" => refuse("`http` is not a port: write 80"),
        "https" => refuse("`https` is not a port: write 443"),
        port => refuse(format!("`{port}` is not a port: write 0 to 65535")),
    }
}

/// Adds `address` to `seen`; refuses one that is there already. Port 0 may repeat: the system picks
/// another port each time.
pub(crate) fn not_seen(
    seen: &mut BTreeMap<String, String>,
    address: &str,
    line: String,
) -> Checked<()> {
    if address.ends_with(":0") {
        return Ok(());
    }
    match seen.insert(address.to_owned(), line) {
        None => Ok(()),
        Some(first) => refuse(format!("{address} is listened on already, by line {first}")),
    }
}

/// The value with this name in `all`.
pub(crate) fn one_of<T: Copy>(name: &str, all: &[(&str, T)]) -> Checked<T> {
    if let Some((_, value)) = all.iter().find(|(known, _)| *known == name) {
        return Ok(*value);
    }
    let known: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
    Err(none_of(name, &known))
}

/// The refusal of a name that is not among these.
pub(crate) fn none_of(name: &str, known: &[&str]) -> ValueError {
    let known: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
    let name = name.escape_debug();
    ValueError::new(format!("`{name}` is none of {}", known.join(", ")))
}

pub(crate) fn steering(name: &str) -> Checked<Steering> {
    one_of(name, &[("hash", Steering::Hash), ("cpu", Steering::Cpu)])
}

pub(crate) fn proxy_protocol(name: &str) -> Checked<ProxyProtocol> {
    let known = [
        ("off", ProxyProtocol::Off),
        ("accept", ProxyProtocol::Accept),
        ("require", ProxyProtocol::Require),
    ];
    one_of(name, &known)
}

pub(crate) fn forwarded_header(name: &str) -> Checked<ForwardedHeader> {
    let known = [
        ("off", ForwardedHeader::Off),
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    one_of(&name.to_ascii_lowercase(), &known)
}

pub(crate) fn tls_version(name: &str) -> Checked<TlsVersion> {
    let known = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    one_of(name, &known)
}

pub(crate) fn ktls(name: &str) -> Checked<Ktls> {
    one_of(name, &[("auto", Ktls::Auto), ("off", Ktls::Off)])
}

/// The value of `Strict-Transport-Security` (RFC 6797, section 6.1), or empty.
pub(crate) fn hsts(value: String) -> Checked<String> {
    let directives = value.split(';').map(str::trim);
    let mut ages = directives.filter_map(|directive| directive.strip_prefix("max-age="));
    let seconds = ages.next().and_then(|age| age.parse::<u32>().ok());
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if value.is_empty() || (seconds.is_some() && ages.next().is_none() && is_plain) {
        Ok(value)
    } else {
        refuse(format!(
            "`{value}` is no policy: write one such as \"max-age=63072000; includeSubDomains\""
        ))
    }
}

pub(crate) fn client_auth(name: &str) -> Checked<ClientAuth> {
    let known = [
        ("off", ClientAuth::Off),
        ("request", ClientAuth::Request),
        ("require", ClientAuth::Require),
    ];
    one_of(name, &known)
}

pub(crate) fn missing_certificates(name: &str) -> Checked<MissingCertificates> {
    let known = [
        ("refuse", MissingCertificates::Refuse),
        ("serve-http", MissingCertificates::ServeHttp),
    ];
    one_of(name, &known)
}

fn within<V: PartialOrd, N: TryFrom<V>>(
    value: V,
    allowed: RangeInclusive<V>,
    format: impl Fn(&V) -> String,
    why: &str,
) -> Checked<N> {
    let text = format(&value);
    let converted = allowed.contains(&value).then(|| N::try_from(value).ok());
    converted.flatten().ok_or_else(|| {
        let (least, most) = (format(allowed.start()), format(allowed.end()));
        ValueError::new(format!("{text} is outside {least} to {most}: {why}"))
    })
}

fn refuse<T>(reason: impl Into<String>) -> Checked<T> {
    Err(ValueError::new(reason))
}

/// A host name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return format!("{host}:0").parse::<SocketAddrV6>().is_ok();
    }
    is_host_name(host)
}

/// Labels separated by dots, without a final dot, or an IPv4 address.
fn is_host_name(host: &str) -> bool {
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let named = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    named && !label.is_empty() && !label.starts_with('-')
}

/// RFC 9110, section 5.6.2: `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
