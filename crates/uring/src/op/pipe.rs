//! pipe2(2): on the ring from Linux 6.16, by the call before.

use std::io;
use std::os::fd::OwnedFd;

use io_uring::opcode;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources, Stable};
use crate::ring::Ring;
use crate::slot::{ResultKind, pipe_fds};

/// Yields the read end and the write end.
pub struct Pipe;

impl Kind for Pipe {
    type Output = io::Result<(OwnedFd, OwnedFd)>;

    fn finish(done: Done) -> Self::Output {
        done.outcome?;
        Ok(pipe_fds(&done.resources).expect("a pipe op holds its descriptors"))
    }
}

impl Ring {
    /// Makes a pipe: its read end and its write end, both with `O_CLOEXEC`.
    ///
    /// Dropped: a pipe that was made is closed.
    pub async fn pipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        if self.features().pipe {
            self.pipe_op().await
        } else {
            Ok(pipe_with(PipeFlags::CLOEXEC)?)
        }
    }

    fn pipe_op(&self) -> Op<Pipe> {
        let fds = Stable::new([-1; 2]);
        let entry = opcode::Pipe::new(fds.as_ptr().cast())
            .flags(PipeFlags::CLOEXEC.bits())
            .build();
        // SAFETY: the address is that of the held pair.
        unsafe {
            self.op(
                entry,
                OpResources::memory(Memory::Pipe(fds)),
                ResultKind::PipeFds,
            )
        }
    }
}
