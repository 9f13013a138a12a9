//! The lifecycle of one op, from submission to its last completion.
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

/// Identifies a slot. The generation distinguishes a freed slot from its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// `user_data` of entries whose completion is ignored.
    pub(crate) const IGNORED: u64 = u64::MAX;

    /// That of the poll of the doorbell.
    pub(crate) const DOORBELL: u64 = u64::MAX - 1;

    pub(crate) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// `None`: an entry without a slot. No index of a slot is as high as those of the two.
    pub(crate) fn from_user_data(data: u64) -> Option<Self> {
        (data < Self::DOORBELL).then_some(Self {
            index: data as u32,
            generation: (data >> 32) as u32,
        })
    }
}

/// The kind of result of a successful completion, and so what to release when no future takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultKind {
    /// Success alone. The permit of such an op returns with the completion, since its future gets
    /// nothing that a permit could be for.
    Nothing,
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

    /// The last completion of a cancelled op.
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

/// A completion of a stream, or its bytes once they were copied out of the provided buffer.
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

/// The completions of a multishot op that are not read yet.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) queue: Queue<Item>,
    pub(crate) waker: Option<Waker>,
    /// The last completion arrived; the kernel has no record of the op.
    pub(crate) ended: bool,
    /// The reader is slow, and the op was cancelled for it.
    pub(crate) paused: bool,
    /// The user cancelled the op, and the reader does not know yet.
    pub(crate) cancelled: bool,
}

impl Stream {
    /// The next item; `Ready(None)` after the last. `ECANCELED` is hidden from the reader where it
    /// only ends a pause, and reported where the user cancelled the stream, even if it was paused
    /// then.
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

/// Stores the waker of `context` in `place`. Returns the previous one, to be dropped when the ring
/// is no longer borrowed: that may drop a task, whose ops re-enter the ring.
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

/// Releases the result of `completion` that no future took.
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
        // The descriptor of a close op was released when it completed.
        ResultKind::Nothing | ResultKind::Count | ResultKind::Closed => {}
        ResultKind::Fd => drop(owned(completion.result)),
        ResultKind::PipeFds => drop(pipe_fds(resources)),
        ResultKind::Buffer => {
            if let Some(id) = completion.buffer {
                buffers.publish(id);
            }
        }
    }
}

/// The opened file that no future took: closing it may block as long as opening it.
pub(crate) fn opened(completion: Completion, resources: &OpResources) -> Option<OwnedFd> {
    let opened = completion.result >= 0 && matches!(resources.memory, Memory::Open(_));
    opened.then(|| owned(completion.result))
}

/// Takes ownership of the descriptor of a [`ResultKind::Fd`] completion.
pub(crate) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for the op whose completion named it. Each
    // completion is consumed once, by its future, by `opened` or by `release`, so there is no other
    // owner.
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
            (u32::MAX - 2, u32::MAX),
            (7, 1 << 31),
        ] {
            let key = Key { index, generation };
            assert_eq!(Key::from_user_data(key.user_data()), Some(key));
        }
        for entry in [Key::IGNORED, Key::DOORBELL] {
            assert_eq!(Key::from_user_data(entry), None);
        }
    }

    #[test]
    fn a_stream_reports_a_cancellation_only_if_the_user_requested_it() {
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
