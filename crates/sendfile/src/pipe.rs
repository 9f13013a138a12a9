//! A pipe, and the splices into and out of it.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice};
use tidegate_uring::splice::Splice;
use tidegate_uring::{Fd, Op, Pages, Ring};

use crate::by_thread;

/// Both ends of a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: Fd,
    writer: Fd,
    capacity: usize,
}

impl Pipe {
    /// Resizes a new pipe to `bytes`, a power of two of at least a page. Where the kernel refuses
    /// (`EPERM`: past `fs.pipe-max-size` or the user's pages) the pipe keeps its size.
    pub(crate) fn new((reader, writer): (OwnedFd, OwnedFd), bytes: usize) -> io::Result<Self> {
        let capacity = match fcntl_setpipe_size(&writer, bytes) {
            Ok(capacity) => capacity,
            Err(Errno::PERM) => fcntl_getpipe_size(&writer)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            reader: Fd::from(reader),
            writer: Fd::from(writer),
            capacity,
        })
    }

    /// Its capacity in bytes, reached only by full pages.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves `range` of `file`, or its first part, into this pipe; 0 is the end of the file. For
    /// pages in memory only: others block on the disk.
    pub(crate) fn fill(&self, file: &Fd, range: &Range<u64>) -> Result<usize, Errno> {
        let mut offset = range.start;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        rustix::io::retry_on_intr(|| {
            splice(
                file,
                Some(&mut offset),
                &self.writer,
                None,
                length(range),
                flags,
            )
        })
    }

    /// Refers to `range` of `pages`, or its first part, from this pipe, which is empty. They are
    /// copied where vmsplice(2) is not allowed.
    pub(crate) fn fill_from_pages(
        &self,
        pages: &Pages,
        range: &Range<usize>,
    ) -> Result<usize, Errno> {
        let staged = rustix::io::retry_on_intr(|| pages.stage(range.clone(), &self.writer));
        staged.or_else(|_| {
            // An empty pipe has room for them.
            let len = range.len().min(self.capacity);
            rustix::io::write(&self.writer, &pages[range.start..range.start + len])
        })
    }

    /// [`Pipe::fill`] on a worker of the ring, which may wait for the disk.
    pub(crate) fn fill_cold(&self, ring: &Ring, file: &Fd, range: &Range<u64>) -> Op<Splice> {
        ring.splice(
            file,
            Some(range.start),
            &self.writer,
            None,
            length(range) as u32,
            SpliceFlags::MOVE,
        )
    }

    /// [`Pipe::fill`] on the executor's blocking thread, where the ring has no worker.
    pub(crate) async fn fill_by_thread(&self, file: &Fd, range: &Range<u64>) -> io::Result<usize> {
        by_thread::splice_to(file, range, &self.writer).await
    }

    /// Moves up to `len` bytes into a socket that carries `O_NONBLOCK`. `more`: other bytes follow
    /// soon, so the last segment may be held back.
    pub(crate) fn drain(&self, socket: &Fd, len: u64, more: bool) -> Result<usize, Errno> {
        let mut flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        flags.set(SpliceFlags::MORE, more);
        rustix::io::retry_on_intr(|| splice(&self.reader, None, socket, None, len as usize, flags))
    }
}

/// At most a pipe's capacity, which the kernel bounds by 2 GiB.
fn length(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_the_size_asked_for() {
        let page = rustix::param::page_size();
        for pages in [1, 2, 16, 64] {
            let pipe = Pipe::new(rustix::pipe::pipe().unwrap(), pages * page).unwrap();
            assert_eq!(pipe.capacity(), pages * page);
        }
    }
}
