//! The rules of a site about who may have which path.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::ser::{Serialize, Serializer};

use crate::{Glob, ValueError, units};

/// `match`, `except` and `ignore-case`: the paths that a rule is for.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Paths {
    /// The paths.
    #[serde(rename = "match")]
    pub pattern: Glob,
    /// Exceptions from `pattern`.
    pub except: Vec<Glob>,
    /// Whether all these patterns ignore case.
    pub ignore_case: bool,
}

impl Paths {
    /// Whether the rule is for `path`, percent-decoded: `pattern` matches and no exception does.
    pub fn contain(&self, path: &[u8]) -> bool {
        self.pattern.is_match(path) && !self.except.iter().any(|except| except.is_match(path))
    }
}

/// `[[site.access]]`: who may have some paths, by address.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Access {
    /// The paths.
    #[serde(flatten)]
    pub paths: Paths,
    /// Clients that are served. At least one of the two lists is not empty.
    pub allow: Vec<Clients>,
    /// Clients that are refused; none that is in `allow`, too.
    pub deny: Vec<Clients>,
}

/// `[[site.auth]]`: some paths are only for users with a password (RFC 7617).
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Auth {
    /// The paths.
    #[serde(flatten)]
    pub paths: Paths,
    /// What browsers show to users, who have one password for all paths of a realm: printable
    /// ASCII, without `"` and `\\`.
    pub realm: String,
    /// The file of users; not empty.
    #[serde(serialize_with = "path")]
    pub users: PathBuf,
}

/// `[[site.signed]]`: some paths are only for URLs that are signed with a key.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signed {
    /// The paths.
    #[serde(flatten)]
    pub paths: Paths,
    /// The keys, 1 to 8; none twice.
    pub keys: Vec<KeyPlace>,
}

/// Where a key is: a file, or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file; not empty.
    File(PathBuf),
    /// A variable of the environment; not empty.
    Variable(String),
}

impl Serialize for KeyPlace {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(file) => path(file, to),
            Self::Variable(name) => to.collect_str(&format_args!("env:{name}")),
        }
    }
}

/// `[[site.pace]]`: bodies of some paths are sent at a limited rate.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pace {
    /// The paths.
    #[serde(flatten)]
    pub paths: Paths,
    /// Bytes in a second on each connection, 1 KiB to 1 TiB.
    #[serde(serialize_with = "units::size")]
    pub rate: u64,
}

/// Some clients: `all`, `unix:`, an address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clients {
    /// All, also those without an address.
    All,
    /// Those without an address, which came by a Unix socket.
    Unix,
    /// Those in a network: its host bits are zero, and it is an IPv4 network if it can be.
    Network(IpNet),
}

/// A network in CIDR notation, or one address. IPv4-mapped IPv6 becomes IPv4.
///
/// # Errors
///
/// Text that is neither, or has host bits.
pub fn network(text: &str) -> Result<IpNet, ValueError> {
    let shown = text.escape_debug();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        ValueError::new(format!(
            "`{shown}` is no address and no network: write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        ))
    })?;
    if net != net.trunc() {
        return Err(ValueError::new(format!(
            "`{shown}` has bits behind its prefix: the network is {}, and the address alone {}",
            net.trunc(),
            net.addr()
        )));
    }
    Ok(canonical(net))
}

/// The IPv4 network that an IPv4-mapped IPv6 network is (RFC 4291, section 2.5.5.2).
fn canonical(net: IpNet) -> IpNet {
    let mapped = Ipv6Net::new_assert("::ffff:0:0".parse().expect("an address"), 96);
    match net {
        IpNet::V6(v6) if mapped.contains(&v6) => match v6.addr().to_canonical() {
            IpAddr::V4(address) => Ipv4Net::new_assert(address, v6.prefix_len() - 96).into(),
            IpAddr::V6(_) => net,
        },
        _ => net,
    }
}

impl Clients {
    /// Whether the client with this address is one of them; `None`: it has none.
    pub fn has(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::All, _) | (Self::Unix, None) => true,
            (Self::Network(net), Some(address)) => net.contains(&address.to_canonical()),
            (Self::Network(_), None) | (Self::Unix, Some(_)) => false,
        }
    }
}

impl FromStr for Clients {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "all" => Ok(Self::All),
            "unix:" => Ok(Self::Unix),
            text => network(text).map(Self::Network),
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Unix => f.write_str("unix:"),
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Network(net) => net.fmt(f),
        }
    }
}

impl Serialize for Clients {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

fn path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_one_spelling() {
        let table = [
            ("all", "all"),
            ("unix:", "unix:"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ];
        for (text, expected) in table {
            let clients: Clients = text.parse().expect(text);
            assert_eq!(clients.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "ALL",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0",
            "010.0.0.1",
            "a.example",
            "10.0.0.0/255.0.0.0",
            "10.0.0.1-10.0.0.9",
            "fe80::1%eth0",
            " 10.0.0.1",
            "unix",
        ] {
            let refused = text.parse::<Clients>();
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
    }
}
