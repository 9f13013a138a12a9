//! Tasks whose polls are counted, so that the driver knows whether any has run since its last turn.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use glommio::Task;

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// Polls of such tasks of this thread's executor.
pub(crate) fn polls() -> u64 {
    POLLS.get()
}

/// Notes that a task runs.
pub(crate) fn count_poll() {
    POLLS.set(POLLS.get() + 1);
}

/// Spawns a task on this thread's executor, whose polls are counted.
///
/// When none of these tasks has run for a moment, the ring blocks in the kernel, and the executor
/// with it, for up to 50 ms, and between completions for up to 150 ms until the executor handles
/// its own events again. Any other task (spawned by glommio's functions, or the executor's first)
/// may be delayed by as much, and with it those that it wakes.
///
/// # Panics
///
/// Outside a glommio executor.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    glommio::spawn_local(Counted { future })
}

pin_project_lite::pin_project! {
    /// A future whose polls are counted.
    struct Counted<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        count_poll();
        self.project().future.poll(context)
    }
}
