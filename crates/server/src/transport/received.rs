//! Bytes that a connection received.

use std::ops::Deref;

use tidegate_uring::Received as Plaintext;

/// Bytes that the peer sent.
pub(crate) enum Received {
    /// Where the socket received them.
    Plain(Plaintext),
    /// Decrypted apart from that, or read along with the kernel's TLS records.
    Decrypted(Vec<u8>),
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Plain(received) => received,
            Self::Decrypted(bytes) => bytes,
        }
    }
}
