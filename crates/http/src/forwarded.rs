//! The client that proxies name in `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that it was asked from, so the lists are read from the right: an
//! address counts only if a trusted proxy wrote it.

use std::net::{IpAddr, Ipv4Addr};

use crate::syntax::trim_whitespace;
use crate::{Field, Fields};

/// The most proxies that are followed: a longer list is an attack.
const HOPS_MAX: usize = 64;

/// The most lines that are read: proxies append to the last one, or add one.
const LINES_MAX: usize = 8;

/// The field in which proxies name their clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedBy {
    /// `X-Forwarded-For`: addresses with commas between.
    XForwardedFor,
    /// `Forwarded`: the parameter `for` of its elements (RFC 7239, section 4).
    Forwarded,
}

/// The client of a request that came from `peer`, a trusted proxy: the last address in the field
/// that is not trusted, or the first one if all are. It is `peer` if there is none.
///
/// What is no address (`unknown`, an obfuscated identifier, garbage) ends the search: the client is
/// the proxy that wrote it.
pub fn forwarded_client(
    fields: Fields<'_>,
    by: ForwardedBy,
    peer: Option<IpAddr>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let field = match by {
        ForwardedBy::XForwardedFor => Field::XForwardedFor,
        ForwardedBy::Forwarded => Field::Forwarded,
    };
    let mut client = peer;
    for element in elements_from_right(fields, field).take(HOPS_MAX) {
        let named = match by {
            ForwardedBy::XForwardedFor => node(element),
            ForwardedBy::Forwarded => for_parameter(element).and_then(node),
        };
        let Some(address) = named else {
            return client;
        };
        client = Some(address);
        if !trusts(address) {
            return client;
        }
    }
    client
}

/// The elements of the lists in the last lines of `field`, the last first. Empty ones are left out
/// (RFC 9110, section 5.6.1).
///
/// A comma in a quoted string ends an element, too: no address has one.
fn elements_from_right(fields: Fields<'_>, field: Field) -> impl Iterator<Item = &[u8]> {
    let mut last_lines: [&[u8]; LINES_MAX] = [b""; LINES_MAX];
    for line in fields.all(field) {
        last_lines.rotate_left(1);
        last_lines[LINES_MAX - 1] = line;
    }
    let lines = last_lines.into_iter().rev();
    let elements = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
    elements
        .map(trim_whitespace)
        .filter(|element| !element.is_empty())
}

/// The value of `for` in an element of `Forwarded`; `None` if it is absent or repeated.
fn for_parameter(element: &[u8]) -> Option<&[u8]> {
    let parameters = element.split(|byte| *byte == b';').map(trim_whitespace);
    let mut values = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_at_checked(b"for=".len())?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    match value {
        [b'"', quoted @ .., b'"'] => Some(quoted),
        token => Some(token),
    }
}

/// The address of a node (RFC 7239, section 6): IPv4, or IPv6 in brackets, with or without a port.
/// In `X-Forwarded-For` IPv6 has no brackets, mostly.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address = address.parse().ok().filter(IpAddr::is_ipv6)?;
        return is_port(port).then(|| address.to_canonical());
    }
    let (address, _) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    is_port(&text[text.find(':')?..]).then_some(address.into())
}

