//! A connection: from the accepted socket to its end.

mod h1;
mod h2;
mod lingering_close;
pub(crate) mod listener_protocol;
mod proxied;
mod task;

pub(crate) use task::ConnectionTask;
