//! Listening sockets that the process was started with, instead of those that it binds itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use listenfd::ListenFd;
use rustix::fs::fstat;
use rustix::io::ioctl_fionbio;
use rustix::net::{SocketAddrAny, SocketAddrUnix, getsockname};

use crate::accept::address::SocketAddress;
use crate::accept::unix_socket::{FileId, SocketFile};
use crate::error::Error;

/// Listening sockets that were passed to this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    address: SocketAddress,
    socket: OwnedFd,
    /// The file of a Unix socket, if this process removes it.
    file: Option<FileId>,
}

impl Inherited {
    /// The sockets of the service manager (`sd_listen_fds(3)`), none without one. Call it before
    /// the process starts a thread or opens a file, and once.
    ///
    /// An error if one is no stream socket that listens.
    pub(crate) fn from_service_manager() -> Result<Self, Error> {
        let mut passed = ListenFd::from_env();
        let mut all = Self::default();
        for number in 0..passed.len() {
            let added = taken(&mut passed, number).and_then(|socket| all.add(socket, None));
            added.map_err(|source| Error::PassedSocket { number, source })?;
        }
        Ok(all)
    }

    /// Adds a socket. `file` is that of a Unix socket if it is removed with it.
    pub(crate) fn add(&mut self, socket: OwnedFd, file: Option<FileId>) -> io::Result<()> {
        ioctl_fionbio(&socket, false)?;
        self.0.push(Passed {
            address: address(getsockname(&socket)?)?,
            socket,
            file,
        });
        Ok(())
    }

    /// Takes the sockets of `wanted`, in their order. Port 0 stands for the first port that is
    /// there.
    pub(crate) fn take(&mut self, wanted: SocketAddr) -> Option<(SocketAddr, Vec<OwnedFd>)> {
        let matches = |passed: &Passed| match &passed.address {
            SocketAddress::Tcp(address) => (address.ip() == wanted.ip()
                && [0, address.port()].contains(&wanted.port()))
            .then_some(*address),
            SocketAddress::Unix(_) => None,
        };
        let address = self.0.iter().find_map(matches)?;
        let is_there = |passed: &mut Passed| passed.address == SocketAddress::Tcp(address);
        let taken = self.0.extract_if(.., is_there);
        Some((address, taken.map(|passed| passed.socket).collect()))
    }

    /// Takes the Unix socket at `path`, and its file if that is to be removed with it.
    pub(crate) fn take_unix(&mut self, path: &Path) -> Option<(OwnedFd, Option<SocketFile>)> {
        let is_there =
            |passed: &Passed| matches!(&passed.address, SocketAddress::Unix(at) if at == path);
        let passed = self.0.remove(self.0.iter().position(is_there)?);
        let file = passed.file.map(|id| SocketFile::of_another(path, id));
        Some((passed.socket, file))
    }

    /// The first address that was not taken.
    pub(crate) fn left_over(&self) -> Option<&SocketAddress> {
        self.0.first().map(|passed| &passed.address)
    }
}

/// The socket with this number, of either family.
fn taken(passed: &mut ListenFd, number: usize) -> io::Result<OwnedFd> {
    let socket = match passed.take_tcp_listener(number) {
        Ok(socket) => socket.map(OwnedFd::from),
        Err(_) => passed.take_unix_listener(number)?.map(OwnedFd::from),
    };
    socket.ok_or_else(|| io::Error::other("it is not there"))
}

fn address(any: SocketAddrAny) -> io::Result<SocketAddress> {
    if let Ok(address) = SocketAddr::try_from(any.clone()) {
        return Ok(SocketAddress::Tcp(address));
    }
    let unix = SocketAddrUnix::try_from(any)?;
    let path = unix
        .path()
        .ok_or_else(|| io::Error::other("it has no path"))?;
    let path = path.to_str().map_err(io::Error::other)?;
    Ok(SocketAddress::Unix(path.into()))
}

/// A duplicate of `socket`, unless `others` has one of the same open socket.
pub(crate) fn unless_among<T>(
    socket: impl AsFd,
    others: &[(OwnedFd, T)],
) -> io::Result<Option<OwnedFd>> {
    let own = fstat(&socket)?.st_ino;
    for (other, _) in others {
        if fstat(other)?.st_ino == own {
            return Ok(None);
        }
    }
    socket.as_fd().try_clone_to_owned().map(Some)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::accept::listener::listen_with;
    use crate::accept::unix_socket::{Access, bind_file};

    fn inherited(addresses: &[&str]) -> Inherited {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap().into();
        let passed = addresses.iter().map(|address| Passed {
            address: SocketAddress::Tcp(address.parse().unwrap()),
            socket: socket(),
            file: None,
        });
        Inherited(passed.collect())
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
        let left = SocketAddress::Tcp("[::1]:80".parse().unwrap());
        assert_eq!(inherited.left_over(), Some(&left));
    }

    #[test]
    fn the_file_of_a_unix_socket_goes_with_it_if_it_is_owned() {
        let directory = tempfile::tempdir().unwrap();
        for owns_file in [false, true] {
            let path = directory.path().join(owns_file.to_string());
            let mut inherited = Inherited::default();
            let (socket, file) = bind_file(&path, Access::for_own_user()).unwrap();
            listen_with(&socket, 1).unwrap();
            inherited.add(socket, owns_file.then(|| file.id())).unwrap();
            file.leave();
            assert!(inherited.take_unix(directory.path()).is_none());
            let (_socket, file) = inherited.take_unix(&path).unwrap();
            assert_eq!(file.is_some(), owns_file);
            let Some(mut file) = file else { continue };
            file.own();
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_socket_is_held_once() {
        let one: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        let other: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        let held = [(unless_among::<()>(&one, &[]).unwrap().unwrap(), ())];
        assert!(unless_among(&one, &held).unwrap().is_none());
        assert!(unless_among(&other, &held).unwrap().is_some());
    }
}
