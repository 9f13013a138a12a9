//! The handshake of one connection, without I/O.

use std::io;
use std::mem;
use std::os::fd::BorrowedFd;

use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::acceptor::Acceptor;
use crate::certificates::subject;
use crate::kernel::{KernelFeatures, KernelSession, Suite};
use crate::names::Names;
use crate::records::{self, State};
use crate::resolver::{Choice, take_choice};
use crate::session::{Incoming, UserError};
use crate::user::UserSession;
use crate::user13;

/// Received bytes that a handshake may buffer: a client's certificate chain in one message, and
/// some more.
const BUFFERED_BYTES_MAX: usize = 64 << 10;

/// Protected records that a handshake may buffer. rustls decrypts skipped early data again with
/// each record that follows: without a bound, 64 KiB of tiny records keep a core busy for seconds.
const PROTECTED_RECORDS_MAX: usize = 128;

/// The type that every protected record has (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;

/// Bytes of a record's header: type, version, length (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// A plain fatal alert `decode_error`, for a client that is cut off before rustls has an alert for
/// it.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// The progress of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The client has to send more.
    More,
    /// Done. Bytes fed from here on are the client's data, see [`Handshake::take_plaintext`].
    Finished,
}

/// Why a handshake failed. Send the bytes appended to `out`, then close the connection.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The client speaks HTTP without TLS; nothing is in `out`, and a plain response can be sent.
    #[error("plain HTTP on a TLS port")]
    PlainHttp,
    /// More was received than a handshake can need.
    #[error("the handshake is larger than 64 KiB, or is in more than 128 protected records")]
    TooLong,
    /// The client broke the protocol, or nothing it offers is acceptable.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The kinds of [`Failed`], for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// [`Failed::PlainHttp`].
    PlainHttp,
    /// [`Failed::TooLong`].
    TooLong,
    /// No version, suite, group or protocol in common.
    Incompatible,
    /// The client's certificate is missing or not accepted.
    Certificate,
    /// The client ended the handshake by an alert.
    Alert,
    /// The client violated TLS.
    Malformed,
    /// A fault of this host.
    Host,
}

impl Failed {
    /// Its kind.
    pub fn kind(&self) -> FailureKind {
        use rustls::Error;
        match self {
            Self::PlainHttp => FailureKind::PlainHttp,
            Self::TooLong => FailureKind::TooLong,
            Self::Tls(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
                FailureKind::Incompatible
            }
            Self::Tls(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
                FailureKind::Certificate
            }
            Self::Tls(Error::AlertReceived(_)) => FailureKind::Alert,
            Self::Tls(
                Error::FailedToGetCurrentTime
                | Error::FailedToGetRandomBytes
                | Error::EncryptError
                | Error::General(_)
                | Error::Other(_),
            ) => FailureKind::Host,
            Self::Tls(_) => FailureKind::Malformed,
        }
    }
}

impl From<UserError> for Failed {
    fn from(error: UserError) -> Self {
        Self::Tls(match error {
            UserError::Tls(error) => error,
            error => rustls::Error::General(error.to_string()),
        })
    }
}

/// The parameters that a finished handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The suite's name as IANA writes it, `"TLS13_"` shortened to `"TLS_"`.
    pub suite: String,
    /// The protocol agreed by ALPN, such as `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// The host name the client asked for (SNI).
    pub server_name: Option<Box<str>>,
    /// The names that the server's certificate covers.
    pub covered: Names,
    /// Whether a ticket took the place of certificates and signatures.
    pub resumed: bool,
    /// The subject of the client's certificate, which was checked against the authorities.
    pub client: Option<String>,
}

/// A handshake in progress. It takes some kilobytes: box it to keep many.
pub struct Handshake {
    side: Side,
    /// Received bytes that are not processed yet, at most [`BUFFERED_BYTES_MAX`].
    input: Vec<u8>,
    /// Bytes of `input` in records that rustls has seen but not consumed.
    seen: usize,
    /// Protected records among those, at most [`PROTECTED_RECORDS_MAX`].
    protected: usize,
    plaintext: Vec<u8>,
    connected: Option<Connected>,
    choice: Choice,
    phase: Phase,
    closed: bool,
}

/// The owner of the record layer.
enum Side {
    /// rustls', during the handshake, and for good in TLS 1.2.
    Rustls(Box<UnbufferedServerConnection>),
    /// Ours, after a handshake of TLS 1.3.
    Tls13(Box<user13::Session>),
    /// The handshake failed.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent: the client would read plain bytes.
    Unanswered,
    Answered,
    Finished,
    Failed,
}

