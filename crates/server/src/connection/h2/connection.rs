//! The state of an HTTP/2 connection: input, timeouts and its end. Its responses are in `output`.

use std::io;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use rustix::net::SendFlags;
use socket2::SockRef;
use tidegate_h2::{ConnectionError, Event, HeadBuffer, RefusedHead, RequestError, RequestHead};
use tidegate_h2::{ErrorCode, ResetCause, StreamError, StreamId};
use tidegate_http::Method;

use super::stream::{Prepared, Sending, Stream, Unknown};
use super::waits::Waits;
use super::work::{Finished, Outcome, Works, look_up};
use crate::clients::RequestLimits;
use crate::config::snapshot::Snapshot;
use crate::connection::lingering_close::linger;
use crate::context::{Buffers, Context, Scratch};
use crate::frame_buffer::FrameBuffer;
use crate::observe::access_log::RequestInfo;
use crate::observe::http2::Choice;
use crate::observe::metrics::{Refusal, Relief};
use crate::respond::exchange::{Exchange, Protocol};
use crate::respond::respond::{Resolution, respond};
use crate::respond::response::{Body, Response, Scheme};
use crate::timeouts::Timer;
use crate::transport::{Closed, Flush, Transport};

/// Bytes sent before other tasks run.
pub(super) const QUANTUM_BYTES: usize = 256 * 1024;

/// Bytes that the kernel takes beyond those that it has sent (`TCP_NOTSENT_LOWAT`, tcp(7)). What it
/// holds can neither be overtaken by a response that is more urgent, nor cancelled. Less than one
/// send brings nothing: docs/http2.md has the figures.
const NOT_SENT_BYTES: u32 = 64 * 1024;

/// Bytes that a client may have sent beside bodies, which its window bounds, before it learns that
/// the connection ends.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// An HTTP/2 connection.
pub(crate) struct Connection {
    pub(super) context: Rc<Context>,
    pub(super) timer: Timer,
    pub(super) transport: Transport,
    pub(super) h2: tidegate_h2::Connection<Stream>,
    /// What the socket did not take yet. Nothing is built before it is sent.
    pub(super) flush: Option<Box<Flush>>,
    pub(super) works: Works,
    /// Streams whose heads wait for that.
    pub(super) waiting: Vec<StreamId>,
    /// Received with the handshake.
    early: Box<[u8]>,
    /// Requests so far.
    pub(super) requests: u32,
    /// The HTTPS port to redirect every request to.
    https_port: Option<NonZeroU16>,
    pub(super) waits: Waits,
    /// Whether the kernel may hold the last segment back, for more was to follow.
    pub(super) is_corked: bool,
}

// One for each idle connection: a size class of jemalloc.
const _: () = assert!(size_of::<Connection>() <= 640);

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Ending {
    /// It has failed, or the client has left.
    Gone,
    /// The client is told, but nothing more is received from it.
    Close,
    /// What the client is still sending is received, so that it does not lose the end.
    Linger,
}

/// What happened in a turn.
pub(super) struct Turn {
    pub(super) now: Instant,
    /// Bytes of responses that were sent, or a cost that is like that of so many.
    pub(super) cost: usize,
}

