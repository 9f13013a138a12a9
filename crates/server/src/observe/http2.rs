//! What one core counts of HTTP/2.

use tidegate_h2::{ConnectionError, ErrorCode, ResetCause, StreamError};

use crate::observe::counters::{CounterOf, kinds};

kinds! {
    /// How a client chose HTTP/2.
    Choice {
        /// By ALPN, in the handshake of TLS.
        Alpn = "alpn",
        /// By the preface, without TLS.
        Preface = "preface",
    }
}

kinds! {
    /// The code of a GOAWAY or `RST_STREAM` (RFC 9113, section 7).
    Code {
        NoError = "NO_ERROR",
        ProtocolError = "PROTOCOL_ERROR",
        InternalError = "INTERNAL_ERROR",
        FlowControlError = "FLOW_CONTROL_ERROR",
        SettingsTimeout = "SETTINGS_TIMEOUT",
        StreamClosed = "STREAM_CLOSED",
        FrameSizeError = "FRAME_SIZE_ERROR",
        RefusedStream = "REFUSED_STREAM",
        Cancel = "CANCEL",
        CompressionError = "COMPRESSION_ERROR",
        ConnectError = "CONNECT_ERROR",
        EnhanceYourCalm = "ENHANCE_YOUR_CALM",
        InadequateSecurity = "INADEQUATE_SECURITY",
        Http11Required = "HTTP_1_1_REQUIRED",
        /// One that RFC 9113 does not have.
        Other = "other",
    }
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NO_ERROR => Self::NoError,
            ErrorCode::PROTOCOL_ERROR => Self::ProtocolError,
            ErrorCode::INTERNAL_ERROR => Self::InternalError,
            ErrorCode::FLOW_CONTROL_ERROR => Self::FlowControlError,
            ErrorCode::SETTINGS_TIMEOUT => Self::SettingsTimeout,
            ErrorCode::STREAM_CLOSED => Self::StreamClosed,
            ErrorCode::FRAME_SIZE_ERROR => Self::FrameSizeError,
            ErrorCode::REFUSED_STREAM => Self::RefusedStream,
            ErrorCode::CANCEL => Self::Cancel,
            ErrorCode::COMPRESSION_ERROR => Self::CompressionError,
            ErrorCode::CONNECT_ERROR => Self::ConnectError,
            ErrorCode::ENHANCE_YOUR_CALM => Self::EnhanceYourCalm,
            ErrorCode::INADEQUATE_SECURITY => Self::InadequateSecurity,
            ErrorCode::HTTP_1_1_REQUIRED => Self::Http11Required,
            _ => Self::Other,
        }
    }
}

kinds! {
    /// What a client did wrong, so that its connection was ended.
    ConnectionFault {
        Preface = "preface",
        FirstFrame = "first_frame",
        FrameTooLarge = "frame_too_large",
        FrameLength = "frame_length",
        Padding = "padding",
        FrameStream = "frame_stream",
        Continuation = "continuation",
        IdleStream = "idle_stream",
        StreamId = "stream_id",
        EndedStream = "ended_stream",
        PushPromise = "push_promise",
        Setting = "setting",
        InitialWindow = "initial_window",
        WindowIncrement = "window_increment",
        WindowOverflow = "window_overflow",
        ConnectionWindow = "connection_window",
        Compression = "compression",
        SelfDependency = "self_dependency",
        PriorityUpdate = "priority_update",
        TooManyContinuations = "too_many_continuations",
        TooManyResets = "too_many_resets",
        TooManyIdleFrames = "too_many_idle_frames",
        Other = "other",
    }
}

