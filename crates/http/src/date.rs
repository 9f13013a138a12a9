//! HTTP dates.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// The last second of the year 9999.
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
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self::of_seconds(since.map_or(0, |since| since.as_secs()))
    }

    /// Formats the time that many seconds after 1970, as [`HttpDate::new`] does.
    pub fn of_seconds(seconds: u64) -> Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(SECONDS_MAX));
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

/// Seconds from 1970 to a date in any of the three formats (RFC 9110, section 5.6.7). `None` if it
/// is malformed, or before 1970: no file served here is that old.
pub(crate) fn parse_seconds(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
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
    fn dates_are_read_in_three_formats() {
        #[rustfmt::skip] // one row a line; RFC 9110, 5.6.7
        let cases: &[(&[u8], Option<u64>, &str)] = &[
            (b"Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777), "IMF-fixdate"),
            (b"Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777), "RFC 850"),
            (b"Sun Nov  6 08:49:37 1994", Some(784_111_777), "asctime"),
            (b"Thu, 01 Jan 1970 00:00:00 GMT", Some(0), "the first second"),
            (b"Fri, 31 Dec 9999 23:59:59 GMT", Some(SECONDS_MAX), "the last second"),
            (b"Wednesday, 06-Nov-24 08:49:37 GMT", Some(1_730_882_977), "a year of this century"),
            (b"Wed, 31 Dec 1969 23:59:59 GMT", None, "before 1970"),
            (b"Mon, 06 Nov 1994 08:49:37 GMT", None, "it was a Sunday"),
            (b"Sun, 06 Nov 1994 08:49:37 UTC", None, "always GMT"),
            (b"Sun, 06 Nov 1994 08:49:37 +0000", None, "no zone"),
            (b"sun, 06 nov 1994 08:49:37 gmt", None, "case-sensitive"),
            (b"Sun, 6 Nov 1994 08:49:37 GMT", None, "one digit"),
            (b"Sun, 06 Nov 1994 08:49 GMT", None, "no seconds"),
            (b"1994-11-06T08:49:37Z", None, "ISO 8601"),
            (b"Sun, 06 Nov 1994 08:49:37 \xff", None, "no text"),
            (b"", None, "empty"),
        ];
        for (value, expected, why) in cases {
            assert_eq!(
                parse_seconds(value),
                *expected,
                "{}: {why}",
                value.escape_ascii()
            );
        }
    }

    #[test]
    fn a_time_before_1970_is_the_epoch() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(HttpDate::new(time), at(0));
    }
}
