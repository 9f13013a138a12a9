//! What the tests of several modules need.

use std::time::{Duration, SystemTime};

use crate::{ETag, Head, Limits, Validators, parse};

/// Parses a request for `/` with these field lines behind its Host, and hands it on.
#[track_caller]
pub(crate) fn with_request<R>(method: &str, fields: &str, then: impl Fn(&Head<'_>) -> R) -> R {
    let raw = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let head = parse(raw.as_bytes(), &Limits::default())
        .unwrap_or_else(|error| panic!("{fields:?}: {error}"))
        .expect("a complete head");
    then(&head)
}

/// [`with_request`] for GET.
#[track_caller]
pub(crate) fn with_get<R>(fields: &str, then: impl Fn(&Head<'_>) -> R) -> R {
    with_request("GET", fields, then)
}

/// What `write` appends behind bytes that are already there, as text.
#[track_caller]
pub(crate) fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before".to_vec();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_prefix("before").unwrap().to_owned()
}

/// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, 5.6.7.
pub(crate) const EXAMPLE_SECONDS: u64 = 784_111_777;

/// A file modified at [`EXAMPLE_SECONDS`], with the tag `"ae1b981bc490a00-b"`.
pub(crate) fn example() -> Validators {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(EXAMPLE_SECONDS);
    Validators {
        etag: Some(ETag::new(modified, 11)),
        modified: Some(EXAMPLE_SECONDS),
        is_date_strong: true,
    }
}
