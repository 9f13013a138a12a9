//! The results of a session in user space, for both versions of TLS.

use rustls::Error;

/// The result of decrypting received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Data, perhaps none yet: part of a record, or records of the protocol itself.
    Data,
    /// The client has sent close_notify, after the data that was appended. It may still receive.
    Closed,
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
