//! One op's life between its submission and its last completion.
//!
//! ```text
//!            completion              future takes it
//!  Waiting ------------> Done ------------------------> (slot freed)
//!     |  future dropped
//!     v            last completion
//!  Orphaned ----------------------> (slot freed, its result released)
//!
//!  Stream: queues completions until one comes without the "more" flag
//! ```

use std::collections::VecDeque;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::Waker;

use io_uring::cqueue;

use crate::buffers::Buffers;
use crate::held::{Held, Memory};

/// Names a slot. The generation makes a key of a freed slot miss its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// `user_data` of entries whose completion nobody waits for.
    pub(crate) const IGNORED: u64 = u64::MAX;

    pub(crate) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_user_data(data: u64) -> Self {
        Self {
            index: data as u32,
            generation: (data >> 32) as u32,
        }
    }
}

/// What a successful completion hands over, and so what must be released when nobody takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yields {
    /// A number.
    Count,
    /// A new file descriptor, as the result.
    Fd,
    /// Two of them, in [`Memory::Pipe`].
    PipeFds,
    /// A provided buffer, named by the flags.
    Buffer,
}

/// A completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// Whether more completions of the same op follow.
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// Count, or the error that the kernel answered.
    pub(crate) fn outcome(self) -> std::io::Result<u32> {
        if self.result < 0 {
            Err(std::io::Error::from_raw_os_error(-self.result))
        } else {
            Ok(self.result as u32)
        }
    }
}

/// A completion of a stream, or its bytes once they were moved out of the provided buffer.
pub(crate) enum Item {
    Completion(Completion),
    Spilled(Vec<u8>),
}

pub(crate) enum State {
    Waiting(Option<Waker>),
    Done(Completion),
    Stream(Stream),
    Orphaned,
}

/// The completions of a multishot op that its reader has not taken yet.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) queue: VecDeque<Item>,
    pub(crate) waker: Option<Waker>,
    /// The last completion came; the kernel has forgotten the op.
    pub(crate) ended: bool,
    /// The reader is behind and the op was asked to stop.
    pub(crate) paused: bool,
}

pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) yields: Yields,
    pub(crate) state: State,
    pub(crate) held: Held,
}

/// Releases what `completion` handed over and nobody took.
pub(crate) fn release(yields: Yields, completion: Completion, held: &Held, buffers: &Buffers) {
    if completion.result < 0 {
        return;
    }
    match yields {
        Yields::Count => {}
        Yields::Fd => drop(owned(completion.result)),
        Yields::PipeFds => drop(pipe_fds(held)),
        Yields::Buffer => {
            if let Some(id) = cqueue::buffer_select(completion.flags) {
                buffers.publish(id);
            }
        }
    }
}

/// The descriptor that a completion of [`Yields::Fd`] handed over.
pub(crate) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for the op whose completion named it; each
    // completion is consumed once, by its future or by `release`, so there is no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The descriptors that a successful pipe op wrote.
pub(crate) fn pipe_fds(held: &Held) -> Option<(OwnedFd, OwnedFd)> {
    let Memory::Pipe(fds) = &held.memory else {
        return None;
    };
    // SAFETY: the op is complete, so the kernel no longer writes; the memory is initialised from
    // the start and lives as long as `held`.
    let [reader, writer] = unsafe { *fds.as_ptr() };
    Some((owned(reader), owned(writer)))
}
