//! Wakes the executor every second, as the watchdog of the server does.
//!
//! glommio (0.9) may fall asleep although tasks are ready (see `wakeup_timers.rs`). A process that
//! gets no processor for half a second may find both timers that end such a sleep expired.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::task::AtomicWaker;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Shared {
    task: AtomicWaker,
    is_over: AtomicBool,
}

/// Dropped: it ends.
pub(crate) struct Heartbeat(Arc<Shared>);

impl Heartbeat {
    /// For the executor of this thread.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let (task, thread) = (Arc::clone(&shared), Arc::clone(&shared));
        let beats = poll_fn(move |context| {
            task.task.register(context.waker());
            if task.is_over.load(Ordering::Relaxed) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tidegate_uring::spawn(beats).detach();
        thread::spawn(move || {
            while !thread.is_over.load(Ordering::Relaxed) {
                thread::sleep(INTERVAL);
                thread.task.wake();
            }
        });
        Self(shared)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.0.task.wake();
    }
}
