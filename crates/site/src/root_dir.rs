//! An open root directory. No path leads out of it but by symbolic links that the site follows.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{OFlags, ResolveFlags, Statx, fcntl_setfl};
use tidegate_config::Symlinks;
use tidegate_uring::Fd;

use crate::file::ops::{FileOps, OpenFile};
use crate::paths::relative;

/// Retries of an openat2 that raced with a rename (`EAGAIN`, openat2(2)).
const RENAME_RETRIES: u32 = 8;

/// A root directory as of the start of a lookup, which sees the same tree to its end.
#[derive(Clone)]
pub(crate) struct RootDir {
    pub(crate) ops: FileOps,
    pub(crate) fd: Fd,
    pub(crate) resolve: ResolveFlags,
    /// Unique among all roots that this core ever opened; never 0.
    pub(crate) number: u32,
    /// The prefix of all URL paths in it, without a slash at the end; empty for the whole site.
    pub(crate) at: Rc<[u8]>,
    /// Where it was opened.
    pub(crate) path: Rc<Path>,
}

/// An open directory below a root.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) file: Fd,
    pub(crate) root: RootDir,
    /// Relative to the root.
    pub(crate) name: CString,
    /// The path of the site, with its final slash.
    pub(crate) path: Vec<u8>,
}

impl RootDir {
    /// The name, relative to the root, for a URL path that lies in it. `None`: no file can have it.
    pub(crate) fn relative(&self, path: &[u8]) -> Option<CString> {
        relative(&path[self.at.len()..])
    }

    /// Opens the file or directory `name`, relative to the root.
    pub(crate) async fn open(&self, name: &CString) -> io::Result<OpenFile> {
        self.open_with(name, OFlags::empty()).await
    }

    /// Opens the directory `name`, relative to the root.
    pub(crate) async fn open_directory(&self, name: &CString) -> io::Result<Fd> {
        let directory = self.open_with(name, OFlags::DIRECTORY).await?;
        Ok(directory.into_fd())
    }

    async fn open_with(&self, name: &CString, more: OFlags) -> io::Result<OpenFile> {
        // O_NONBLOCK: opening a fifo must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        let mut tries = 0;
        loop {
            let opened = self
                .ops
                .open(&self.fd, name.clone(), flags, self.resolve)
                .await;
            match opened {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && tries < RENAME_RETRIES =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    /// The statx of `name`, relative to the root. Use it only to check whether an open file is
    /// still current: unlike an open, statx may follow links out of the root.
    pub(crate) async fn stat(&self, name: &CString) -> io::Result<Statx> {
        self.ops.stat(&self.fd, name.clone()).await
    }

    /// The statx of an open file.
    pub(crate) async fn stat_open(&self, file: &Fd) -> io::Result<Statx> {
        self.ops.stat(file, CString::default()).await
    }
}

/// Clears `O_NONBLOCK` of a regular file: reads may block, on a worker of the ring.
pub(crate) fn allow_waiting(file: &Fd) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::empty())?)
}

/// How openat2 resolves names below a root.
pub(crate) fn resolve_flags(symlinks: Symlinks) -> ResolveFlags {
    match symlinks {
        Symlinks::Beneath => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        Symlinks::Never => {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS
        }
        // Lookup paths have no dot segments, so only links lead out of a root.
        Symlinks::Follow => ResolveFlags::NO_MAGICLINKS,
    }
}
