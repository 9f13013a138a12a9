//! Listening Unix sockets, which are files.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmod, chownat, fchmod, fstat, lstat, open,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};
use rustix::process::geteuid;
use tidegate_config::Listen;

use crate::host::users::{group, user};
use crate::launcher::{self, Answer, Request, SocketAccess};

/// How often to see whether a socket is still in use, and how long to wait in between.
const TRIES: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The file of a bound socket. Dropped: it is removed, unless another socket has its place.
///
/// To be dropped before the socket is closed: until then no other file can have its number.
pub(crate) struct SocketFile {
    path: PathBuf,
    id: FileId,
    is_owned: bool,
}

/// The device and the inode of a file, which no other has as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// The permissions and the owner of a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    mode: u32,
    /// `None`: that of the process.
    owner: Option<u32>,
    group: Option<u32>,
}

/// Binds a socket to `path`, by the launcher if this process may not. As [`bind_file`].
pub(crate) fn bind_or_ask(path: &Path, access: Access) -> io::Result<(OwnedFd, SocketFile)> {
    let request = || Request::BindUnix { path: path.into() };
    let bound = |answer, descriptor| match (answer, descriptor) {
        (Answer::Bound(id), Some(socket)) => {
            let mut file = SocketFile::of_another(path, FileId::from_bytes(id));
            file.own();
            Ok((socket, file))
        }
        (answer, descriptor) => {
            let refused = launcher::into_descriptor(answer, descriptor);
            Err(refused.err().unwrap_or(io::ErrorKind::InvalidData.into()))
        }
    };
    launcher::or_ask(|| bind_file(path, access), request, bound)
}

/// Binds a socket to `path`. It does not listen yet, so nobody can connect before `access` is set.
///
/// The file of a socket that nobody listens on is replaced.
pub(crate) fn bind_file(path: &Path, access: Access) -> io::Result<(OwnedFd, SocketFile)> {
    remove_once_stale(path)?;
    let socket = unix_socket(SocketFlags::CLOEXEC)?;
    // The file takes over this mode, without what the umask takes away.
    fchmod(&socket, Mode::from_raw_mode(access.mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::of(path)?;
    file.set_access(access)?;
    Ok((socket, file))
}

impl Access {
    /// As `section` says. An error if the host has no such user or group.
    pub(crate) fn of(section: &Listen) -> io::Result<Self> {
        Ok(Self {
            mode: section.mode,
            owner: user(&section.owner)?,
            group: group(&section.group)?,
        })
    }

    /// For the launcher, whose user is not the `user` and the `group` that this process serves as.
    pub(crate) fn of_user(self, user: u32, group: u32) -> SocketAccess {
        let (owner, group) = (self.owner.unwrap_or(user), self.group.unwrap_or(group));
        (self.mode, owner, group)
    }

    /// For the user of this process, and root.
    pub(crate) fn for_own_user() -> Self {
        Self {
            mode: 0o600,
            owner: None,
            group: None,
        }
    }

    /// Gives a file, opened with `O_PATH`, what it lacks of it.
    fn give(self, file: &OwnedFd, found: &Stat) -> io::Result<()> {
        let owner = self.owner.filter(|owner| *owner != found.st_uid);
        let group = self.group.filter(|group| *group != found.st_gid);
        if owner.is_some() || group.is_some() {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            chownat(file, "", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if found.st_mode & 0o7777 != self.mode {
            // fchmod(2) refuses such a descriptor; this name leads to its file, whatever that is.
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            chmod(name, Mode::from_raw_mode(self.mode))?;
        }
        Ok(())
    }
}

impl From<SocketAccess> for Access {
    fn from((mode, owner, group): SocketAccess) -> Self {
        Self {
            mode,
            owner: Some(owner),
            group: Some(group),
        }
    }
}

impl FileId {
    fn of(found: &Stat) -> Self {
        Self {
            device: found.st_dev,
            inode: found.st_ino,
        }
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&lstat(path)?))
    }

    /// For another process.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.device) << 64 | u128::from(self.inode)).to_ne_bytes()
    }

    /// As [`FileId::to_bytes`] wrote it.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_ne_bytes(bytes);
        Self {
            device: (both >> 64) as u64,
            inode: both as u64,
        }
    }
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

/// The error with which [`bind_file`] would refuse `path` now, had the file `passed` been removed.
pub(crate) fn check_place(path: &Path, passed: Option<FileId>) -> io::Result<()> {
    path.parent().map(fs::metadata).transpose()?;
    let is_passed = passed.is_some() && FileId::at(path).ok() == passed;
    if is_passed {
        return Ok(());
    }
    is_stale(path).map(drop)
}

/// Removes the file of a socket that nobody listens on, such as a killed server leaves.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !is_stale(path)? {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "replacing a socket that nobody listens on");
    fs::remove_file(path)
}

