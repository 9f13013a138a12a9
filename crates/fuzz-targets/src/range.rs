//! Range: what is sent lies within the file, once, and is asked for again by its own ends.

use std::ops::Range;

use tidegate_http::{
    FieldBlock, Method, Multipart, RangeLimits, Ranges, Validators, decimal, first_byte,
    push_content_range, ranges,
};

use crate::request::{is_value, line, request};

const LIMITS: [RangeLimits; 2] = [
    RangeLimits {
        ascending: 1024,
        unordered: 16,
    },
    RangeLimits {
        ascending: 3,
        unordered: 2,
    },
];

/// `data` is the length of a file in decimal, a line feed, and a Range.
pub(crate) fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let len = parts.next().and_then(decimal);
    let (Some(len), Some(value)) = (len, parts.next()) else {
        return;
    };
    // No file is longer.
    if len > i64::MAX as u64 || !is_value(value) {
        return;
    }
    let lines = line("Range", value);
    for limits in LIMITS {
        let found = of(&lines, len, limits);
        check_ranges(&found, len, limits);
    }
    let head = request(Method::Head, &lines);
    let validators = Validators::default();
    assert_eq!(ranges(&head, &validators, len, LIMITS[0]), Ranges::Whole);
}

fn of(lines: &[u8], len: u64, limits: RangeLimits) -> Ranges {
    let request = request(Method::Get, lines);
    ranges(&request, &Validators::default(), len, limits)
}

fn check_ranges(found: &Ranges, len: u64, limits: RangeLimits) {
    match found {
        Ranges::Whole => {}
        Ranges::Unsatisfiable => assert!(len > 0),
        Ranges::One(range) => {
            check_within(range, len);
            check_content_range(range, len);
            check_again(std::slice::from_ref(range), found, len, limits);
        }
        Ranges::Many(many) => {
            assert!(many.len() >= 2 && many.len() <= limits.ascending);
            for range in many {
                check_within(range, len);
            }
            check_apart(many);
            check_multipart(many, len);
            check_again(many, found, len, limits);
        }
    }
}

fn check_within(range: &Range<u64>, len: u64) {
    assert!(range.start < range.end && range.end <= len, "{range:?}");
}

/// No byte is sent twice.
fn check_apart(many: &[Range<u64>]) {
    let mut sorted = many.to_vec();
    sorted.sort_by_key(|range| range.start);
    assert!(sorted.is_sorted_by(|before, range| before.end <= range.start));
}

/// A request for exactly these ranges gets them.
fn check_again(many: &[Range<u64>], found: &Ranges, len: u64, limits: RangeLimits) {
    let specs = many
        .iter()
        .map(|range| format!("{}-{}", range.start, range.end - 1));
    let value = format!("bytes={}", specs.collect::<Vec<_>>().join(","));
    let lines = line("Range", value.as_bytes());
    assert_eq!(of(&lines, len, limits), *found, "{value}");
    assert_eq!(first_byte(&request(Method::Get, &lines)), many[0].start);
}

fn check_content_range(range: &Range<u64>, len: u64) {
    let mut block = FieldBlock::new();
    push_content_range(&mut block, range, len);
    let value = block.lines().first("content-range").unwrap_or_default();
    let text = str::from_utf8(value).unwrap_or_default();
    let numbers: Vec<_> = text.split([' ', '-', '/']).collect();
    let expected = [range.start, range.end - 1, len].map(|number| number.to_string());
    assert_eq!(numbers[0], "bytes");
    assert_eq!(numbers[1..], expected);
}

/// The length that is announced is that of what is sent.
fn check_multipart(many: &[Range<u64>], len: u64) {
    let multipart = Multipart::new(many.to_vec(), len, "text/plain", None, 7);
    assert_eq!(multipart.ranges(), many);
    let mut text = Vec::new();
    for range in many {
        multipart.write_head(range, &mut text);
    }
    multipart.write_end(&mut text);
    let bytes: u64 = many.iter().map(|range| range.end - range.start).sum();
    assert_eq!(multipart.content_length(), text.len() as u64 + bytes);
}
