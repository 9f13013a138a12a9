//! Listening Unix sockets, which are files.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};
use tidegate_config::Listen;

use crate::host::users::{group, user};

/// How often to see whether a socket is still in use, and how long to wait in between.
const TRIES: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The file of a bound socket. Dropped: it is removed, unless another socket has its place.
///
/// To be dropped before the socket is closed: until then no other file can have its number.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    is_owned: bool,
}

/// The device and the inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

/// Binds a socket to `path`, with the permissions and the owner of `section`. It does not listen
/// yet, so nobody can connect before these are set.
///
/// The file of a socket that nobody listens on is replaced.
pub(crate) fn bind_file(path: &Path, section: &Listen) -> io::Result<(OwnedFd, SocketFile)> {
    let (owner, group) = (user(&section.owner)?, group(&section.group)?);
    remove_once_stale(path)?;
    let socket = unix_socket(SocketFlags::CLOEXEC)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::of(path)?;
    fs::set_permissions(path, Permissions::from_mode(section.mode))?;
    chown(path, owner, group)?;
    Ok((socket, file))
}

/// Sets the permissions and the owner of a bound socket, as `section` says.
pub(crate) fn set_access(path: &Path, section: &Listen) -> io::Result<()> {
    let (owner, group) = (user(&section.owner)?, group(&section.group)?);
    fs::set_permissions(path, Permissions::from_mode(section.mode))?;
    chown(path, owner, group)
}

/// As [`remove_stale`]. A socket in use gets a moment: io_uring closes those of a killed process
/// after its end, and it may be started anew at once.
fn remove_once_stale(path: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match remove_stale(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(RETRY_AFTER),
            other => return other,
        }
    }
    remove_stale(path)
}

/// Removes the file of a socket that nobody listens on, such as a killed server leaves.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
    }
    let client = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match connect(&client, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing a socket that nobody listens on");
            fs::remove_file(path)
        }
        // EAGAIN: its backlog is full. EPROTOTYPE: it is a socket of datagrams.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE.into()),
        Err(error) => Err(error.into()),
    }
}

fn unix_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

impl SocketFile {
    /// The file at `path`, which the caller has bound.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut file = Self::of_another(path)?;
        file.own();
        Ok(file)
    }

    /// The file at `path`, which stays another process's until [`SocketFile::own`].
    pub(crate) fn of_another(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
            is_owned: false,
        })
    }

    /// Removes it from now on when this is dropped.
    pub(crate) fn own(&mut self) {
        self.is_owned = true;
    }

    /// Leaves it to another process.
    pub(crate) fn leave(mut self) {
        self.is_owned = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_owned
            && identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(Identity(metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::accept::listener::listen_with;

    fn place() -> (TempDir, PathBuf) {
        let directory = tempdir().unwrap();
        let path = directory.path().join("socket");
        (directory, path)
    }

    fn bound(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
        bind_file(path, &Listen::default())
    }

    fn refusal(path: &Path) -> io::ErrorKind {
        bound(path).map(|_| ()).unwrap_err().kind()
    }

    #[test]
    fn it_has_the_mode_whatever_the_umask() {
        let (_directory, path) = place();
        for mode in [0o666, 0o600] {
            let listen = Listen {
                mode,
                ..Listen::default()
            };
            let (_socket, _file) = bind_file(&path, &listen).unwrap();
            let found = fs::symlink_metadata(&path).unwrap().mode();
            assert_eq!(found & 0o777, mode);
        }
    }

    #[test]
    fn it_is_removed_unless_it_was_replaced() {
        let (_directory, path) = place();
        let (socket, file) = bound(&path).unwrap();
        listen_with(&socket, 1).unwrap();
        drop(file);
        assert!(!path.exists());
        let (_socket, file) = bound(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(successor);
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let (_directory, path) = place();
        let live = UnixListener::bind(&path).unwrap();
        assert_eq!(refusal(&path), io::ErrorKind::AddrInUse);
        drop(live);
        let (_socket, _file) = bound(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert_eq!(refusal(&path), io::ErrorKind::AddrInUse);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(refusal(&path), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(refusal(&path.join("below")), io::ErrorKind::NotADirectory);
    }
}
