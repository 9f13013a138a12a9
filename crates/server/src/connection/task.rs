//! The task of a connection: from the accepted socket to its end.

use std::mem;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};

use tidegate_config::{Protocols, ProxyProtocol};
use tidegate_http::Status;
use tidegate_tls::{FailureKind, ProtocolVersion};
use tidegate_uring::Fd;

use super::h1::{self, Parts, Received};
use super::h2;
use super::lingering_close::linger;
use super::listener_protocol::{ListenerProtocol, Spoken};
use super::proxied::receive_header;
use crate::config::LINGER_BYTES_MAX;
use crate::context::Context;
use crate::memory::{Held, Part};
use crate::observe::metrics::{CoreMetrics, HandshakeFailure, HandshakeKind, Refusal};
use crate::timeouts::{Phase, Timer};
use crate::transport::certificates::Tls;
use crate::transport::{Accepted, Closed, HandshakeError, Negotiated, TlsAccept, Transport};

/// A pending future that returns the connection unless it ended.
type Work = Pin<Box<dyn Future<Output = Result<h1::Connection, Closed>>>>;

/// A pending future that returns the task with the protocol that the client speaks.
type Start = Pin<Box<dyn Future<Output = Result<ConnectionTask, Closed>>>>;

/// Serves a connection to its end.
///
/// A hand-written future, since there is one per connection: an async fn would store the connection
/// twice and take 200 bytes while idle.
pub(crate) enum ConnectionTask {
    /// Waits for bytes of a request.
    Receiving(h1::Connection),
    /// Waits for a lookup or the client.
    Working(
        Work,
        #[expect(dead_code, reason = "it counts until the work ends")] Held,
    ),
    /// Waits for the header of the PROXY protocol, or for a handshake.
    Starting(
        Start,
        #[expect(dead_code, reason = "it counts until the work ends")] Held,
    ),
    Http2(Box<h2::Connection>, Held),
    Done,
}

// One for each idle connection.
const _: () = assert!(size_of::<ConnectionTask>() <= 72);

impl ConnectionTask {
    /// Serves a socket that a listener with this protocol accepted.
    pub(crate) fn new(context: Rc<Context>, socket: Fd, protocol: &ListenerProtocol) -> Self {
        context.metrics.core().accepted.add(1);
        let timer = context.timers.register(&socket);
        // A trusted proxy is admitted; its client is known after the header.
        if !context.admits(timer.key(), &socket) {
            return Self::Done;
        }
        if protocol.proxy_protocol != ProxyProtocol::Off {
            return Self::start(accept_proxied(context, timer, socket, protocol.clone()));
        }
        match &protocol.spoken {
            Spoken::Https(tls) => {
                let protocols = protocol.protocols;
                Self::start(accept_tls(context, timer, socket, protocols, tls.clone()))
            }
            Spoken::Http => Self::plain(context, timer, &socket, protocol.protocols, None),
            Spoken::Redirect(port) => {
                Self::plain(context, timer, &socket, protocol.protocols, Some(*port))
            }
        }
    }

    fn start(start: impl Future<Output = Result<Self, Closed>> + 'static) -> Self {
        let held = Held::new(Part::Work, size_of_val(&start));
        Self::Starting(Box::pin(start), held)
    }

    fn working(work: impl Future<Output = Result<h1::Connection, Closed>> + 'static) -> Self {
        let held = Held::new(Part::Work, size_of_val(&work));
        Self::Working(Box::pin(work), held)
    }

    /// A connection without TLS, with the HTTPS port that requests are redirected to, if they are.
    fn plain(
        context: Rc<Context>,
        timer: Timer,
        socket: &Fd,
        protocols: Protocols,
        redirect: Option<NonZeroU16>,
    ) -> Self {
        let transport = Transport::plain(&context.io, socket);
        let connection = h1::Connection::new(context, timer, transport);
        Self::Receiving(connection.redirecting_to(redirect).speaking(protocols))
    }

    fn http2(parts: Parts) -> Self {
        let Parts {
            context,
            timer,
            transport,
            input,
            https_port,
        } = parts;
        let connection = h2::Connection::new(context, timer, transport, input);
        let connection = Box::new(connection.redirecting_to(https_port));
        let held = Held::new(Part::Http2, connection.memory());
        Self::Http2(connection, held)
    }

    /// The task after `early` was received with what came before.
    async fn with_early(self, early: Vec<u8>) -> Result<Self, Closed> {
        let Self::Receiving(connection) = self else {
            return Ok(self);
        };
        let connection = connection.serve_early(early).await?;
        Ok(if connection.is_http2() {
            Self::http2(connection.into_parts())
        } else {
            Self::Receiving(connection)
        })
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Receiving(connection) => match ready!(connection.poll_receive(context)) {
                    Received::Answered => {}
                    Received::Work(work) => self.work(|connection| connection.carry_on(work)),
                    Received::Http2 => self.become_http2(),
                    Received::Malformed => {
                        self.work(|mut connection| async move { Err(connection.linger().await) });
                    }
                    Received::End => *self = Self::Done,
                },
                Self::Working(work, _) => {
                    *self = match ready!(work.as_mut().poll(context)) {
                        Ok(connection) => Self::Receiving(connection),
                        Err(Closed) => Self::Done,
                    }
                }
                Self::Starting(start, _) => {
                    *self = ready!(start.as_mut().poll(context)).unwrap_or(Self::Done);
                }
                Self::Http2(connection, held) => {
                    let ending = connection.poll_serve(context);
                    held.set(connection.memory());
                    let ending = ready!(ending);
                    self.end_http2(ending);
                }
                Self::Done => return Poll::Ready(()),
            }
        }
    }
}

