//! poll(2) of one descriptor, once.

use std::io;

use io_uring::{opcode, types};
use rustix::event::PollFlags;

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields the events that occurred.
pub struct Poll;

impl Kind for Poll {
    type Output = io::Result<PollFlags>;

    fn finish(done: Done) -> Self::Output {
        done.outcome
            .map(|events| PollFlags::from_bits_retain(events as u16))
    }
}

impl Ring {
    /// Waits for any of `events`, for an error or for a hang-up. That includes `RDHUP`: where the
    /// peer has ended its half, each poll ends at once, though there may be no room to write.
    pub fn poll(&self, fd: &Fd, events: PollFlags) -> Op<Poll> {
        let entry = opcode::PollAdd::new(types::Fd(fd.raw()), u32::from(events.bits())).build();
        // SAFETY: the entry holds no address, and the descriptor is held.
        unsafe { self.op(entry, OpResources::new(fd, Memory::None), ResultKind::Count) }
    }
}
