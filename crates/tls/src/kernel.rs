//! Kernel TLS (kTLS): the socket encrypts and decrypts, so splice(2) into it works as into a plain
//! socket. TLS 1.3 only; the crate's documentation says why.
//!
//! # Safety
//!
//! The only place in this crate with `unsafe`: setsockopt(2), sendmsg(2) and recvmsg(2) with
//! control messages, which rustix does not have for TLS. Every pointer that is handed to the kernel
//! is to a local that outlives the call, with the length of that local.
//!
//! <https://docs.kernel.org/networking/tls.html>
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Instant;

use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, CipherSuite, ConnectionTrafficSecrets, SupportedCipherSuite};
use zeroize::Zeroizing;

use crate::opening::Opening;
use crate::post_handshake::{KEY_UPDATE_MESSAGE, KeyUpdates, MessageError};
use crate::user13::Handover;

/// Record types (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

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

/// `struct tls_crypto_info`: version and cipher type.
const CRYPTO_INFO_HEAD_BYTES: usize = 4;

/// The layouts that [`crypto_info`] writes are those of linux/tls.h.
const _: () = {
    assert!(mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>() == 4 + 12 + 16 + 8);
    assert!(mem::size_of::<libc::tls12_crypto_info_aes_gcm_256>() == 4 + 12 + 32 + 8);
    assert!(mem::size_of::<libc::tls12_crypto_info_chacha20_poly1305>() == 4 + 12 + 32 + 8);
};

/// A TLS 1.3 suite, as the kernel tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`.
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`.
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`.
    Chacha20Poly1305,
}

impl Suite {
    /// Every suite that rustls and the kernel share.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::Chacha20Poly1305];

    /// The suite that a handshake agreed on, `None` for one of TLS 1.2.
    pub fn of(suite: SupportedCipherSuite) -> Option<Self> {
        match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::Chacha20Poly1305),
            _ => None,
        }
    }

    /// The name as IANA writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::Chacha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// Secrets of zeros, for the probe.
    fn probe_secrets(self) -> ConnectionTrafficSecrets {
        let key = [0; 32].into();
        let iv = [0; 12].into();
        match self {
            Self::Aes128Gcm => ConnectionTrafficSecrets::Aes128Gcm { key, iv },
            Self::Aes256Gcm => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
            Self::Chacha20Poly1305 => ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
        }
    }
}

/// The step of a probe or a hand-over that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making a connection for the probe.
    Connect,
    /// `TCP_ULP` "tls".
    Protocol,
    /// `TLS_TX`.
    Transmit,
    /// `TLS_RX`.
    Receive,
}

/// Why the kernel does not take a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The step that failed.
    pub step: Step,
    /// `errno`.
    pub code: i32,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.code) {
            (Step::Connect, _) => write!(f, "no loopback connection to try it on"),
            (Step::Protocol, libc::ENOENT) => write!(
                f,
                "the kernel module tls is not loaded (modprobe tls, and /etc/modules-load.d to keep it)"
            ),
            (_, libc::EPERM | libc::EACCES) => {
                write!(f, "forbidden, as by the seccomp filter of a container")
            }
            (Step::Protocol, libc::ENOPROTOOPT) => {
                write!(f, "the kernel is built without TLS (CONFIG_TLS)")
            }
            (_, libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP) => {
                write!(f, "the kernel does not have this cipher")
            }
            _ => write!(f, "not available"),
        }?;
        let error = io::Error::from_raw_os_error(self.code);
        write!(f, ": {error}")
    }
}

/// The kTLS features of the kernel, as probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    suites: [Result<(), Missing>; 3],
    key_update: bool,
}

impl Abilities {
    /// No features: every connection stays in user space, as with kTLS switched off.
    pub fn none() -> Self {
        let missing = Missing {
            step: Step::Protocol,
            code: libc::ENOENT,
        };
        Self {
            suites: [Err(missing); 3],
            key_update: false,
        }
    }

    /// Whether the kernel supports `suite`.
    pub fn has(&self, suite: Suite) -> bool {
        self.suites[suite as usize].is_ok()
    }

    /// Every suite, with the reason if the kernel does not support it.
    pub fn suites(&self) -> impl Iterator<Item = (Suite, Result<(), Missing>)> + '_ {
        Suite::ALL.into_iter().zip(self.suites.iter().copied())
    }

    /// Whether keys can be changed on a connection (kernels newer than 6.12). Without that, a
    /// client's KeyUpdate ends its connection.
    pub fn key_update(&self) -> bool {
        self.key_update
    }
}

