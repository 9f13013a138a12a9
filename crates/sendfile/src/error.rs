//! Why a transfer ended early, and how far it came.

use std::io;

/// A transfer that did not send its whole range.
///
/// The peer was promised more bytes than it got: a connection whose framing depends on them must
/// be closed.
#[derive(Debug, thiserror::Error)]
#[error("{kind}, after {sent} bytes")]
pub struct Error {
    /// Bytes that the socket took. The peer may have received fewer.
    pub sent: u64,
    /// What went wrong.
    #[source]
    pub kind: ErrorKind,
}

/// What went wrong in a transfer.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The file ended before the range did: it was shorter from the start, or it shrank. All that
    /// it held was sent.
    #[error("the file ended before the range did")]
    Truncated,
    /// The peer took nothing for the time of [`Options::stall`](crate::Options::stall).
    #[error("the peer took nothing for too long")]
    Stalled,
    /// The socket failed, as with a peer that reset or closed the connection.
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    /// The file could not be read.
    #[error("the file could not be read")]
    File(#[source] io::Error),
    /// What was read could not be encoded.
    #[error("the bytes could not be encoded")]
    Encode(#[source] io::Error),
    /// There is no pipe, and none could be made.
    #[error("no pipe could be made")]
    Pipe(#[source] io::Error),
}
