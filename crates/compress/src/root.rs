//! The root directory, and access to files beneath it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

use crate::error::{Action, Error, FileError};

/// The directory whose files get variants. Paths handed in are relative to it.
pub(crate) struct Root {
    directory: OwnedFd,
    /// The canonical path, so that a run does not mix two releases if a link is switched meanwhile.
    real: PathBuf,
    /// The path as given by the caller, for messages.
    given: PathBuf,
}

impl Root {
    pub(crate) fn open(given: &Path) -> Result<Self, Error> {
        Self::try_open(given).map_err(|source| Error::Root {
            directory: given.to_owned(),
            source,
        })
    }

    fn try_open(given: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(given)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&real, flags, Mode::empty())?;
        let given = given.to_owned();
        Ok(Self {
            directory,
            real,
            given,
        })
    }

    /// Opens a file as the server does: no symbolic link may lead out of the root.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        // Nonblocking: opening a FIFO would otherwise wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&self.directory, path, flags, Mode::empty(), resolve)?;
        Ok(File::from(file))
    }

    /// Opens the directory that `path` is in, in the same way.
    pub(crate) fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(".".as_ref());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let parent = openat2(&self.directory, parent, flags, Mode::empty(), resolve)?;
        Ok(parent)
    }

    /// The absolute path.
    pub(crate) fn real(&self, path: &Path) -> PathBuf {
        self.real.join(path)
    }

    /// The path for messages.
    pub(crate) fn given(&self, path: &Path) -> PathBuf {
        self.given.join(path)
    }

    /// The inverse of [`Root::real`]; a path outside the root is returned unchanged.
    pub(crate) fn relative<'p>(&self, real: &'p Path) -> &'p Path {
        real.strip_prefix(&self.real).unwrap_or(real)
    }

    pub(crate) fn error(&self, path: &Path, action: Action, source: io::Error) -> FileError {
        FileError {
            path: self.given(path),
            action,
            source,
        }
    }
}
