//! The handshake of a connection to a TLS listener: between accepting it and its first request.
//!
//! It has the time of a first request (`timeouts.header`) in all, however slowly it goes. What is
//! received is read from the socket in pieces of the handshake's own measure, never by a multishot
//! recv: what that took would be lost to a kernel that is about to decrypt.

use std::error::Error;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, getpeername, recv};
use tidegate_http::Status;
use tidegate_tls::{Failed, Handshake, Progress, kernel};

use crate::connection::{Closed, Connection};
use crate::respond::send_body::send_now;
use crate::timeouts::Phase;
use crate::transport::certificates::Tls;
use crate::transport::link::Link;
use crate::transport::tls_stream::{Secure, Session};

/// Bytes received at a time: a ClientHello or a client's last flight, but for large certificates.
const PIECE_BYTES: usize = 4096;

/// Speaks TLS on a connection that was just accepted, up to where requests are waited for; those
/// that came with the handshake are answered.
pub(crate) async fn secure(mut connection: Connection, tls: Tls) -> Result<Connection, Closed> {
    let mut shaking = Shaking::new(&connection, &tls)?;
    match shaking.finish(&connection).await {
        Ok(()) => {}
        Err(Ended::Gone) => {
            shaking.give_up(&connection);
            return Err(Closed);
        }
        Err(Ended::Failed(Failed::PlainHttp)) => {
            return Err(connection.refuse_and_linger(Status::BAD_REQUEST).await);
        }
        Err(Ended::Failed(error)) => {
            tracing::debug!(%error, "no handshake");
            // The client is told why; to close with bytes unread would take that from it.
            return Err(connection.linger().await);
        }
    }
    let mut in_kernel = shaking.handshake.suits_kernel(&tls.kernel);
    if in_kernel {
        if shaking.complete_record(&connection).await.is_err() {
            return Err(Closed);
        }
        // The record may have been the start of a message.
        in_kernel = shaking.handshake.suits_kernel(&tls.kernel) && is_prepared(&connection);
    }
    shaking.log(&connection, in_kernel);
    let early = shaking.hand_over(&mut connection, in_kernel)?;
    connection.enter(Phase::Fresh);
    connection.take_early(early).await
}

/// A handshake under way.
struct Shaking {
    handshake: Handshake,
    /// When it must be done.
    until: Instant,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

/// How a handshake ends too early.
enum Ended {
    /// The client has left, or was too slow.
    Gone,
    Failed(Failed),
}

impl Shaking {
    fn new(connection: &Connection, tls: &Tls) -> Result<Self, Closed> {
        let handshake = Handshake::new(&tls.acceptor).map_err(|error| {
            warn(connection, &error, "no handshake can begin");
            Closed
        })?;
        Ok(Self {
            handshake,
            until: Instant::now() + connection.context.settings().timeouts.header,
            buffer: vec![0; PIECE_BYTES],
            out: Vec::new(),
        })
    }

    /// Receives and sends until both sides have the keys.
    async fn finish(&mut self, connection: &Connection) -> Result<(), Ended> {
        while self.step(connection, PIECE_BYTES).await? == Progress::More {}
        Ok(())
    }

    /// Receives the rest of a record of which a part came with the handshake, and not a byte more:
    /// the kernel could not decrypt it.
    async fn complete_record(&mut self, connection: &Connection) -> Result<(), Ended> {
        loop {
            match self.handshake.missing() {
                0 => return Ok(()),
                missing => self.step(connection, missing.min(PIECE_BYTES)).await?,
            };
        }
    }

    /// Receives at most `len` bytes and sends what they call for, an alert as well.
    async fn step(&mut self, connection: &Connection, len: usize) -> Result<Progress, Ended> {
        let received = receive(connection, &mut self.buffer[..len]).await;
        let received = received.map_err(|_| Ended::Gone)?;
        let progress = self.handshake.feed(&self.buffer[..received], &mut self.out);
        if !self.out.is_empty() {
            self.send(connection).await.map_err(|_| Ended::Gone)?;
        }
        progress.map_err(Ended::Failed)
    }

    async fn send(&mut self, connection: &Connection) -> io::Result<()> {
        let mut out = Bytes::from(mem::take(&mut self.out));
        let sent = send_now(connection.socket(), &out, SendFlags::empty())?;
        drop(out.split_to(sent));
        while !out.is_empty() {
            connection.enter_for(Phase::Send, self.time_left());
            let ring = &connection.context.io.ring;
            let rest = ring.send(connection.socket(), out.clone(), SendFlags::empty());
            drop(out.split_to(rest.await?));
            connection.enter_for(Phase::Fresh, self.time_left());
        }
        Ok(())
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Tells a client why it is left, where that can be told.
    fn give_up(&mut self, connection: &Connection) {
        self.handshake.give_up(&mut self.out);
        // Courtesy: a client that is gone is told nothing.
        let _ = send_now(connection.socket(), &self.out, SendFlags::empty());
    }

    /// Logs who the client is, where it has said so by a certificate, and what was agreed on.
    fn log(&self, connection: &Connection, in_kernel: bool) {
        let Some(connected) = self.handshake.connected() else {
            return;
        };
        if let Some(subject) = connected.client {
            let peer = getpeername(connection.socket()).ok().flatten();
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.map(tracing::field::display);
            tracing::info!(peer, subject, "client certificate");
        }
        tracing::debug!(
            version = ?connected.version,
            suite = connected.suite,
            server_name = connected.server_name.as_deref(),
            resumed = connected.resumed,
            in_kernel,
            "handshake"
        );
    }

    /// Makes the connection one of TLS; the data that came with the handshake.
    fn hand_over(
        mut self,
        connection: &mut Connection,
        in_kernel: bool,
    ) -> Result<Vec<u8>, Closed> {
        let early = self.handshake.take_plaintext();
        let ended = self.handshake.is_closed();
        let socket = connection.socket().clone();
        let session = if in_kernel {
            let session = self.handshake.into_kernel(socket.as_fd());
            let session = session.map_err(|error| {
                warn(connection, &error, "the kernel does not take the keys");
                Closed
            })?;
            Session::Kernel(Box::new(session))
        } else {
            let session = self.handshake.into_user().map_err(|error| {
                warn(connection, &error, "no session after a handshake");
                Closed
            })?;
            Session::User(session)
        };
        let recv = connection.context.io.ring.recv(&socket);
        connection.link = Link::Secure(Box::new(Secure::new(recv, session, ended)));
        Ok(early)
    }
}

/// Whether the kernel can have the connection. If not it goes on in user space.
fn is_prepared(connection: &Connection) -> bool {
    match kernel::prepare(connection.socket().as_fd()) {
        Ok(()) => true,
        // The client has sent all that it will send.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
        Err(error) => {
            warn(connection, &error, "the kernel does not take a connection");
            false
        }
    }
}

/// Warns of what befell a connection by no fault of its client's, now and then.
fn warn(connection: &Connection, error: &dyn Error, what: &str) {
    if connection.context.tls_warnings.is_due() {
        tracing::warn!(error = error.to_string(), "TLS: {what}");
    }
}

/// Receives what fits `buffer`: how many bytes, at least one. The end of the input is an error.
async fn receive(connection: &Connection, buffer: &mut [u8]) -> io::Result<usize> {
    let socket = connection.socket();
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, count)) => return Ok(count),
            Err(Errno::AGAIN) => {
                connection
                    .context
                    .io
                    .ring
                    .poll(socket, PollFlags::IN)
                    .await?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
