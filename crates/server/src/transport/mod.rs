//! The bytes of a connection: the socket itself, or the records of TLS on it.

pub(crate) mod certificates;
pub(crate) mod io;
mod received;
mod socket;
mod tls_handshake;
mod tls_stream;
#[expect(
    clippy::module_inception,
    reason = "the type that the folder is named for"
)]
mod transport;
mod unsent;

pub(crate) use socket::{is_trusted, is_unix, peer_ip};
pub(crate) use tls_handshake::{Accepted, HandshakeError, TlsAccept};
pub(crate) use tls_stream::{Negotiated, TlsParameters};
pub(crate) use transport::Transport;
pub(crate) use unsent::{Flush, Unsent};

/// The connection is over, and nothing more is sent on it.
#[derive(Debug)]
pub(crate) struct Closed;

impl From<std::io::Error> for Closed {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}
