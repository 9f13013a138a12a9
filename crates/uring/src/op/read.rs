//! read(2) and pread(2).

use std::io;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields how many bytes were appended to the buffer, and the buffer.
pub struct Read;

impl Kind for Read {
    type Output = (io::Result<usize>, Vec<u8>);

    fn finish(done: Done) -> Self::Output {
        let Memory::Buffer(mut buffer) = done.resources.memory else {
            unreachable!("a read holds its buffer");
        };
        if let Ok(count) = done.outcome {
            let len = buffer.len() + count as usize;
            assert!(len <= buffer.capacity(), "the kernel read past the buffer");
            // SAFETY: within the capacity, and the kernel wrote the bytes behind the old length.
            unsafe { buffer.set_len(len) };
        }
        (done.outcome.map(|count| count as usize), *buffer)
    }
}

impl Ring {
    /// Reads into the spare capacity of `buffer`: at `offset`, or at the file's own position. 0
    /// bytes are the end of the file.
    ///
    /// Do not wait for an eventfd here: Linux 6.18 forwards its wake-up to the ring's eventfd only
    /// once, and neither that read nor any later completion wakes the thread. Use a pipe or a
    /// socket.
    pub fn read(&self, fd: &Fd, buffer: Vec<u8>, offset: Option<u64>) -> Op<Read> {
        self.read_with(fd, buffer, offset, Flags::empty())
    }

    /// Reads at `offset` as [`Ring::read`] does, but on a worker: for a file whose bytes, or their
    /// location, may have to be read from the disk. Without a worker the submitting thread would
    /// wait for that.
    pub fn read_by_worker(&self, fd: &Fd, buffer: Vec<u8>, offset: u64) -> Op<Read> {
        self.read_with(fd, buffer, Some(offset), Flags::ASYNC)
    }

    fn read_with(
        &self,
        fd: &Fd,
        mut buffer: Vec<u8>,
        offset: Option<u64>,
        flags: Flags,
    ) -> Op<Read> {
        let spare = buffer.spare_capacity_mut();
        let len = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(types::Fd(fd.raw()), spare.as_mut_ptr().cast(), len)
            .offset(offset.unwrap_or(u64::MAX))
            .build()
            .flags(flags);
        // SAFETY: the entry points to the spare capacity of the held buffer, which does not grow
        // while it is held.
        unsafe {
            self.op(
                entry,
                OpResources::new(fd, Memory::Buffer(Box::new(buffer))),
                ResultKind::Count,
            )
        }
    }
}