/// Probes the kernel's features, on loopback connections of its own. Takes some milliseconds; call
/// it once at start.
pub fn probe() -> Abilities {
    let mut key_update = false;
    let suites = Suite::ALL.map(|suite| {
        let updates = probe_suite(suite)?;
        key_update |= updates;
        Ok(())
    });
    Abilities { suites, key_update }
}

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

/// Prepares `socket` for [`Handshake::into_kernel`](crate::Handshake::into_kernel). The connection
/// can still go on in user space afterwards, whether this fails or not.
///
/// `NotConnected` if the client has sent its FIN: TCP accepts the upper layer protocol only before
/// that.
pub fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
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

/// Has the kernel decrypt the next record after one that holds only the start of a KeyUpdate.
///
/// Linux 6.14 and newer take the first byte for a whole KeyUpdate, and wait for the next keys
/// (EKEYEXPIRED): so the current keys are installed once more. Older kernels do not wait, and
/// accept keys only once.
fn read_on(socket: BorrowedFd<'_>, suite: SupportedCipherSuite) -> io::Result<()> {
    let bytes = match Suite::of(suite) {
        Some(Suite::Aes128Gcm) => mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>(),
        _ => mem::size_of::<libc::tls12_crypto_info_aes_gcm_256>(),
    };
    let mut keys = Zeroizing::new(vec![0; bytes]);
    get_option(socket, libc::SOL_TLS, libc::TLS_RX, &mut keys)?;
    match set_option(socket, libc::SOL_TLS, libc::TLS_RX, &keys) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        set => set,
    }
}

/// Probes one suite. Returns whether keys can be changed too.
fn probe_suite(suite: Suite) -> Result<bool, Missing> {
    let failed = |step| {
        move |error: io::Error| Missing {
            step,
            code: error.raw_os_error().unwrap_or(0),
        }
    };
    let (socket, _peer) = loopback_pair().map_err(failed(Step::Connect))?;
    let socket = socket.as_fd();
    let secrets = suite.probe_secrets();
    prepare(socket).map_err(failed(Step::Protocol))?;
    set_keys(socket, libc::TLS_TX, 0, &secrets).map_err(failed(Step::Transmit))?;
    set_keys(socket, libc::TLS_RX, 0, &secrets).map_err(failed(Step::Receive))?;
    Ok(set_keys(socket, libc::TLS_TX, 0, &secrets).is_ok())
}

fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

fn set_keys(
    socket: BorrowedFd<'_>,
    direction: libc::c_int,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> io::Result<()> {
    let info = crypto_info(sequence, secrets)?;
    set_option(socket, libc::SOL_TLS, direction, &info)
}

/// `struct tls12_crypto_info_*` of linux/tls.h: version and cipher type, then (all of them bytes,
/// so without padding) iv, key, salt, sequence number. The kernel's salt and iv together are the
/// 12 bytes of IV of TLS 1.3; for `ChaCha20` there is no salt. Wiped when dropped.
fn crypto_info(
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let (cipher, key, key_bytes, iv, salt_bytes) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
            (libc::TLS_CIPHER_AES_GCM_128, key, 16, iv, 4)
        }
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
            (libc::TLS_CIPHER_AES_GCM_256, key, 32, iv, 4)
        }
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (libc::TLS_CIPHER_CHACHA20_POLY1305, key, 32, iv, 0)
        }
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    let key = &key.as_ref()[..key_bytes];
    let (salt, explicit) = iv.as_ref().split_at(salt_bytes);
    // Allocated at its final size: growing would leave a copy that is not wiped.
    let mut info = Zeroizing::new(Vec::with_capacity(CRYPTO_INFO_HEAD_BYTES + 12 + 32 + 8));
    info.extend_from_slice(&libc::TLS_1_3_VERSION.to_ne_bytes());
    info.extend_from_slice(&cipher.to_ne_bytes());
    info.extend_from_slice(explicit);
    info.extend_from_slice(key);
    info.extend_from_slice(salt);
    info.extend_from_slice(&sequence.to_be_bytes());
    Ok(info)
}

/// setsockopt(2).
fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed; the kernel reads `value.len()` bytes at
    // `value`, which is borrowed for the call, and keeps no pointer to it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// getsockopt(2) of an option that has exactly the length of `value`.
