//! TLS on a connection after the handshake, with its records in user space or in the kernel.
//!
//! In user space, bytes are decrypted after they are received and encrypted before they are sent.
//! In the kernel (kTLS), the socket does both: the process receives, sends and splices as on a
//! plain socket, and sees only control records.
//!
//! The kernel holds an open record (`MSG_MORE`) until the next send without that flag, or an alert:
//! there is no timer as with a TCP cork. So a response that is cut short ends with an alert.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::sockopt::socket_error;
use tidegate_http::site_name;
use tidegate_sendfile::{
    ENCODED_PIECE_BYTES, Error as TransferError, ErrorKind, Opening, Options, Sent, sendfile,
    sendfile_encoded,
};
use tidegate_tls::kernel::{Control, KernelSession, Usage};
use tidegate_tls::{Decrypted, Incoming, Names, SHORT_RECORD_BYTES, UserSession};
use tidegate_uring::{Fd, Received as Records, Recv, sleep};

use super::io::Io;
use super::received::Received;
use super::socket::send_now;
use super::unsent::{Unsent, keep, send_all, send_or_keep};
use crate::memory::{Held, Part};
use crate::timeouts::{Phase, Timer};

/// What a session in user space allocates: keys, secrets and names.
const SESSION_BYTES: usize = 1536;

/// Bytes spliced between two checks of the key's usage; far below its limit.
const KERNEL_PIECE_BYTES: u64 = 16 << 30;

/// Pause before the next attempt when a poll for room ends, and there is none.
const VAIN_WAIT: Duration = Duration::from_millis(1);

/// What a handshake agreed on.
#[derive(Default)]
pub(crate) struct TlsParameters {
    /// The version as nginx writes it, such as `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The cipher suite's name in IANA's registry.
    pub(crate) suite: Box<str>,
    /// The host that the client named (SNI).
    pub(crate) server_name: Option<Box<str>>,
    /// The names that the server's certificate covers.
    pub(crate) covered: Names,
    /// `None`: the client did not use ALPN.
    pub(crate) negotiated: Option<Negotiated>,
}

impl TlsParameters {
    /// Whether the connection was made for another host than this one, and its certificate does
    /// not cover this one either (RFC 9110, section 7.4). A client that named no host may mean
    /// any: it checks no certificate, or connects to an address.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        let Some(named) = &self.server_name else {
            return false;
        };
        let host = site_name(host);
        let host = host.trim_matches(['[', ']']);
        !named.eq_ignore_ascii_case(host) && !self.covered.cover(host)
    }
}

/// The version of HTTP that was agreed on by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Negotiated {
    Http10,
    Http11,
    Http2,
}

impl Negotiated {
    const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// Its name (RFC 7301).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    /// The version with this name.
    pub(super) fn named(alpn: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|version| version.name().as_bytes() == alpn)
    }
}

/// TLS on a socket.
pub(crate) struct TlsStream {
    recv: Recv,
    session: Session,
    parameters: TlsParameters,
    /// The peer has sent close_notify.
    ended: bool,
    _held: Held,
}

/// Where records are encrypted and decrypted.
pub(super) enum Session {
    User(UserSession),
    Kernel(Box<KernelSession>),
}

impl TlsStream {
    /// TLS on the socket of `recv`; `ended` if the peer's close_notify came with the handshake.
    pub(super) fn new(
        recv: Recv,
        session: Session,
        parameters: TlsParameters,
        ended: bool,
    ) -> Self {
        let of_session = match &session {
            Session::User(_) => SESSION_BYTES,
            Session::Kernel(session) => size_of_val(&**session),
        };
        Self {
            _held: Held::new(Part::Tls, size_of::<Self>() + of_session),
            recv,
            session,
            parameters,
            ended,
        }
    }

    pub(super) fn parameters(&self) -> &TlsParameters {
        &self.parameters
    }

    pub(super) fn socket(&self) -> &Fd {
        self.recv.socket()
    }

