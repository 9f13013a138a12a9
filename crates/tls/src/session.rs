//! What a session in user space returns, whatever its version.

use rustls::Error;

/// What a piece of input has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Data, perhaps none yet: part of a record, or records of the protocol itself.
    Data,
    /// The client has sent close_notify, after the data that was appended. It may still receive.
    Closed,
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The client broke the protocol. The alert was appended to `out`.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The keys have been used as often as is safe, or it was closed or failed before.
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
