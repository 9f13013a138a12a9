//! Time stamps as AWS writes them: ISO 8601 in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;
/// The last second of the year 9999: later ones have no time stamp of this format.
const SECONDS_MAX: u64 = 253_402_300_799;

/// The basic format, as in x-amz-date: `20130524T000000Z`. A time before 1970 is written as 1970,
/// one after 9999 as the end of 9999.
pub(crate) fn basic(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(SECONDS_MAX);
    let (year, month, day) = date_of(seconds / SECONDS_PER_DAY);
    let second = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Parses the extended format: `2013-05-24T00:00:00Z`, with a fraction of the second, which is
/// dropped, or without, and with an offset like `+01:00` instead of the Z. `None` for anything
/// else, and for a time before 1970.
pub(crate) fn parse_extended(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let [hour, minute, second] = numbers(whole_seconds(time)?, ':', [2, 2, 2])?;
    // A leap second is 60.
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = i64::try_from(days_before(year, month, day)?).ok()?;
    let seconds = days * SECONDS_PER_DAY as i64 + (hour * 3600 + minute * 60 + second) as i64;
    let seconds = u64::try_from(seconds - offset(zone)?).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Three numbers of exactly so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The time of day without its fraction.
fn whole_seconds(time: &str) -> Option<&str> {
    let Some((whole, fraction)) = time.split_once('.') else {
        return Some(time);
    };
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction.then_some(whole)
}

/// The seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let [hours, minutes, _] = numbers(&format!("{zone}:00"), ':', [2, 2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i64)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970-01-01 to a date; `None` before that.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let years_before = year.checked_sub(1970)?;
    let last = year - 1;
    let leap_days = last / 4 - last / 100 + last / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    Some(years_before * 365 + leap_days + months + day - 1)
}

/// The year, month and day that are so many days after 1970-01-01 (Howard Hinnant's
/// `civil_from_days`: years begin in March there, so that the leap day is the last).
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn writes_the_basic_format() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_799, "20000229T235959Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (SECONDS_MAX, "99991231T235959Z"),
            (SECONDS_MAX + 1, "99991231T235959Z"),
        ] {
            assert_eq!(basic(at(seconds)), expected);
        }
        assert_eq!(
            basic(UNIX_EPOCH - Duration::from_secs(1)),
            "19700101T000000Z"
        );
    }

    #[test]
    fn parses_the_extended_format() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2013-05-24T00:00:00Z", Some(1_369_353_600)),
            ("2013-05-24T00:00:00.123Z", Some(1_369_353_600)),
            ("2013-05-24t00:00:00z", Some(1_369_353_600)),
            ("2013-05-24T02:00:00+02:00", Some(1_369_353_600)),
            ("2013-05-23T18:30:00-05:30", Some(1_369_353_600)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("9999-12-31T23:59:59Z", Some(SECONDS_MAX)),
            ("2023-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("2013-13-24T00:00:00Z", None),
            ("2013-00-24T00:00:00Z", None),
            ("2013-05-00T00:00:00Z", None),
            ("2013-05-24T24:00:00Z", None),
            ("2013-05-24T00:60:00Z", None),
            ("2013-05-24T00:00:61Z", None),
            ("2013-05-24T00:00:00.Z", None),
            ("2013-05-24T00:00:00", None),
            ("2013-05-24T00:00:00Zulu", None),
            ("2013-05-24T00:00:00+0200", None),
            ("2013-5-24T00:00:00Z", None),
            ("+013-05-24T00:00:00Z", None),
            ("2013-05-24 00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_extended(text), expected.map(at), "{text}");
        }
    }

    #[test]
    fn every_day_is_parsed_as_it_was_written() {
        for day in 0..=SECONDS_MAX / SECONDS_PER_DAY {
            let (year, month, of_month) = date_of(day);
            assert_eq!(days_before(year, month, of_month), Some(day));
        }
    }
}
