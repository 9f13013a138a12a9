//! HTTP/1.1 on a connection: requests in, responses out, until one side ends it.
//!
//! What is in memory is answered on the spot (`connection`). Only what waits, a look-up, a transfer
//! or a slow client, is a future of its own (`serve`), boxed, so that the task of an idle connection
//! stays small.

mod connection;
mod response;
mod serve;
mod work;

pub(super) use connection::{Connection, Received};
