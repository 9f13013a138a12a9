//! statx(2), always on a worker thread of the kernel.

use std::ffi::CString;
use std::io;

use io_uring::{opcode, types};
use rustix::fs::{AtFlags, Statx, StatxFlags};

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources, Stable};
use crate::ring::Ring;
use crate::slot::ResultKind;

/// Yields the statx result.
pub struct Stat;

impl Kind for Stat {
    type Output = io::Result<Statx>;

    fn finish(done: Done) -> Self::Output {
        done.outcome?;
        match done.resources.memory {
            Memory::Stat(held) => Ok(held.into_inner().1),
            _ => unreachable!("a stat holds its answer"),
        }
    }
}

impl Ring {
    /// Asks for the fields `mask` of `path` as seen from the directory `dir`; of `dir` itself with
    /// an empty path and [`AtFlags::EMPTY_PATH`].
    pub fn statx(&self, dir: &Fd, path: CString, flags: AtFlags, mask: StatxFlags) -> Op<Stat> {
        // SAFETY: a struct of integers, for which all zero is a value.
        let answer: Statx = unsafe { std::mem::zeroed() };
        let held = Stable::new((path, answer));
        let pointer = held.as_ptr();
        // SAFETY: the value is initialised and nobody else refers to it yet.
        let path = unsafe { &(*pointer).0 }.as_ptr();
        // SAFETY: the pointer is valid; only an address is taken.
        let answer = unsafe { &raw mut (*pointer).1 };
        let entry = opcode::Statx::new(types::Fd(dir.raw()), path, answer.cast())
            .flags(flags.bits() as i32)
            .mask(mask.bits())
            .build();
        // SAFETY: both addresses lie in the held value, the answer has the layout of the kernel's
        // struct statx, and the directory is held.
        unsafe {
            self.op(
                entry,
                OpResources::new(dir, Memory::Stat(held)),
                ResultKind::Count,
            )
        }
    }
}
