//! Waits for events of the executor that must not come late.

use std::cell::Cell;
use std::time::Duration;

use crate::poll_on_wake::PollOnWake;

thread_local! {
    /// The guards of this thread's executor.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, the executor looks at its own events every 10 ms, in quiet moments at once.
pub(crate) struct Attention(());

impl Attention {
    pub(crate) fn new() -> Self {
        GUARDS.set(GUARDS.get() + 1);
        Self(())
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        GUARDS.set(GUARDS.get() - 1);
    }
}

/// Whether this thread's executor has such waits.
pub(crate) fn is_needed() -> bool {
    GUARDS.get() > 0
}

/// Awaits a future that another thread wakes. Such a wake-up may come 50 ms late otherwise, while
/// the executor waits for the ring.
///
/// Dropped: the future is dropped.
pub async fn woken_by_others<F: Future>(future: F) -> F::Output {
    let _attention = Attention::new();
    PollOnWake::new(future).await
}

/// Sleeps for `time`, and at most some 10 ms longer while no task computes for longer. A timer of
/// glommio may come 150 ms late beside the ring's traffic, which suits timeouts.
///
/// # Panics
///
/// Outside a glommio executor.
pub async fn sleep(time: Duration) {
    let _attention = Attention::new();
    glommio::timer::sleep(time).await;
}
