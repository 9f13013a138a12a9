//! Range requests (RFC 9110, section 14).
//!
//! A server may always ignore Range. It is ignored whenever it is in doubt: a 200 with the whole
//! file is never wrong.

use std::ops::Range;

use crate::conditional::range_still_applies;
use crate::syntax::{list, trim_whitespace};
use crate::{Field, FieldBlock, Method, Request, Validators};

/// The part of a file that a request asks for. Ranges are never empty, and their ends are
/// exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole file: respond with 200.
    Whole,
    /// One range: respond with 206 and [`push_content_range`].
    One(Range<u64>),
    /// At least two that do not overlap, in the order of the request: respond with 206 and a
    /// [`Multipart`](crate::Multipart).
    Many(Vec<Range<u64>>),
    /// No byte of the file: respond with 416 and [`push_unsatisfied_range`].
    Unsatisfiable,
}

/// The limits on the ranges of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLimits {
    /// If each starts at or behind the end of the one before it, inclusive. Clients that know which
    /// parts of a file they lack ask in this way.
    pub ascending: usize,
    /// If some overlap or go back, inclusive (RFC 9110, section 14.2, on denial of service). It
    /// never allows more than `ascending`.
    pub unordered: usize,
}

/// The ranges of a representation of `len` bytes that a request asks for, once
/// [`evaluate`](crate::evaluate) has found its preconditions to hold.
///
/// It is [`Ranges::Whole`] for a method other than GET (section 14.2), a unit other than bytes, a
/// malformed Range, an If-Range that does not hold, more ranges than `limits` allow, ranges longer
/// in all than the file, and an empty file, which has no range. Ranges that overlap are merged
/// (section 15.3.7.2). A number beyond 64 bits counts as the largest.
pub fn ranges(
    request: &Request<'_>,
    validators: &Validators,
    len: u64,
    limits: RangeLimits,
) -> Ranges {
    if !request.fields.has(Field::Range)
        || request.method != Method::Get
        || len == 0
        || !range_still_applies(request.fields, validators)
    {
        return Ranges::Whole;
    }
    let wanted = request.fields.only(Field::Range).and_then(bytes_of);
    match wanted.and_then(|set| satisfiable(set, len, limits)) {
        None => Ranges::Whole,
        Some(ranges) if are_ascending(&ranges) => one_or_many(ranges),
        Some(ranges) => one_or_many(coalesce(ranges)),
    }
}

/// The byte at which the first range of a request starts, as far as that is known without the
/// length; else 0. The range may yet be ignored.
pub fn first_byte(request: &Request<'_>) -> u64 {
    let set = request.fields.only(Field::Range).and_then(bytes_of);
    let first = set.and_then(|set| set.split(|byte| *byte == b'-').next());
    let first = first.and_then(|first| str::from_utf8(first.trim_ascii()).ok());
    first.and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Appends the Content-Range of a 206 with one range of a representation of `len` bytes (RFC 9110,
/// section 14.4). The range must not be empty.
pub fn push_content_range(out: &mut FieldBlock, range: &Range<u64>, len: u64) {
    out.push_line(|line| write_content_range(line, range, len));
}

/// Appends the line of [`push_content_range`] without its CRLF.
pub(crate) fn write_content_range(out: &mut Vec<u8>, range: &Range<u64>, len: u64) {
    debug_assert!(range.start < range.end && range.end <= len, "{range:?}");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"Content-Range: bytes ");
    out.extend_from_slice(digits.format(range.start).as_bytes());
    out.push(b'-');
    out.extend_from_slice(digits.format(range.end - 1).as_bytes());
    out.push(b'/');
    out.extend_from_slice(digits.format(len).as_bytes());
}

/// Appends the Content-Range of a 416: the length of the representation (RFC 9110, section
/// 15.5.17).
pub fn push_unsatisfied_range(out: &mut FieldBlock, len: u64) {
    out.push_line(|line| {
        line.extend_from_slice(b"Content-Range: bytes */");
        line.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    });
}

/// The range set of a Range in bytes. Units are compared without regard to case (section 14.1).
fn bytes_of(value: &[u8]) -> Option<&[u8]> {
    let equals = memchr::memchr(b'=', value)?;
    let is_bytes = value[..equals].eq_ignore_ascii_case(b"bytes");
    is_bytes.then_some(&value[equals + 1..])
}

/// The ranges of a set that overlap the file; `None` if the set is ignored.
fn satisfiable(set: &[u8], len: u64, limits: RangeLimits) -> Option<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut count_max = limits.ascending;
    let mut count = 0;
    let mut bytes = 0_u64;
    for spec in list(set) {
        let range = Spec::parse(spec)?.within(len);
        if let Some(range) = range {
            if ranges.last().is_some_and(|last| range.start < last.end) {
                count_max = count_max.min(limits.unordered);
            }
            bytes = bytes.checked_add(range.end - range.start)?;
            ranges.push(range);
        }
        count += 1;
        if count > count_max {
            return None;
        }
    }
    (count > 0 && bytes <= len).then_some(ranges)
}

