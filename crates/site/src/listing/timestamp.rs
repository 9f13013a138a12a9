//! Times in listings.

use std::time::{Duration, SystemTime};

/// Seconds since 1970 as `2026-11-22T17:00:00Z` (RFC 3339), clamped to the years 1970 to 9999.
pub(crate) fn timestamp(seconds: i64) -> String {
    /// The end of the year 9999.
    const SECONDS_MAX: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).unwrap_or(0).min(SECONDS_MAX);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_be_told_are_the_nearest() {
        assert_eq!(timestamp(-1), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
