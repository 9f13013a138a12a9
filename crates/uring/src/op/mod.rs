//! The ops: their arguments, their resources and their results.

pub mod accept;
pub mod advise;
pub mod cancel;
pub mod close;
pub mod nop;
pub mod open;
pub mod pipe;
pub mod poll;
pub mod read;
pub mod recv;
pub mod send;
pub mod splice;
pub mod stat;
mod stream;

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::squeue::Entry;

use crate::resources::OpResources;
use crate::ring::Ring;
use crate::shared::Shared;
use crate::shares::Permit;
use crate::slot::{Key, ResultKind, State, register};

/// How the completion of an op becomes the output of its future.
pub trait Kind {
    /// The output of the future.
    type Output;

    /// Whether a dropped future cancels the op.
    #[doc(hidden)]
    const CANCELS: bool = true;

    #[doc(hidden)]
    fn finish(done: Done) -> Self::Output;
}

/// A completion, with the resources of its op.
#[doc(hidden)]
pub struct Done {
    pub(crate) outcome: io::Result<u32>,
    pub(crate) resources: OpResources,
}

/// An op with one completion.
///
/// It is queued already. Dropping it before it is ready cancels it; the kernel keeps the resources
/// until the cancellation took effect.
#[must_use = "dropping an op cancels it"]
pub struct Op<K: Kind> {
    ring: Rc<Shared>,
    /// `None` once the output was taken.
    key: Option<Key>,
    kind: PhantomData<fn() -> K>,
}

impl Ring {
    /// # Safety
    ///
    /// As for [`Shared::submit`].
    pub(crate) unsafe fn op<K: Kind>(
        &self,
        entry: Entry,
        resources: OpResources,
        result_kind: ResultKind,
    ) -> Op<K> {
        // SAFETY: the caller's promise is the callee's.
        let key = unsafe {
            self.shared
                .submit(entry, resources, result_kind, State::Waiting(None))
        };
        Op {
            ring: Rc::clone(&self.shared),
            key: Some(key),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Op<K> {
    /// Keeps `permit` until the output is taken or, for a dropped op, until the last completion,
    /// which may come long after. An op that only succeeds ([`Ring::fadvise`]) returns it with the
    /// completion in any case.
    pub fn holding(self, permit: Permit) -> Self {
        if let Some(key) = self.key {
            let permit = Some(Box::new(permit));
            self.ring
                .with_slot(key, |slot| slot.resources.permit = permit);
        }
        self
    }
}

impl<K: Kind> Future for Op<K> {
    type Output = K::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("an op is not polled after its output");
        let (done, replaced) = self.ring.with_slot(key, |slot| match &mut slot.state {
            State::Waiting(waker) => (None, register(waker, context)),
            State::Done(completion) => (Some(*completion), None),
            State::Stream(_) | State::Orphaned => unreachable!("a single op with its future"),
        });
        drop(replaced);
        let Some(completion) = done else {
            return Poll::Pending;
        };
        self.key = None;
        let resources = self.ring.take(key).resources;
        Poll::Ready(K::finish(Done {
            outcome: completion.outcome(),
            resources,
        }))
    }
}

impl<K: Kind> Drop for Op<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.ring.abandon(key, K::CANCELS);
        }
    }
}
