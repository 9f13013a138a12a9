//! Why a transfer ended early, and how far it came.

use std::error;
use std::fmt;
use std::io;

/// A transfer that did not send its whole range.
///
/// The peer was promised more bytes than it got: a connection whose framing depends on them must
/// be closed.
#[derive(Debug)]
pub struct Error {
    /// Bytes of the file that the socket took. The peer may have received fewer.
    pub sent: u64,
    /// What went wrong.
    pub kind: ErrorKind,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {} bytes", self.kind, self.sent)
    }
}

impl error::Error for Error {
    /// The kind is in the message, so the source is the one of the kind.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        error::Error::source(&self.kind)
    }
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
    /// The bytes that were read could not be encoded.
    #[error("the bytes could not be encoded")]
    Encode(#[source] io::Error),
    /// There is no pipe, and none could be made.
    #[error("no pipe could be made")]
    Pipe(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_printed_once() {
        let error = Error {
            sent: 7,
            kind: ErrorKind::File(io::Error::other("refused")),
        };
        let mut texts = Vec::new();
        let mut next: Option<&dyn error::Error> = Some(&error);
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        assert_eq!(
            texts,
            ["the file could not be read, after 7 bytes", "refused"]
        );
    }
}