impl From<ConnectionError> for ConnectionFault {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Preface => Self::Preface,
            ConnectionError::FirstFrame => Self::FirstFrame,
            ConnectionError::FrameTooLarge => Self::FrameTooLarge,
            ConnectionError::FrameLength => Self::FrameLength,
            ConnectionError::Padding => Self::Padding,
            ConnectionError::FrameStream => Self::FrameStream,
            ConnectionError::Continuation => Self::Continuation,
            ConnectionError::IdleStream => Self::IdleStream,
            ConnectionError::StreamId => Self::StreamId,
            ConnectionError::EndedStream => Self::EndedStream,
            ConnectionError::PushPromise => Self::PushPromise,
            ConnectionError::Setting => Self::Setting,
            ConnectionError::InitialWindow => Self::InitialWindow,
            ConnectionError::WindowIncrement => Self::WindowIncrement,
            ConnectionError::WindowOverflow => Self::WindowOverflow,
            ConnectionError::ConnectionWindow => Self::ConnectionWindow,
            ConnectionError::Compression => Self::Compression,
            ConnectionError::SelfDependency => Self::SelfDependency,
            ConnectionError::PriorityUpdate => Self::PriorityUpdate,
            ConnectionError::TooManyContinuations => Self::TooManyContinuations,
            ConnectionError::TooManyResets => Self::TooManyResets,
            ConnectionError::TooManyIdleFrames => Self::TooManyIdleFrames,
            _ => Self::Other,
        }
    }
}

kinds! {
    /// What a client did wrong, so that one of its streams was reset.
    StreamFault {
        Closed = "closed",
        TooManyStreams = "too_many_streams",
        Window = "window",
        WindowIncrement = "window_increment",
        WindowOverflow = "window_overflow",
        PriorityLength = "priority_length",
        SelfDependency = "self_dependency",
        PseudoHeader = "pseudo_header",
        FieldName = "field_name",
        FieldValue = "field_value",
        ConnectionField = "connection_field",
        HostMismatch = "host_mismatch",
        ContentLength = "content_length",
        Trailers = "trailers",
        Other = "other",
    }
}

impl From<StreamError> for StreamFault {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self::Closed,
            StreamError::TooManyStreams => Self::TooManyStreams,
            StreamError::Window => Self::Window,
            StreamError::WindowIncrement => Self::WindowIncrement,
            StreamError::WindowOverflow => Self::WindowOverflow,
            StreamError::PriorityLength => Self::PriorityLength,
            StreamError::SelfDependency => Self::SelfDependency,
            StreamError::PseudoHeader => Self::PseudoHeader,
            StreamError::FieldName => Self::FieldName,
            StreamError::FieldValue => Self::FieldValue,
            StreamError::ConnectionField => Self::ConnectionField,
            StreamError::HostMismatch => Self::HostMismatch,
            StreamError::ContentLength => Self::ContentLength,
            StreamError::Trailers => Self::Trailers,
            _ => Self::Other,
        }
    }
}

/// The counters of HTTP/2 of one core.
#[derive(Debug, Default)]
pub(crate) struct Http2Metrics {
    pub(super) connections: CounterOf<Choice, { Choice::COUNT }>,
    pub(super) goaways: CounterOf<Code, { Code::COUNT }>,
    pub(super) connection_faults: CounterOf<ConnectionFault, { ConnectionFault::COUNT }>,
    pub(super) client_resets: CounterOf<Code, { Code::COUNT }>,
    pub(super) stream_faults: CounterOf<StreamFault, { StreamFault::COUNT }>,
}

impl Http2Metrics {
    /// Counts a connection.
    pub(crate) fn opened(&self, choice: Choice) {
        self.connections.count(choice);
    }

    /// Counts a connection that the server asked to end: it drains, or has served its requests.
    pub(crate) fn went_away(&self) {
        self.goaways.count(Code::NoError);
    }

    /// Counts a connection that was ended since its client broke the protocol.
    pub(crate) fn failed(&self, error: ConnectionError) {
        self.goaways.count(error.code().into());
        self.connection_faults.count(error.into());
    }

    /// Counts a stream that was reset.
    pub(crate) fn reset(&self, cause: ResetCause) {
        match cause {
            ResetCause::Peer(code) => self.client_resets.count(code.into()),
            ResetCause::Error(error) => self.stream_faults.count(error.into()),
        }
    }
}
