//! Listening sockets that the process was started with, instead of those that it binds itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::io::ioctl_fionbio;
use rustix::net::getsockname;

use crate::error::Error;

/// Listening sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, OwnedFd)>,
}

impl Inherited {
    /// The sockets of the service manager (`sd_listen_fds(3)`), none without one. Call it first in
    /// the process, before it starts a thread or opens a file, and once.
    ///
    /// An error if one is no TCP socket that listens.
    pub fn from_service_manager() -> Result<Self, Error> {
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|number| {
            let socket = passed.take_tcp_listener(number).and_then(prepared);
            socket.map_err(|source| Error::PassedSocket { number, source })
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_, _>>()?,
        })
    }

    /// Takes the sockets of `wanted`, in their order. Port 0 stands for the first port that is
    /// there.
    pub(crate) fn take(&mut self, wanted: SocketAddr) -> Option<(SocketAddr, Vec<OwnedFd>)> {
        let matches = |address: &SocketAddr| {
            address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port())
        };
        let (address, _) = self.sockets.iter().find(|(address, _)| matches(address))?;
        let address = *address;
        let taken = self.sockets.extract_if(.., |(other, _)| *other == address);
        Some((address, taken.map(|(_, socket)| socket).collect()))
    }

    /// The first address that was not taken.
    pub(crate) fn left_over(&self) -> Option<SocketAddr> {
        self.sockets.first().map(|(address, _)| *address)
    }
}

/// The socket with its address, blocking.
fn prepared(socket: Option<TcpListener>) -> io::Result<(SocketAddr, OwnedFd)> {
    let socket = socket.ok_or_else(|| io::Error::other("it is not there"))?;
    ioctl_fionbio(&socket, false)?;
    let address = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok((address, socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(addresses: &[&str]) -> Inherited {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap().into();
        let sockets = addresses.iter();
        Inherited {
            sockets: sockets
                .map(|address| (address.parse().unwrap(), socket()))
                .collect(),
        }
    }

    #[test]
    fn all_sockets_of_an_address_are_taken() {
        let mut inherited =
            inherited(&["127.0.0.1:80", "[::1]:80", "127.0.0.1:80", "127.0.0.1:81"]);
        let mut take = |wanted: &str| {
            let taken = inherited.take(wanted.parse().unwrap());
            taken.map(|(address, sockets)| (address.to_string(), sockets.len()))
        };
        assert_eq!(take("127.0.0.1:82"), None);
        assert_eq!(take("127.0.0.2:0"), None);
        assert_eq!(take("127.0.0.1:0"), Some(("127.0.0.1:80".to_owned(), 2)));
        assert_eq!(take("127.0.0.1:80"), None);
        assert_eq!(take("127.0.0.1:81"), Some(("127.0.0.1:81".to_owned(), 1)));
        assert_eq!(inherited.left_over(), Some("[::1]:80".parse().unwrap()));
    }
}
