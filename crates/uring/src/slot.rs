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

use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, Waker};

use io_uring::cqueue;

use crate::buffers::Buffers;
use crate::queue::Queue;
use crate::resources::{Memory, OpResources};

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
pub(crate) enum ResultKind {
    /// A number.
    Count,
    /// A new file descriptor, as the result.
    Fd,
    /// Two of them, in [`Memory::Pipe`].
    PipeFds,
    /// A provided buffer.
    Buffer,
    /// The end of the descriptor in [`Memory::Closing`].
    Closed,
}

/// A completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) result: i32,
    /// Whether more completions of the same op follow.
    pub(crate) more: bool,
    /// The provided buffer that holds `result` bytes.
    pub(crate) buffer: Option<u16>,
}

impl Completion {
    pub(crate) fn new(entry: &cqueue::Entry) -> Self {
        Self {
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
        }
    }

    /// The last word of an op that was cancelled.
    pub(crate) const CANCELLED: Self = Self {
        result: -libc::ECANCELED,
        more: false,
        buffer: None,
    };

    /// Whether there was no buffer to receive into.
    pub(crate) fn is_dry(self) -> bool {
        self.result == -libc::ENOBUFS
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
    #[expect(
        clippy::box_collection,
        reason = "it is rare, and a slot has room for one item"
    )]
    Spilled(Box<Vec<u8>>),
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
    pub(crate) queue: Queue<Item>,
    pub(crate) waker: Option<Waker>,
    /// The last completion came; the kernel has forgotten the op.
    pub(crate) ended: bool,
    /// The reader is behind and the op was asked to stop.
    pub(crate) paused: bool,
    /// The user asked the op to stop, and the reader has yet to be told.
    pub(crate) cancelled: bool,
}

impl Stream {
    /// The next item; `Ready(None)` after the last. `ECANCELED` is kept from the reader where it
    /// only ends a pause, and told it where the stream was cancelled, even if it was paused then.
    pub(crate) fn take(&mut self) -> Poll<Option<Item>> {
        while let Some(item) = self.queue.pop() {
            if !(item.is_cancellation() && (self.paused || self.cancelled)) {
                return Poll::Ready(Some(item));
            }
        }
        if !self.ended {
            Poll::Pending
        } else if mem::take(&mut self.cancelled) {
            Poll::Ready(Some(Item::Completion(Completion::CANCELLED)))
        } else {
            Poll::Ready(None)
        }
    }
}

impl Item {
    fn is_cancellation(&self) -> bool {
        matches!(self, Self::Completion(completion) if completion.result == -libc::ECANCELED)
    }
}

/// Puts the waker of `context` into `place`. The one that was there is handed back, to be dropped
/// when the ring is no longer borrowed: that may drop a task, whose ops come back to the ring.
#[must_use]
pub(crate) fn register(place: &mut Option<Waker>, context: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => None,
        _ => place.replace(context.waker().clone()),
    }
}

pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) result_kind: ResultKind,
    pub(crate) state: State,
    pub(crate) resources: OpResources,
}

// One for each idle connection.
const _: () = assert!(size_of::<Slot>() <= 88);

/// Releases what `completion` handed over and nobody took.
pub(crate) fn release(
    result_kind: ResultKind,
    completion: Completion,
    resources: &OpResources,
    buffers: &Buffers,
) {
    if completion.result < 0 {
        return;
    }
    match result_kind {
        // What a close op closed was let go of when it completed.
        ResultKind::Count | ResultKind::Closed => {}
        ResultKind::Fd => drop(owned(completion.result)),
        ResultKind::PipeFds => drop(pipe_fds(resources)),
        ResultKind::Buffer => {
            if let Some(id) = completion.buffer {
                buffers.publish(id);
            }
        }
    }
}

/// The file that an op opened and nobody took: to close it may take as long as to open it.
pub(crate) fn opened(completion: Completion, resources: &OpResources) -> Option<OwnedFd> {
    let opened = completion.result >= 0 && matches!(resources.memory, Memory::Open(_));
    opened.then(|| owned(completion.result))
}

/// The descriptor that a completion of [`ResultKind::Fd`] handed over.
pub(crate) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for the op whose completion named it; each
    // completion is consumed once, by its future, by `opened` or by `release`, so there is no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The descriptors that a successful pipe op wrote.
pub(crate) fn pipe_fds(resources: &OpResources) -> Option<(OwnedFd, OwnedFd)> {
    let Memory::Pipe(fds) = &resources.memory else {
        return None;
    };
    // SAFETY: the op is complete, so the kernel no longer writes; the memory is initialised from
    // the start and lives as long as `resources`.
    let [reader, writer] = unsafe { *fds.as_ptr() };
    Some((owned(reader), owned(writer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(result: i32, more: bool) -> Item {
        Item::Completion(Completion {
            result,
            more,
            buffer: None,
        })
    }

    /// The results that a reader gets, and whether the stream is at its end.
    fn read(mut stream: Stream) -> (Vec<i32>, bool) {
        let mut results = Vec::new();
        loop {
            match stream.take() {
                Poll::Ready(Some(Item::Completion(completion))) => results.push(completion.result),
                Poll::Ready(Some(Item::Spilled(_))) => unreachable!("nothing was spilled"),
                Poll::Ready(None) => return (results, true),
                Poll::Pending => return (results, false),
            }
        }
    }

    #[test]
    fn a_key_comes_back_from_its_user_data() {
        for (index, generation) in [
            (0, 0),
            (1, 0),
            (0, 1),
            (u32::MAX - 1, u32::MAX),
            (7, 1 << 31),
        ] {
            let key = Key { index, generation };
            assert_eq!(Key::from_user_data(key.user_data()), key);
            assert_ne!(key.user_data(), Key::IGNORED);
        }
    }

    #[test]
    fn a_stream_tells_of_a_cancellation_only_to_who_asked_for_it() {
        const CANCELED: i32 = -libc::ECANCELED;
        // Paused, cancelled, the last result, what the reader gets.
        let cases: [(bool, bool, i32, &[i32]); 7] = [
            (false, false, 2, &[1, 2]),
            (false, false, CANCELED, &[1, CANCELED]),
            (true, false, CANCELED, &[1]),
            (true, false, 2, &[1, 2]),
            (false, true, CANCELED, &[1, CANCELED]),
            (true, true, CANCELED, &[1, CANCELED]),
            (true, true, 2, &[1, 2, CANCELED]),
        ];
        for (paused, cancelled, last, expected) in cases {
            let stream = Stream {
                queue: [count(1, true), count(last, false)].into_iter().collect(),
                waker: None,
                ended: true,
                paused,
                cancelled,
            };
            assert_eq!(
                read(stream),
                (expected.to_vec(), true),
                "{paused} {cancelled}"
            );
        }
        let going_on = Stream {
            queue: [count(1, true)].into_iter().collect(),
            cancelled: true,
            ..Stream::default()
        };
        assert_eq!(read(going_on), (vec![1], false));
    }
}
