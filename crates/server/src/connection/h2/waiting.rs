//! What an HTTP/2 connection waits for, how long, and when it is to end.

use std::pin::Pin;
use std::task;
use std::time::Instant;

use tidegate_uring::executor::Timer;

use super::connection::{Connection, Ending};
use super::stream::Stream;
use super::waits::Bodies;
use crate::context::KeepAlive;
use crate::timeouts::Phase;

impl Connection {
    /// Asks for no more streams if the connection is to end. A client that does not confirm it is
    /// told a last one when its time is over.
    pub(super) fn go_away_if_due(&mut self, now: Instant) {
        if self.must_go_away() {
            self.h2.go_away();
            self.waits.went_away_at = Some(now);
            self.context.metrics.core().http2.went_away();
        } else if let Some(at) = self.waits.went_away_at
            && now.saturating_duration_since(at) > self.timer.timeout(Phase::Linger)
        {
            self.h2.finish_go_away();
        }
    }

    /// Whether no more streams are to be opened. A client gets at least one response. What it sends
    /// before it confirms that is answered, too, so it is told at once, unlike one of HTTP/1.1.
    fn must_go_away(&self) -> bool {
        let context = &self.context;
        !self.h2.is_going_away()
            && self.requests > 0
            && match context.keep_alive() {
                KeepAlive::Enabled => {
                    let limit = context.settings().limits.requests_per_connection;
                    self.requests >= limit || self.timer.draining()
                }
                KeepAlive::UntilNextResponse | KeepAlive::Disabled => true,
            }
    }

    /// Resets the streams whose request bodies do not arrive: each has the time of a head, and less
    /// than twice that.
    pub(super) fn reset_late_bodies(&mut self, context: &mut task::Context<'_>) {
        while self.h2.is_receiving_bodies() {
            let time = self.timer.timeout(Phase::Request);
            let last = self.h2.highest_stream();
            let bodies = self.waits.bodies.get_or_insert_with(|| {
                let timer = Timer::new(time);
                Box::new(Bodies { timer, last })
            });
            if Pin::new(&mut bodies.timer).poll(context).is_pending() {
                return;
            }
            self.h2.reset_unfinished(bodies.last);
            self.waits.bodies = None;
        }
        self.waits.bodies = None;
    }

    /// Starts the timeout of what the connection waits for.
    pub(super) fn wait(&mut self, has_progress: bool, now: Instant) -> Result<(), Ending> {
        if has_progress {
            self.waits.progress_at = now;
        }
        let phase = self.next_phase();
        if self.h2.is_blocked_by_peer() {
            // They are read again when the peer takes more.
            self.forget_fetched();
        }
        if phase != self.waits.phase || has_progress {
            self.waits.phase = phase;
            self.enter(phase, now)?;
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase, now: Instant) -> Result<(), Ending> {
        // Bytes that wait for the socket have their own time.
        if self.flush.is_some() {
            return Ok(());
        }
        if phase == Phase::Idle {
            self.h2.shrink();
        }
        // A request begins with its first byte. Whatever else arrives gives no new time.
        let since = match phase {
            Phase::Request | Phase::AwaitingFirstRequest => now,
            _ => self.waits.progress_at,
        };
        self.timer.enter_at(phase, since);
        let is_late = now.saturating_duration_since(since) > self.timer.timeout(phase);
        if is_late && matches!(phase, Phase::Idle | Phase::Window) {
            return Err(self.end_in_order());
        }
        Ok(())
    }

    fn next_phase(&self) -> Phase {
        let is_midway = self.h2.is_midway() && !self.waits.input_ended;
        match () {
            () if self.flush.is_some() => Phase::Send,
            () if is_midway && self.requests == 0 => Phase::AwaitingFirstRequest,
            () if is_midway => Phase::Request,
            () if !self.works.is_empty() => Phase::Transfer,
            () if self.h2.open_streams() > 0 => Phase::Window,
            () if self.h2.is_going_away() => Phase::Linger,
            () => Phase::Idle,
        }
    }

    fn forget_fetched(&mut self) {
        for (_, stream) in self.h2.states_mut() {
            if let Stream::Sending(sending) = stream {
                sending.body.forget_fetched();
            }
        }
    }

    /// The client sends no more, or its time is over. It gets the responses to what it has sent, as
    /// far as its windows are open.
    pub(super) fn end_of_input(&mut self) -> Result<(), Ending> {
        if self.timer.expired() {
            return Err(self.end_in_order());
        }
        let is_sent = self.flush.is_none() && self.context.scratch.borrow().frames.is_empty();
        if is_sent && self.h2.open_streams() == 0 {
            return Err(Ending::Gone);
        }
        self.waits.input_ended = true;
        self.h2.go_away();
        self.h2.finish_go_away();
        Ok(())
    }

    /// Tells the client which streams end here.
    fn end_in_order(&mut self) -> Ending {
        self.h2.cancel_all();
        self.h2.go_away();
        self.h2.finish_go_away();
        Ending::Close
    }

    /// Fails if the connection was cut off, which its input does not say any more.
    pub(super) fn check_time(&self) -> Result<(), Ending> {
        if self.timer.expired() {
            Err(Ending::Gone)
        } else {
            Ok(())
        }
    }

    /// Whether all was sent, and the client knows that there is no more.
    pub(super) fn is_over(&self) -> bool {
        self.h2.is_finished() && self.flush.is_none()
    }

    /// How to end when [`Connection::is_over`].
    pub(super) fn last_ending(&self) -> Ending {
        if self.waits.input_ended {
            Ending::Close
        } else {
            Ending::Linger
        }
    }
}
