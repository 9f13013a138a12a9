//! A connection's TLS after the handshake, with its records in user space or in the kernel.
//!
//! In user space what is received is decrypted before requests are looked for in it, and what is
//! sent is encrypted first. In the kernel (kTLS) the socket does both: it is received from, sent
//! and spliced to as a plain one, and only records that are no data come to user space.
//!
//! An open record of the kernel's (`MSG_MORE`) has no timer as a TCP cork has: it leaves with the
//! next send without that flag, or with an alert. So a response that is cut short ends with one.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::sockopt::socket_error;
use tidegate_sendfile::{
    Error as TransferError, ErrorKind, Opening, Options, Sent, sendfile, sendfile_encoded,
};
use tidegate_tls::kernel::{Control, KernelSession, Usage};
use tidegate_tls::{Incoming, SHORT_RECORD_BYTES, UserSession};
use tidegate_uring::{Fd, Received, Recv};

use crate::connection::{Closed, Connection};
use crate::respond::send_body::{send_now, send_raw};
use crate::timeouts::Phase;
use crate::transport::io::Io;
use crate::transport::link::{Input, Link};

/// Bytes of a file that the kernel encrypts before it is looked whether its keys are used up: far
/// fewer than they are good for.
const KERNEL_PIECE_BYTES: u64 = 16 << 30;

/// TLS on a connection.
pub(crate) struct Secure {
    recv: Recv,
    session: Session,
    /// The client has said that it sends no more.
    ended: bool,
}

/// Whose the records are.
pub(crate) enum Session {
    User(UserSession),
    Kernel(Box<KernelSession>),
}

impl Secure {
    /// TLS on what `recv` receives from; `ended` if the client has said already that it sends no
    /// more.
    pub(crate) fn new(recv: Recv, session: Session, ended: bool) -> Self {
        Self {
            recv,
            session,
            ended,
        }
    }

    pub(crate) fn socket(&self) -> &Fd {
        self.recv.socket()
    }

