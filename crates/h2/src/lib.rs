//! HTTP/2 on the wire (RFC 9113), the server's half.

mod connection;
mod error;
mod error_code;
mod event;
mod frame;
mod head;
pub mod hpack;
mod limits;
mod stream;

pub use connection::{Connection, Grant};
pub use error::{ConnectionError, RequestError, StreamError};
pub use error_code::ErrorCode;
pub use event::{Event, RefusedHead, RequestHead, ResetCause};
pub use frame::FRAME_HEADER_BYTES;
pub use head::HeadBuffer;
pub use limits::{Limits, Rate};
pub use stream::StreamId;
