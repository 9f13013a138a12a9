//! HTTP/2 on the wire, the server's half (RFC 9113), with its header compression (RFC 7541) and its
//! priorities (RFC 9218).
//!
//! Bytes, the time and [`Limits`] go in; requests, frames and "send at most so many bytes of this
//! stream" come out. What a request means is the matter of [`tidegate_http`]. Nothing here knows a
//! socket, a file, a clock or an executor.
//!
//! # The order of calls
//!
//! ```text
//!   bytes received
//!        |
//!        v
//!   connection.receive(input, now, head)    until it returns None
//!        |-- Err(error) ------> send write_control: it ends with GOAWAY; close
//!        |-- Event::Request --> choose the response with tidegate_http; attach what it needs
//!        |-- Event::Refused --> a page of error.status()
//!        `-- Event::Reset ----> drop the work for that stream
//!
//!   room in the socket
//!        |
//!        v
//!   write_control                           what waits besides responses, first
//!   write_head(stream, end_stream, ..)      once for each response
//!   set_ready(stream, true)                 there are bytes of its body
//!        |
//!        v
//!   next_to_send(room)                      while it returns a Grant
//!        |-- write_data_header(stream, len, end_stream, ..), then len bytes of the body
//!        `-- set_ready(stream, false)       no bytes yet: the disk is slow
//! ```
//!
//! A stream ends with `end_stream`, with [`Connection::reset`] or with [`Event::Reset`]; each
//! returns what was attached to it. A [`StreamId`] that is kept for longer is harmless.
//!
//! Windows are opened, settings acknowledged and request bodies dropped in here. To end a
//! connection, call [`Connection::go_away`], and close it when it
//! [is finished](Connection::is_finished). What a peer may cause is bounded by [`Limits`]: memory,
//! streams, and frames that cost more than they bring.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use tidegate_h2::{Connection, Event, FRAME_HEADER_BYTES, HeadBuffer, Limits};
//! use tidegate_http::Status;
//!
//! let mut connection = Connection::<&str>::new(Arc::new(Limits::default()), Instant::now());
//! let mut head = HeadBuffer::default();
//!
//! // The preface, SETTINGS, and HEADERS of a request.
//! let mut received = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
//!     \0\0\0\x04\0\0\0\0\0\
//!     \0\0\x0e\x01\x05\0\0\0\x01\x82\x84\x87\x01\x09localhost".as_slice();
//! let event = connection.receive(&mut received, Instant::now(), &mut head)?;
//! let Some(Event::Request(request)) = event else { panic!() };
//! assert_eq!(request.request_line, b"GET / HTTP/2.0");
//! assert_eq!(request.request.host, Some("localhost"));
//! let stream = request.stream;
//!
//! let mut out = Vec::new();
//! connection.write_control(&mut out);
//! connection.attach(stream, "hello, world");
//! connection.write_head(stream, false, &mut out, |encoder, block| {
//!     encoder.status(Status::OK, block);
//! });
//! connection.set_ready(stream, true);
//!
//! let room = 5;
//! let grant = connection.next_to_send(room).expect("windows are open");
//! let body = connection.state_mut(grant.stream).expect("it was attached");
//! let (piece, rest) = body.split_at(grant.bytes);
//! *body = rest;
//! let mut header = [0; FRAME_HEADER_BYTES];
//! connection.write_data_header(grant.stream, piece.len(), false, &mut header);
//! out.extend_from_slice(&header);
//! out.extend_from_slice(piece.as_bytes());
//! assert!(out.ends_with(b"\0\0\x05\0\0\0\0\0\x01hello"));
//! # Ok::<(), tidegate_h2::ConnectionError>(())
//! ```

mod ahead;
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
#[cfg(test)]
mod output_test;
mod pending_priorities;
mod priority;
#[cfg(test)]
mod protocol_errors_test;
#[cfg(test)]
mod random_peer_test;
mod receive;
#[cfg(test)]
mod requests_test;
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
