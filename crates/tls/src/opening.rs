//! Short records at the start of a connection.
//!
//! A client can decrypt a record when all of it is there. A connection begins with a congestion window of ten
//! segments (RFC 6928), which is less than a full record: the client would have most of the record in
//! hand and wait a round trip for the rest. So what does not fit into that window begins in short
//! records. The same goes for a connection that was silent for a while, since its window is closed
//! again (RFC 5681, section 4.1; `net.ipv4.tcp_slow_start_after_idle`).

use std::time::{Duration, Instant};

/// Bytes of data in a short record: three packets, so that little of what arrives has to wait, and few records
/// more than without.
pub const SHORT_RECORD_BYTES: u32 = 4 << 10;

/// What the first window has room for: ten segments of a path for Ethernet's packets.
const WINDOW_BYTES: u32 = 10 * 1_448;

/// Data after which records are full: what is sent later does not arrive in the first window.
const OPENING_BYTES: u32 = 16 << 10;

/// Short records of one opening, the most that there can be.
pub(crate) const SHORT_RECORDS_MAX: usize = (OPENING_BYTES / SHORT_RECORD_BYTES) as usize;

/// Silence after which the window is closed again. The kernel waits for its retransmission timeout, which is
/// shorter on all but the slowest paths.
const SILENCE: Duration = Duration::from_secs(1);

/// How far a connection is from its opening.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Bytes since then, [`OPENING_BYTES`] at the most.
    sent: u32,
    last: Instant,
}

impl Opening {
    pub(crate) fn new(now: Instant) -> Self {
        Self { sent: 0, last: now }
    }

    /// Takes note of `len` bytes of data that are about to be sent: how many of them, from the first on, belong
    /// into short records.
    pub(crate) fn short(&mut self, len: u64, now: Instant) -> u32 {
        if now.saturating_duration_since(self.last) >= SILENCE {
            self.sent = 0;
        }
        self.last = now;
        let sent = self.sent;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.sent = sent.saturating_add(len).min(OPENING_BYTES);
        if sent.saturating_add(len) <= WINDOW_BYTES {
            0
        } else {
            // All of them whole, so that the full ones behind them end where the data does.
            len.min((OPENING_BYTES - sent).next_multiple_of(SHORT_RECORD_BYTES))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_the_window_is_not_cut() {
        let now = Instant::now();
        let mut opening = Opening::new(now);
        assert_eq!(opening.short(200, now), 0);
        assert_eq!(opening.short(u64::from(WINDOW_BYTES) - 200, now), 0);
        assert_eq!(opening.short(1, now), 1);
    }

    #[test]
    fn only_the_first_of_much_is_short() {
        let now = Instant::now();
        let mut opening = Opening::new(now);
        assert_eq!(opening.short(1000, now), 0);
        assert_eq!(opening.short(1 << 20, now), OPENING_BYTES);
        assert_eq!(opening.short(1 << 20, now), 0);
        assert_eq!(opening.short(u64::MAX, now), 0);
    }

    #[test]
    fn silence_closes_the_window() {
        let mut now = Instant::now();
        let mut opening = Opening::new(now);
        opening.short(1 << 20, now);
        now += SILENCE / 2;
        assert_eq!(opening.short(1 << 20, now), 0);
        now += SILENCE;
        assert_eq!(opening.short(1 << 20, now), OPENING_BYTES);
    }
}
