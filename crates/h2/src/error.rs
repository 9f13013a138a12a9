//! What can be wrong with the bytes of a connection, and with those of one stream or request.

use tidegate_http::{Status, TargetError};

use crate::ErrorCode;

/// Why the connection ends (RFC 9113, section 5.4.1). The text of an error is also the debug data
/// of its GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The first 24 bytes are not the preface (RFC 9113, section 3.4).
    #[error("the connection preface is malformed")]
    Preface,
    /// The first frame is not SETTINGS (RFC 9113, section 3.4).
    #[error("the first frame is not SETTINGS")]
    FirstFrame,
    /// A frame is longer than 16,384 bytes (RFC 9113, section 4.2).
    #[error("a frame is too large")]
    FrameTooLarge,
    /// A frame whose length its type does not allow (RFC 9113, section 4.2).
    #[error("the length of a frame does not fit its type")]
    FrameLength,
    /// As much padding as the frame is long, or more (RFC 9113, section 6.1).
    #[error("a frame has too much padding")]
    Padding,
    /// A frame on a stream where its type must be on the connection, or the reverse.
    #[error("a frame is on a stream where its type cannot be")]
    FrameStream,
    /// Another frame within a header block, or CONTINUATION outside of one (RFC 9113, section
    /// 6.10).
    #[error("a header block is interrupted")]
    Continuation,
    /// A frame on a stream that is idle (RFC 9113, section 5.1).
    #[error("a frame is on a stream that was not opened")]
    IdleStream,
    /// The id of a new stream is even, or not above all others (RFC 9113, section 5.1.1).
    #[error("the id of a new stream is even or too low")]
    StreamId,
    /// HEADERS on a stream that both sides had ended (RFC 9113, section 5.1).
    #[error("a header block is on a stream that has ended")]
    EndedStream,
    /// PUSH_PROMISE, which no client may send (RFC 9113, section 8.4).
    #[error("a client cannot push")]
    PushPromise,
    /// A setting with a value that it cannot have (RFC 9113, section 6.5.2).
    #[error("a setting has a value that it cannot have")]
    Setting,
    /// `SETTINGS_INITIAL_WINDOW_SIZE` above 2^31-1 (RFC 9113, section 6.5.2).
    #[error("the initial window is too large")]
    InitialWindow,
    /// WINDOW_UPDATE of 0 for the connection (RFC 9113, section 6.9).
    #[error("a window is increased by nothing")]
    WindowIncrement,
    /// A window above 2^31-1 (RFC 9113, section 6.9.1).
    #[error("a window is too large")]
    WindowOverflow,
    /// More DATA than the window of the connection (RFC 9113, section 6.9.1).
    #[error("more data than the window of the connection allows")]
    ConnectionWindow,
    /// A header block that cannot be decoded (RFC 9113, section 4.3).
    #[error("a header block cannot be decoded")]
    Compression,
    /// A stream that depends on itself, and is idle (RFC 7540, section 5.3.1).
    #[error("a stream depends on itself")]
    SelfDependency,
    /// A priority for a stream that cannot be, or for more streams than may be open (RFC 9218,
    /// section 7.1).
    #[error("a priority is for no stream, or for too many")]
    PriorityUpdate,
    /// A header block of too many CONTINUATION frames, or of too many bytes.
    #[error("a header block has too many frames")]
    TooManyContinuations,
    /// Streams are reset too often: by the peer, or by this side since the peer made it.
    #[error("too many streams are reset")]
    TooManyResets,
    /// Too many frames that do no work: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA.
    #[error("too many frames do no work")]
    TooManyIdleFrames,
}

