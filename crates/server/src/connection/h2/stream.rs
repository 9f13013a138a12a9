//! What a connection keeps for a stream.

use std::time::{Duration, Instant};

use super::abort::Abort;
use crate::respond::body_reader::BodyReader;
use crate::respond::exchange::Exchange;
use crate::respond::lookup::PendingLookup;
use crate::respond::response::{Response, Scheme};

/// The response of a stream, as far as it is.
pub(super) enum Stream {
    /// It is to be looked up.
    Unknown(Box<Unknown>),
    /// A lookup is under way, or a wait for the next bytes of the body. Dropped: it is cancelled.
    Working(#[expect(dead_code, reason = "it is dropped with the stream")] Abort),
    /// Its head waits until the socket takes bytes.
    Prepared(Box<Prepared>),
    Sending(Box<Sending>),
}

/// A request whose response is not in memory.
pub(super) struct Unknown {
    pub(super) pending: Box<PendingLookup>,
    pub(super) scheme: Scheme,
    pub(super) exchange: Exchange,
}

/// A response of which nothing is written.
pub(super) struct Prepared {
    pub(super) response: Response,
    pub(super) exchange: Exchange,
}

/// A response whose head is written.
pub(super) struct Sending {
    pub(super) body: BodyReader,
    pub(super) exchange: Exchange,
    /// `None`: its body is sent as fast as the peer takes it.
    pub(super) pace: Option<Pace>,
}

// With the range of a file, what a stream holds whose window is closed.
const _: () = assert!(size_of::<Stream>() <= 16);
const _: () = assert!(size_of::<Sending>() <= 320);

/// How fast a body is sent. The socket cannot be told, for it has other streams.
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the next bytes are due.
    next: Instant,
    /// The wait for that.
    pub(super) wait: Option<Abort>,
}

/// Pieces of a paced body in a second, at most.
const PIECES_PER_SECOND: u64 = 8;

impl Pace {
    pub(super) fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            next: now,
            wait: None,
        }
    }

    /// The most bytes to send at a time.
    pub(super) fn piece(&self) -> usize {
        let piece = (self.bytes_per_second / PIECES_PER_SECOND).max(1);
        usize::try_from(piece).unwrap_or(usize::MAX)
    }

    /// `bytes` were sent. Returns how long to wait.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next = self.next.max(now) + time;
        self.next.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_over_many_pieces() {
        let start = Instant::now();
        let mut pace = Pace::new(8000, start);
        assert_eq!(pace.piece(), 1000);
        let mut now = start;
        for _ in 0..8 {
            now += pace.sent(1000, now);
        }
        assert_eq!(now - start, Duration::from_secs(1));
        let late = now + Duration::from_secs(5);
        assert_eq!(pace.sent(1000, late), Duration::from_millis(125));
    }
}
