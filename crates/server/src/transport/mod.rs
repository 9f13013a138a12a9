//! A connection's bytes: the socket itself, or the records of TLS on it.

pub(crate) mod certificates;
pub(crate) mod io;
pub(crate) mod link;
pub(crate) mod tls_handshake;
pub(crate) mod tls_stream;
