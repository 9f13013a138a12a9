//! The TLS handshake of a connection, between accepting it and its first request.
//!
//! It is limited to `timeouts.header` in total, even if it progresses. Bytes are read from the
//! socket in the amounts that the handshake asks for, never by a multishot recv, which would take
//! bytes that the kernel is about to decrypt.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, getpeername, recv};
use tidegate_tls::{Failed, FailureKind, Handshake, Progress, ProtocolVersion, kernel};
use tidegate_uring::Fd;

use super::certificates::Tls;
use super::io::Io;
use super::socket::send_now;
use super::tls_stream::{Negotiated, Session, TlsParameters, TlsStream};
use super::transport::Transport;
use crate::throttle::Throttle;
use crate::timeouts::{Phase, Timer};

/// Bytes received at a time: enough for a ClientHello, and for a client's last flight unless its
/// certificates are large.
const PIECE_BYTES: usize = 4096;

/// Why a handshake did not complete.
pub(crate) enum HandshakeError {
    /// The client has left or was too slow.
    Gone,
    /// This host cannot continue; a warning was logged.
    Host,
    /// The client speaks plain HTTP.
    PlainHttp,
    /// The client violated TLS, or no parameters could be agreed on. It was sent an alert, which it
    /// may lose if the socket is closed with unread bytes.
    Refused(FailureKind),
}

/// A transport after its handshake.
pub(crate) struct Accepted {
    pub(crate) transport: Transport,
    /// Data that arrived with the handshake.
    pub(crate) early: Vec<u8>,
    pub(crate) version: ProtocolVersion,
    /// Whether a ticket took the place of certificates.
    pub(crate) resumed: bool,
    /// Whether the kernel encrypts.
    pub(crate) in_kernel: bool,
}

