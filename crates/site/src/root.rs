//! The directory that is served. Whatever a path says, it cannot be left.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fcntl_setfl, open};
use tidegate_uring::{Fd, Ring};

use crate::error::RootError;

/// How often a lookup is tried again that met a rename (`EAGAIN`, openat2(2)).
const RENAME_RETRIES: u32 = 8;

pub(crate) struct Root(Fd);

impl Root {
    /// Opens the directory. Called once, while starting.
    pub(crate) fn open(path: &Path) -> Result<Self, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self(Fd::from(fd))),
            Err(errno) => Err(RootError {
                path: path.to_owned(),
                source: errno.into(),
            }),
        }
    }

    /// Opens `path`, relative to the root, wherever its symbolic links lead below the root.
    pub(crate) async fn file(&self, ring: &Ring, path: &CString) -> io::Result<Fd> {
        // O_NONBLOCK: to open a fifo must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match ring.openat2(&self.0, path.clone(), flags, resolve).await {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && tries < RENAME_RETRIES =>
                {
                    tries += 1;
                }
                other => return other.map(Fd::from),
            }
        }
    }

    /// What `path`, relative to the root, is now. It tells whether a file that was opened beneath
    /// the root is still the one, and nothing else: unlike [`Root::file`] it may look outside.
    pub(crate) async fn stat(&self, ring: &Ring, path: &CString) -> io::Result<Statx> {
        ring.statx(&self.0, path.clone(), AtFlags::empty(), fields())
            .await
    }
}

/// What the open file is.
pub(crate) async fn stat(ring: &Ring, file: &Fd) -> io::Result<Statx> {
    ring.statx(file, CString::default(), AtFlags::EMPTY_PATH, fields())
        .await
}

/// Takes `O_NONBLOCK` from a regular file: reads of it may wait, on a worker of the ring.
pub(crate) fn allow_waiting(file: &Fd) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::empty())?)
}

fn fields() -> StatxFlags {
    StatxFlags::TYPE
        | StatxFlags::MODE
        | StatxFlags::INO
        | StatxFlags::SIZE
        | StatxFlags::MTIME
        | StatxFlags::CTIME
}
