//! Frames (RFC 9113, sections 4 and 6).

/// Bytes of a frame header (RFC 9113, section 4.1).
pub const FRAME_HEADER_BYTES: usize = 9;

/// The windows that a connection starts with (RFC 9113, section 6.9.2).
pub(crate) const INITIAL_WINDOW: u32 = 65_535;
