//! Submission entries that more than one module builds.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::buffers::Buffers;

/// A close on a worker. Inline it would block the submitter while a deleted file's content is
/// freed, or while a remote or FUSE file system answers.
pub(crate) fn close(fd: &OwnedFd) -> Entry {
    opcode::Close::new(types::Fd(fd.as_raw_fd()))
        .build()
        .flags(Flags::ASYNC)
}

/// A multishot recv from `socket` into provided buffers, which ends after `bytes_max` bytes.
pub(crate) fn recv_multi(socket: RawFd, bytes_max: Option<u32>) -> Entry {
    let mut entry = opcode::RecvMulti::new(types::Fd(socket), Buffers::GROUP).build();
    if let Some(bytes_max) = bytes_max {
        // SAFETY: an entry is the kernel's `struct io_uring_sqe` (`repr(C)`, 64 bytes), which has
        // its `optlen`, a u32, at byte 44.
        unsafe { (&raw mut entry).cast::<u32>().add(OPTLEN).write(bytes_max) };
    }
    entry
}

/// Where `optlen` of an entry is, in words of 32 bits. The crate `io-uring` does not know it yet.
const OPTLEN: usize = 44 / size_of::<u32>();

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() >= align_of::<u32>());