/// Whether `path` is a socket that nobody listens on. An error if anything else is there.
fn is_stale(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
    }
    let client = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match connect(&client, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
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
    /// The file at `path`, which the caller has bound. An error if it cannot be that.
    fn of(path: &Path) -> io::Result<Self> {
        let (_, found) = open_socket(path)?;
        // A link to a socket of another directory would have a second name.
        if found.st_uid != geteuid().as_raw() || found.st_nlink != 1 {
            return Err(replaced());
        }
        let mut file = Self::of_another(path, FileId::of(&found));
        file.own();
        Ok(file)
    }

    /// The file `id`, which stays another process's until [`SocketFile::own`].
    pub(crate) fn of_another(path: &Path, id: FileId) -> Self {
        Self {
            path: path.to_owned(),
            id,
            is_owned: false,
        }
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the permissions and the owner: neither those of a file that was put in its place, nor
    /// those of the target of a link there.
    pub(crate) fn set_access(&self, access: Access) -> io::Result<()> {
        let (file, found) = self.open()?;
        let request = || Request::SetAccess {
            path: self.path.as_os_str().to_owned(),
            id: self.id.to_bytes(),
        };
        launcher::or_ask(
            || access.give(&file, &found),
            request,
            |answer, _| done(&answer),
        )
    }

    /// Opens it with `O_PATH`. An error if another file has its place, or it has another name: a link
    /// to a socket of another directory.
    pub(crate) fn open(&self) -> io::Result<(OwnedFd, Stat)> {
        let (file, found) = open_socket(&self.path)?;
        if FileId::of(&found) != self.id || found.st_nlink != 1 {
            return Err(replaced());
        }
        Ok((file, found))
    }

    /// Removes it from now on when this is dropped.
    pub(crate) fn own(&mut self) {
        self.is_owned = true;
    }

    fn remove(&self) -> io::Result<()> {
        let request = || Request::RemoveUnix {
            path: self.path.as_os_str().to_owned(),
            id: self.id.to_bytes(),
        };
        launcher::or_ask(
            || fs::remove_file(&self.path),
            request,
            |answer, _| done(&answer),
        )
    }

    /// Leaves it to another process.
    pub(crate) fn leave(mut self) {
        self.is_owned = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_owned
            && FileId::at(&self.path).is_ok_and(|found| found == self.id)
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// Opens the socket at `path` with `O_PATH`. An error if it is something else, such as a link.
fn open_socket(path: &Path) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let found = fstat(&file)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => Ok((file, found)),
        _ => Err(replaced()),
    }
}

/// Whether the launcher has done it.
fn done(answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Failed(errno) => Err(io::Error::from_raw_os_error(*errno)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn replaced() -> io::Error {
    io::Error::other("another file has its place")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
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
        bind_file(path, access(0o660))
    }

    fn access(mode: u32) -> Access {
        Access {
            mode,
            ..Access::for_own_user()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn refusal(path: &Path) -> io::ErrorKind {
        bound(path).map(|_| ()).unwrap_err().kind()
    }

    #[test]
    fn it_has_the_mode_whatever_the_umask() {
        let (_directory, path) = place();
        for mode in [0o666, 0o600] {
            let (_socket, file) = bind_file(&path, access(mode)).unwrap();
            assert_eq!(self::mode(&path), mode);
            file.set_access(access(0o606)).unwrap();
            assert_eq!(self::mode(&path), 0o606);
        }
    }

    #[test]
    fn what_has_its_place_keeps_its_mode() {
        let (directory, path) = place();
        let (_socket, file) = bound(&path).unwrap();
        let other = directory.path().join("other");
        let _other = bind_file(&other, access(0o640)).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        assert!(file.set_access(access(0o666)).is_err());
        assert_eq!(mode(&other), 0o640);
        fs::rename(&other, &path).unwrap();
        assert!(file.set_access(access(0o666)).is_err());
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_second_name_is_left_alone() {
        let (directory, path) = place();
        let (_socket, file) = bound(&path).unwrap();
        fs::hard_link(&path, directory.path().join("other")).unwrap();
        assert!(file.set_access(access(0o666)).is_err());
        assert_eq!(mode(&path), 0o660);
    }

    #[test]
    fn an_id_is_passed_as_bytes() {
        let (_directory, path) = place();
        let (_socket, file) = bound(&path).unwrap();
        assert_eq!(FileId::from_bytes(file.id().to_bytes()), file.id());
        assert_eq!(FileId::at(&path).unwrap(), file.id());
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

    #[test]
    fn a_place_is_checked_without_a_change() {
        let (directory, path) = place();
        let refusal = |passed| check_place(&path, passed).map_err(|error| error.kind());
        assert_eq!(refusal(None), Ok(()));
        let (socket, file) = bound(&path).unwrap();
        let id = Some(file.id());
        assert_eq!(refusal(None), Ok(()), "nobody listens yet");
        listen_with(&socket, 1).unwrap();
        assert_eq!(refusal(None), Err(io::ErrorKind::AddrInUse));
        assert_eq!(refusal(id), Ok(()));
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(refusal(id), Err(io::ErrorKind::AlreadyExists));
        let below = check_place(&directory.path().join("none/socket"), None);
        assert_eq!(below.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
