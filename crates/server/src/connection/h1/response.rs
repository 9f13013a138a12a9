//! Writes a response for HTTP/1.1: its head, and its content if that is small and in memory.

use std::mem::replace;

use bytes::Bytes;
use tidegate_h1::{ResponseFraming, ResponseHead, Version};
use tidegate_http::{HttpDate, Multipart};
use tidegate_site::Content;

use crate::respond::body::slice;
use crate::respond::response::{Body, Response};

/// The most content in memory that is copied behind its head. Larger content is sent from where it
/// is, so that a slow client holds no copy.
const COPIED_BYTES_MAX: u64 = 32 * 1024;

/// The same for content with pages of its own, on a transport that takes these without a copy.
const COPIED_BYTES_MAX_OF_PAGES: u64 = 12 * 1024;

/// The inputs of a response head besides the response.
#[derive(Clone, Copy)]
pub(crate) struct Persistence {
    /// The version of the request.
    pub(crate) version: Version,
    /// Whether the connection persists, if the framing of the response allows it.
    pub(crate) persistent: bool,
}

/// A response whose head is written.
pub(crate) struct Written {
    /// Bytes of the head.
    pub(crate) head_bytes: usize,
    /// The content not written yet.
    pub(crate) rest: Option<(Body, ResponseFraming)>,
    /// Whether the connection persists after the response.
    pub(crate) persistent: bool,
}

/// Appends the head of `response`, and its content if that is small and in memory. The body is
/// taken out of `response`. `takes_pages`: whether pages leave without a copy.
pub(crate) fn write_response(
    out: &mut Vec<u8>,
    response: &mut Response,
    persistence: Persistence,
    date: &HttpDate,
    takes_pages: bool,
) -> Written {
    let Persistence {
        version,
        persistent,
    } = persistence;
    let framing = ResponseFraming::of(response.status, response.content_length, version);
    let head = ResponseHead {
        status: response.status,
        date,
        persistent: persistent && framing.can_persist(),
        version,
        framing,
        fields: [response.fields.lines(), response.extra.lines()],
    };
    let start = out.len();
    head.write(out);
    Written {
        head_bytes: out.len() - start,
        persistent: head.persistent,
        rest: copy_small(out, response, takes_pages).map(|body| (body, framing)),
    }
}

/// Appends the content if it is small and in memory; otherwise returns it.
fn copy_small(out: &mut Vec<u8>, response: &mut Response, takes_pages: bool) -> Option<Body> {
    let is_at_most = |max| response.content_length.is_some_and(|length| length <= max);
    match &response.body {
        Body::Empty => return None,
        Body::Static(bytes) => {
            out.extend_from_slice(bytes);
            return None;
        }
        Body::File(_, range) if range.is_empty() => return None,
        Body::File(file, range) if is_at_most(COPIED_BYTES_MAX) => {
            if let Content::Memory(bytes) = &file.content
                && (is_at_most(COPIED_BYTES_MAX_OF_PAGES)
                    || !takes_pages
                    || bytes.pages().is_none())
            {
                out.extend_from_slice(slice(bytes, range));
                return None;
            }
        }
        Body::Parts(file, parts) if is_at_most(COPIED_BYTES_MAX) => {
            if let Content::Memory(bytes) = &file.content {
                copy_parts(out, bytes, parts);
                return None;
            }
        }
        Body::File(..) | Body::Parts(..) | Body::Listing(_) | Body::Decompression(_) => {}
    }
    Some(replace(&mut response.body, Body::Empty))
}

fn copy_parts(out: &mut Vec<u8>, bytes: &Bytes, parts: &Multipart) {
    for range in parts.ranges() {
        parts.write_head(range, out);
        out.extend_from_slice(slice(bytes, range));
    }
    parts.write_end(out);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tidegate_http::Status;

    use super::*;

    fn written(status: Status, persistence: Persistence) -> (String, Written) {
        let mut response = Response::page(status);
        let mut out = Vec::new();
        let date = HttpDate::new(SystemTime::UNIX_EPOCH);
        let written = write_response(&mut out, &mut response, persistence, &date, true);
        (String::from_utf8(out).unwrap(), written)
    }

    #[test]
    fn a_page_follows_its_head() {
        let persistence = Persistence {
            version: Version::Http10,
            persistent: true,
        };
        let (text, written) = written(Status::NOT_FOUND, persistence);
        let page = Status::NOT_FOUND.page();
        let expected = format!(
            "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Length: {}\r\nConnection: keep-alive\r\n\
             Content-Type: text/html; charset=utf-8\r\n\r\n{page}",
            page.len()
        );
        assert_eq!(text, expected);
        assert!(written.rest.is_none() && written.persistent);
    }
}
