//! File operations that may block: ops of the ring, each with a permit to occupy a worker.
//!
//! A file system that does not answer occupies workers for as long as it likes. So the ops of one
//! root, and of all roots on one device, are bounded ([`Shares`]). A cancelled op holds its permit
//! until the kernel is done with it.

use std::ffi::CString;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

use rustix::fs::{AtFlags, OFlags, ResolveFlags, Statx};
use tidegate_uring::{Fd, Owner, Permit, Ring, Shares};

use crate::error::Error;
use crate::file::stat::FIELDS;
use crate::file::stat::{is_regular, is_remote};

/// Ops of one root that wait for a permit. With more no further lookup begins.
const WAITING_MAX: usize = 1024;

/// The file operations of one root on one device.
#[derive(Clone)]
pub(crate) struct FileOps {
    ring: Ring,
    shares: Rc<Shares>,
    owner: Owner,
}

impl FileOps {
    pub(crate) fn new(ring: &Ring, shares: &Rc<Shares>, owner: Owner) -> Self {
        Self {
            ring: ring.clone(),
            shares: Rc::clone(shares),
            owner,
        }
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The same for another device below the root.
    pub(crate) fn on_device(&self, device: u32) -> Self {
        let user = self.owner.user;
        Self::new(&self.ring, &self.shares, Owner { device, user })
    }

    pub(crate) async fn open(
        &self,
        directory: &Fd,
        name: CString,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> io::Result<OpenFile> {
        let permit = self.permit().await;
        let open = self.ring.openat2(directory, name, flags, resolve);
        let fd = open.holding(permit).await?;
        Ok(OpenFile {
            fd: Some(fd.into()),
            ops: self.clone(),
        })
    }

    /// The statx of `name` in `directory`. An empty name: of `directory` itself.
    pub(crate) async fn stat(&self, directory: &Fd, name: CString) -> io::Result<Statx> {
        let permit = self.permit().await;
        let flags = if name.is_empty() {
            AtFlags::EMPTY_PATH
        } else {
            AtFlags::empty()
        };
        let stat = self.ring.statx(directory, name, flags, FIELDS);
        stat.holding(permit).await
    }

    /// Reads into the spare capacity of `buffer`. `remote`: a worker reads. io_uring would read a
    /// FUSE file inline, since it takes a pollable file for one that does not block.
    pub(crate) async fn read(
        &self,
        file: &Fd,
        buffer: Vec<u8>,
        offset: u64,
        remote: bool,
    ) -> io::Result<(usize, Vec<u8>)> {
        let permit = self.permit().await;
        let read = if remote {
            self.ring.read_by_worker(file, buffer, offset)
        } else {
            self.ring.read(file, buffer, Some(offset))
        };
        let (count, buffer) = read.holding(permit).await;
        Ok((count?, buffer))
    }

    /// Has a worker close `fd`, unless it has other owners.
    pub(crate) fn close(&self, fd: Fd) {
        if let Ok(fd) = fd.try_unwrap() {
            let ring = self.ring.clone();
            let close = move |permit| drop(ring.close(fd).holding(permit));
            self.shares.then(self.owner, close);
        }
    }

    /// Whether one more lookup may begin.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`] while too many ops wait.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        if self.shares.waiting_of(self.owner) < WAITING_MAX {
            Ok(())
        } else {
            Err(Error::Stalled)
        }
    }

    async fn permit(&self) -> Permit {
        self.shares.take(self.owner).await
    }
}

/// An open file that is not served yet. Dropped: it is closed, a remote one by a worker.
pub(crate) struct OpenFile {
    /// `None` after [`Self::into_fd`].
    fd: Option<Fd>,
    ops: FileOps,
}

impl OpenFile {
    /// The descriptor, which the caller has to close.
    pub(crate) fn into_fd(mut self) -> Fd {
        self.fd.take().expect("taken once, by value")
    }
}

impl Deref for OpenFile {
    type Target = Fd;

    fn deref(&self) -> &Fd {
        self.fd.as_ref().expect("only taken by value")
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // `is_remote` reads, which would consume data of anything but a regular file.
        if let Some(fd) = self.fd.take()
            && is_regular(&fd)
            && is_remote(&fd)
        {
            self.ops.close(fd);
        }
    }
}