impl Connection {
    /// Serves what was received with the handshake, and what will be.
    pub(in crate::connection) fn new(
        context: Rc<Context>,
        timer: Timer,
        transport: Transport,
        early: Vec<u8>,
    ) -> Self {
        // A socket that is not of TCP has no such option.
        let socket = SockRef::from(transport.socket());
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES);
        let limits = Arc::clone(&context.snapshot().h2);
        let choice = if transport.is_tls() {
            Choice::Alpn
        } else {
            Choice::Preface
        };
        context.metrics.core().http2.opened(choice);
        let now = Instant::now();
        Self {
            h2: tidegate_h2::Connection::new(limits, now),
            context,
            timer,
            transport,
            flush: None,
            works: Works::default(),
            waiting: Vec::new(),
            early: early.into(),
            requests: 0,
            https_port: None,
            waits: Waits::new(now),
            is_corked: false,
        }
    }

    /// Redirects every request to HTTPS on `port`, if it is `Some`.
    pub(in crate::connection) fn redirecting_to(self, port: Option<NonZeroU16>) -> Self {
        Self {
            https_port: port,
            ..self
        }
    }

    /// Serves requests until the connection is to be closed.
    pub(in crate::connection) fn poll_serve(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> Poll<Ending> {
        if !self.waits.is_registered {
            self.waits.is_registered = true;
            self.timer.wake_at_end(context.waker());
        }
        let size = self.frame_size();
        self.context.scratch.borrow_mut().frames.begin(size);
        match self.turn(context) {
            Ok(()) => Poll::Pending,
            Err(ending) => {
                self.send_last();
                Poll::Ready(ending)
            }
        }
    }

    /// Bytes of memory that it takes, without its transport.
    pub(in crate::connection) fn memory(&self) -> usize {
        size_of::<Self>() + self.h2.streams() * size_of::<Sending>() + self.h2.memory()
    }

    fn turn(&mut self, context: &mut task::Context<'_>) -> Result<(), Ending> {
        let mut turn = Turn {
            now: Instant::now(),
            cost: 0,
        };
        let requests = self.requests;
        let mut has_progress = false;
        loop {
            has_progress |= self.poll_flush(context)?;
            let received = self.receive(context, &mut turn)?;
            self.look_up();
            let worked = self.finish_works(context, &mut turn)?;
            self.go_away_if_due(turn.now);
            self.reset_late_bodies(context);
            self.send(&mut turn)?;
            if self.is_over() {
                return Err(self.last_ending());
            }
            has_progress |= worked;
            if turn.cost >= QUANTUM_BYTES {
                self.yield_now(context);
                break;
            }
            let flushed = self.poll_flush(context)?;
            has_progress |= flushed;
            if !received && !worked && !flushed && !self.works.is_due() {
                break;
            }
        }
        if turn.cost < QUANTUM_BYTES {
            self.uncork();
        }
        has_progress |= turn.cost > 0 || self.requests > requests;
        self.wait(has_progress, turn.now)
    }

    /// Lets other tasks run, and the ring.
    fn yield_now(&self, context: &task::Context<'_>) {
        self.context.io.ring.turn_soon();
        context.waker().wake_by_ref();
    }

    /// Returns whether the socket has taken what it had not before.
    fn poll_flush(&mut self, context: &mut task::Context<'_>) -> Result<bool, Ending> {
        let Some(flush) = &mut self.flush else {
            return Ok(false);
        };
        self.waits.socket_is_full();
        let (io, timer) = (&self.context.io, &self.timer);
        match self.transport.poll_flush(io, timer, flush, context) {
            Poll::Ready(Ok(())) => {
                self.flush = None;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Ending::Gone),
            Poll::Pending => Ok(false),
        }
    }

    /// Receives what has arrived, as long as its responses fit into the buffer. Returns whether
    /// more may have arrived.
    fn receive(
        &mut self,
        context: &mut task::Context<'_>,
        turn: &mut Turn,
    ) -> Result<bool, Ending> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.take(&early, turn)?;
        }
        if self.waits.input_ended {
            return self.check_time().map(|()| false);
        }
        let control_max = self.context.settings().http2.control_bytes;
        while self.h2.control_bytes() < control_max {
            match self.transport.poll_read(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(Some(received))) => self.take(&received, turn)?,
                Poll::Ready(Ok(None)) => return self.end_of_input().map(|()| false),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Ending::Linger);
                }
                Poll::Ready(Err(_)) => return Err(Ending::Gone),
            }
            let is_full = self.context.scratch.borrow().frames.is_full();
            if is_full || turn.cost >= QUANTUM_BYTES {
                return Ok(true);
            }
        }
        Ok(self.flush.is_none())
    }

    /// Handles received bytes.
    fn take(&mut self, mut received: &[u8], turn: &mut Turn) -> Result<(), Ending> {
        let context = Rc::clone(&self.context);
        self.h2.set_crowded(context.memory.is_short());
        let scratch = &mut *context.scratch.borrow_mut();
        let snapshot = context.snapshot();
        let Scratch {
            buffers,
            head,
            frames,
            ..
        } = scratch;
        while let Some(event) = self.next_event(&mut received, head, turn)? {
            match event {
                Event::Request(request) => {
                    self.answer(&request, &snapshot, buffers, frames, turn)?;
                }
                Event::Refused(refused) => self.refuse(&refused, &snapshot, frames, turn)?,
                Event::Reset { stream, cause, .. } => {
                    self.context.metrics.core().http2.reset(cause);
                    self.count_relief(cause);
                    self.waiting.retain(|waiting| *waiting != stream);
                    self.works.forget(stream);
                }
                Event::BodyTooLarge(_) => self.count_refusal(Refusal::BodyTooLarge),
            }
        }
        if let (untold @ 1.., Some(limits)) = (self.h2.take_untold(), &snapshot.request_limits) {
            self.count_untold(untold, limits, turn.now);
        }
        Ok(())
    }

    /// Counts streams that are answered by nothing but a reset for their client. Of what site they
    /// are is not known.
    #[cold]
    fn count_untold(&self, streams: u16, limits: &RequestLimits, now: Instant) {
        let context = &self.context;
        let client = context.client(self.timer.key(), self.transport.socket());
        let admit = |_: &u16| context.admit_request(limits, client, None, now).is_ok();
        // More would take no token, either.
        (0..streams).take_while(admit).for_each(drop);
    }

    fn next_event<'a>(
        &mut self,
        received: &mut &[u8],
        head: &'a mut HeadBuffer,
        turn: &Turn,
    ) -> Result<Option<Event<'a, Stream>>, Ending> {
        self.h2.receive(received, turn.now, head).map_err(|error| {
            self.report(error);
            Ending::Linger
        })
    }

    /// Counts and logs what the client did.
    fn report(&self, error: ConnectionError) {
        self.context.metrics.core().http2.failed(error);
        tracing::debug!(%error, "the client broke HTTP/2");
        if error.code() == ErrorCode::ENHANCE_YOUR_CALM && self.context.http2_warnings.is_due() {
            let client = self
                .context
                .client(self.timer.key(), self.transport.socket());
            let client = client.map(tracing::field::display);
            tracing::warn!(client, "a connection of HTTP/2 was ended: {error}");
        }
    }

    /// Counts a stream that was refused since memory is short.
    fn count_relief(&self, cause: ResetCause) {
        let is_refused = cause == ResetCause::Error(StreamError::TooManyStreams);
        if is_refused && self.context.memory.is_short() {
            let relief = &self.context.metrics.core().relief;
            relief.count(Relief::StreamRefused);
        }
    }

    fn count_refusal(&self, refusal: Refusal) {
        self.context.metrics.core().refusals.count(refusal);
    }

    fn answer(
        &mut self,
        head: &RequestHead<'_>,
        snapshot: &Rc<Snapshot>,
        buffers: &mut Buffers,
        frames: &mut FrameBuffer,
        turn: &mut Turn,
    ) -> Result<(), Ending> {
        self.requests += 1;
        if head.is_body_too_large {
            self.count_refusal(Refusal::BodyTooLarge);
        }
        self.make_room(frames, turn)?;
        let mut exchange = self.begin_exchange(turn.now);
        let request = &head.request;
        let scheme = self.scheme(request.host);
        let resolution = respond(snapshot, request, scheme, &mut exchange, buffers);
        exchange.log_request(snapshot, || RequestInfo {
            line: head.request_line,
            request: Some(request),
            path: &buffers.path,
            len: head.len,
            ..self.request_info()
        });
        match resolution {
            Resolution::Prepared(response) => {
                let keep = |exchange: &mut Exchange| exchange.keep_path(request.target.path());
                let extra = self.respond(head.stream, response, exchange, keep, frames, turn);
                if let Some(extra) = extra {
                    buffers.reclaim(extra);
                }
            }
            Resolution::Lookup(pending) => {
                let unknown = Box::new(Unknown {
                    pending,
                    scheme,
                    exchange,
                });
                self.h2.attach(head.stream, Stream::Unknown(unknown));
                self.works.queue(head.stream);
            }
        }
        Ok(())
    }

    /// Begins the lookups of the requests that were received, and that the client has not cancelled
    /// meanwhile: those that it sent only to cancel them cost little.
    fn look_up(&mut self) {
        while let Some((stream, permit)) = self.works.next_unknown() {
            let Some(Stream::Unknown(unknown)) = self.h2.detach(stream) else {
                continue;
            };
            let context = Rc::clone(&self.context);
            let snapshot = Rc::clone(&context.snapshot());
            let work = look_up(context, snapshot, stream, unknown, permit);
            let work = Stream::Working(self.works.start(work));
            self.h2.attach(stream, work);
        }
    }

    /// Answers a request that is malformed with a page.
    fn refuse(
        &mut self,
        head: &RefusedHead<'_>,
        snapshot: &Snapshot,
        frames: &mut FrameBuffer,
        turn: &mut Turn,
    ) -> Result<(), Ending> {
        self.requests += 1;
        self.make_room(frames, turn)?;
        self.count_refusal(refusal(head.error));
        let mut exchange = self.begin_exchange(turn.now);
        let limits = snapshot.request_limits.as_ref();
        let admitted = limits.map_or(Ok(()), |limits| exchange.admit(limits));
        let mut response = match admitted {
            Ok(()) => Response::page(head.error.status()),
            Err(too_many) => Response::too_many_requests(too_many),
        };
        // Its path is not known.
        exchange.record_status(response.status, "");
        exchange.log_request(snapshot, || RequestInfo {
            line: head.request_line,
            len: head.len,
            ..self.request_info()
        });
        if head.method == Method::Head {
            response.body = Body::Empty;
        }
        self.respond(head.stream, response, exchange, |_| (), frames, turn);
        Ok(())
    }

    fn begin_exchange(&self, now: Instant) -> Exchange {
        let socket = self.transport.socket().clone();
        let context = Rc::clone(&self.context);
        Exchange::begin(context, self.timer.key(), socket, Protocol::Http2, now)
    }

    /// What the access log wants to know of a request of this connection.
    fn request_info(&self) -> RequestInfo<'_> {
        RequestInfo {
            line: &[],
            request: None,
            path: &[],
            len: 0,
            number: self.requests,
            protocol: Protocol::Http2.name(),
            scheme: if self.transport.is_tls() {
                "https"
            } else {
                "http"
            },
            tls: self.transport.tls(),
            socket: self.transport.socket(),
        }
    }

    /// The scheme of a request for `host`.
    fn scheme(&self, host: Option<&str>) -> Scheme {
        Scheme::on_shared(&self.transport, self.https_port, host)
    }

    /// Goes on with the streams whose work is done. Returns whether there was one.
    fn finish_works(
        &mut self,
        context: &mut task::Context<'_>,
        turn: &mut Turn,
    ) -> Result<bool, Ending> {
        let mut any = false;
        while turn.cost < QUANTUM_BYTES
            && let Poll::Ready(finished) = self.works.poll_next(context)
        {
            any = true;
            self.finish_work(finished, turn)?;
        }
        Ok(any)
    }

    fn finish_work(&mut self, finished: Finished, turn: &mut Turn) -> Result<(), Ending> {
        let Finished { stream, outcome } = finished;
        match outcome {
            Outcome::Response(prepared) => {
                let context = Rc::clone(&self.context);
                let frames = &mut context.scratch.borrow_mut().frames;
                self.make_room(frames, turn)?;
                let Prepared { response, exchange } = *prepared;
                // The lookup has kept its path.
                self.respond(stream, response, exchange, |_| (), frames, turn);
            }
            Outcome::Body(sending) => {
                self.h2.attach(stream, Stream::Sending(sending));
                self.h2.set_ready(stream, true);
            }
            Outcome::CutShort => {
                self.h2.reset(stream, ErrorCode::INTERNAL_ERROR);
            }
            Outcome::Due => self.h2.set_ready(stream, true),
        }
        Ok(())
    }

    /// Closes the connection, after what was not sent yet.
    pub(in crate::connection) async fn end(self: Box<Self>, ending: Ending) -> Closed {
        let Self {
            context,
            timer,
            mut transport,
            mut h2,
            flush,
            works,
            ..
        } = *self;
        let mut last = Vec::new();
        h2.write_control(&mut last);
        // Its streams end here.
        drop((h2, works));
        match ending {
            Ending::Gone if flush.is_none() => transport.close_notify_now(),
            Ending::Close if flush.is_none() => {
                if transport.write_last(&context.io, &last).is_ok() {
                    transport.close_notify_now();
                }
            }
            // Half a record may have been sent.
            Ending::Gone | Ending::Close => {}
            Ending::Linger => {
                let (io, flags) = (&context.io, SendFlags::empty());
                if let Some(mut flush) = flush
                    && transport.finish(io, &timer, &mut flush).await.is_err()
                {
                    return Closed;
                }
                // Best effort: a session of TLS that has failed encrypts nothing more.
                let _ = transport.write(io, &timer, last.into(), flags).await;
                let window = context.snapshot().h2.connection_window as usize;
                let bytes_max = window + LINGER_BYTES_MAX;
                linger(&context, &mut transport, &timer, bytes_max).await;
            }
        }
        Closed
    }
}

/// Why a request is refused, for metrics.
fn refusal(error: RequestError) -> Refusal {
    match error {
        RequestError::HeadTooLarge | RequestError::TooManyFields => Refusal::HeadTooLarge,
        _ => Refusal::Malformed,
    }
}
