//! The addresses that the server listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.socket, self.secure) {
            (SocketAddress::Tcp(socket), false) => write!(f, "http://{socket}"),
            (SocketAddress::Tcp(socket), true) => write!(f, "https://{socket}"),
            (SocketAddress::Unix(path), false) => write!(f, "unix:{}", path.display()),
            (SocketAddress::Unix(path), true) => write!(f, "unix:{} (TLS)", path.display()),
        }
    }
}
