//! The configuration, as a core uses it.

pub(crate) mod cached_sites;
pub(crate) mod client_tls;
pub(crate) mod credentials;
pub(crate) mod fleet;
pub(crate) mod http2;
pub(crate) mod logins;
pub(crate) mod origins;
pub(crate) mod prepared;
pub(crate) mod report;
pub(crate) mod sites;
pub(crate) mod snapshot;

/// The most bytes to receive from a client that goes on sending behind its last response: of a
/// connection of HTTP/1.1, or of a stream of HTTP/2.
pub(crate) const LINGER_BYTES_MAX: usize = 32 << 20;