impl Handshake {
    /// A handshake with the certificates loaded now.
    pub fn new(acceptor: &Acceptor) -> Result<Self, Failed> {
        Ok(Self {
            side: Side::Rustls(Box::new(UnbufferedServerConnection::new(
                acceptor.config(),
            )?)),
            input: Vec::new(),
            seen: 0,
            protected: 0,
            connected: None,
            plaintext: Vec::new(),
            choice: Choice::default(),
            phase: Phase::Unanswered,
            closed: false,
        })
    }

    /// Processes received bytes, in pieces of any size, and appends the bytes to send to `out`,
    /// also when it fails. An error ends the handshake: later calls fail too.
    pub fn feed(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Progress, Failed> {
        if self.phase == Phase::Failed {
            return Err(rustls::Error::HandshakeNotComplete.into());
        }
        let progress = self.take(received, out);
        if progress.is_err() {
            self.phase = Phase::Failed;
        }
        progress
    }

    /// Ends a handshake that the client abandoned: appends a fatal alert to `out`, if the client
    /// could still read a plain one.
    pub fn give_up(&mut self, out: &mut Vec<u8>) {
        if self.phase == Phase::Unanswered && !self.input.is_empty() {
            out.extend_from_slice(&DECODE_ERROR);
        }
        self.phase = Phase::Failed;
    }

    /// Bytes missing from a record whose start was fed already, or from its header first. Read
    /// exactly that many before [`Handshake::into_kernel`]. 0: no partial record.
    pub fn missing(&self) -> usize {
        match &self.side {
            Side::Tls13(session) => session.missing(),
            Side::Rustls(_) | Side::Over => 0,
        }
    }

    /// The agreed parameters, once finished.
    pub fn connected(&self) -> Option<Connected> {
        self.connected.clone()
    }

    /// The protocol agreed by ALPN, once finished.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connected.as_ref()?.alpn.as_deref()
    }

