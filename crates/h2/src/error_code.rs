//! Error codes (RFC 9113, section 7).

/// Why a stream is reset or a connection ends. A code that RFC 9113 does not have is possible, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// The end without an error.
    pub const NO_ERROR: Self = Self(0x0);
    /// The peer broke the protocol, and no other code fits.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// A fault of the sender of the code.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer sent more than a window allows.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// The settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame on a stream that is half-closed or closed.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame of a size that is not possible.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The request was not looked at: it may be sent again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(0x8);
    /// The state of header compression is lost.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The connection of a CONNECT failed.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer causes load that is out of proportion.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport is not secure enough (RFC 9113, section 9.2).
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// The request must be sent with HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The code with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self.0
    }
}
