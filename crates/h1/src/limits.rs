//! Bounds on a request.

/// How much of one request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line and the fields, inclusive, with their line ends and any empty
    /// lines before them. A buffer of this size holds every accepted head.
    pub header_bytes: usize,
    /// Field lines of a head, inclusive. More than [`Limits::HEADERS_MAX`] counts as that.
    pub headers: usize,
    /// Bytes of a body that are read and dropped so that the connection persists, inclusive; for a
    /// chunked body its framing counts too.
    pub body_discard: u64,
}

impl Limits {
    /// The upper bound of [`Limits::headers`]: the lines are kept on the stack.
    pub const HEADERS_MAX: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 16 << 10,
            headers: Self::HEADERS_MAX,
            body_discard: 64 << 10,
        }
    }
}