/// Whether it is empty, or a colon and a port, which may be obfuscated.
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else {
        return text.is_empty();
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !port.is_empty() && port.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::with_get;

    const PEER: &str = "10.0.0.1";

    /// The client; trusted are the proxies of `10.0.0.0/8` and `fd00::/8`.
    fn client(by: ForwardedBy, lines: &str) -> String {
        let trusts = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.octets()[0] == 0xfd,
        };
        let peer = Some(PEER.parse().unwrap());
        with_get(lines, |request| {
            let client = forwarded_client(request.fields, by, peer, trusts);
            client.unwrap().to_string()
        })
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn the_last_address_that_is_not_trusted() {
        let rows: &[(&str, &str, &str)] = &[
            ("1.2.3.4", "1.2.3.4", "one proxy"),
            ("6.6.6.6, 1.2.3.4", "1.2.3.4", "what the client claims does not count"),
            ("1.2.3.4, 10.0.0.2,10.0.0.3", "1.2.3.4", "several proxies"),
            ("6.6.6.6,1.2.3.4 , fd00::1", "1.2.3.4", "in both families"),
            ("10.0.0.9, 10.0.0.2", "10.0.0.9", "all are trusted: the first"),
            ("", PEER, "empty"),
            (" , ,", PEER, "empty elements"),
            ("1.2.3.4,,", "1.2.3.4", "empty elements are left out"),
            ("1.2.3.4:80", "1.2.3.4", "a port"),
            ("2001:DB8::1", "2001:db8::1", "IPv6"),
            ("[2001:db8::1]", "2001:db8::1", "in brackets"),
            ("[2001:db8::1]:443", "2001:db8::1", "with a port"),
            ("::ffff:1.2.3.4", "1.2.3.4", "mapped"),
            ("1.2.3.4, unknown", PEER, "unknown"),
            ("1.2.3.4, _hidden, 10.0.0.2", "10.0.0.2", "obfuscated: the proxy that wrote it"),
            ("1.2.3.4, 999.1.1.1", PEER, "no address"),
            ("1.2.3.4, 01.2.3.4", PEER, "leading zeros"),
            ("1.2.3.4, [1.2.3.4]", PEER, "IPv4 in brackets"),
            ("1.2.3.4, [::1", PEER, "half a bracket"),
            ("1.2.3.4, [::1]x", PEER, "more behind it"),
            ("1.2.3.4, 5.6.7.8:", PEER, "no port"),
            ("1.2.3.4, 5.6.7.8:8 8", PEER, "no port"),
            ("1.2.3.4, fe80::1%eth0", PEER, "a zone"),
            ("1.2.3.4, \"5.6.7.8\"", PEER, "quoted"),
            ("1.2.3.4, \u{e4}", PEER, "not ASCII"),
            ("1.2.3.4 5.6.7.8", PEER, "no comma"),
        ];
        for (value, expected, why) in rows {
            let lines = format!("X-Forwarded-For: {value}\r\n");
            assert_eq!(client(ForwardedBy::XForwardedFor, &lines), *expected, "{why}");
            assert_eq!(client(ForwardedBy::Forwarded, &lines), PEER, "another field");
        }
        let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.0.0.2\r\n";
        assert_eq!(client(ForwardedBy::XForwardedFor, lines), "1.2.3.4", "several lines");
        assert_eq!(client(ForwardedBy::XForwardedFor, ""), PEER, "absent");
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn the_parameter_of_the_last_element() {
        let rows: &[(&str, &str, &str)] = &[
            ("for=1.2.3.4", "1.2.3.4", "RFC 7239, section 4"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17", "its example"),
            ("for=1.2.3.4;proto=http;by=10.0.0.43", "1.2.3.4", "its example"),
            ("proto=http; FOR=\"1.2.3.4:80\"", "1.2.3.4", "whitespace"),
            ("for=6.6.6.6, for=1.2.3.4, for=10.0.0.2", "1.2.3.4", "several"),
            ("for=\"6.6.6.6, for=1.2.3.4", "1.2.3.4", "a client leaves a quote open"),
            ("for=1.2.3.4, for=unknown", PEER, "unknown"),
            ("for=1.2.3.4, for=\"_gazonk\"", PEER, "obfuscated"),
            ("for=\"1.2.3.4:_port\"", "1.2.3.4", "an obfuscated port"),
            ("for=1.2.3.4, proto=https", PEER, "no address"),
            ("for=1.2.3.4, for=5.6.7.8;for=5.6.7.9", PEER, "twice"),
            ("for=1.2.3.4, for=\"5.6.7.8", PEER, "half quoted"),
            ("for=1.2.3.4, for = 5.6.7.8", PEER, "whitespace about ="),
            ("1.2.3.4", PEER, "no parameter"),
            ("xfor=1.2.3.4", PEER, "another parameter"),
        ];
        for (value, expected, why) in rows {
            let lines = format!("Forwarded: {value}\r\n");
            assert_eq!(client(ForwardedBy::Forwarded, &lines), *expected, "{why}");
        }
    }

    #[test]
    fn a_list_is_followed_only_so_far() {
        let lines = format!(
            "X-Forwarded-For: 1.2.3.4{}\r\n",
            ", 10.0.0.2".repeat(HOPS_MAX)
        );
        assert_eq!(client(ForwardedBy::XForwardedFor, &lines), "10.0.0.2");
    }

    proptest! {
        /// Whatever a client sends, the address that the proxy appends is the one.
        #[test]
        fn a_client_cannot_hide(claim in "[ -~]{0,60}") {
            let line = format!("X-Forwarded-For: {claim}, 1.2.3.4\r\n");
            prop_assert_eq!(client(ForwardedBy::XForwardedFor, &line), "1.2.3.4");
            let line = format!("Forwarded: {claim}, for=1.2.3.4\r\n");
            prop_assert_eq!(client(ForwardedBy::Forwarded, &line), "1.2.3.4");
        }
    }
}
