//! HTTP/2 on the wire (RFC 9113), the server's half.

mod closed;
mod connection;
mod control;
mod error;
mod error_code;
mod event;
mod flow;
mod frame;
mod head_buffer;
mod head_fields;
mod header_block;
pub mod hpack;
mod limits;
mod pending_priorities;
mod priority;
#[cfg(test)]
mod protocol_errors_test;
mod receive;
mod schedule;
mod stream;
mod streams;
#[cfg(test)]
mod testing;
mod token_bucket;

pub use connection::{Connection, Grant};
pub use error::{ConnectionError, RequestError, StreamError};
pub use error_code::ErrorCode;
pub use event::{Event, RefusedHead, RequestHead, ResetCause};
pub use frame::FRAME_HEADER_BYTES;
pub use head_buffer::HeadBuffer;
pub use limits::{Limits, Rate};
pub use stream::StreamId;
