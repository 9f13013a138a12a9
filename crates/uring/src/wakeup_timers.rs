//! What ends a sleep that the executor should not have begun.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::poll_on_wake::PollOnWake;

/// Between the times of the two timers.
const STEP: Duration = Duration::from_millis(250);

/// Two timers of the executor. While the driver runs, at least one of them is still to come.
///
/// They are set by the driver's turns: while it sleeps for want of work, none is set anew.
///
/// glommio (0.9) leaves its tasks for its own events when its ring of timers and notifications has
/// one. If that is there before the first task ran, it takes the executor for idle: it sleeps,
/// though tasks are ready, the driver among them, and no completion of the op ring ends that sleep.
/// It takes a timer of glommio's own (of 100 ms) that comes in the few instructions before the
/// tasks, as on a machine that is busy with others, or an `io_uring_enter(2)` that failed there.
/// The next timer ends the sleep; one that came just before it would be used up, so there are two.
pub(crate) struct WakeupTimers {
    timers: [Option<PollOnWake<Timer>>; 2],
    /// When the later one comes.
    last: Instant,
}

impl WakeupTimers {
    pub(crate) fn new() -> Self {
        Self {
            timers: [None, None],
            last: Instant::now(),
        }
    }

    /// Whether one has come.
    pub(crate) fn are_due(&self) -> bool {
        let due = |timer: &Option<PollOnWake<Timer>>| timer.as_ref().is_none_or(PollOnWake::is_due);
        self.timers.iter().any(due)
    }

    /// Sets those that have come anew, for the task of `context`; always ready.
    pub(crate) fn set(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        for timer in &mut self.timers {
            if timer.as_ref().is_none_or(PollOnWake::is_due) {
                self.last = self.last.max(now) + STEP;
                let mut set = PollOnWake::new(Timer::new(self.last - now));
                // Pending: it is in the future.
                let _ = Pin::new(&mut set).poll(context);
                *timer = Some(set);
            }
        }
        Poll::Ready(())
    }
}
