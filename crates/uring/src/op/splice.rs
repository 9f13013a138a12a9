//! splice(2), always on a worker thread of the kernel: it may block there without harm.

use std::io;

use io_uring::{opcode, types};
use rustix::pipe::SpliceFlags;

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::OpResources;
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields how many bytes were moved; 0 is the end of the file.
pub struct Splice;

impl Kind for Splice {
    type Output = io::Result<usize>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|count| count as usize)
    }
}

impl Ring {
    /// Moves up to `len` bytes from `from` to `to`; one of them must be a pipe. With an offset, the
    /// file's position is neither used nor moved; a pipe has none.
    ///
    /// A socket without `O_NONBLOCK` occupies a worker until it takes the bytes.
    ///
    /// Dropped: the pipe may hold bytes, and may still get some until its last descriptor is
    /// closed.
    pub fn splice(
        &self,
        from: &Fd,
        from_offset: Option<u64>,
        to: &Fd,
        to_offset: Option<u64>,
        len: u32,
        flags: SpliceFlags,
    ) -> Op<Splice> {
        let entry = opcode::Splice::new(
            types::Fd(from.raw()),
            offset(from_offset),
            types::Fd(to.raw()),
            offset(to_offset),
            len,
        )
        .flags(flags.bits())
        .build();
        // SAFETY: the entry holds no address, and both descriptors are held.
        unsafe { self.op(entry, OpResources::pair(from, to), ResultKind::Count) }
    }
}

fn offset(offset: Option<u64>) -> i64 {
    offset.map_or(-1, |offset| offset as i64)
}
