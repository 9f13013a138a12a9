//! Opening the file or the pipe of a log.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags, access};
use tidegate_config::LogTarget;

use crate::launcher::{self, Request};

/// The mode of new files.
const MODE: u32 = 0o640;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {target}: {cause}{}", remedy(.cause))]
pub struct OpenError {
    /// As the configuration writes it.
    pub(super) target: String,
    // Not its source: it is part of the text.
    pub(super) cause: io::Error,
}

/// Opens `target` to append to it. A named pipe is opened for reading, too: so it needs no reader,
/// and its reader may go and come back (fifo(7)). Neither a pipe nor a device is waited for.
pub(super) fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        LogTarget::Off => Err(io::ErrorKind::InvalidInput.into()),
        LogTarget::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        LogTarget::Stderr => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        LogTarget::File(path) => or_ask(path, || open_file(path, 0)),
    }
}

/// Has the log at `path` opened by the launcher if this process may not `open` it.
fn or_ask(path: &Path, open: impl FnOnce() -> io::Result<File>) -> io::Result<File> {
    launcher::or_ask(open, || Request::Append(path.into()), launcher::into_file)
}

/// Opens the file or the pipe at `path`, or makes the file. `flags` are further ones of open(2).
pub(crate) fn open_file(path: &Path, flags: i32) -> io::Result<File> {
    let made = options(path, flags).create_new(true).mode(0o600).open(path);
    match made {
        Ok(made) => {
            // Whatever the umask is, which is for files that nobody else is to read.
            made.set_permissions(Permissions::from_mode(MODE))?;
            Ok(made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options(path, flags).create(true).mode(MODE).open(path)
        }
        Err(error) => Err(error),
    }
}

fn options(path: &Path, flags: i32) -> OpenOptions {
    let is_pipe = path
        .metadata()
        .is_ok_and(|known| known.file_type().is_fifo());
    let usual = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .append(true)
        .read(is_pipe)
        .custom_flags(usual.bits() as i32 | flags);
    options
}

/// Checks whether this process could open `target`, without making it. Blocking.
///
/// # Errors
///
/// As when it is opened.
pub(crate) fn probe(target: &LogTarget) -> Result<(), OpenError> {
    let LogTarget::File(path) = target else {
        return Ok(());
    };
    let opened = match or_ask(path, || options(path, 0).open(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => probe_directory(path),
        opened => opened.map(drop),
    };
    opened.map_err(|cause| OpenError {
        target: target.to_string(),
        cause,
    })
}

/// Checks whether a file can be made at `path`.
fn probe_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

impl OpenError {
    /// Whether another user might be able to.
    pub(crate) fn is_permission(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

/// The remedy for a file that cannot be opened.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (its directory must exist)",
        io::ErrorKind::PermissionDenied => {
            " (the user of the server must be able to write to it, or to its directory)"
        }
        io::ErrorKind::IsADirectory => " (it is a directory: name a file in it)",
        io::ErrorKind::ReadOnlyFilesystem => " (name a path on a file system that can be written)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (make room, or name another path)"
        }
        _ => "",
    }
}
