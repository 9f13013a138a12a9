//! From listening sockets to connections, within the limits.

pub(crate) mod accept_loop;
pub(crate) mod admission;
pub(crate) mod inherited;
pub(crate) mod listener;
