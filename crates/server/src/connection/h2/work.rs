//! What the streams of a connection wait for: lookups, the disk, a decoder, the time.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use futures_util::future::Abortable;
use futures_util::stream::{FuturesUnordered, StreamExt};
use glommio::timer::Timer;
use tidegate_h2::StreamId;

use super::abort::Abort;
use super::stream::{Prepared, Sending, Unknown};
use crate::config::snapshot::Snapshot;
use crate::context::Context;
use crate::respond::body_reader::CutShort;
use crate::respond::complete::complete;

type Work = Pin<Box<dyn Future<Output = Finished>>>;

/// The work of a connection, which goes on side by side. None takes no memory.
#[derive(Default)]
pub(super) struct Works {
    works: Option<Box<FuturesUnordered<Abortable<Work>>>>,
    /// Whether some was not polled yet, so that nothing would wake the connection for it.
    is_new: bool,
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
        self.works.as_ref().is_none_or(|works| works.is_empty())
    }

    /// Whether [`Works::poll_next`] is due, since work was begun after it.
    pub(super) fn is_due(&self) -> bool {
        self.is_new
    }

    /// Begins work. It makes progress when [`Works::poll_next`] is called.
    pub(super) fn start(&mut self, work: impl Future<Output = Finished> + 'static) -> Abort {
        let (abort, registration) = Abort::new();
        let work: Work = Box::pin(work);
        let works = self.works.get_or_insert_default();
        works.push(Abortable::new(work, registration));
        self.is_new = true;
        abort
    }

    /// The next work that is done. Pending if there is none.
    pub(super) fn poll_next(&mut self, context: &mut task::Context<'_>) -> Poll<Finished> {
        self.is_new = false;
        while let Some(works) = &mut self.works {
            match ready!(works.poll_next_unpin(context)) {
                Some(Ok(finished)) => return Poll::Ready(finished),
                // It was cancelled.
                Some(Err(_)) => {}
                None => self.works = None,
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
    Timer::new(time).await;
    Finished {
        stream,
        outcome: Outcome::Due,
    }
}
