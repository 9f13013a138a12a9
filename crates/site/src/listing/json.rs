//! Listings as JSON: an array of objects.

use serde::Serialize;
use tidegate_http::FieldLines;

use crate::listing::entries::Item;
use crate::listing::timestamp::timestamp;

pub(crate) const FIELDS: FieldLines<'static> = FieldLines::from_static(
    "Content-Type: application/json\r\n\
    Vary: Accept\r\n",
);

/// An array cannot say that it is truncated, so a field does.
pub(crate) const FIELDS_TRUNCATED: FieldLines<'static> = FieldLines::from_static(
    "Content-Type: application/json\r\n\
    Vary: Accept\r\n\
    X-Listing-Truncated: true\r\n",
);

/// Invalid UTF-8 in a name becomes the replacement character.
#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    mtime: String,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

pub(crate) fn start(out: &mut Vec<u8>) {
    out.push(b'[');
}

pub(crate) fn item(out: &mut Vec<u8>, name: &[u8], item: &Item, index: usize) {
    out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
    let object = Object {
        name: &String::from_utf8_lossy(name),
        kind: if item.is_directory {
            "directory"
        } else {
            "file"
        },
        mtime: timestamp(item.modified),
        size: (!item.is_directory).then_some(item.len),
    };
    // Neither a Vec nor an object of strings and numbers fails.
    let written = serde_json::to_writer(out, &object);
    debug_assert!(written.is_ok());
}

pub(crate) fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]\n");
}
