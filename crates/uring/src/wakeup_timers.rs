//! Timers that end a sleep that the executor should not have begun.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::poll_on_wake::PollOnWake;

/// Interval between the two timers.
const STEP: Duration = Duration::from_millis(250);

/// Two timers of the executor. While the driver runs, at least one of them is pending.
///
/// The driver's turns set them again: while it sleeps because there is no work, none is set. The
/// first are set before the driver, since the executor may fall asleep before that first runs.
///
/// glommio (0.9) interrupts its tasks when its ring of timers and notifications has an event. If
/// that event is there before the first task ran, it takes the executor for idle: it sleeps
/// although tasks are ready, the driver among them, and no completion of the op ring ends that
/// sleep. This needs a timer of glommio's own (of 100 ms) that expires in the few instructions
/// before the tasks, as on a busy machine, or an `io_uring_enter(2)` that failed there. The next
/// timer ends the sleep; one that expired just before it would have no effect, so there are two.
pub(crate) struct WakeupTimers {
    timers: [Option<PollOnWake<Timer>>; 2],
    /// When the later one expires.
    last: Instant,
}

impl WakeupTimers {
    /// Starts both in this thread's executor. They end its sleep even though no task waits for
    /// them.
    pub(crate) fn start() -> Self {
        let mut timers = Self {
            timers: [None, None],
            last: Instant::now(),
        };
        let _ = timers.set(&mut Context::from_waker(Waker::noop()));
        timers
    }

    /// Whether one has expired.
    pub(crate) fn are_due(&self) -> bool {
        let due = |timer: &Option<PollOnWake<Timer>>| timer.as_ref().is_none_or(PollOnWake::is_due);
        self.timers.iter().any(due)
    }

    /// Restarts the expired ones for the task of `context`; always ready.
    pub(crate) fn set(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        for timer in &mut self.timers {
            if timer.as_ref().is_none_or(PollOnWake::is_due) {
                self.last = self.last.max(now) + STEP;
                let mut set = PollOnWake::new(Timer::new(self.last - now));
                // Pending: it expires later.
                let _ = Pin::new(&mut set).poll(context);
                *timer = Some(set);
            }
        }
        Poll::Ready(())
    }
}
