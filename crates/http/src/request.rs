//! What a request asks for.

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