/// Whether none overlaps with the one before it or goes back.
fn are_ascending(ranges: &[Range<u64>]) -> bool {
    ranges.is_sorted_by(|before, range| before.end <= range.start)
}

/// One element of a range set (RFC 9110, section 14.1.2).
enum Spec {
    /// From the first to the last byte, inclusive.
    Between(u64, u64),
    /// This many bytes at the end.
    Suffix(u64),
}

impl Spec {
    /// Whitespace around the numbers is accepted, as other servers do: it is not ambiguous.
    fn parse(spec: &[u8]) -> Option<Self> {
        let dash = memchr::memchr(b'-', spec)?;
        let first = trim_whitespace(&spec[..dash]);
        let last = trim_whitespace(&spec[dash + 1..]);
        match (first, last) {
            (b"", last) => Some(Self::Suffix(number(last)?)),
            (first, b"") => Some(Self::Between(number(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The part of the range that lies in a file of `len` bytes, if any does.
    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(len),
            Self::Suffix(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits only; a number beyond 64 bits counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Merges ranges that overlap, at the place of the first of them.
fn coalesce(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut placed: Vec<_> = ranges.into_iter().enumerate().collect();
    placed.sort_by_key(|(_, range)| range.start);
    placed.dedup_by(|(place, range), (first_place, first)| {
        let overlaps = range.start < first.end;
        if overlaps {
            first.end = first.end.max(range.end);
            *first_place = *place.min(first_place);
        }
        overlaps
    });
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, range)| range).collect()
}

fn one_or_many(mut ranges: Vec<Range<u64>>) -> Ranges {
    match ranges.len() {
        0 => Ranges::Unsatisfiable,
        1 => Ranges::One(ranges.swap_remove(0)),
        _ => Ranges::Many(ranges),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{example, pushed, with_get, with_request};

    const LIMITS: RangeLimits = RangeLimits {
        ascending: 1024,
        unordered: 16,
    };

    fn of(value: &str, len: u64) -> Ranges {
        with_get(&format!("Range: {value}\r\n"), |request| {
            ranges(request, &example(), len, LIMITS)
        })
    }

    #[test]
    fn satisfiable_ranges() {
        use Ranges::{Many, One};
        let max = "18446744073709551615";
        #[rustfmt::skip] // one row a line
        let cases = [
            ("bytes=0-4", One(0..5), "14.1.2: both ends are inclusive"),
            ("bytes=2-", One(2..11), "14.1.2: to the end"),
            ("bytes=-5", One(6..11), "14.1.2: the last bytes"),
            ("bytes=3-7", One(3..8), "14.1.2: in the middle"),
            ("bytes=5-5", One(5..6), "14.1.2: one byte"),
            ("bytes=0-10", One(0..11), "14.1.2: all of it"),
            ("bytes=0-", One(0..11), "14.1.2: all of it, as players ask"),
            ("bytes=0-11", One(0..11), "14.1.2: a last position behind the end"),
            ("bytes=5-1000", One(5..11), "14.1.2: far behind the end"),
            ("bytes=10-11", One(10..11), "14.1.2: across the end"),
            ("bytes=-1000", One(0..11), "14.1.2: a suffix longer than the file"),
            ("BYTES=0-4", One(0..5), "14.1: a unit in capitals"),
            ("bytes=000-004", One(0..5), "14.1.1: leading zeros"),
            (&format!("bytes=1-{max}"), One(1..11), "14.1.2: the largest number of 64 bits"),
            (&format!("bytes=1-{max}9"), One(1..11), "14.1.2: a larger one"),
            (&format!("bytes=-{max}9"), One(0..11), "14.1.2: a suffix that large"),
            ("bytes=0-1,5-8", Many(vec![0..2, 5..9]), "14.1.2: two"),
            ("bytes=0-0,-2", Many(vec![0..1, 9..11]), "14.1.2: the first and the last bytes"),
            ("bytes=0-1,5-", Many(vec![0..2, 5..11]), "14.1.2: the second to the end"),
            ("bytes=5-8,0-1", Many(vec![5..9, 0..2]), "15.3.7.2: in the order they were asked for"),
            ("bytes=0-1,2-3", Many(vec![0..2, 2..4]), "15.3.7.2: side by side is no overlap"),
            ("bytes=4-5,0-1,2-3", Many(vec![4..6, 0..2, 2..4]), "nor where they go back"),
            ("bytes= 0-1 ,\t5-8,,", Many(vec![0..2, 5..9]), "5.6.1: whitespace and empty elements"),
            ("bytes=   1 -2   ,  4- 5, 7 - 8 , ,,", Many(vec![1..3, 4..6, 7..9]), "let pass, as by others"),
            ("bytes=0-4,90-99", One(0..5), "15.3.7: what is not there is left out"),
            ("bytes=15-,0-5", One(0..6), "15.3.7: wherever it stands"),
            ("bytes=0-4,3-6", One(0..7), "15.3.7.2: an overlap"),
            ("bytes=3-6,0-4", One(0..7), "15.3.7.2: in any order"),
            ("bytes=0-6,2-3", One(0..7), "15.3.7.2: one within another"),
            ("bytes=0-2,0-2", One(0..3), "15.3.7.2: twice the same"),
            ("bytes=8-9,0-1,9-10", Many(vec![8..11, 0..2]), "15.3.7.2: at the place of the first"),
            ("bytes=0-1,4-5,1-4", One(0..6), "15.3.7.2: one that joins two others"),
        ];
        for (value, expected, why) in cases {
            assert_eq!(of(value, 11), expected, "{value:?}: {why}");
        }
    }

    #[test]
    fn unsatisfiable_ranges() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("bytes=11-", "14.1.2: from behind the end"),
            ("bytes=11-12", "14.1.2: behind the end"),
            ("bytes=100-1000", "14.1.2: far behind it"),
            ("bytes=18446744073709551616-", "14.1.2: beyond 64 bits"),
            ("bytes=99999999999999999999999-99999999999999999999999", "14.1.2: both beyond 64 bits"),
            ("bytes=-0", "14.1.2: no bytes at the end"),
            ("bytes=11-,20-30,-0", "14.1.2: all of several"),
        ];
        for (value, why) in cases {
            assert_eq!(of(value, 11), Ranges::Unsatisfiable, "{value:?}: {why}");
        }
    }

    #[test]
    fn ignored_ranges() {
        #[rustfmt::skip] // one row a line
        let cases = [
            ("", "14.2: empty"),
            ("bytes", "14.1.1: no ="),
            ("bytes=", "14.1.1: no range"),
            ("bytes=,", "14.1.1: no range but empty elements"),
            ("bytes= , ,", "14.1.1: and whitespace"),
            ("bytes=-", "14.1.1: no number"),
            ("bytes=7", "14.1.1: no dash"),
            ("bytes=5-4", "14.1.1: the last before the first"),
            ("bytes=0-2,5-4", "14.1.1: a part of it is malformed"),
            ("bytes=5-4,0-2", "14.1.1: the first part is"),
            ("bytes=--5", "14.1.1: two dashes"),
            ("bytes=1-2-3", "14.1.1: two dashes"),
            ("bytes=A-", "14.1.1: no digits"),
            ("bytes=5-Z", "14.1.1: no digits"),
            ("bytes=0x01-0x02", "14.1.1: hexadecimal"),
            ("bytes=+1-2", "14.1.1: a sign"),
            ("bytes=1.0-2", "14.1.1: a fraction"),
            ("bytes=1 1-12", "14.1.1: a space within a number"),
            ("bytes=\u{661}-", "14.1.1: a digit that is not ASCII"),
            ("bytes =0-4", "14.1.1: whitespace before ="),
            ("bytes:0-4", "14.1.1: another delimiter"),
            ("0-4", "14.1.1: no unit"),
            ("=0-4", "14.1.1: an empty unit"),
            ("items=0-4", "14.2: another unit"),
            ("bytesx=0-4", "14.2: another unit"),
            ("bytes=0-,1-,2-,3-,4-", "14.2: longer in all than the file"),
            ("bytes=0-10,0-0", "14.2: by a byte"),
            ("bytes=0-4\r\nRange: bytes=5-6", "5.3: two lines"),
            ("bytes=0-4\r\nIf-Range: \"x\"", "13.1.5: the client has another version"),
        ];
        for (value, why) in cases {
            assert_eq!(of(value, 11), Ranges::Whole, "{value:?}: {why}");
        }
    }

    #[test]
    fn requests_that_have_no_ranges() {
        let with = |method: &str, fields: &str, len| {
            with_request(method, fields, |request| {
                ranges(request, &example(), len, LIMITS)
            })
        };
        assert_eq!(with("GET", "", 11), Ranges::Whole, "no Range");
        let range = "Range: bytes=0-4\r\n";
        assert_eq!(
            with("HEAD", range, 11),
            Ranges::Whole,
            "14.2: for GET alone"
        );
        for range in [range, "Range: bytes=-5\r\n", "Range: bytes=7-\r\n"] {
            assert_eq!(
                with("GET", range, 0),
                Ranges::Whole,
                "an empty file has none"
            );
        }
    }

    #[test]
    fn ranges_are_bounded() {
        type Of = fn(usize) -> String;
        let ascending: Of = |at| format!("{0}-{0}", at * 2);
        let adjacent: Of = |at| format!("{at}-{at}");
        let descending: Of = |at| format!("{0}-{0}", 100_000 - at);
        let same: Of = |_| "7-7".to_owned();
        // The second one goes back, and all behind it ascend.
        let back_once: Of = |at| match at {
            1 => "3-3".to_owned(),
            at => format!("{0}-{0}", 10 + at),
        };
        let absent: Of = |_| "999999999-".to_owned();
        #[rustfmt::skip] // one row a line
        let cases = [
            (ascending, 20, 1024, true, "as many as zsync asks for"),
            (ascending, 1024, 1024, true, "exactly the most"),
            (ascending, 1025, 1024, false, "one more"),
            (adjacent, 1024, 1024, true, "side by side is neither overlap nor back"),
            (absent, 1024, 1024, true, "those that are not there"),
            (absent, 1025, 1024, false, "count too"),
            (descending, 16, 1024, true, "exactly the most that go back"),
            (descending, 17, 1024, false, "one more"),
            (same, 16, 1024, true, "exactly the most that overlap"),
            (same, 17, 1024, false, "one more"),
            (same, 500, 1024, false, "a bomb"),
            (back_once, 16, 1024, true, "one that goes back"),
            (back_once, 17, 1024, false, "counts for all"),
            (ascending, 1, 1, true, "one is the most"),
            (ascending, 2, 1, false, "and these are two"),
            (same, 3, 2, false, "the limit of ascending ones is that of all"),
            (ascending, 1, 0, false, "no ranges at all"),
        ];
        for (spec, count, ascending, is_answered, why) in cases {
            let specs: Vec<_> = (0..count).map(spec).collect();
            let value = format!("Range: bytes={}\r\n", specs.join(","));
            let limits = RangeLimits {
                ascending,
                ..LIMITS
            };
            let ranges = with_get(&value, |request| {
                ranges(request, &example(), 1_000_000, limits)
            });
            assert_eq!(ranges != Ranges::Whole, is_answered, "{count}: {why}");
        }
    }

    #[test]
    fn the_largest_file() {
        let len = u64::MAX;
        let cases = [
            ("bytes=0-", Ranges::One(0..len)),
            ("bytes=-1", Ranges::One(len - 1..len)),
            ("bytes=18446744073709551614-", Ranges::One(len - 1..len)),
            ("bytes=18446744073709551615-", Ranges::Unsatisfiable),
            ("bytes=0-,1-", Ranges::Whole), // the sum is beyond 64 bits
        ];
        for (value, expected) in cases {
            assert_eq!(of(value, len), expected, "{value:?}");
        }
    }

    #[test]
    fn content_range_lines() {
        let cases = [
            (0..5, 11, "Content-Range: bytes 0-4/11\r\n"), // 14.4
            (10..11, 11, "Content-Range: bytes 10-10/11\r\n"),
            (
                0..u64::MAX,
                u64::MAX,
                "Content-Range: bytes 0-18446744073709551614/18446744073709551615\r\n",
            ),
        ];
        for (range, len, expected) in cases {
            assert_eq!(pushed(|out| push_content_range(out, &range, len)), expected);
        }
        let unsatisfied = pushed(|out| push_unsatisfied_range(out, 11));
        assert_eq!(unsatisfied, "Content-Range: bytes */11\r\n"); // 15.5.17
    }

    fn tricky_ranges() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "bytes=",
            "0-4",
            "-2",
            "5-",
            "7-9",
            ",",
            ",",
            "-",
            "0",
            "9",
            "18446744073709551616",
            " ",
            "=",
            "x",
        ]);
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    /// The bytes that are in any of the ranges.
    fn covered(ranges: &[Range<u64>], len: u64) -> Vec<bool> {
        let is_in = |at: u64| ranges.iter().any(|range| range.contains(&at));
        (0..len).map(is_in).collect()
    }

    proptest! {
        #[test]
        fn ranges_keep_their_promise(value in tricky_ranges(), len in 0..30_u64) {
            match of(&value, len) {
                Ranges::Whole | Ranges::Unsatisfiable => {}
                Ranges::One(range) => prop_assert!(range.start < range.end && range.end <= len),
                Ranges::Many(ranges) => {
                    prop_assert!(ranges.len() > 1);
                    let count = covered(&ranges, len).iter().filter(|is_in| **is_in).count();
                    let sum: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                    prop_assert_eq!(count as u64, sum, "no byte twice");
                    prop_assert!(ranges.iter().all(|range| !range.is_empty() && range.end <= len));
                }
            }
        }

        #[test]
        fn coalescing_keeps_the_bytes(
            starts in prop::collection::vec((0..40_u64, 1..9_u64), 0..12),
        ) {
            let ranges: Vec<_> = starts.iter().map(|(start, len)| *start..start + len).collect();
            let apart = coalesce(ranges.clone());
            prop_assert_eq!(covered(&apart, 50), covered(&ranges, 50));
            for (index, range) in apart.iter().enumerate() {
                let others = &apart[index + 1..];
                prop_assert!(others.iter().all(|other| other.start >= range.end || other.end <= range.start));
            }
        }
    }
}
