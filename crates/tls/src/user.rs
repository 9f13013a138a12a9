//! Records in user space, after the handshake: the way for TLS 1.2 and for kernels without kTLS.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus};
use rustls::{ProtocolVersion, SupportedCipherSuite};

use crate::records::{self, State};

/// Bytes of data that one full record holds (RFC 8446 section 5.1).
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16 << 10;

/// A header, an explicit nonce (AES-GCM in TLS 1.2) and a tag: the most that a record adds.
const RECORD_OVERHEAD_BYTES_TLS12: usize = 5 + 8 + 16;

/// A header, the inner type and a tag.
const RECORD_OVERHEAD_BYTES_TLS13: usize = 5 + 1 + 16;

/// Room for what rustls sends first of its own accord: the answer to a KeyUpdate and a KeyUpdate
/// when the cipher's limit is near, 27 bytes each.
const KEY_UPDATES_BYTES_MAX: usize = 64;

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
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The keys have been used as often as is safe, or it was closed or failed before.
    #[error("nothing more can be encrypted")]
    Ended,
    /// The buffer has not the room that [`UserSession::encrypted_bytes_max`] asks for.
    #[error("{required} bytes are needed for the encrypted records")]
    TooSmall {
        /// Bytes that are needed.
        required: usize,
    },
}

/// The records of one connection. Boxed inside; it holds no buffer while nothing is under way.
pub struct UserSession {
    connection: Box<UnbufferedServerConnection>,
    /// The start of a record whose rest is still to come.
    input: Vec<u8>,
    failed: bool,
}

impl UserSession {
    pub(crate) fn new(connection: UnbufferedServerConnection, mut input: Vec<u8>) -> Self {
        input.shrink_to_fit();
        Self {
            connection: Box::new(connection),
            input,
            failed: false,
        }
    }

    /// Decrypts what was received, which is overwritten, and appends the data to `plaintext`. What
    /// the protocol has to say (an alert) is appended to `out`; the answer to a KeyUpdate goes out
    /// with what is encrypted next.
    pub fn decrypt(
        &mut self,
        received: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Incoming, UserError> {
        if self.failed {
            return Err(UserError::Ended);
        }
        let processed = if self.input.is_empty() {
            let processed = records::process(&mut self.connection, received, plaintext, out);
            self.input.extend_from_slice(&received[processed.used..]);
            processed
        } else {
            self.input.extend_from_slice(received);
            let processed = records::process(&mut self.connection, &mut self.input, plaintext, out);
            self.input.drain(..processed.used);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            processed
        };
        self.failed = processed.state.is_err();
        processed.state?;
        Ok(if processed.peer_closed {
            Incoming::Closed
        } else {
            Incoming::Data
        })
    }

    /// The most bytes that `plain` bytes of data need when encrypted at once.
    pub fn encrypted_bytes_max(&self, plain: usize) -> usize {
        let records = plain.div_ceil(RECORD_PLAINTEXT_BYTES_MAX);
        plain + records * self.record_overhead() + KEY_UPDATES_BYTES_MAX
    }

    /// Encrypts `plain` into as few records as it takes and appends them to `out`.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), UserError> {
        let start = out.len();
        out.resize(start + self.encrypted_bytes_max(plain.len()), 0);
        let result = self.encrypt_into(plain, &mut out[start..]);
        out.truncate(start + result.as_ref().map_or(0, |&written| written));
        result.map(drop)
    }

    /// As [`UserSession::encrypt`], into a buffer that is reused and need not be cleared: at least
    /// [`UserSession::encrypted_bytes_max`] bytes. Returns how many were written.
    pub fn encrypt_into(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, UserError> {
        self.write(out, |traffic, out| traffic.encrypt(plain, out))
    }

    /// Appends close_notify to `out`: no more data follows. A second time nothing is appended.
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), UserError> {
        let start = out.len();
        out.resize(start + self.encrypted_bytes_max(2), 0);
        let result = self.write(&mut out[start..], |traffic, out| {
            traffic.queue_close_notify(out)
        });
        out.truncate(start + result.as_ref().map_or(0, |&written| written));
        match result {
            Ok(_) | Err(UserError::Ended) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gets to where rustls lets data be written and has `write` do it.
    fn write(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<usize, UserError> {
        if self.failed {
            return Err(UserError::Ended);
        }
        // Whatever is to be sent first (rustls sends little of its own accord).
        let mut first = Vec::new();
        let mut unexpected = Vec::new();
        let processed = records::process(
            &mut self.connection,
            &mut self.input,
            &mut unexpected,
            &mut first,
        );
        self.input.drain(..processed.used);
        if processed.state? == State::Closed {
            return Err(UserError::Ended);
        }
        let Some((head, rest)) = out.split_at_mut_checked(first.len()) else {
            return Err(UserError::TooSmall {
                required: first.len(),
            });
        };
        head.copy_from_slice(&first);
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.input);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(UserError::Ended);
        };
        match write(&mut traffic, rest) {
            Ok(written) => Ok(first.len() + written),
            Err(EncryptError::InsufficientSize(size)) => Err(UserError::TooSmall {
                required: first.len() + size.required_size,
            }),
            Err(EncryptError::EncryptExhausted) => Err(UserError::Ended),
        }
    }

    fn record_overhead(&self) -> usize {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => RECORD_OVERHEAD_BYTES_TLS13,
            _ => RECORD_OVERHEAD_BYTES_TLS12,
        }
    }

    /// The suite, for counters.
    pub fn suite(&self) -> Option<SupportedCipherSuite> {
        self.connection.negotiated_cipher_suite()
    }
}

type Traffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;
