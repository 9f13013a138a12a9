//! Records in user space after the handshake: for TLS 1.2, and for kernels without kTLS.

use std::time::Instant;

use rustls::server::UnbufferedServerConnection;

use crate::opening::{Opening, SHORT_RECORD_BYTES, SHORT_RECORDS_MAX};
use crate::protection::{self, RECORD_PLAINTEXT_BYTES_MAX};
use crate::session::{Decrypted, Incoming, UserError};
use crate::{user12, user13};

/// Room for messages before the data: the answer to a KeyUpdate, and a KeyUpdate near the cipher's
/// limit, 27 bytes each.
const KEY_UPDATES_BYTES_MAX: usize = 64;

/// Bytes of an alert.
const ALERT_BYTES: usize = 2;

/// The record layer of one connection. Boxed inside; it holds no buffer while idle.
pub struct UserSession {
    records: Records,
    opening: Opening,
}

enum Records {
    /// rustls'.
    Tls12(Box<user12::Session>),
    /// Ours, without copies.
    Tls13(Box<user13::Session>),
}

impl UserSession {
    /// Continues after a finished handshake of TLS 1.2; `input` holds the received bytes that
    /// rustls has not consumed.
    pub(crate) fn tls12(connection: UnbufferedServerConnection, input: Vec<u8>) -> Self {
        let session = user12::Session::new(connection, input);
        Self::new(Records::Tls12(Box::new(session)))
    }

    /// Continues after a finished handshake of TLS 1.3.
    pub(crate) fn tls13(mut session: Box<user13::Session>) -> Self {
        session.forget_secrets();
        Self::new(Records::Tls13(session))
    }

    fn new(records: Records) -> Self {
        let opening = Opening::new(Instant::now());
        Self { records, opening }
    }

    /// Decrypts received bytes, where they are if they begin with a record. An alert is appended to
    /// `out`; the answer to a KeyUpdate precedes the data that is encrypted next.
    pub fn decrypt_in_place(
        &mut self,
        received: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(Incoming, Decrypted), UserError> {
        match &mut self.records {
            Records::Tls12(session) => session.decrypt(received, out),
            Records::Tls13(session) => session.decrypt(received, out),
        }
    }

    /// As [`UserSession::decrypt_in_place`]; appends the data to `plaintext`.
    pub fn decrypt(
        &mut self,
        received: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Incoming, UserError> {
        let (incoming, data) = self.decrypt_in_place(received, out)?;
        plaintext.extend_from_slice(data.of(received));
        Ok(incoming)
    }

    /// The most bytes that the encryption of `plain` bytes of data needs.
    pub fn encrypted_bytes_max(&self, plain: usize) -> usize {
        let overhead = match &self.records {
            Records::Tls12(_) => user12::OVERHEAD_BYTES,
            Records::Tls13(_) => protection::OVERHEAD_BYTES,
        };
        let records = plain.div_ceil(RECORD_PLAINTEXT_BYTES_MAX) + SHORT_RECORDS_MAX;
        plain + records * overhead + KEY_UPDATES_BYTES_MAX
    }

    /// Encrypts `plain` and appends the records to `out`, as few as possible. The first 16 KiB of a
    /// connection, or after a second of silence, are in records of [`SHORT_RECORD_BYTES`] unless
    /// `plain` fits into TCP's first window.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), UserError> {
        self.append(plain.len(), out, |session, out| {
            session.encrypt_into(plain, out)
        })
    }

    /// As [`UserSession::encrypt`], into a buffer that is reused and need not be cleared: at least
    /// [`UserSession::encrypted_bytes_max`] bytes. Returns how many were written.
    pub fn encrypt_into(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, UserError> {
        let required = self.encrypted_bytes_max(plain.len());
        if out.len() < required {
            return Err(UserError::TooSmall { required });
        }
        let short = self.opening.short(plain.len() as u64, Instant::now());
        let (short, rest) = plain.split_at(short as usize);
        let mut written = 0;
        for piece in short.chunks(SHORT_RECORD_BYTES as usize) {
            written += self.records.encrypt_into(piece, &mut out[written..])?;
        }
        if !rest.is_empty() {
            written += self.records.encrypt_into(rest, &mut out[written..])?;
        }
        Ok(written)
    }

    /// Appends close_notify to `out`: no more data follows. A second time nothing is appended.
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), UserError> {
        let closed = self.append(ALERT_BYTES, out, |session, out| {
            match &mut session.records {
                Records::Tls12(session) => session.close_into(out),
                Records::Tls13(session) => session.close_into(out),
            }
        });
        match closed {
            Err(UserError::Ended) => Ok(()),
            closed => closed,
        }
    }

    /// Appends the output of `write` for `plain_bytes` of data.
    fn append(
        &mut self,
        plain_bytes: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Self, &mut [u8]) -> Result<usize, UserError>,
    ) -> Result<(), UserError> {
        let start = out.len();
        out.resize(start + self.encrypted_bytes_max(plain_bytes), 0);
        let result = write(self, &mut out[start..]);
        out.truncate(start + result.as_ref().map_or(0, |&written| written));
        result.map(drop)
    }
}

impl Records {
    fn encrypt_into(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, UserError> {
        match self {
            Self::Tls12(session) => session.encrypt_into(plain, out),
            Self::Tls13(session) => session.encrypt_into(plain, out),
        }
    }
}
