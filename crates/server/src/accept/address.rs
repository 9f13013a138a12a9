//! The addresses that the server listens on.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::net::{SocketAddrUnix, getsockname};

/// An address that the server listens on. Displayed as its URL, or as `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where clients connect to.
    pub socket: SocketAddress,
    /// Whether it speaks TLS.
    pub secure: bool,
}

/// The address of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// With the port that the system picked, if any.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl SocketAddress {
    /// The local address of a socket, if it still has one. That of an IPv4 client of an IPv6 socket
    /// is IPv4.
    pub(crate) fn of(socket: impl AsFd) -> Option<Self> {
        let address = getsockname(socket).ok()?;
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            let ip = address.ip().to_canonical();
            return Some(Self::Tcp(SocketAddr::new(ip, address.port())));
        }
        let address = SocketAddrUnix::try_from(address).ok()?;
        let path = address.path()?.to_bytes().to_owned();
        Some(Self::Unix(OsString::from_vec(path).into()))
    }

    /// Whether a listener with this address accepts connections to `local`.
    pub(crate) fn serves(&self, local: &Self) -> bool {
        match (self, local) {
            (Self::Tcp(listener), Self::Tcp(local)) => {
                let ip = listener.ip().to_canonical();
                let is_any = ip.is_unspecified() && (ip.is_ipv6() || local.is_ipv4());
                listener.port() == local.port() && (is_any || ip == local.ip())
            }
            (listener, local) => listener == local,
        }
    }
}

impl fmt::Display for SocketAddress {
    /// As in `listen.address`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => socket.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = &self.socket;
        match (socket, self.secure) {
            (SocketAddress::Tcp(_), false) => write!(f, "http://{socket}"),
            (SocketAddress::Tcp(_), true) => write!(f, "https://{socket}"),
            (SocketAddress::Unix(_), false) => socket.fmt(f),
            (SocketAddress::Unix(_), true) => write!(f, "{socket} (TLS)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_serves_its_address_or_all() {
        let tcp = |text: &str| SocketAddress::Tcp(text.parse().unwrap());
        for (listener, local, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
        ] {
            let serves = tcp(listener).serves(&tcp(local));
            assert_eq!(serves, expected, "{listener} {local}");
        }
        let unix = |path: &str| SocketAddress::Unix(path.into());
        assert!(unix("/a").serves(&unix("/a")));
        assert!(!unix("/a").serves(&unix("/b")) && !unix("/a").serves(&tcp("[::1]:80")));
    }
}
