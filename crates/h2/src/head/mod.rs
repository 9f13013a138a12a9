//! Request heads.

/// The memory that a request head is decoded into. One serves any number of connections.
#[derive(Debug, Default)]
pub struct HeadBuffer {
    /// `method SP target SP HTTP/2.0`.
    line: Vec<u8>,
    /// Field lines.
    fields: Vec<u8>,
}
