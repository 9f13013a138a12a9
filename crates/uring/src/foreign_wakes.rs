//! Awaits what other threads wake.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::shared::Shared;

thread_local! {
    /// The ring of this thread's executor.
    static RING: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// Makes `shared` the ring whose doorbell the futures of this thread use.
pub(crate) fn install(shared: &Rc<Shared>) {
    RING.set(Rc::downgrade(shared));
}

/// Awaits a future that other threads wake. By glommio's own means such a wake-up may come 50 ms
/// late, while the executor waits for the op ring. On a thread without an op ring it is awaited as
/// it is.
///
/// Dropped: the future is dropped.
pub async fn woken_by_others<F: Future>(future: F) -> F::Output {
    // Held while it waits: without the ring nobody answers.
    let Some(ring) = RING.with_borrow(Weak::upgrade) else {
        return future.await;
    };
    let waiter = ring.doorbell.waiter();
    let waker = Waker::from(Arc::clone(&waiter));
    let mut future = pin!(future);
    poll_fn(|context| {
        if !waiter.is_due(context.waker()) {
            return Poll::Pending;
        }
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}
