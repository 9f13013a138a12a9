//! Versions of HTTP.

/// The version a request is treated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version (RFC 9110, section 2.5).
    Http11,
}
