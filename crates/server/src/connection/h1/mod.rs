//! HTTP/1.1 on a connection: requests in, responses out, until one side ends it.
//!
//! Requests for what is in memory are answered at once (`connection`). Only work that waits, for a
//! lookup, a transfer or a slow client, becomes a future (`serve`). It is boxed, so that the task
//! of an idle connection stays small.

mod connection;
mod response;
mod serve;
mod work;

pub(super) use connection::{Connection, Parts, Received};
