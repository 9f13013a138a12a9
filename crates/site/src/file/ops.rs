//! What may have to wait for a disk, or for whoever else answers for a file system: ops of the ring, with
//! leave to occupy a worker.
//!
//! A file system that does not answer keeps the workers that ask it, as long as it likes. So those of one
//! root, and of all roots of one device, are bounded ([`Shares`]), and the others keep theirs. An op that
//! nobody waits for any more counts until it is really over.

use std::ffi::CString;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

use rustix::fs::{AtFlags, OFlags, ResolveFlags, Statx};
use tidegate_uring::{Fd, Owner, Permit, Ring, Shares};

use crate::error::Error;
use crate::file::stat::FIELDS;
use crate::file::stat::{is_regular, is_remote};

/// Ops that wait for workers, for each root. With more than that no further look begins.
const WAITING_MAX: usize = 1024;

/// The way to a device, on behalf of one root.
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

    /// To what lies on another device below the same root.
    pub(crate) fn on(&self, device: u32) -> Self {
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
        let permit = self.leave().await;
        let open = self.ring.openat2(directory, name, flags, resolve);
        let fd = open.holding(permit).await?;
        Ok(OpenFile {
            fd: Some(fd.into()),
            ops: self.clone(),
        })
    }

    /// What `name` is as seen from `directory`, or with no name the directory itself.
    pub(crate) async fn stat(&self, directory: &Fd, name: CString) -> io::Result<Statx> {
        let permit = self.leave().await;
        let flags = if name.is_empty() {
            AtFlags::EMPTY_PATH
        } else {
            AtFlags::empty()
        };
        let stat = self.ring.statx(directory, name, flags, FIELDS);
        stat.holding(permit).await
    }

    /// Reads into the spare capacity of `buffer`. By a worker, if the file is `remote`: io_uring would read
    /// a file of FUSE inline, as it takes what can be polled for what does not block.
    pub(crate) async fn read(
        &self,
        file: &Fd,
        buffer: Vec<u8>,
        offset: u64,
        remote: bool,
    ) -> io::Result<(usize, Vec<u8>)> {
        let permit = self.leave().await;
        let read = if remote {
            self.ring.read_by_worker(file, buffer, offset)
        } else {
            self.ring.read(file, buffer, Some(offset))
        };
        let (count, buffer) = read.holding(permit).await;
        Ok((count?, buffer))
    }

    /// Has `fd` closed by a worker, in its turn, unless others hold it as well.
    pub(crate) fn close(&self, fd: Fd) {
        if let Ok(fd) = fd.try_unwrap() {
            let ring = self.ring.clone();
            let close = move |permit| drop(ring.close(fd).holding(permit));
            self.shares.then(self.owner, close);
        }
    }

    /// Whether one more look may begin. One that did is not kept from going on.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        if self.shares.waiting_of(self.owner) < WAITING_MAX {
            Ok(())
        } else {
            Err(Error::Stalled)
        }
    }

    async fn leave(&self) -> Permit {
        self.shares.take(self.owner).await
    }
}

/// A file that was opened and may turn out not to be wanted.
pub(crate) struct OpenFile {
    /// There until it is taken or dropped.
    fd: Option<Fd>,
    ops: FileOps,
}

impl OpenFile {
    /// The file, for whoever sees to its end.
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
        // To read from anything but a file might change it.
        if let Some(fd) = self.fd.take()
            && is_regular(&fd)
            && is_remote(&fd)
        {
            self.ops.close(fd);
        }
    }
}
