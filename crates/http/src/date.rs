//! Dates as HTTP writes them.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Seconds from 1970 to the last one that four digits of a year can tell.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A point in time as an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
///
/// It is formatted once and copied into each response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// Formats `time`, fractions of a second cut off. A time before 1970 or
    /// after 9999 becomes the nearest that can be written: files carry such times.
    pub fn new(time: SystemTime) -> Self {
        let seconds = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().min(SECONDS_MAX));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut bytes = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let written = write!(&mut bytes[..], "{}", httpdate::HttpDate::from(time));
        debug_assert!(written.is_ok(), "an IMF-fixdate has 29 bytes");
        Self(bytes)
    }

    /// The 29 bytes of the date.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> HttpDate {
        HttpDate::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn dates_are_imf_fixdates() {
        let cases: &[(HttpDate, &[u8])] = &[
            (at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT"), // the example of RFC 9110, 5.6.7
            (at(0), b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (at(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (at(SECONDS_MAX), b"Fri, 31 Dec 9999 23:59:59 GMT"),
            (at(SECONDS_MAX + 1), b"Fri, 31 Dec 9999 23:59:59 GMT"), // no fifth digit
        ];
        for (date, expected) in cases {
            assert_eq!(date.as_bytes(), *expected, "{date:?}");
        }
    }

    #[test]
    fn a_time_before_1970_is_the_epoch() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(HttpDate::new(time), at(0));
    }
}
