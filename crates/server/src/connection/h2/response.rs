//! Writes the head of a response for HTTP/2, and the part of it that is the same for all requests
//! for a file only once.

use tidegate_h2::hpack::{Encoder, encode_static};
use tidegate_http::HttpDate;
use tidegate_site::Content;

use crate::respond::body::slice;
use crate::respond::response::{Body, PreparedFields, Response};

/// Appends the header block of `response`.
pub(super) fn write_block(
    encoder: &mut Encoder,
    response: &Response,
    date: &HttpDate,
    block: &mut Vec<u8>,
) {
    encoder.status(response.status, block);
    encoder.date(date, block);
    if let Some(length) = response.content_length {
        encoder.content_length(length, block);
    }
    match &response.fields {
        PreparedFields::File(file) => {
            block.extend_from_slice(file.encoded_fields(encode_static));
        }
        PreparedFields::NotModified(file) => {
            block.extend_from_slice(file.encoded_not_modified_fields(encode_static));
        }
        other => encoder.fields(other.lines(), block),
    }
    encoder.fields(response.extra.lines(), block);
}

/// The content of `response`, if it is in memory as one piece: empty if there is none.
pub(super) fn content_in_memory(response: &Response) -> Option<&[u8]> {
    match &response.body {
        Body::Empty => Some(&[]),
        Body::Static(bytes) => Some(bytes),
        Body::File(_, range) if range.is_empty() => Some(&[]),
        Body::File(file, range) => match &file.content {
            Content::Memory(bytes) => Some(slice(bytes, range)),
            Content::File(_) | Content::Sliced(_) => None,
        },
        Body::Parts(..) | Body::Listing(_) | Body::Decompression(_) => None,
    }
}