    /// See [`Transport::poll_read`](super::Transport::poll_read).
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Received>>> {
        while !self.ended {
            let received = match ready!(self.recv.poll_next(context)) {
                Ok(Some(records)) => self.open(records)?,
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(error) => self.receive_control(error)?,
            };
            if !received.is_empty() {
                return Poll::Ready(Ok(Some(received)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Decrypts the received records. Returns their data.
    fn open(&mut self, mut records: Records) -> io::Result<Received> {
        let session = match &mut self.session {
            Session::User(session) => session,
            Session::Kernel(session) => {
                session.take_data(self.recv.socket().as_fd())?;
                return Ok(Received::Plain(records));
            }
        };
        let mut alert = Vec::new();
        let decrypted = session.decrypt_in_place(&mut records, &mut alert);
        // Best effort: does not wait for a peer that takes no more.
        let _ = send_now(self.recv.socket(), &alert, SendFlags::empty());
        let (incoming, data) =
            decrypted.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.ended = incoming == Incoming::Closed;
        Ok(match data {
            Decrypted::InPlace(len) => {
                records.truncate(len);
                Received::Plain(records)
            }
            Decrypted::Apart(data) => Received::Decrypted(data),
        })
    }

    /// Reads a record that is not data, which the kernel reports as `EIO`.
    fn receive_control(&mut self, error: io::Error) -> io::Result<Received> {
        let Session::Kernel(session) = &mut self.session else {
            return Err(error);
        };
        let socket = self.recv.socket();
        if Errno::from_io_error(&error) != Some(Errno::IO) {
            // Cleared, so that an alert can be sent.
            let _ = socket_error(socket);
            let is_bad = session.reject(socket.as_fd(), &error);
            let kind = if is_bad {
                io::ErrorKind::InvalidData
            } else {
                error.kind()
            };
            return Err(io::Error::new(kind, error));
        }
        match session.receive_control(socket.as_fd())? {
            Control::Data(data) => return Ok(Received::Decrypted(data)),
            Control::Closed => self.ended = true,
            Control::Nothing => {}
            Control::Alert(description) => {
                tracing::debug!(description, "the client ended the connection by an alert");
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(Received::Decrypted(Vec::new()))
    }

    /// See [`Transport::discard`](super::Transport::discard).
    pub(super) async fn discard(&mut self) -> io::Result<Option<usize>> {
        if let Session::User(_) = self.session {
            return self.recv.discard().await;
        }
        match self.recv.next().await {
            Ok(records) => Ok(records.map(|records| records.len())),
            Err(error) => self.receive_control(error).map(|read| Some(read.len())),
        }
    }

    /// See [`Transport::write_now`](super::Transport::write_now).
    pub(super) fn write_now(
        &mut self,
        io: &Io,
        bytes: &[u8],
        flags: SendFlags,
    ) -> io::Result<Option<Unsent>> {
        let socket = self.recv.socket();
        match &mut self.session {
            _ if bytes.is_empty() => Ok(None),
            Session::User(session) => {
                let mut records = io.records();
                let len = encrypt(session, bytes, &mut records)?;
                send_or_keep(socket, &records[..len], flags)
            }
            Session::Kernel(session) => {
                count(session, bytes.len() as u64)?;
                if session.owes_key_update() {
                    return Ok(keep(bytes, flags));
                }
                send_or_keep(socket, bytes, flags)
            }
        }
    }

    /// Whether a KeyUpdate must be sent before more data, because the socket was too full for it.
    pub(super) fn owes_key_update(&self) -> bool {
        match &self.session {
            // rustls sends it with the next record.
            Session::User(_) => false,
            Session::Kernel(session) => session.owes_key_update(),
        }
    }

    /// Sends the pending KeyUpdate once the peer has taken the bytes before it.
    pub(super) async fn send_key_update(&mut self, io: &Io, timer: &Timer) -> io::Result<()> {
        self.send_control(io, timer, KernelSession::settle).await
    }

    /// See [`Transport::key_usable`](super::Transport::key_usable).
    pub(super) fn key_usable(&self) -> bool {
        match &self.session {
            // rustls updates it in time.
            Session::User(_) => true,
            Session::Kernel(session) => session.usage() == Usage::Fresh,
        }
    }

    /// See [`Transport::write_file`](super::Transport::write_file).
    pub(super) async fn write_file(
        &mut self,
        io: &Io,
        file: &Fd,
        range: Range<u64>,
        options: &Options,
    ) -> Result<Sent, TransferError> {
        let socket = self.recv.socket();
        match &mut self.session {
            Session::User(session) => {
                let encrypt = |plain: &[u8], out: &mut Vec<u8>| encrypt(session, plain, out);
                let (ring, pipes) = (&io.ring, &io.pipes);
                let _held = Held::new(Part::Tls, ENCODED_PIECE_BYTES);
                sendfile_encoded(ring, pipes, socket, file, range, options, encrypt).await
            }
            Session::Kernel(session) => {
                splice_counted(session, io, socket, file, range, options).await
            }
        }
    }

    /// See [`Transport::close_notify`](super::Transport::close_notify).
    pub(super) async fn close_notify(&mut self, io: &Io, timer: &Timer) -> io::Result<()> {
        if let Session::User(session) = &mut self.session {
            let (socket, record) = (self.recv.socket(), close_notify(session));
            // Mostly the socket has room, and the ring is not needed.
            let unsent = send_or_keep(socket, &record, SendFlags::empty())?;
            return match unsent {
                Some(unsent) => send_all(io, timer, socket, unsent).await,
                None => Ok(()),
            };
        }
        self.send_control(io, timer, KernelSession::close).await
    }

    /// See [`Transport::close_notify_now`](super::Transport::close_notify_now).
    pub(super) fn close_notify_now(&mut self) {
        let socket = self.recv.socket();
        // The peer sees the end of the connection in any case.
        let _ = match &mut self.session {
            Session::User(session) => {
                send_now(socket, &close_notify(session), SendFlags::empty()).map(drop)
            }
            Session::Kernel(session) => session.close(socket.as_fd()),
        };
    }

    /// See [`Transport::abort`](super::Transport::abort).
    pub(super) fn abort(&mut self) {
        if let Session::Kernel(session) = &mut self.session {
            session.abort(self.recv.socket().as_fd());
        }
    }

    /// Calls `send`, which sends a control record of kTLS, until the socket takes it.
    async fn send_control(
        &mut self,
        io: &Io,
        timer: &Timer,
        send: impl Fn(&mut KernelSession, BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Session::Kernel(session) = &mut self.session else {
            return Ok(());
        };
        let socket = self.recv.socket();
        loop {
            match send(session, socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            timer.enter(Phase::Send);
            let events = io.ring.poll(socket, PollFlags::OUT).await?;
            if events.intersects(PollFlags::ERR | PollFlags::HUP) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if !events.contains(PollFlags::OUT) {
                // A client that has ended its half ends each poll at once.
                sleep(VAIN_WAIT).await;
            }
        }
    }
}

/// Encrypts `plain` to the start of `out`. Returns the number of bytes.
fn encrypt(session: &mut UserSession, plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    let needed = session.encrypted_bytes_max(plain.len());
    if out.len() < needed {
        out.resize(needed, 0);
    }
    session.encrypt_into(plain, out).map_err(io::Error::other)
}

/// The record of a close_notify; nothing if the session has failed.
fn close_notify(session: &mut UserSession) -> Vec<u8> {
    let mut record = Vec::new();
    // A session that cannot encrypt sends nothing.
    let _ = session.close(&mut record);
    record
}

/// Counts `bytes` to be encrypted against the limit of the key.
fn count(session: &mut KernelSession, bytes: u64) -> io::Result<()> {
    match session.count(bytes) {
        Usage::Exhausted => Err(io::Error::other("the keys of the connection are used up")),
        Usage::Fresh | Usage::CloseAfterResponse => Ok(()),
    }
}

/// Sends a file in pieces, each counted against the limit of the key before it is sent.
async fn splice_counted(
    session: &mut KernelSession,
    io: &Io,
    socket: &Fd,
    file: &Fd,
    mut range: Range<u64>,
    options: &Options,
) -> Result<Sent, TransferError> {
    let mut options = Options {
        opening: Opening {
            bytes: session.opening(range.end - range.start),
            each: SHORT_RECORD_BYTES,
        },
        ..options.clone()
    };
    let mut before = 0;
    let mut from_disk = false;
    loop {
        let end = range
            .end
            .min(range.start.saturating_add(KERNEL_PIECE_BYTES));
        let piece = mem::replace(&mut range.start, end)..end;
        let len = piece.end - piece.start;
        // The contents of a pipe may end in a partial record: at most twice as many as full ones.
        let counted = count(session, 2 * len).map_err(ErrorKind::Socket);
        let piece_sent = match counted {
            Ok(()) => sendfile(&io.ring, &io.pipes, socket, file, piece, &options).await,
            Err(kind) => Err(TransferError { sent: 0, kind }),
        };
        let mut sent = piece_sent.map_err(|error| TransferError {
            sent: before + error.sent,
            ..error
        })?;
        options.opening = Opening::NONE;
        before += len;
        from_disk |= sent.from_disk;
        if range.is_empty() {
            sent.from_disk = from_disk;
            return Ok(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_for(server_name: Option<&str>) -> TlsParameters {
        let covered = ["a.test", "*.b.test", "2001:db8::1"].map(String::from);
        TlsParameters {
            server_name: server_name.map(Box::from),
            covered: covered.into_iter().collect(),
            ..TlsParameters::default()
        }
    }

    #[test]
    fn a_connection_is_for_its_host_and_those_of_its_certificate() {
        let made = made_for(Some("a.test"));
        for host in [
            "a.test",
            "A.Test:443",
            "a.test.",
            "x.b.test:8443",
            "[2001:db8::1]:443",
        ] {
            assert!(!made.is_misdirected(host), "{host}");
        }
        for host in [
            "b.test",
            "y.x.b.test",
            "c.test",
            "a.test.c.test",
            "192.0.2.1",
            "[::1]",
        ] {
            assert!(made.is_misdirected(host), "{host}");
        }
        // Its certificate is the default one: the client knows better than this server.
        assert!(!made_for(Some("c.test")).is_misdirected("c.test"));
        assert!(!made_for(None).is_misdirected("c.test"));
    }
}
