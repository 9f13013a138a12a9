//! A connection whose records the kernel encrypts and decrypts.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, SupportedCipherSuite};

use crate::kernel::keys::{read_on, set_keys};
use crate::kernel::sys::{ALERT, DATA, HANDSHAKE, receive_record, send_record};
use crate::opening::Opening;
use crate::post_handshake::{KEY_UPDATE_MESSAGE, KeyUpdates, MessageError};
use crate::user13::Handover;

/// Alert levels and descriptions (RFC 8446 section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Bytes of data in a full record.
const RECORD_PLAINTEXT_BYTES_MAX: u64 = 16 << 10;

/// Records before the cipher's limit at which a response under way must be cut off: more than one
/// splice of the largest pipe makes.
const RECORDS_RESERVE: u64 = 4096;

/// A record that is not data, or the end of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// It was data; here it is.
    Data(Vec<u8>),
    /// close_notify: the client sends no more, and may still receive.
    Closed,
    /// An alert that ends the connection; its description (RFC 8446 section 6).
    Alert(u8),
    /// A record that needs no action: part of a KeyUpdate, or its end, which the kernel follows.
    Nothing,
}

/// How far the keys are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Far from the limit.
    Fresh,
    /// The connection should be closed after the response under way.
    CloseAfterResponse,
    /// Nothing more may be sent.
    Exhausted,
}

/// A connection whose records the kernel handles. User space keeps what a KeyUpdate needs. The
/// socket is not kept: pass the one that the keys were installed on to each call.
pub struct KernelSession {
    connection: KernelConnection<ServerConnectionData>,
    records_sent: u64,
    records_max: u64,
    key_updates: KeyUpdates,
    /// A KeyUpdate that the client requested, and that the full socket did not take.
    owes_key_update: bool,
    /// The last alert was sent: close_notify or a fatal one.
    ended: bool,
    opening: Opening,
}

impl KernelSession {
    /// Installs the keys of a finished handshake on the prepared `socket`.
    pub(crate) fn install(socket: BorrowedFd<'_>, handover: Handover) -> io::Result<Self> {
        let Handover {
            connection,
            send,
            receive,
            key_updates,
        } = handover;
        let suite = connection.negotiated_cipher_suite();
        let records_max = suite
            .tls13()
            .map_or(0, |suite| suite.common.confidentiality_limit);
        set_keys(socket, libc::TLS_TX, send.0, &send.1)?;
        set_keys(socket, libc::TLS_RX, receive.0, &receive.1)?;
        Ok(Self {
            connection,
            records_sent: send.0,
            records_max,
            key_updates,
            owes_key_update: false,
            ended: false,
            opening: Opening::new(Instant::now()),
        })
    }

    /// The suite in use.
    pub fn suite(&self) -> SupportedCipherSuite {
        self.connection.negotiated_cipher_suite()
    }

    /// Counts one send or splice of `bytes` of data against the cipher's limit, which the kernel
    /// does not (AES-GCM: 2^24 records, 256 GiB of full ones).
    pub fn count(&mut self, bytes: u64) -> Usage {
        let records = bytes / RECORD_PLAINTEXT_BYTES_MAX + 1;
        self.records_sent = self.records_sent.saturating_add(records);
        self.usage()
    }

    /// How many of the next `bytes`, from the first on, should leave in records of
    /// [`SHORT_RECORD_BYTES`](crate::SHORT_RECORD_BYTES): in a full record the client could not
    /// decrypt them before another round trip.
    pub fn opening(&mut self, bytes: u64) -> u32 {
        self.opening.short(bytes, Instant::now())
    }

    /// How far the keys are used up.
    pub fn usage(&self) -> Usage {
        if self.records_sent >= self.records_max.saturating_sub(RECORDS_RESERVE) {
            Usage::Exhausted
        } else if self.records_sent >= self.records_max / 2 {
            Usage::CloseAfterResponse
        } else {
            Usage::Fresh
        }
    }

    /// Receives the record that made recv(2) fail with `EIO`: one that is not data. `WouldBlock` if
    /// nothing is there. A KeyUpdate is handled here. If the kernel cannot follow it, the error is
    /// the kernel's, the alert is sent, and the connection can only be closed.
    pub fn receive_control(&mut self, socket: BorrowedFd<'_>) -> io::Result<Control> {
        let mut buffer = [0; 512];
        let (kind, length) = receive_record(socket, &mut buffer)?;
        let record = &buffer[..length];
        match (kind, record) {
            (DATA, data) => {
                self.take_data(socket)?;
                Ok(Control::Data(data.to_vec()))
            }
            (ALERT, [_, CLOSE_NOTIFY]) => Ok(Control::Closed),
            // close_notify follows (RFC 8446 section 6.1).
            (ALERT, [_, USER_CANCELED]) => Ok(Control::Nothing),
            (ALERT, [_, description]) => Ok(Control::Alert(*description)),
            (ALERT, [_, ..]) => {
                Err(self.fail(socket, AlertDescription::DecodeError, "an alert and more"))
            }
            (HANDSHAKE, content) => self.take_handshake(socket, content),
            _ => Err(self.fail(socket, AlertDescription::UnexpectedMessage, "a record")),
        }
    }

