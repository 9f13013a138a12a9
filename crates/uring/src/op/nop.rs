//! An op that does nothing.

use std::io;

use io_uring::opcode;

use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields nothing.
pub struct Nop;

impl Kind for Nop {
    type Output = io::Result<()>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(drop)
    }
}

impl Ring {
    /// A round trip to the kernel, which shows that the ring works.
    pub fn nop(&self) -> Op<Nop> {
        let entry = opcode::Nop::new().build();
        // SAFETY: the entry holds neither an address nor a descriptor.
        unsafe { self.op(entry, OpResources::memory(Memory::None), ResultKind::Count) }
    }
}
