//! `posix_fadvise(2)`.

use std::io;

use io_uring::{opcode, types};
use rustix::fs::Advice;

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields nothing: the advice was taken.
pub struct Advise;

impl Kind for Advise {
    type Output = io::Result<()>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(drop)
    }
}

impl Ring {
    /// Advises the kernel on the use of `len` bytes of `file` from `offset` (0: to its end).
    ///
    /// [`Advice::WillNeed`] starts reading them into the page cache, from a worker thread.
    pub fn fadvise(&self, file: &Fd, offset: u64, len: u32, advice: Advice) -> Op<Advise> {
        let entry =
            opcode::Fadvise::new(types::Fd(file.raw()), libc::off_t::from(len), advice as i32)
                .offset(offset)
                .build();
        // SAFETY: the entry holds no address, and the descriptor is held.
        unsafe {
            self.op(
                entry,
                OpResources::new(file, Memory::None),
                ResultKind::Nothing,
            )
        }
    }
}
