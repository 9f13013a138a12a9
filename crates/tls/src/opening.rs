//! Short records at the start of a connection.
//!
//! A client can decrypt a record only when all of it has arrived. A connection begins with a
//! congestion window of ten segments (RFC 6928), less than a full record: the client would have
//! most of a record and wait a round trip for the rest. So data that does not fit into that window
//! begins in short records. The same holds after an idle period, which resets the window (RFC 5681,
//! section 4.1; `net.ipv4.tcp_slow_start_after_idle`).

use std::time::{Duration, Instant};

/// Bytes of data in a short record: three packets, so that little of the received data waits for
/// the rest of its record, and few records are added.
pub const SHORT_RECORD_BYTES: u32 = 4 << 10;

/// Bytes in the first window: ten segments of an Ethernet path.
const WINDOW_BYTES: u32 = 10 * 1_448;

/// Data after which records are full: later data does not arrive in the first window.
const OPENING_BYTES: u32 = 16 << 10;

/// The most short records of one opening.
pub(crate) const SHORT_RECORDS_MAX: usize = (OPENING_BYTES / SHORT_RECORD_BYTES) as usize;

/// Idle time that resets the window. The kernel uses its retransmission timeout, which is shorter
/// on all but the slowest paths.
const SILENCE: Duration = Duration::from_secs(1);

/// Tracks when a connection began, or resumed after an idle period, and the data sent since.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Bytes since then, at most [`OPENING_BYTES`].
    sent: u32,
    last: Instant,
}

impl Opening {
    pub(crate) fn new(now: Instant) -> Self {
        Self { sent: 0, last: now }
    }

    /// Counts `len` bytes of data that are about to be sent. Returns how many of them, from the
    /// first on, belong into short records.
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
            // Whole short records, so that the last full record ends with the data.
            len.min((OPENING_BYTES - sent).next_multiple_of(SHORT_RECORD_BYTES))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_fits_into_the_window_is_not_split() {
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
