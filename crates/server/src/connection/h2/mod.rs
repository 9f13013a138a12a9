//! HTTP/2 on a connection: requests of many streams in, their responses out.
//!
//! Output is pulled. While the socket takes bytes, the connection fills one buffer of its core with
//! frames, from the streams whose turn it is, and sends it. So a stream holds no buffer, and one
//! whose window is closed holds nothing but its place in the body. What has to be waited for, a
//! lookup or the disk, is a boxed future of its stream; the others go on meanwhile.

mod abort;
mod connection;
mod output;
mod response;
mod stream;
mod waiting;
mod waits;
mod work;

pub(super) use connection::{Connection, Ending};
