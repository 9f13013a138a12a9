//! A header block in more than one frame (RFC 9113, section 4.3).

use crate::frame::{Fragment, FrameHeader, flag};
use crate::{ConnectionError, Limits};

/// The frames of a header block so far: HEADERS, and CONTINUATION.
#[derive(Debug)]
pub(crate) struct HeaderBlock {
    pub(crate) stream: u32,
    pub(crate) end_stream: bool,
    pub(crate) depends_on_itself: bool,
    pub(crate) bytes: Vec<u8>,
    /// CONTINUATION frames.
    continuations: u8,
    /// Bytes in them.
    continuation_bytes: usize,
}

impl HeaderBlock {
    pub(crate) fn new(header: FrameHeader, fragment: Fragment<'_>) -> Self {
        Self {
            stream: header.stream,
            end_stream: header.has(flag::END_STREAM),
            depends_on_itself: fragment.depends_on_itself,
            bytes: fragment.block.to_vec(),
            continuations: 0,
            continuation_bytes: 0,
        }
    }

    /// Appends the payload of CONTINUATION.
    pub(crate) fn push(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), ConnectionError> {
        self.continuations = self.continuations.saturating_add(1);
        self.continuation_bytes += bytes.len();
        if self.continuations > limits.continuations
            || self.continuation_bytes > limits.continuation_bytes as usize
        {
            return Err(ConnectionError::TooManyContinuations);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
