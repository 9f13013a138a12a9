//! An op with many completions.

use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::squeue::Entry;

use crate::core::Shared;
use crate::held::Held;
use crate::ring::Ring;
use crate::slot::{Item, Key, State, Stream, Yields};

/// The completions of one multishot submission. Dropped: the op is cancelled, and what it had
/// handed over is released.
pub(crate) struct Multishot {
    ring: Rc<Shared>,
    key: Key,
}

impl Multishot {
    /// # Safety
    ///
    /// As for [`Shared::submit`].
    pub(crate) unsafe fn submit(ring: &Ring, entry: Entry, held: Held, yields: Yields) -> Self {
        // SAFETY: the caller's promise is the callee's.
        let key = unsafe {
            ring.shared
                .submit(entry, held, yields, State::Stream(Stream::default()))
        };
        Self {
            ring: Rc::clone(&ring.shared),
            key,
        }
    }

    /// The next completion; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.ring.with_slot(self.key, |slot| {
            let State::Stream(stream) = &mut slot.state else {
                unreachable!("a stream with its reader");
            };
            if let Some(item) = stream.queue.pop_front() {
                return Poll::Ready(Some(item));
            }
            if stream.ended {
                return Poll::Ready(None);
            }
            match &mut stream.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => stream.waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl Multishot {
    /// Whether it was cancelled because its reader was behind.
    pub(crate) fn paused(&self) -> bool {
        self.ring.with_slot(
            self.key,
            |slot| matches!(&slot.state, State::Stream(stream) if stream.paused),
        )
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        self.ring.abandon(self.key, true);
    }
}
