//! A directory that is served. Whatever a path says, it cannot be left but by links that the
//! site follows.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{OFlags, ResolveFlags, Statx, fcntl_setfl};
use tidegate_config::Symlinks;
use tidegate_uring::Fd;

use crate::file::ops::{FileOps, OpenFile};
use crate::paths::relative;

/// How often a lookup is tried again that met a rename (`EAGAIN`, openat2(2)).
const RENAME_RETRIES: u32 = 8;

/// A root as it was when a lookup began: all of that lookup sees the same tree.
#[derive(Clone)]
pub(crate) struct RootDir {
    pub(crate) ops: FileOps,
    pub(crate) root: Fd,
    pub(crate) resolve: ResolveFlags,
    /// Names this root among all that were ever opened by this core; never 0.
    pub(crate) number: u32,
    /// What paths of the site that lie in it begin with: no slash at its end, empty for the whole site.
    pub(crate) at: Rc<[u8]>,
    /// Where it was opened.
    pub(crate) path: Rc<Path>,
}

/// An open directory.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) file: Fd,
    /// That it lies in.
    pub(crate) tree: RootDir,
    pub(crate) name: CString,
}

impl RootDir {
    /// The name below the root that `path` means, a path of the site that lies in it. `None`: it
    /// names nothing.
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
        // O_NONBLOCK: to open a fifo must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        let mut tries = 0;
        loop {
            let opened = self
                .ops
                .open(&self.root, name.clone(), flags, self.resolve)
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

    /// What `name`, relative to the root, is now. It tells whether a file that was opened is still
    /// the one, and nothing else: unlike an opened file it may lie outside.
    pub(crate) async fn stat(&self, name: &CString) -> io::Result<Statx> {
        self.ops.stat(&self.root, name.clone()).await
    }

    /// What the open file is.
    pub(crate) async fn stat_open(&self, file: &Fd) -> io::Result<Statx> {
        self.ops.stat(file, CString::default()).await
    }
}

/// Takes `O_NONBLOCK` from a regular file: reads of it may wait, on a worker of the ring.
pub(crate) fn allow_waiting(file: &Fd) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::empty())?)
}

/// How names are resolved below a root.
pub(crate) fn resolve_flags(symlinks: Symlinks) -> ResolveFlags {
    match symlinks {
        Symlinks::Beneath => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        Symlinks::Never => {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS
        }
        // No path that is looked up has dot segments, so a root is left by links only.
        Symlinks::Follow => ResolveFlags::NO_MAGICLINKS,
    }
}
