//! Header compression (RFC 7541).

/// The state of the compression of the fields that this side sends.
#[derive(Debug, Default)]
pub struct Encoder {}