impl ConnectionError {
    /// The code of the GOAWAY.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::FrameTooLarge | Self::FrameLength => ErrorCode::FRAME_SIZE_ERROR,
            Self::InitialWindow | Self::WindowOverflow | Self::ConnectionWindow => {
                ErrorCode::FLOW_CONTROL_ERROR
            }
            Self::Compression => ErrorCode::COMPRESSION_ERROR,
            Self::EndedStream => ErrorCode::STREAM_CLOSED,
            Self::TooManyContinuations | Self::TooManyResets | Self::TooManyIdleFrames => {
                ErrorCode::ENHANCE_YOUR_CALM
            }
            _ => ErrorCode::PROTOCOL_ERROR,
        }
    }
}

/// Why this side resets a stream (RFC 9113, section 5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// DATA or HEADERS on a stream that the peer has ended or reset (RFC 9113, section 5.1).
    #[error("a frame is on a stream that has ended")]
    Closed,
    /// More streams than may be open (RFC 9113, section 5.1.2).
    #[error("too many streams are open")]
    TooManyStreams,
    /// More DATA than the window of the stream (RFC 9113, section 6.9.1).
    #[error("more data than the window of the stream allows")]
    Window,
    /// WINDOW_UPDATE of 0 (RFC 9113, section 6.9).
    #[error("the window is increased by nothing")]
    WindowIncrement,
    /// A window above 2^31-1 (RFC 9113, section 6.9.1).
    #[error("the window is too large")]
    WindowOverflow,
    /// PRIORITY that is not 5 bytes long (RFC 9113, section 6.3).
    #[error("the length of a PRIORITY frame is not 5")]
    PriorityLength,
    /// A stream that depends on itself (RFC 7540, section 5.3.1).
    #[error("the stream depends on itself")]
    SelfDependency,
    /// A pseudo-header field is unknown, repeated, missing, malformed or out of place (RFC 9113,
    /// section 8.3).
    #[error("the pseudo-header fields are malformed")]
    PseudoHeader,
    /// A field name is empty, in upper case or no token (RFC 9113, section 8.2.1).
    #[error("a field name is malformed")]
    FieldName,
    /// A control character in a field value, or whitespace at its ends (RFC 9113, section 8.2.1).
    #[error("a field value is malformed")]
    FieldValue,
    /// A field that speaks of a connection of HTTP/1.1 (RFC 9113, section 8.2.2).
    #[error("a field is about the connection")]
    ConnectionField,
    /// Host is not `:authority` (RFC 9113, section 8.3.1).
    #[error("the Host header field and :authority differ")]
    HostMismatch,
    /// Content-Length is malformed, repeated or not the length of the DATA (RFC 9113, section
    /// 8.1.1).
    #[error("the Content-Length header field is malformed, repeated or wrong")]
    ContentLength,
    /// A second header block that does not end the stream, or has pseudo-header fields (RFC 9113,
    /// section 8.1).
    #[error("the trailer section is malformed")]
    Trailers,
}

impl StreamError {
    /// The code of the RST_STREAM.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Closed => ErrorCode::STREAM_CLOSED,
            Self::TooManyStreams => ErrorCode::REFUSED_STREAM,
            Self::Window | Self::WindowOverflow => ErrorCode::FLOW_CONTROL_ERROR,
            Self::PriorityLength => ErrorCode::FRAME_SIZE_ERROR,
            _ => ErrorCode::PROTOCOL_ERROR,
        }
    }
}

/// Why a request is answered with an error page: its frames are as they must be, its content is
/// not. The statuses are those of HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request target is malformed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Neither `:authority` nor Host is there, Host is repeated, or one of them is no host (RFC
    /// 9110, section 7.2).
    #[error("the host is missing, repeated or malformed")]
    Host,
    /// The fields are larger than [`Limits::header_list`](crate::Limits::header_list).
    #[error("the request head is too large")]
    HeadTooLarge,
    /// More field lines than [`Limits::headers`](crate::Limits::headers).
    #[error("the request has too many header fields")]
    TooManyFields,
}

impl RequestError {
    /// The status to answer with.
    pub fn status(self) -> Status {
        match self {
            Self::Target(_) | Self::Host => Status::BAD_REQUEST,
            Self::HeadTooLarge | Self::TooManyFields => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}
