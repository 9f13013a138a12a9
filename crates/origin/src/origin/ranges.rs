//! Range and Content-Range of requests to an origin and its responses (RFC 9110, section 14).

use std::ops::Range;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::client::Answer;

/// The value of Range for the bytes of `range`, which is not empty.
pub(super) fn range_value(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// The range and the length of the whole of a 206 (RFC 9110, section 14.4). `None`: it is wrong.
pub(super) fn content_range(answer: &Answer) -> Option<(Range<u64>, u64)> {
    let value = answer.field(&CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (range, len) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let len: u64 = len.trim().parse().ok()?;
    let said: Option<u64> = answer
        .field(&CONTENT_LENGTH)
        .and_then(|len| len.parse().ok());
    let is_consistent =
        first <= last && last < len && said.is_none_or(|said| said == last - first + 1);
    is_consistent.then_some((first..last + 1, len))
}
