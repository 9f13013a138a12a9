//! What a connection tells its server.

use tidegate_http::{Method, Request};

use crate::{ErrorCode, RequestError, StreamError, StreamId};

/// Something to do for the server. `T` is what the server keeps for a stream.
#[derive(Debug)]
pub enum Event<'a, T> {
    /// A request, which is to be answered.
    Request(RequestHead<'a>),
    /// A request that is to be answered with an error page.
    Refused(RefusedHead<'a>),
    /// The stream is over: its work is to be dropped. A request that was never handed over is told
    /// so, too, with no state.
    Reset {
        /// The stream, which is no longer known to the connection.
        stream: StreamId,
        /// What was attached to it.
        state: Option<T>,
        /// The side that reset it, and why.
        cause: ResetCause,
    },
    /// The body of a request is larger than [`Limits::body_discard`](crate::Limits::body_discard),
    /// which its head did not announce. Its response goes on.
    BodyTooLarge(StreamId),
}

/// The side that reset a stream, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The peer, with this code.
    Peer(ErrorCode),
    /// This side, for the peer sent something wrong. RST_STREAM waits in the control output.
    Error(StreamError),
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The stream to answer on.
    pub stream: StreamId,
    /// The request. Its fields have `host` for `:authority`, and one line for all cookies.
    pub request: Request<'a>,
    /// `method SP target SP HTTP/2.0`, for logs.
    pub request_line: &'a [u8],
    /// Bytes of the header block on the wire, without frame headers and padding.
    pub len: usize,
    /// Whether Content-Length announces a body larger than
    /// [`Limits::body_discard`](crate::Limits::body_discard). [`Event::BodyTooLarge`] does not
    /// follow then.
    pub is_body_too_large: bool,
}

/// A request to answer with an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedHead<'a> {
    /// The stream to answer on.
    pub stream: StreamId,
    /// The reason.
    pub error: RequestError,
    /// The method, if it was received: the response to HEAD has no content.
    pub method: Method,
    /// `method SP target SP HTTP/2.0`, for logs, as far as it was received.
    pub request_line: &'a [u8],
    /// Bytes of the header block on the wire, without frame headers and padding.
    pub len: usize,
}
