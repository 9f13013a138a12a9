//! Preconditions: none that is not there decides, and what this server names is known to it again.

use tidegate_http::{
    Coding, ETag, Field, Fields, Method, Precondition, RangeLimits, Ranges, Validators, evaluate,
    ranges,
};

use crate::request::{is_value, line, request};

/// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, section 5.6.7.
const MODIFIED: u64 = 784_111_777;

/// The last second that a date can have: the end of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// The bytes that a coding may add to a tag.
const CODING_BYTES_MAX: usize = 4;

/// The most bytes of a tag.
const TAG_BYTES_MAX: usize = 55;

/// `data` is field lines.
pub(crate) fn check(data: &[u8]) {
    let fields = Fields::of_block(data);
    for validators in validators() {
        let result = evaluate(&request(Method::Get, data), &validators);
        assert_eq!(result, evaluate(&request(Method::Head, data), &validators));
        check_result(result, fields);
        check_if_range(data, &validators);
    }
    for line in data.split(|byte| *byte == b'\n') {
        check_tag(line);
        if let Some(seconds) = line.first_chunk() {
            check_date(u64::from_be_bytes(*seconds) % SECONDS_MAX);
        }
    }
}

fn validators() -> [Validators; 3] {
    let known = Validators {
        etag: ETag::parse(b"\"ae1b981bc490a00-b\""),
        modified: Some(MODIFIED),
        is_date_strong: true,
    };
    let without_tag = Validators {
        etag: None,
        is_date_strong: false,
        ..known
    };
    [known, without_tag, Validators::default()]
}

/// A result has a field that it comes from.
fn check_result(result: Precondition, fields: Fields<'_>) {
    let has = |all: [Field; 2]| all.iter().any(|field| fields.has(*field));
    match result {
        Precondition::Met => assert!(!fields.named("if-none-match").any(|line| line == b"*")),
        Precondition::NotModified => assert!(has([Field::IfNoneMatch, Field::IfModifiedSince])),
        Precondition::Failed => assert!(has([Field::IfMatch, Field::IfUnmodifiedSince])),
    }
}

/// An If-Range that does not hold gets the whole file, and one that is not there changes nothing.
fn check_if_range(lines: &[u8], validators: &Validators) {
    let limits = RangeLimits {
        ascending: 8,
        unordered: 8,
    };
    let found = ranges(&request(Method::Get, lines), validators, 100, limits);
    let fields = Fields::of_block(lines);
    if validators.etag.is_none() && !validators.is_date_strong && fields.has(Field::IfRange) {
        assert_eq!(found, Ranges::Whole);
    }
}

/// A tag is the same when it comes back, and another with a coding.
fn check_tag(text: &[u8]) {
    let Some(etag) = ETag::parse(text) else {
        return;
    };
    assert_eq!(etag.as_bytes(), text);
    assert!(is_value(text));
    let validators = Validators {
        etag: Some(etag),
        ..Validators::default()
    };
    let weak = [b"W/", text].concat();
    let rows = [
        ("If-None-Match", text, Precondition::NotModified),
        ("If-None-Match", &weak, Precondition::NotModified),
        ("If-Match", text, Precondition::Met),
        ("If-Match", &weak, Precondition::Failed),
    ];
    for (name, value, expected) in rows {
        let lines = line(name, value);
        assert_eq!(
            evaluate(&request(Method::Get, &lines), &validators),
            expected
        );
    }
    if text.len() <= TAG_BYTES_MAX - CODING_BYTES_MAX {
        let coded = Coding::ALL.map(|coding| etag.with_coding(coding));
        assert!(coded.iter().all(|tag| *tag != etag));
        assert!(
            coded
                .iter()
                .all(|tag| ETag::parse(tag.as_bytes()) == Some(*tag))
        );
    }
}

/// A date is the same when it comes back, to the second.
fn check_date(seconds: u64) {
    let at = |seconds: u64| Validators {
        modified: Some(seconds),
        ..Validators::default()
    };
    let Some(date) = at(seconds).last_modified() else {
        return;
    };
    let lines = line("If-Modified-Since", date.as_bytes());
    let request = request(Method::Get, &lines);
    assert_eq!(evaluate(&request, &at(seconds)), Precondition::NotModified);
    assert_eq!(evaluate(&request, &at(seconds + 1)), Precondition::Met);
}
