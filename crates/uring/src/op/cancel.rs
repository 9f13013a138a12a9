//! Cancelling all ops on a descriptor. A single op is cancelled by dropping its future.

use std::io;

use io_uring::types::CancelBuilder;
use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields how many ops were found and cancelled.
pub struct Cancel;

impl Kind for Cancel {
    type Output = io::Result<usize>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|count| count as usize)
    }
}

impl Ring {
    /// Cancels every op on `fd` that was queued before: they yield `ECANCELED`, or their result
    /// if they were complete by then.
    ///
    /// A splice is on the file that it writes to; openat2 and statx are on none.
    pub fn cancel(&self, fd: &Fd) -> Op<Cancel> {
        self.shared.mark_cancelled(fd.raw());
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(types::Fd(fd.raw())).all()).build();
        // SAFETY: the entry holds no address, and the descriptor is held.
        unsafe { self.op(entry, OpResources::new(fd, Memory::None), ResultKind::Count) }
    }
}
