//! A stop, from the first signal to the end of the process: a state machine without a clock.
//!
//! Serving, then draining (`server.drain-delay`), then stopping (`server.graceful-timeout`), then
//! the end. Each phase ends after its time, or at once by a signal.

use std::time::{Duration, Instant};

use tidegate_config::Server;

/// How long shards may take to end after the time for responses. One that takes longer hangs in the
/// kernel, and the process ends without it.
const END_TIME: Duration = Duration::from_secs(3);

/// The phases of a stop.
#[derive(Debug)]
pub(crate) struct Stop {
    drain_delay: Duration,
    graceful_timeout: Duration,
    phase: Phase,
    /// When the phase ends without a signal.
    ends: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Stopping,
    StoppingNow,
}

/// What the main thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Serve on, but report not ready.
    Drain,
    /// Stop listening, and let responses finish.
    Stop,
    /// Leave the listeners to another process, and let connections end.
    HandOver,
    /// Stop without waiting for responses.
    StopNow,
    /// End without the shards that still run.
    GiveUp,
}

impl Stop {
    /// The initial state: serving.
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            drain_delay: server.drain_delay,
            graceful_timeout: server.graceful_timeout,
            phase: Phase::Serving,
            ends: None,
        }
    }

    /// Replaces the times of a server that serves.
    pub(crate) fn set_times(&mut self, server: &Server) {
        self.drain_delay = server.drain_delay;
        self.graceful_timeout = server.graceful_timeout;
    }

    /// Whether the stop has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// When to call [`Stop::time_is_over`].
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Handles a signal to stop. A server that is not ready yet has nothing to drain.
    pub(crate) fn signal(&mut self, now: Instant, is_ready: bool) -> Step {
        match self.phase {
            Phase::Serving if is_ready && !self.drain_delay.is_zero() => {
                self.enter(Phase::Draining, now + self.drain_delay);
                Step::Drain
            }
            Phase::Serving => self.stop(now),
            Phase::Draining | Phase::Stopping => self.stop_now(now),
            Phase::StoppingNow => Step::GiveUp,
        }
    }

    /// Handles that another process has taken the listeners over.
    pub(crate) fn hand_over(&mut self, now: Instant) -> Step {
        self.stop(now);
        Step::HandOver
    }

    /// Handles the end of the phase's time.
    pub(crate) fn time_is_over(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Draining => self.stop(now),
            _ => Step::GiveUp,
        }
    }

    fn stop(&mut self, now: Instant) -> Step {
        self.enter(Phase::Stopping, now + self.graceful_timeout + END_TIME);
        Step::Stop
    }

    fn stop_now(&mut self, now: Instant) -> Step {
        self.enter(Phase::StoppingNow, now + END_TIME);
        Step::StopNow
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.ends = Some(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(100);

    fn stop(drain_delay: Duration) -> Stop {
        Stop::new(&Server {
            drain_delay,
            graceful_timeout: GRACE,
            ..Server::default()
        })
    }

    #[test]
    fn each_phase_ends_by_itself() {
        let now = Instant::now();
        let mut stop = stop(DELAY);
        assert!(!stop.has_begun() && stop.ends().is_none());
        assert_eq!(stop.signal(now, true), Step::Drain);
        assert!(stop.has_begun());
        let drained = now + DELAY;
        assert_eq!(stop.ends(), Some(drained));
        assert_eq!(stop.time_is_over(drained), Step::Stop);
        let ended = drained + GRACE + END_TIME;
        assert_eq!(stop.ends(), Some(ended));
        assert_eq!(stop.time_is_over(ended), Step::GiveUp);
    }

    #[test]
    fn after_a_hand_over_a_signal_stops_at_once() {
        let now = Instant::now();
        let mut stop = stop(DELAY);
        assert_eq!(stop.hand_over(now), Step::HandOver);
        assert_eq!(stop.ends(), Some(now + GRACE + END_TIME));
        assert_eq!(stop.signal(now, true), Step::StopNow);
    }

    #[test]
    fn a_signal_ends_any_phase() {
        let now = Instant::now();
        for (delay, is_ready, steps) in [
            (DELAY, true, [Step::Drain, Step::StopNow, Step::GiveUp]),
            (DELAY, false, [Step::Stop, Step::StopNow, Step::GiveUp]),
            (
                Duration::ZERO,
                true,
                [Step::Stop, Step::StopNow, Step::GiveUp],
            ),
        ] {
            let mut stop = stop(delay);
            for (number, step) in steps.iter().enumerate() {
                assert_eq!(stop.signal(now, is_ready), *step, "{number} of {steps:?}");
            }
            assert_eq!(stop.ends(), Some(now + END_TIME));
        }
    }

    #[test]
    fn a_signal_after_draining_stops_at_once() {
        let now = Instant::now();
        let mut stop = stop(DELAY);
        stop.signal(now, true);
        assert_eq!(stop.time_is_over(now + DELAY), Step::Stop);
        assert_eq!(stop.signal(now + DELAY, true), Step::StopNow);
        assert_eq!(stop.ends(), Some(now + DELAY + END_TIME));
    }
}
