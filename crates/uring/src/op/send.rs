//! send(2).

use std::io;

use bytes::Bytes;
use io_uring::{opcode, types};
use rustix::net::SendFlags;

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields how many bytes the socket took, which may be fewer than were given.
pub struct Send;

impl Kind for Send {
    type Output = io::Result<usize>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|count| count as usize)
    }
}

impl Ring {
    /// Sends `data`, waiting until the socket takes at least a part of it, whether it carries
    /// `O_NONBLOCK` or not. A peer that is gone is an error (`EPIPE`), never a signal.
    ///
    /// Dropped: bytes that the socket took by then are sent.
    pub fn send(&self, socket: &Fd, data: Bytes, flags: SendFlags) -> Op<Send> {
        let entry = opcode::Send::new(types::Fd(socket.raw()), data.as_ptr(), length(data.len()))
            .flags((flags | SendFlags::NOSIGNAL).bits() as i32)
            .build();
        // SAFETY: the held bytes are what the entry points to; `Bytes` keep their heap or static
        // memory in place when moved.
        unsafe {
            self.op(
                entry,
                OpResources::new(socket, Memory::Bytes(Box::new(data))),
                ResultKind::Count,
            )
        }
    }
}

/// The most that one call moves; the kernel's own bound is a page less than 2 GiB.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
