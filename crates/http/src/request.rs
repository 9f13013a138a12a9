//! Requests.

use crate::fields::Index;
use crate::{Fields, Method, Target};

/// A request of any version of HTTP, without its content, which a file server never reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target<'b>,
    /// `host[:port]` of the target, or else of the Host field (RFC 9110, section 7.2). `None` where
    /// that is empty, or missing in HTTP/1.0.
    pub host: Option<&'b str>,
    /// The fields that select the representation and the part of it to send.
    pub fields: Fields<'b>,
}

/// An owned copy of a request, for one that waits after its receive buffer is returned.
#[derive(Clone, Debug)]
pub struct StoredRequest {
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    host: Option<Box<str>>,
    /// The field lines.
    block: Box<[u8]>,
    index: Index,
}

impl StoredRequest {
    /// Copies `request`.
    pub fn new(request: &Request<'_>) -> Self {
        let (block, index) = request.fields.into_parts();
        Self {
            method: request.method,
            path: request.target.path().into(),
            query: request.target.query().map(Box::from),
            host: request.host.map(Box::from),
            block: block.into(),
            index,
        }
    }

    /// The request. Nothing is parsed again.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: self.method,
            target: Target::from_parts(&self.path, self.query.as_deref()),
            host: self.host.as_deref(),
            fields: Fields::from_parts(&self.block, self.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_get;

    #[test]
    fn a_stored_request_is_the_same() {
        for lines in [
            "",
            "Range: bytes=0-1\r\nX: \u{e4}\r\nAccept: a\r\nAccept: b\r\n",
        ] {
            with_get(lines, |request| {
                for (target, host) in [("/", Some("a")), ("/a%20b?c", None), ("*", Some("a:1"))] {
                    let (target, _) = Target::parse(target).unwrap();
                    let request = Request {
                        target,
                        host,
                        ..*request
                    };
                    assert_eq!(StoredRequest::new(&request).request(), request);
                }
            });
        }
    }
}
