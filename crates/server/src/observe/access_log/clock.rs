//! The time of day of lines, from the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_http::HttpDate;

/// How long the offset between the two clocks is used, so that a clock that is set is followed.
const OFFSET_VALID: Duration = Duration::from_secs(1);

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// Tells the time of day for an [`Instant`]. It reads the system's clock once a second.
pub(super) struct LogClock {
    /// The same moment on both clocks.
    offset: (Instant, Duration),
    since_epoch: Duration,
    local: [u8; 26],
    iso: [u8; 25],
}

impl LogClock {
    pub(super) fn new() -> Self {
        let mut clock = Self {
            offset: offset(),
            since_epoch: Duration::ZERO,
            local: *b"01/Jan/1970:00:00:00 +0000",
            iso: *b"1970-01-01T00:00:00+00:00",
        };
        clock.set(clock.offset.0);
        clock
    }

    /// Sets the time that the other functions tell.
    pub(super) fn set(&mut self, now: Instant) {
        let mut later = now.checked_duration_since(self.offset.0);
        if later.is_some_and(|later| later >= OFFSET_VALID) {
            self.offset = offset();
            later = now.checked_duration_since(self.offset.0);
        }
        let (instant, since_epoch) = self.offset;
        let since_epoch = match later {
            Some(later) => since_epoch + later,
            None => since_epoch.saturating_sub(instant - now),
        };
        if since_epoch.as_secs() != self.since_epoch.as_secs() {
            self.format(since_epoch.as_secs());
        }
        self.since_epoch = since_epoch;
    }

    fn format(&mut self, seconds: u64) {
        // "Sun, 06 Nov 1994 08:49:37 GMT"
        let date = HttpDate::of_seconds(seconds);
        let date = date.as_bytes();
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        self.local[..2].copy_from_slice(day);
        self.local[3..6].copy_from_slice(month);
        self.local[7..11].copy_from_slice(year);
        self.local[12..20].copy_from_slice(time);
        let number = MONTHS.chunks(3).position(|known| known == month);
        let number = number.unwrap_or_default() as u8 + 1;
        self.iso[..4].copy_from_slice(year);
        self.iso[5..7].copy_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
        self.iso[8..10].copy_from_slice(day);
        self.iso[11..19].copy_from_slice(time);
    }

    /// `10/Oct/2000:13:55:36 +0000`
    pub(super) fn local(&self) -> &[u8] {
        &self.local
    }

    /// `2000-10-10T13:55:36+00:00`
    pub(super) fn iso(&self) -> &[u8] {
        &self.iso
    }

    /// Since 1970.
    pub(super) fn since_epoch(&self) -> Duration {
        self.since_epoch
    }
}

fn offset() -> (Instant, Duration) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), since_epoch.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_of_the_same_second() {
        let mut clock = LogClock::new();
        clock.format(784_111_777);
        assert_eq!(clock.local(), b"06/Nov/1994:08:49:37 +0000");
        assert_eq!(clock.iso(), b"1994-11-06T08:49:37+00:00");
        clock.format(951_782_400);
        assert_eq!(clock.iso(), b"2000-02-29T00:00:00+00:00");
    }

    #[test]
    fn it_goes_with_the_monotonic_clock() {
        let mut clock = LogClock::new();
        let (start, epoch) = clock.offset;
        clock.set(start + Duration::from_millis(250));
        assert_eq!(clock.since_epoch(), epoch + Duration::from_millis(250));
        let [later, before] = [start + Duration::from_millis(1), start];
        clock.offset = (later, epoch + Duration::from_millis(1));
        clock.set(before);
        assert_eq!(clock.since_epoch(), epoch);
        let now = UNIX_EPOCH.elapsed().unwrap();
        clock.set(Instant::now() + Duration::from_secs(5));
        assert!(clock.since_epoch() >= now + Duration::from_secs(5));
    }
}
