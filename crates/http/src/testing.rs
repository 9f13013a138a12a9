//! Helpers for the tests of several modules.

use std::time::{Duration, SystemTime};

use crate::{ETag, FieldBlock, Fields, Method, Request, Target, Validators};

/// Hands on a request for `/` with these field lines.
pub(crate) fn with_request<R>(method: &str, fields: &str, then: impl Fn(&Request<'_>) -> R) -> R {
    let (target, _) = Target::parse("/").unwrap();
    then(&Request {
        method: Method::of(method),
        target,
        host: Some("a"),
        fields: Fields::of_block(fields.as_bytes()),
    })
}

/// [`with_request`] for GET.
pub(crate) fn with_get<R>(fields: &str, then: impl Fn(&Request<'_>) -> R) -> R {
    with_request("GET", fields, then)
}

/// The lines of the fields that `push` appends behind one that is already there.
#[track_caller]
pub(crate) fn pushed(push: impl FnOnce(&mut FieldBlock)) -> String {
    let mut block = FieldBlock::new();
    block.push("Before", "it");
    push(&mut block);
    let text = str::from_utf8(block.lines().as_bytes()).unwrap();
    text.strip_prefix("Before: it\r\n").unwrap().to_owned()
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
