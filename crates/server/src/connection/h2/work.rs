//! What the streams of a connection wait for: lookups, the disk, a decoder, the time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use futures_util::future::Abortable;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidegate_h2::StreamId;
use tidegate_uring::sleep;

use super::abort::Abort;
use super::stream::{Prepared, Sending, Unknown};
use crate::config::snapshot::Snapshot;
use crate::context::Context;
use crate::memory::{Held, Part};
use crate::respond::body_reader::CutShort;
use crate::respond::complete::complete;

/// A lookup or a wait, and the memory that it takes.
struct Work {
    future: Pin<Box<dyn Future<Output = Finished>>>,
    _held: Held,
}

impl Future for Work {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Finished> {
        self.future.as_mut().poll(context)
    }
}

/// Lookups of a connection at a time: enough for any disk. Those of a client that asks for much and
/// then breaks the rules are mostly not begun.
const LOOKUPS_MAX: usize = 32;

/// The work of a connection, which goes on side by side. None takes no memory.
#[derive(Default)]
pub(super) struct Works {
    active: Option<Box<Active>>,
    /// Whether some was not polled yet, so that nothing would wake the connection for it.
    is_new: bool,
}

#[derive(Default)]
struct Active {
    works: FuturesUnordered<Abortable<Work>>,
    /// Streams whose lookups are not begun.
    unknown: VecDeque<StreamId>,
    /// Each lookup has one more.
    lookups: Permit,
}

/// Lets a lookup go on. Dropped: another one may begin.
pub(super) type Permit = Rc<()>;

impl Active {
    fn has_permit(&self) -> bool {
        Rc::strong_count(&self.lookups) <= LOOKUPS_MAX
    }
}

/// Work that is done.
pub(super) struct Finished {
    pub(super) stream: StreamId,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// The response was looked up.
    Response(Box<Prepared>),
    /// The body goes on.
    Body(Box<Sending>),
    /// It cannot be completed.
    CutShort,
    /// The next bytes of a paced body are due.
    Due,
}

impl Works {
    pub(super) fn is_empty(&self) -> bool {
        let active = self.active.as_ref();
        active.is_none_or(|active| active.works.is_empty())
    }

    /// Whether [`Works::poll_next`] is due, since work was begun after it, or
    /// [`Works::next_unknown`], since a lookup has ended.
    pub(super) fn is_due(&self) -> bool {
        let active = self.active.as_ref();
        self.is_new
            || active.is_some_and(|active| !active.unknown.is_empty() && active.has_permit())
    }

    /// Queues a stream whose response is to be looked up.
    pub(super) fn queue(&mut self, stream: StreamId) {
        let active = self.active.get_or_insert_default();
        active.unknown.push_back(stream);
    }

    /// Takes a stream that is over out of the queue, if it is there.
    pub(super) fn forget(&mut self, stream: StreamId) {
        if let Some(active) = &mut self.active {
            active.unknown.retain(|unknown| *unknown != stream);
        }
    }

    /// The next stream of the queue, if its lookup may begin, which has to hold the permit.
    pub(super) fn next_unknown(&mut self) -> Option<(StreamId, Permit)> {
        let active = self.active.as_mut().filter(|active| active.has_permit())?;
        let stream = active.unknown.pop_front()?;
        Some((stream, Rc::clone(&active.lookups)))
    }

    /// Begins work. It makes progress when [`Works::poll_next`] is called.
    pub(super) fn start(&mut self, work: impl Future<Output = Finished> + 'static) -> Abort {
        let (abort, registration) = Abort::new();
        let work = Work {
            _held: Held::new(Part::Work, size_of_val(&work)),
            future: Box::pin(work),
        };
        let active = self.active.get_or_insert_default();
        active.works.push(Abortable::new(work, registration));
        self.is_new = true;
        abort
    }

    /// The next work that is done. Pending if there is none.
    pub(super) fn poll_next(&mut self, context: &mut task::Context<'_>) -> Poll<Finished> {
        self.is_new = false;
        while let Some(active) = &mut self.active {
            match ready!(active.works.poll_next_unpin(context)) {
                Some(Ok(finished)) => return Poll::Ready(finished),
                // It was cancelled.
                Some(Err(_)) => {}
                None if active.unknown.is_empty() => self.active = None,
                None => break,
            }
        }
        Poll::Pending
    }
}

/// Looks a response up.
pub(super) async fn look_up(
    context: Rc<Context>,
    snapshot: Rc<Snapshot>,
    stream: StreamId,
    unknown: Box<Unknown>,
    _permit: Permit,
) -> Finished {
    let Unknown {
        pending,
        scheme,
        mut exchange,
    } = *unknown;
    let response = complete(&context, &snapshot, *pending, scheme, &mut exchange).await;
    let outcome = Outcome::Response(Box::new(Prepared { response, exchange }));
    Finished { stream, outcome }
}

/// Waits for the next bytes of a body.
pub(super) async fn read(
    context: Rc<Context>,
    stream: StreamId,
    mut sending: Box<Sending>,
) -> Finished {
    let outcome = match sending.body.make(&context).await {
        Ok(()) => Outcome::Body(sending),
        Err(CutShort) => Outcome::CutShort,
    };
    Finished { stream, outcome }
}

/// Waits until the next bytes of a paced body are due.
pub(super) async fn pause(stream: StreamId, time: Duration) -> Finished {
    sleep(time).await;
    Finished {
        stream,
        outcome: Outcome::Due,
    }
}
