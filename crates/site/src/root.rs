//! A directory that is served. Whatever a path says, it cannot be left but by links that the
//! site follows.

use std::ffi::CString;
use std::io;

use rustix::fs::{AtFlags, OFlags, ResolveFlags, Statx, StatxFlags, fcntl_setfl};
use tidegate_uring::{Fd, Op, Ring, stat::Stat};

use crate::config::Symlinks;

/// How often a lookup is tried again that met a rename (`EAGAIN`, openat2(2)).
const RENAME_RETRIES: u32 = 8;

/// The fields of statx(2) that are asked for.
pub(crate) const FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME);

/// A root as it was when a lookup began: all of that lookup sees the same tree.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) ring: Ring,
    pub(crate) root: Fd,
    pub(crate) resolve: ResolveFlags,
    /// Names this root among all that were ever opened by this core; never 0.
    pub(crate) number: u32,
}

impl Tree {
    /// Opens the file or directory `name`, relative to the root.
    pub(crate) async fn open(&self, name: &CString) -> io::Result<Fd> {
        self.open_with(name, OFlags::empty()).await
    }

    /// Opens the directory `name`, relative to the root.
    pub(crate) async fn open_directory(&self, name: &CString) -> io::Result<Fd> {
        self.open_with(name, OFlags::DIRECTORY).await
    }

    async fn open_with(&self, name: &CString, more: OFlags) -> io::Result<Fd> {
        // O_NONBLOCK: to open a fifo must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        let mut tries = 0;
        loop {
            let opened = self
                .ring
                .openat2(&self.root, name.clone(), flags, self.resolve)
                .await;
            match opened {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && tries < RENAME_RETRIES =>
                {
                    tries += 1;
                }
                other => return other.map(Fd::from),
            }
        }
    }

    /// What `name`, relative to the root, is now. It tells whether a file that was opened is still
    /// the one, and nothing else: unlike an opened file it may lie outside.
    pub(crate) fn stat(&self, name: &CString) -> Op<Stat> {
        self.ring
            .statx(&self.root, name.clone(), AtFlags::empty(), FIELDS)
    }

    /// What the open file is.
    pub(crate) async fn stat_open(&self, file: &Fd) -> io::Result<Statx> {
        stat_open(&self.ring, file).await
    }
}

/// What the open file is.
pub(crate) async fn stat_open(ring: &Ring, file: &Fd) -> io::Result<Statx> {
    ring.statx(file, CString::default(), AtFlags::EMPTY_PATH, FIELDS)
        .await
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
