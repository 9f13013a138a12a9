//! HTTP/1.1 on the wire (RFC 9112): request heads, body framing, response heads.
//!
//! Bytes and [`Limits`] go in, a [`Head`] comes out; a response goes in, bytes come out. What a
//! request means is the matter of [`tidegate_http`]. Nothing here knows a socket, a file or a
//! clock.
//!
//! # The order of calls
//!
//! ```text
//!   bytes received
//!        |
//!        v
//!   parse(buf, limits)
//!        |-- Ok(None) ------> receive more, call it again
//!        |-- Err(error) ----> a page of error.status(), close
//!        `-- Ok(Some(head))
//!              |-- head.request: choose the response with tidegate_http,
//!              |        then ResponseHead::write, with a ResponseFraming
//!              v
//!         Discard::new(head.framing, limits.body_discard).feed(bytes)
//!              |-- Err(error) ----> the response is out: close
//!              |-- done: false ---> receive more, feed it
//!              `-- done: true ----> head.persistent ? parse the next : close
//! ```
//!
//! A request is `head.len` bytes of `buf`, then its body if `head.framing` says that one follows.
//! No resource of a file server takes a body, so it is read only to find the next request behind
//! it.
//!
//! ```
//! use tidegate_h1::{Discard, Limits, parse};
//! use tidegate_http::{EncodedSlash, Method};
//!
//! let limits = Limits::default();
//! let received = b"GET /a%20b/../c HTTP/1.1\r\nHost: example.org\r\n\r\nGET /next";
//!
//! let head = parse(received, &limits)?.expect("a complete head");
//! assert_eq!(head.request.method, Method::Get);
//! assert_eq!(head.request.host, Some("example.org"));
//! assert!(head.persistent);
//!
//! let mut path = Vec::new();
//! head.request.target.decode_path(EncodedSlash::Literal, &mut path)?;
//! assert_eq!(path, b"/c");
//!
//! let behind = &received[head.len..];
//! let body = Discard::new(head.framing, limits.body_discard).feed(behind)?;
//! assert!(body.done);
//! assert_eq!(&behind[body.consumed..], b"GET /next");
//! # Ok::<(), tidegate_h1::Error>(())
//! ```

mod error;
mod framing;
mod head;
mod limits;
mod response;
mod response_framing;
#[cfg(test)]
mod testing;
mod version;

pub use error::Error;
pub use framing::{Discard, Discarded, Framing};
pub use head::{Head, parse};
pub use limits::Limits;
pub use response::ResponseHead;
pub use response_framing::ResponseFraming;
pub use version::Version;