    /// The decrypted data that came with the handshake's last records. It is returned once.
    pub fn take_plaintext(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plaintext)
    }

    /// Whether the client sent close_notify: it will send no more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the kernel can take over the records: it has the suite, the version is 1.3, and the
    /// client has neither closed nor sent part of a KeyUpdate, which not every kernel could follow.
    /// If so, bring [`Handshake::missing`] to 0, then check again.
    pub fn suits_kernel(&self, features: &KernelFeatures) -> bool {
        match &self.side {
            Side::Tls13(session) if self.phase == Phase::Finished && !self.closed => {
                let suite = Suite::of(session.suite());
                suite.is_some_and(|suite| features.has(suite)) && !session.is_within_message()
            }
            _ => false,
        }
    }

    /// Installs the keys in the kernel. From here on `socket`, prepared by
    /// [`kernel::prepare`](crate::kernel::prepare), encrypts sent bytes and decrypts received ones.
    /// After an error the connection can only be closed.
    ///
    /// Requires TLS 1.3, a finished handshake, all output sent, and no partial record
    /// ([`Handshake::missing`]); otherwise `InvalidInput`.
    pub fn into_kernel(self, socket: BorrowedFd<'_>) -> io::Result<KernelSession> {
        let handover = match self.side {
            Side::Tls13(session) if self.phase == Phase::Finished => session.hand_over(),
            _ => None,
        };
        let handover = handover.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "only a finished TLS 1.3 handshake without a partial record can be handed over",
            )
        })?;
        KernelSession::install(socket, handover)
    }

    /// Continues in user space. Requires a finished handshake and all output sent; otherwise
    /// rustls' error says so.
    pub fn into_user(self) -> Result<UserSession, rustls::Error> {
        match self.side {
            _ if self.phase != Phase::Finished => Err(rustls::Error::HandshakeNotComplete),
            Side::Rustls(connection) => Ok(UserSession::tls12(*connection, self.input)),
            Side::Tls13(session) => Ok(UserSession::tls13(session)),
            Side::Over => Err(rustls::Error::HandshakeNotComplete),
        }
    }

    #[cfg(test)]
    pub(crate) fn into_session(self) -> user13::Session {
        match self.side {
            Side::Tls13(session) => *session,
            _ => panic!("no session of TLS 1.3"),
        }
    }

    fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Progress, Failed> {
        if let Side::Tls13(_) = self.side {
            return self.take_records(&mut received.to_vec(), out);
        }
        let unanswered = self.phase == Phase::Unanswered;
        if unanswered && looks_like_http(self.input.first().or(received.first())) {
            return Err(Failed::PlainHttp);
        }
        if self.input.len() + received.len() > BUFFERED_BYTES_MAX {
            // Once keys are agreed, only rustls could send an alert.
            if unanswered {
                out.extend_from_slice(&DECODE_ERROR);
            }
            return Err(Failed::TooLong);
        }
        self.input.extend_from_slice(received);
        let sent_before = out.len();
        let state = self.process(out);
        if let Some(choice) = take_choice() {
            self.choice = choice;
        }
        let silent = out.len() == sent_before;
        let state = state.inspect_err(|_| {
            // rustls has no alert for some errors, as for a message that is too long.
            if unanswered && silent {
                out.extend_from_slice(&DECODE_ERROR);
            }
        })?;
        if state != State::Handshaking {
            return self.finish(out);
        }
        if !silent {
            self.phase = Phase::Answered;
        }
        Ok(Progress::More)
    }

    /// Has rustls process received bytes, record by record: records after a handshake of TLS 1.3
    /// are not for rustls.
    fn process(&mut self, out: &mut Vec<u8>) -> Result<State, Failed> {
        let Side::Rustls(connection) = &mut self.side else {
            return Err(rustls::Error::HandshakeNotComplete.into());
        };
        loop {
            let next = &self.input[self.seen..];
            let (length, is_whole) = first_record(next);
            if is_whole && next.first() == Some(&APPLICATION_DATA) {
                self.protected += 1;
            }
            if self.protected > PROTECTED_RECORDS_MAX {
                return Err(Failed::TooLong);
            }
            let end = self.seen + length;
            let input = &mut self.input[..end];
            let processed = records::process(connection, input, &mut self.plaintext, out);
            let is_last = end == self.input.len();
            let seen = if is_whole { end } else { self.seen };
            self.seen = seen.saturating_sub(processed.used);
            self.input.drain(..processed.used);
            if self.seen == 0 {
                self.protected = 0;
            }
            self.closed |= processed.peer_closed;
            let state = processed.state?;
            let is_ours = state != State::Handshaking
                && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if is_ours || is_last {
                return Ok(state);
            }
        }
    }

    /// The handshake is done; in TLS 1.3 this crate owns the records from here on.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<Progress, Failed> {
        match mem::replace(&mut self.side, Side::Over) {
            Side::Rustls(connection) => {
                self.connected = self.agreed(&connection);
                if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                    let session = user13::Session::new(*connection)?;
                    self.side = Side::Tls13(Box::new(session));
                } else {
                    self.side = Side::Rustls(connection);
                }
            }
            other => self.side = other,
        }
        self.phase = Phase::Finished;
        let mut received = mem::take(&mut self.input);
        if let Side::Rustls(_) = self.side {
            self.input = received;
            return Ok(Progress::Finished);
        }
        self.take_records(&mut received, out)
    }

    /// Processes records of a TLS 1.3 session.
    fn take_records(&mut self, received: &mut [u8], out: &mut Vec<u8>) -> Result<Progress, Failed> {
        if let Side::Tls13(session) = &mut self.side {
            let (incoming, data) = session.decrypt(received, out)?;
            self.plaintext.extend_from_slice(data.of(received));
            self.closed |= incoming == Incoming::Closed;
            session.answer_key_update(out)?;
        }
        Ok(Progress::Finished)
    }

    fn agreed(&self, connection: &UnbufferedServerConnection) -> Option<Connected> {
        let suite = connection.negotiated_cipher_suite()?.suite();
        let client = connection
            .peer_certificates()
            .and_then(|chain| subject(chain.first()?));
        Some(Connected {
            version: connection.protocol_version()?,
            suite: suite
                .as_str()
                .unwrap_or("unknown")
                .replace("TLS13_", "TLS_"),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: self.choice.server_name.clone(),
            covered: self.choice.covered.clone(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client,
        })
    }
}

/// The length of the record at the start of `input`, or of the part that is there; whether it is
/// complete.
fn first_record(input: &[u8]) -> (usize, bool) {
    let Some([high, low]) = input.get(3..RECORD_HEADER_BYTES) else {
        return (input.len(), false);
    };
    let length = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    (length.min(input.len()), length <= input.len())
}

/// No TLS record type is a letter, and every HTTP method begins with one.
fn looks_like_http(first: Option<&u8>) -> bool {
    first.is_some_and(u8::is_ascii_alphabetic)
}
