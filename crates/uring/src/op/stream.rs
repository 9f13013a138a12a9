//! An op with many completions.

use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::squeue::Entry;

use crate::resources::OpResources;
use crate::ring::Ring;
use crate::shared::Shared;
use crate::slot::{Item, Key, ResultKind, State, Stream, register};

/// The completions of one multishot submission. Dropped: the op is cancelled, and results that were
/// not taken are released.
pub(crate) struct Multishot {
    ring: Rc<Shared>,
    key: Key,
}

impl Multishot {
    /// # Safety
    ///
    /// As for [`Shared::submit`].
    pub(crate) unsafe fn submit(
        ring: &Ring,
        entry: Entry,
        resources: OpResources,
        result_kind: ResultKind,
    ) -> Self {
        // SAFETY: the caller's promise is the callee's.
        let key = unsafe {
            ring.shared.submit(
                entry,
                resources,
                result_kind,
                State::Stream(Stream::default()),
            )
        };
        Self {
            ring: Rc::clone(&ring.shared),
            key,
        }
    }

    /// The next completion; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let (taken, replaced) = self.ring.with_slot(self.key, |slot| {
            let State::Stream(stream) = &mut slot.state else {
                unreachable!("a stream with its reader");
            };
            let taken = stream.take();
            let replaced = match taken {
                Poll::Ready(_) => None,
                Poll::Pending => register(&mut stream.waker, context),
            };
            (taken, replaced)
        });
        drop(replaced);
        taken
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        self.ring.abandon(self.key, true);
    }
}
