//! openat2(2).

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use io_uring::{opcode, types};
use rustix::fs::{OFlags, ResolveFlags};

use crate::fd::Fd;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources, Stable};
use crate::ring::Ring;
use crate::slot::{ResultKind, owned};

/// Yields the open file.
pub struct Open;

impl Kind for Open {
    type Output = io::Result<OwnedFd>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|fd| owned(fd as i32))
    }
}

impl Ring {
    /// Opens `path` as seen from the directory `dir`. `O_CLOEXEC` is added to `flags`. It is for
    /// files that exist: one that `flags` created would have no permissions.
    ///
    /// Answered at once where the names on the way are cached, else on a worker thread. Dropped:
    /// a file that was opened is closed, on a worker.
    pub fn openat2(
        &self,
        dir: &Fd,
        path: CString,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> Op<Open> {
        let how = types::OpenHow::new()
            .flags(u64::from((flags | OFlags::CLOEXEC).bits()))
            .resolve(resolve.bits());
        let held = Stable::new((path, how));
        let pointer = held.as_ptr();
        // SAFETY: the value is initialised and nobody else refers to it yet.
        let (path, how) = unsafe { &*pointer };
        let entry = opcode::OpenAt2::new(types::Fd(dir.raw()), path.as_ptr(), how).build();
        // SAFETY: both addresses lie in the held value, and the directory is held.
        unsafe {
            self.op(
                entry,
                OpResources::new(dir, Memory::Open(held)),
                ResultKind::Fd,
            )
        }
    }
}
