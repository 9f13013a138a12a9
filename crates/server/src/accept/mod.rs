//! From listening sockets to connections, within the limits.

pub(crate) mod accept_loop;
pub(crate) mod address;
pub(crate) mod admission;
pub(crate) mod inherited;
pub(crate) mod listener;
pub(crate) mod listener_state;
pub(crate) mod report;
pub(crate) mod unix_socket;
