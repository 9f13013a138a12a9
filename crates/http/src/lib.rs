//! Sans-io HTTP/1.1 for a file server (RFC 9110, RFC 9112).
//!
//! Bytes, limits and `now` go in; decisions and bytes come out. Nothing here
//! knows a socket, a file or a clock, so every rule is tested with plain byte
//! strings.
//!
//! # The order of calls
//!
//! ```text
//!   bytes received                                                   bytes to send
//!        |                                                                 ^
//!        v                                                                 |
//!   parse(buf, limits)                                                     |
//!        |-- Ok(None) ------> receive more, call it again                  |
//!        |-- Err(error) ----> write_error(error.status()), close ----------|
//!        `-- Ok(Some(head))                                                |
//!              |                                                           |
//!              |-- head.method is Options                                  |
//!              |        `---> cors.write_preflight, write_options ---------|
//!              |-- head.method is Known or Unknown                         |
//!              |        `---> write_error(405 or 501) ---------------------|
//!              |-- head.target.decode_path(slash, out)                     |
//!              |        |---- Err(error) ---> write_error -----------------|
//!              |        `---- Ok: look the file up, for site_name(host)    |
//!              |                 |---- not there ---> write_error ---------|
//!              |                 |---- a directory -> write_redirect ------|
//!              |                 |---- a listing ---> 200, Streamed -------|
//!              |                 `---- there: the variant that             |
//!              |                       Accepted::of(head).choose(..) says  |
//!              |                          |                                |
//!              |                       evaluate(head, validators)          |
//!              |                          |-- NotModified -> 304 ----------|
//!              |                          |-- Failed ------> 412 ----------|
//!              |                          `-- Met                          |
//!              |                               |                           |
//!              |                       ranges(head, validators, len, ..)   |
//!              |                          |-- Whole -------> 200 ----------|
//!              |                          |-- One ---------> 206 ----------|
//!              |                          |-- Many: Multipart > 206 -------|
//!              |                          `-- Unsatisfiable -> 416 --------'
//!              v
//!         Discard::new(head.framing, limits.body_discard).feed(bytes)
//!              |-- Err(error) ----> the answer is out: close
//!              |-- done: false ---> receive more, feed it
//!              `-- done: true ----> head.persistent ? parse the next : close
//! ```
//!
//! The head of each of these answers is a [`ResponseHead`] with the lines of a
//! [`Representation`], or a [`TextResponse`]; where the site has [`Cors`], its lines are on all of
//! them.
//!
//! A request is `head.len` bytes of `buf`, then its body if `head.framing` says
//! that one follows. No resource of a file server takes a body, so it is read
//! only to find the next request behind it.
//!
//! ```
//! use tidegate_http::{Discard, EncodedSlash, Limits, Method, parse};
//!
//! let limits = Limits::default();
//! let received = b"GET /a%20b/../c HTTP/1.1\r\nHost: example.org\r\n\r\nGET /next";
//!
//! let head = parse(received, &limits)?.expect("a complete head");
//! assert_eq!(head.method, Method::Get);
//! assert_eq!(head.host, Some("example.org"));
//! assert!(head.persistent);
//!
//! let mut path = Vec::new();
//! head.target.decode_path(EncodedSlash::Literal, &mut path)?;
//! assert_eq!(path, b"/c");
//!
//! let behind = &received[head.len..];
//! let body = Discard::new(head.framing, limits.body_discard).feed(behind)?;
//! assert!(body.done);
//! assert_eq!(&behind[body.consumed..], b"GET /next");
//! # Ok::<(), tidegate_http::Error>(())
//! ```

mod conditional;
mod cors;
mod date;
mod error;
mod etag;
mod fields;
mod framing;
mod head;
mod limits;
mod method;
mod multipart;
mod negotiate;
mod range;
mod representation;
mod response;
mod status;
mod stream;
mod target;
#[cfg(test)]
mod testing;
mod version;

pub use conditional::{Precondition, Validators, evaluate};
pub use cors::Cors;
pub use date::HttpDate;
pub use error::Error;
pub use etag::ETag;
pub use fields::{Field, Fields};
pub use framing::{Discard, Discarded, Framing};
pub use head::{Head, parse};
pub use limits::Limits;
pub use method::Method;
pub use multipart::Multipart;
pub use negotiate::{Accepted, Choice, Coding, Navigation, prefers_json};
pub use range::{RangeLimits, Ranges, ranges, write_content_range, write_unsatisfied_range};
pub use representation::{Representation, RepresentationFields};
pub use response::{
    ALLOW, ResponseHead, TextResponse, write_error, write_field, write_options, write_redirect,
};
pub use status::Status;
pub use stream::Streamed;
pub use target::{ENCODED_SLASH, EncodedSlash, Target, encode_path, site_name};
pub use version::Version;
