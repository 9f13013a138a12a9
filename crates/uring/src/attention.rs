//! Waits for events of the executor that must not come late.

use std::cell::Cell;
use std::time::Duration;

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