    /// See [`Link::poll_next`].
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Input>>> {
        while !self.ended {
            let input = match ready!(self.recv.poll_next(context)) {
                Ok(Some(received)) => self.open(received)?,
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(error) => self.control(error)?,
            };
            if !input.is_empty() {
                return Poll::Ready(Ok(Some(input)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// The data in what was received.
    fn open(&mut self, received: Received) -> io::Result<Input> {
        let session = match &mut self.session {
            Session::User(session) => session,
            Session::Kernel(session) => {
                session.take_data(self.recv.socket().as_fd())?;
                return Ok(Input::Received(received));
            }
        };
        let mut sealed = received.to_vec();
        // The buffer goes back to the kernel.
        drop(received);
        let (mut plain, mut alert) = (Vec::new(), Vec::new());
        let incoming = session.decrypt(&mut sealed, &mut plain, &mut alert);
        // Courtesy: a client that takes no more is not waited for.
        let _ = send_now(self.recv.socket(), &alert, SendFlags::empty());
        match incoming {
            Ok(incoming) => self.ended = incoming == Incoming::Closed,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        Ok(Input::Opened(plain))
    }

    /// What a record says that the kernel did not take for data, which is what `EIO` means.
    fn control(&mut self, error: io::Error) -> io::Result<Input> {
        let Session::Kernel(session) = &mut self.session else {
            return Err(error);
        };
        let socket = self.recv.socket();
        if Errno::from_io_error(&error) != Some(Errno::IO) {
            // Taken, so that an alert can be sent.
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
            Control::Data(data) => return Ok(Input::Opened(data)),
            Control::Closed => self.ended = true,
            Control::Nothing => {}
            Control::Alert(description) => {
                tracing::debug!(description, "the client ended the connection by an alert");
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(Input::Opened(Vec::new()))
    }

    /// See [`Link::skip`]. What the records say has no meaning any more.
    pub(crate) async fn skip(&mut self) -> io::Result<Option<usize>> {
        match self.recv.next().await {
            Ok(received) => Ok(received.map(|received| received.len())),
            Err(error) => self.control(error).map(|input| Some(input.len())),
        }
    }

    /// See [`Link::seal`].
    pub(crate) fn seal<'a>(
        &mut self,
        plain: &'a [u8],
        sealed: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        match &mut self.session {
            _ if plain.is_empty() => Ok(plain),
            Session::User(session) => {
                let len = encrypt(session, plain, sealed)?;
                Ok(&sealed[..len])
            }
            Session::Kernel(session) => {
                count(session, plain.len() as u64)?;
                Ok(plain)
            }
        }
    }

    /// See [`Link::seal_bytes`].
    pub(crate) fn seal_bytes(&mut self, plain: Bytes) -> io::Result<Bytes> {
        let mut sealed = Vec::new();
        let len = self.seal(&plain, &mut sealed)?.len();
        if sealed.is_empty() {
            return Ok(plain);
        }
        sealed.truncate(len);
        Ok(sealed.into())
    }

    /// See [`Link::owes`].
    pub(crate) fn owes(&self) -> bool {
        match &self.session {
            // It leaves with what is encrypted next.
            Session::User(_) => false,
            Session::Kernel(session) => session.owes_key_update(),
        }
    }

    /// Whether the keys are good for another response.
    pub(crate) fn is_fresh(&self) -> bool {
        match &self.session {
            // rustls changes them in time.
            Session::User(_) => true,
            Session::Kernel(session) => session.usage() == Usage::Fresh,
        }
    }

    /// Sends a range of a file.
    pub(crate) async fn send_file(
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
                sendfile_encoded(ring, pipes, socket, file, range, options, encrypt).await
            }
            Session::Kernel(session) => {
                splice_counted(session, io, socket, file, range, options).await
            }
        }
    }

    /// Says that nothing follows, as far as the socket takes that.
    pub(crate) fn say_goodbye(&mut self) {
        let socket = self.recv.socket();
        // The client sees the end of the connection in any case.
        let _ = match &mut self.session {
            Session::User(session) => {
                let closing = closing(session);
                send_now(socket, &closing, SendFlags::empty()).map(drop)
            }
            Session::Kernel(session) => session.close(socket.as_fd()),
        };
    }

    /// Says that a response is not complete, before the connection ends. In user space there is no
    /// alert for that; an end without close_notify says it.
    pub(crate) fn abort(&mut self) {
        if let Session::Kernel(session) = &mut self.session {
            session.abort(self.recv.socket().as_fd());
        }
    }
}

/// Says that nothing follows, once the client has taken what was sent before.
pub(crate) async fn goodbye(connection: &mut Connection) -> Result<(), Closed> {
    if let Link::Secure(secure) = &mut connection.link
        && let Session::User(session) = &mut secure.session
    {
        let closing = closing(session).into();
        return send_raw(connection, closing, SendFlags::empty()).await;
    }
    send_control(connection, KernelSession::close).await
}

/// Sends what is owed before data, once the client has taken what was sent before ([`Link::owes`]).
pub(crate) async fn settle(connection: &mut Connection) -> Result<(), Closed> {
    send_control(connection, KernelSession::settle).await
}

/// Calls `send`, which sends a record of the kernel's that is no data, until the socket takes it.
async fn send_control(
    connection: &mut Connection,
    send: impl Fn(&mut KernelSession, BorrowedFd<'_>) -> io::Result<()>,
) -> Result<(), Closed> {
    loop {
        let Link::Secure(secure) = &mut connection.link else {
            return Ok(());
        };
        let Session::Kernel(session) = &mut secure.session else {
            return Ok(());
        };
        match send(session, secure.recv.socket().as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done.map_err(|_| Closed),
        }
        connection.enter(Phase::Send);
        let ring = &connection.context.io.ring;
        let writable = ring.poll(connection.socket(), PollFlags::OUT).await;
        let gone = PollFlags::ERR | PollFlags::HUP;
        if writable.map_or(true, |events| events.intersects(gone)) {
            return Err(Closed);
        }
    }
}

/// Encrypts `plain` to the start of `out`: how many bytes.
fn encrypt(session: &mut UserSession, plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    let needed = session.encrypted_bytes_max(plain.len());
    if out.len() < needed {
        out.resize(needed, 0);
    }
    session.encrypt_into(plain, out).map_err(io::Error::other)
}

/// close_notify; nothing if the session has failed.
fn closing(session: &mut UserSession) -> Vec<u8> {
    let mut out = Vec::new();
    // What cannot be encrypted is not said.
    let _ = session.close(&mut out);
    out
}

/// Counts `bytes` that are about to be sent against what the keys are good for.
fn count(session: &mut KernelSession, bytes: u64) -> io::Result<()> {
    match session.count(bytes) {
        Usage::Exhausted => Err(io::Error::other("the keys of the connection are used up")),
        Usage::Fresh | Usage::CloseAfterResponse => Ok(()),
    }
}

/// Sendfile in pieces of which each is counted before it is sent.
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
        // A pipe's worth may end in a record that is not full: at most twice as many as full ones.
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
