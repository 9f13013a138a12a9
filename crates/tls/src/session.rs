//! The results of a session in user space, for both versions of TLS.

use rustls::Error;

/// The result of decrypting received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Data, perhaps none yet: part of a record, or records of the protocol itself.
    Data,
    /// The client has sent close_notify, after the data. It may still receive.
    Closed,
}

/// Where the data is that was decrypted.
#[derive(Debug, PartialEq, Eq)]
pub enum Decrypted {
    /// So many bytes at the start of what was received.
    InPlace(usize),
    /// In memory of its own, since its first record had begun before.
    Apart(Vec<u8>),
}

impl Decrypted {
    /// The data; `received` is what was given to
    /// [`UserSession::decrypt_in_place`](crate::UserSession::decrypt_in_place).
    pub fn of<'a>(&'a self, received: &'a [u8]) -> &'a [u8] {
        match self {
            Self::InPlace(len) => &received[..*len],
            Self::Apart(data) => data,
        }
    }
}

/// Why bytes could not be decrypted or encrypted.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The client broke the protocol. The alert was appended to `out`.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The keys reached their limit, or the session was closed or has failed.
    #[error("nothing more can be encrypted")]
    Ended,
    /// The buffer is smaller than
    /// [`UserSession::encrypted_bytes_max`](crate::UserSession::encrypted_bytes_max).
    #[error("{required} bytes are needed for the encrypted records")]
    TooSmall {
        /// Bytes that are needed.
        required: usize,
    },
}
