//! close(2), where closing may take a while.

use std::io;
use std::os::fd::OwnedFd;

use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;
use crate::sqe;

/// Yields nothing: the descriptor is closed.
pub struct Close;

impl Kind for Close {
    type Output = io::Result<()>;

    const CANCELS: bool = false;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(drop)
    }
}

impl Ring {
    /// Closes `fd`, on a worker. Dropped: it is closed all the same.
    ///
    /// An error concerns the file (such as bytes that could not be written), not the descriptor,
    /// which is closed in any case.
    pub fn close(&self, fd: OwnedFd) -> Op<Close> {
        let entry = sqe::close(&fd);
        // SAFETY: the entry holds no address, and the descriptor has no owner but the op, which
        // lets go of it when the kernel has closed it.
        unsafe {
            self.op(
                entry,
                OpResources::memory(Memory::Closing(fd)),
                ResultKind::Closed,
            )
        }
    }
}