/// The server's side of a handshake under way.
pub(crate) struct TlsAccept<'a> {
    io: &'a Io,
    timer: &'a Timer,
    warnings: &'a Throttle,
    socket: &'a Fd,
    handshake: Handshake,
    /// The end of the time allowed.
    deadline: Instant,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> TlsAccept<'a> {
    /// Performs the handshake on an accepted socket.
    ///
    /// Dropped: the socket can only be closed.
    pub(crate) async fn accept(
        io: &'a Io,
        timer: &'a Timer,
        warnings: &'a Throttle,
        socket: &'a Fd,
        tls: &Tls,
    ) -> Result<Accepted, HandshakeError> {
        let handshake = Handshake::new(&tls.acceptor).map_err(|error| {
            warn(warnings, &error, "no handshake can begin");
            HandshakeError::Host
        })?;
        let mut accept = Self {
            io,
            timer,
            warnings,
            socket,
            handshake,
            deadline: Instant::now() + timer.timeout(Phase::AwaitingFirstRequest),
            buffer: vec![0; PIECE_BYTES],
            out: Vec::new(),
        };
        accept.complete().await?;
        let in_kernel = !accept.speaks_http2() && accept.suits_kernel(&tls.kernel).await?;
        let parameters = accept.agreed(in_kernel);
        accept.into_transport(in_kernel, parameters)
    }

    /// Receives and sends until both sides have the keys.
    async fn complete(&mut self) -> Result<(), HandshakeError> {
        loop {
            match self.step(PIECE_BYTES).await {
                Ok(Progress::More) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.give_up(error)),
            }
        }
    }

    /// Whether HTTP/2 was agreed on. It never splices, since its frames are short, so that the
    /// kernel's TLS would be a detour.
    fn speaks_http2(&self) -> bool {
        self.handshake.alpn().and_then(Negotiated::named) == Some(Negotiated::Http2)
    }

    /// Whether the kernel can take the connection over. Otherwise it stays in user space.
    async fn suits_kernel(
        &mut self,
        features: &tidegate_tls::KernelFeatures,
    ) -> Result<bool, HandshakeError> {
        if !self.handshake.suits_kernel(features) {
            return Ok(false);
        }
        self.complete_record().await?;
        // The record may have been the start of a message.
        Ok(self.handshake.suits_kernel(features) && self.is_prepared())
    }

    /// Receives the rest of a partial record and not a byte more, which the kernel could not
    /// decrypt.
    async fn complete_record(&mut self) -> Result<(), HandshakeError> {
        loop {
            match self.handshake.missing() {
                0 => return Ok(()),
                missing => {
                    let progress = self.step(missing.min(PIECE_BYTES)).await;
                    progress.map_err(|_| HandshakeError::Gone)?;
                }
            }
        }
    }

    /// Receives at most `len` bytes and sends the handshake's output, alerts included.
    async fn step(&mut self, len: usize) -> Result<Progress, StepError> {
        let received = self.receive(len).await.map_err(|_| StepError::Gone)?;
        let progress = self.handshake.feed(&self.buffer[..received], &mut self.out);
        if !self.out.is_empty() {
            self.send().await.map_err(|_| StepError::Gone)?;
        }
        progress.map_err(StepError::Failed)
    }

    /// Receives at least one byte and at most `len`. The end of the input is an error.
    async fn receive(&mut self, len: usize) -> io::Result<usize> {
        loop {
            match recv(self.socket, &mut self.buffer[..len], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, count)) => return Ok(count),
                Err(Errno::AGAIN) => {
                    self.io.ring.poll(self.socket, PollFlags::IN).await?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        let mut out = Bytes::from(mem::take(&mut self.out));
        let sent = send_now(self.socket, &out, SendFlags::empty())?;
        drop(out.split_to(sent));
        while !out.is_empty() {
            self.timer.enter_for(Phase::Send, self.time_left());
            let rest = self
                .io
                .ring
                .send(self.socket, out.clone(), SendFlags::empty());
            drop(out.split_to(rest.await?));
            self.timer
                .enter_for(Phase::AwaitingFirstRequest, self.time_left());
        }
        Ok(())
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn give_up(&mut self, error: StepError) -> HandshakeError {
        match error {
            StepError::Gone => {
                self.handshake.give_up(&mut self.out);
                // Best effort: the client may be gone.
                let _ = send_now(self.socket, &self.out, SendFlags::empty());
                HandshakeError::Gone
            }
            StepError::Failed(Failed::PlainHttp) => HandshakeError::PlainHttp,
            StepError::Failed(error) => {
                tracing::debug!(%error, "no handshake");
                HandshakeError::Refused(error.kind())
            }
        }
    }

    /// Whether the kernel's TLS could be set up on the socket.
    fn is_prepared(&self) -> bool {
        match kernel::prepare(self.socket.as_fd()) {
            Ok(()) => true,
            // The client has closed its side.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
            Err(error) => {
                warn(
                    self.warnings,
                    &error,
                    "the kernel does not take a connection",
                );
                false
            }
        }
    }

    /// The negotiated parameters. Logs them, and the subject of the client's certificate if it has
    /// one.
    fn agreed(&self, in_kernel: bool) -> TlsParameters {
        let Some(connected) = self.handshake.connected() else {
            return TlsParameters::default();
        };
        if let Some(subject) = connected.client {
            let peer = getpeername(self.socket).ok().flatten();
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
        TlsParameters {
            version: version_name(connected.version),
            suite: connected.suite.into(),
            server_name: connected.server_name,
            covered: connected.covered,
            negotiated: connected.alpn.as_deref().and_then(Negotiated::named),
        }
    }

    fn into_transport(
        mut self,
        in_kernel: bool,
        parameters: TlsParameters,
    ) -> Result<Accepted, HandshakeError> {
        let connected = self.handshake.connected();
        let early = self.handshake.take_plaintext();
        let ended = self.handshake.is_closed();
        let session = if in_kernel {
            let session = self.handshake.into_kernel(self.socket.as_fd());
            session.map(|session| Session::Kernel(Box::new(session)))
        } else {
            let session = self.handshake.into_user();
            session.map(Session::User).map_err(io::Error::other)
        };
        let session = session.map_err(|error| {
            let what = if in_kernel {
                "the kernel does not take the keys"
            } else {
                "no session after a handshake"
            };
            warn(self.warnings, &error, what);
            HandshakeError::Host
        })?;
        let recv = self.io.ring.recv(self.socket);
        let stream = TlsStream::new(recv, session, parameters, ended);
        Ok(Accepted {
            transport: Transport::Tls(Box::new(stream)),
            early,
            version: connected
                .as_ref()
                .map_or(ProtocolVersion::TLSv1_3, |made| made.version),
            resumed: connected.is_some_and(|made| made.resumed),
            in_kernel,
        })
    }
}

/// The name of a version in logs, as OpenSSL and nginx write it.
fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// Why a step of a handshake failed.
enum StepError {
    /// The client has left, or was too slow.
    Gone,
    Failed(Failed),
}

/// Logs a fault that is not the client's, at a limited rate.
fn warn(warnings: &Throttle, error: &dyn std::error::Error, what: &str) {
    if warnings.is_due() {
        tracing::warn!(error = error.to_string(), "TLS: {what}");
    }
}
