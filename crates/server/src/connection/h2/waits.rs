//! The times of an HTTP/2 connection.

use std::time::Instant;

use tidegate_uring::executor::Timer;

use crate::timeouts::Phase;

/// What a connection waits for.
pub(super) struct Waits {
    pub(super) phase: Phase,
    /// When a request or work was last done, or bytes of a response sent. Other frames prolong
    /// nothing.
    pub(super) progress_at: Instant,
    /// When the first GOAWAY was sent.
    pub(super) went_away_at: Option<Instant>,
    /// Whether the client sends no more. It may still receive.
    pub(super) input_ended: bool,
    /// Whether the task is woken when connections are to end.
    pub(super) is_registered: bool,
    pub(super) bodies: Option<Box<Bodies>>,
}

/// Request bodies that are not whole.
pub(super) struct Bodies {
    pub(super) timer: Timer,
    /// The stream of the newest one when the time began.
    pub(super) last: u32,
}

impl Waits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::AwaitingFirstRequest,
            progress_at: now,
            went_away_at: None,
            input_ended: false,
            is_registered: false,
            bodies: None,
        }
    }

    /// Bytes wait for the socket, which has a time of its own: another begins when they are sent.
    pub(super) fn socket_is_full(&mut self) {
        self.phase = Phase::Send;
    }
}
