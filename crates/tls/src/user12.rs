//! TLS 1.2 after the handshake: rustls handles its records.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus};

use crate::records::{self, State};
use crate::session::{Decrypted, Incoming, UserError};

/// A header, an explicit nonce (AES-GCM) and a tag: the most that a record adds to its data.
pub(crate) const OVERHEAD_BYTES: usize = 5 + 8 + 16;

/// The records of one connection of TLS 1.2.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// The start of a record whose rest is still to come.
    input: Vec<u8>,
    failed: bool,
}

impl Session {
    pub(crate) fn new(connection: UnbufferedServerConnection, mut input: Vec<u8>) -> Self {
        input.shrink_to_fit();
        Self {
            connection,
            input,
            failed: false,
        }
    }

    /// See [`UserSession::decrypt_in_place`](crate::UserSession::decrypt_in_place).
    pub(crate) fn decrypt(
        &mut self,
        received: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(Incoming, Decrypted), UserError> {
        if self.failed {
            return Err(UserError::Ended);
        }
        let mut plaintext = Vec::new();
        let processed = if self.input.is_empty() {
            let processed = records::process(&mut self.connection, received, &mut plaintext, out);
            self.input.extend_from_slice(&received[processed.used..]);
            processed
        } else {
            self.input.extend_from_slice(received);
            let (connection, input) = (&mut self.connection, &mut self.input);
            let processed = records::process(connection, input, &mut plaintext, out);
            self.input.drain(..processed.used);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            processed
        };
        self.failed = processed.state.is_err();
        processed.state?;
        let incoming = if processed.peer_closed {
            Incoming::Closed
        } else {
            Incoming::Data
        };
        Ok((incoming, Decrypted::Apart(plaintext)))
    }

    /// Encrypts `plain` into as few records as it takes, at the start of `out`: how many bytes.
    pub(crate) fn encrypt_into(
        &mut self,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, UserError> {
        self.write(out, |traffic, out| traffic.encrypt(plain, out))
    }

    /// Writes close_notify to the start of `out`: how many bytes.
    pub(crate) fn close_into(&mut self, out: &mut [u8]) -> Result<usize, UserError> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is for one lifetime only"
        )]
        self.write(out, |traffic, out| traffic.queue_close_notify(out))
    }

    /// Advances rustls to the state in which data can be written, and calls `write` there.
    fn write(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<usize, UserError> {
        if self.failed {
            return Err(UserError::Ended);
        }
        // Output that goes first (rustls sends little on its own).
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
}

type Traffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;