    /// Checks that data is allowed at this point; if not, an alert is sent and the connection can
    /// only be closed.
    pub fn take_data(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let taken = self.key_updates.end_of_message();
        taken.map_err(|error| self.refuse(socket, error))
    }

    /// Sends the alert for a record that the kernel could not decrypt, if the socket takes it.
    /// `error` is the error of recv(2). Returns whether it concerns the client's records.
    ///
    /// Take the socket's pending error (`SO_ERROR`) first: it would block the alert.
    pub fn reject(&mut self, socket: BorrowedFd<'_>, error: &io::Error) -> bool {
        let description = match error.raw_os_error() {
            Some(libc::EBADMSG) => AlertDescription::BadRecordMac,
            Some(libc::EMSGSIZE) => AlertDescription::RecordOverflow,
            Some(libc::EINVAL) => AlertDescription::ProtocolVersion,
            _ => return false,
        };
        self.say_fatal(socket, description);
        true
    }

    /// Whether a KeyUpdate that the client requested is still unsent: no data may go before it (RFC
    /// 8446 section 4.6.3).
    pub fn owes_key_update(&self) -> bool {
        self.owes_key_update
    }

    /// Sends the KeyUpdate that the client requested, if one is due. Call it before sending data.
    /// `WouldBlock` if the socket is full: call it again when it is writable.
    pub fn settle(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if !self.owes_key_update {
            return Ok(());
        }
        send_record(socket, HANDSHAKE, &KEY_UPDATE_MESSAGE)?;
        self.owes_key_update = false;
        let changed = self
            .connection
            .update_tx_secret()
            .map_err(io::Error::other)
            .and_then(|(sequence, secrets)| set_keys(socket, libc::TLS_TX, sequence, &secrets));
        if let Err(error) = changed {
            // The client expects the new keys already, and could not decrypt an alert.
            self.end();
            return Err(error);
        }
        self.records_sent = 0;
        Ok(())
    }

    /// Sends close_notify, and with it the bytes that an open record (`MSG_MORE`) holds back.
    /// `WouldBlock` if the socket is full; then the connection can only be closed without it.
    pub fn close(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        send_record(socket, ALERT, &[WARNING, CLOSE_NOTIFY])?;
        self.end();
        Ok(())
    }

    /// Sends a fatal alert `internal_error`, if the socket takes it: a response was cut off by a
    /// fault of the server. It flushes what an open record holds back.
    pub fn abort(&mut self, socket: BorrowedFd<'_>) {
        self.say_fatal(socket, AlertDescription::InternalError);
    }

    fn refuse(&mut self, socket: BorrowedFd<'_>, error: MessageError) -> io::Error {
        self.fail(socket, error.alert, error.reason)
    }

    /// Sends a fatal alert. Returns the error for the `reason`.
    fn fail(
        &mut self,
        socket: BorrowedFd<'_>,
        alert: AlertDescription,
        reason: &'static str,
    ) -> io::Error {
        self.say_fatal(socket, alert);
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    fn say_fatal(&mut self, socket: BorrowedFd<'_>, alert: AlertDescription) {
        if !self.ended {
            // Best effort: the connection is closed in any case.
            let _ = send_record(socket, ALERT, &[FATAL, alert.into()]);
            self.end();
        }
    }

    /// Nothing is sent from here on.
    fn end(&mut self) {
        self.ended = true;
        self.owes_key_update = false;
    }

    fn take_handshake(&mut self, socket: BorrowedFd<'_>, content: &[u8]) -> io::Result<Control> {
        let followed = match self.key_updates.take(content, Instant::now()) {
            Ok(Some(requested)) => self.follow_key_update(socket, requested),
            Ok(None) => read_on(socket, self.suite()),
            Err(error) => return Err(self.refuse(socket, error)),
        };
        match followed {
            Ok(()) => Ok(Control::Nothing),
            Err(error) => {
                self.say_fatal(socket, AlertDescription::InternalError);
                Err(error)
            }
        }
    }

    fn follow_key_update(&mut self, socket: BorrowedFd<'_>, requested: bool) -> io::Result<()> {
        let updated = self.connection.update_rx_secret();
        let (sequence, secrets) = updated.map_err(io::Error::other)?;
        set_keys(socket, libc::TLS_RX, sequence, &secrets)?;
        self.owes_key_update |= requested && !self.ended;
        match self.settle(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            settled => settled,
        }
    }
}