fn get_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [u8],
) -> io::Result<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed; the kernel writes at most `length` bytes, the
    // size of `value`, which is borrowed exclusively for the call, and keeps no pointer to either.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one control message of one byte, aligned as `cmsghdr` must be.
#[repr(C)]
union ControlMessage {
    bytes: [u8; 64],
    _align: libc::cmsghdr,
}

/// Sends one record of a type other than data: sendmsg(2) with `TLS_SET_RECORD_TYPE`. Never blocks.
fn send_record(socket: BorrowedFd<'_>, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut control = ControlMessage { bytes: [0; 64] };
    let mut vector = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut message = message(&mut vector, &mut control);
    // SAFETY: the control buffer is 64 bytes, aligned, and longer than CMSG_SPACE(1), so the first
    // header lies in it with one byte of data after it. sendmsg only reads what `message` points
    // to: `vector`, `payload` and `control`, which live until it returns.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(1) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        libc::CMSG_DATA(header).write(kind);
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == payload.len() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives one record, or as much of it as `buffer` holds, and its type: recvmsg(2) with
/// `TLS_GET_RECORD_TYPE`. Never blocks. The end of the stream is `UnexpectedEof`.
fn receive_record(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(u8, usize)> {
    let mut control = ControlMessage { bytes: [0; 64] };
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = message(&mut vector, &mut control);
    // SAFETY: recvmsg writes at most `buffer.len()` bytes to `buffer` and 64 to `control`, both
    // borrowed exclusively until it returns.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(received) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel has set `msg_controllen` to what it wrote, so a header that CMSG_FIRSTHDR
    // returns lies in `control`; its data byte is read only if its length says that it is there.
    let kind = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_TLS
            || (*header).cmsg_type != libc::TLS_GET_RECORD_TYPE
            || ((*header).cmsg_len as usize) < libc::CMSG_LEN(1) as usize
        {
            None
        } else {
            Some(libc::CMSG_DATA(header).read())
        }
    };
    match kind {
        Some(kind) => Ok((kind, received)),
        None if received == 0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        None => Ok((DATA, received)),
    }
}

/// A message of one vector and a control buffer.
fn message(vector: &mut libc::iovec, control: &mut ControlMessage) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(vector);
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = mem::size_of::<ControlMessage>() as _;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_kernel() {
        let key: [u8; 32] = std::array::from_fn(|index| index as u8);
        let iv: [u8; 12] = std::array::from_fn(|index| 100 + index as u8);
        let secrets = ConnectionTrafficSecrets::Aes128Gcm {
            key: key.into(),
            iv: iv.into(),
        };
        let info = crypto_info(7, &secrets).unwrap();
        assert_eq!(
            info.len(),
            mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>()
        );
        assert_eq!(info[..4], [4, 3, 51, 0]);
        assert_eq!(info[4..12], iv[4..]);
        assert_eq!(info[12..28], key[..16]);
        assert_eq!(info[28..32], iv[..4]);
        assert_eq!(info[32..], [0, 0, 0, 0, 0, 0, 0, 7]);

        let secrets = ConnectionTrafficSecrets::Chacha20Poly1305 {
            key: key.into(),
            iv: iv.into(),
        };
        let info = crypto_info(1 << 40, &secrets).unwrap();
        assert_eq!(
            info.len(),
            mem::size_of::<libc::tls12_crypto_info_chacha20_poly1305>()
        );
        assert_eq!(info[4..16], iv);
        assert_eq!(info[16..48], key);
        assert_eq!(info[48..], [0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_probe_says_why_in_words() {
        for (suite, result) in probe().suites() {
            match result {
                Ok(()) => assert!(probe().has(suite)),
                Err(missing) => assert!(missing.to_string().len() > 20, "{suite:?}: {missing}"),
            }
        }
        let missing = Missing {
            step: Step::Protocol,
            code: libc::ENOENT,
        };
        assert!(missing.to_string().contains("modprobe tls"));
    }

    #[test]
    fn a_record_without_its_type_is_data_and_the_end_is_told() {
        let (near, far) = loopback_pair().unwrap();
        let mut buffer = [0; 16];
        let error = receive_record(near.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(far);
        // FIN of a loopback peer is there when close(2) has returned.
        let error = receive_record(near.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