impl ConnectionTask {
    /// Starts work that has to wait.
    fn work<F>(&mut self, work: impl FnOnce(h1::Connection) -> F)
    where
        F: Future<Output = Result<h1::Connection, Closed>> + 'static,
    {
        if let Self::Receiving(connection) = mem::replace(self, Self::Done) {
            *self = Self::working(work(connection));
        }
    }

    fn become_http2(&mut self) {
        if let Self::Receiving(connection) = mem::replace(self, Self::Done) {
            *self = Self::http2(connection.into_parts());
        }
    }

    fn end_http2(&mut self, ending: h2::Ending) {
        if let Self::Http2(connection, _) = mem::replace(self, Self::Done) {
            *self = Self::working(async move { Err(connection.end(ending).await) });
        }
    }
}

/// Receives the header of the PROXY protocol, then begins as without it.
async fn accept_proxied(
    context: Rc<Context>,
    timer: Timer,
    socket: Fd,
    protocol: ListenerProtocol,
) -> Result<ConnectionTask, Closed> {
    let mode = protocol.proxy_protocol;
    let early = receive_header(&context, &timer, &socket, mode).await?;
    if !context.admits(timer.key(), &socket) {
        return Err(Closed);
    }
    timer.enter(Phase::AwaitingFirstRequest);
    let protocols = protocol.protocols;
    let redirect = match protocol.spoken {
        Spoken::Https(tls) if early.is_empty() => {
            return accept_tls(context, timer, socket, protocols, tls).await;
        }
        Spoken::Https(_) => return Err(refuse_plain_http(context, timer, &socket).await),
        Spoken::Redirect(port) => Some(port),
        Spoken::Http => None,
    };
    let task = ConnectionTask::plain(context, timer, &socket, protocols, redirect);
    task.with_early(early).await
}

/// Refuses a client that speaks plain HTTP where TLS is spoken.
async fn refuse_plain_http(context: Rc<Context>, timer: Timer, socket: &Fd) -> Closed {
    let transport = Transport::plain(&context.io, socket);
    let connection = h1::Connection::new(context, timer, transport);
    connection.refuse_and_linger(Status::BAD_REQUEST).await
}

/// Performs the handshake and answers a request that arrived with it.
async fn accept_tls(
    context: Rc<Context>,
    timer: Timer,
    socket: Fd,
    protocols: Protocols,
    tls: Tls,
) -> Result<ConnectionTask, Closed> {
    let warnings = &context.tls_warnings;
    let accepted = TlsAccept::accept(&context.io, &timer, warnings, &socket, &tls).await;
    count_handshake(context.metrics.core(), &accepted);
    match accepted {
        Ok(Accepted {
            transport, early, ..
        }) => {
            timer.enter(Phase::AwaitingFirstRequest);
            if transport.negotiated() == Some(Negotiated::Http2) {
                let https_port = None;
                return Ok(ConnectionTask::http2(Parts {
                    context,
                    timer,
                    transport,
                    input: early,
                    https_port,
                }));
            }
            // A client without ALPN speaks HTTP/1.1 (RFC 9113, section 3.2).
            let protocols = Protocols {
                http2: !protocols.http1,
                ..protocols
            };
            let connection = h1::Connection::new(context, timer, transport).speaking(protocols);
            ConnectionTask::Receiving(connection)
                .with_early(early)
                .await
        }
        Err(HandshakeError::Gone | HandshakeError::Host) => Err(Closed),
        Err(HandshakeError::PlainHttp) => Err(refuse_plain_http(context, timer, &socket).await),
        Err(HandshakeError::Refused(_)) => {
            let mut transport = Transport::plain(&context.io, &socket);
            linger(&context, &mut transport, &timer, LINGER_BYTES_MAX).await;
            Err(Closed)
        }
    }
}

fn count_handshake(core: &CoreMetrics, accepted: &Result<Accepted, HandshakeError>) {
    let failure = match accepted {
        Ok(accepted) => {
            core.handshakes.count(handshake_kind(accepted));
            core.kernel_tls.add(accepted.in_kernel.into());
            return;
        }
        Err(HandshakeError::Gone) => HandshakeFailure::Gone,
        Err(HandshakeError::Host) => HandshakeFailure::Host,
        Err(HandshakeError::PlainHttp) => {
            core.refusals.count(Refusal::PlainHttp);
            HandshakeFailure::PlainHttp
        }
        Err(HandshakeError::Refused(kind)) => failure(*kind),
    };
    core.handshake_failures.count(failure);
}

fn handshake_kind(accepted: &Accepted) -> HandshakeKind {
    match (accepted.version, accepted.resumed) {
        (ProtocolVersion::TLSv1_2, false) => HandshakeKind::Full12,
        (ProtocolVersion::TLSv1_2, true) => HandshakeKind::Resumed12,
        (_, false) => HandshakeKind::Full13,
        (_, true) => HandshakeKind::Resumed13,
    }
}

fn failure(kind: FailureKind) -> HandshakeFailure {
    match kind {
        FailureKind::PlainHttp => HandshakeFailure::PlainHttp,
        FailureKind::TooLong => HandshakeFailure::TooLong,
        FailureKind::Incompatible => HandshakeFailure::Incompatible,
        FailureKind::Certificate => HandshakeFailure::Certificate,
        FailureKind::Alert => HandshakeFailure::Alert,
        FailureKind::Host => HandshakeFailure::Host,
        _ => HandshakeFailure::Malformed,
    }
}
