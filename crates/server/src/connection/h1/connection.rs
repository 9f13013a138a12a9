//! The state of an HTTP/1.1 connection, and its responses from memory.
//!
//! All requests received in one piece are parsed, and their responses are built in the core's
//! scratch buffer and sent by one call. Nothing here waits.

use std::io;
use std::mem;
use std::num::NonZeroU16;
use std::ops::Range;
use std::rc::Rc;
use std::task::{self, Poll, ready};
use std::time::Instant;

use tidegate_config::Protocols;
use tidegate_h1::{Discard, Error, Framing, Head, Limits, Version, parse};
use tidegate_http::{Status, is_proxy_header};
use tidegate_site::{Content, File};

use super::response::{Persistence, Written, write_response};
use super::work::{Lookup, Next, PendingWork, Rest};
use crate::config::snapshot::Snapshot;
use crate::context::{Context, KeepAlive, Scratch};
use crate::memory::{Held, Part};
use crate::observe::access_log::RequestInfo;
use crate::observe::metrics::{ProxyProtocolError, Refusal};
use crate::respond::exchange::{Exchange, Protocol};
use crate::respond::respond::{Resolution, respond};
use crate::respond::response::{Body, Response, Scheme};
use crate::timeouts::{Phase, Timer};
use crate::transport::{Transport, Unsent};

/// Responses are sent once the buffer holds this many bytes.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// An HTTP/1.1 connection.
pub(crate) struct Connection {
    pub(super) context: Rc<Context>,
    pub(super) timer: Timer,
    pub(super) transport: Transport,
    /// The received part of an incomplete request.
    partial: Option<Box<Partial>>,
    requests: u32,
    /// A request was received in part.
    pub(super) midway: bool,
    expected: Expected,
    /// The HTTPS port to redirect every request to.
    https_port: Option<NonZeroU16>,
}

/// What may come from the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// HTTP/2, or a request.
    Http2,
    /// HTTP/2 alone: a request is refused.
    OnlyHttp2,
    /// Another request, since the client expects the connection to persist.
    Request,
    Nothing,
}

/// How a client begins that speaks HTTP/2 (RFC 9113, section 3.4), as far as it could be a request
/// line.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What another protocol takes over of a connection.
pub(in crate::connection) struct Parts {
    pub(in crate::connection) context: Rc<Context>,
    pub(in crate::connection) timer: Timer,
    pub(in crate::connection) transport: Transport,
    /// Received so far.
    pub(in crate::connection) input: Vec<u8>,
    pub(in crate::connection) https_port: Option<NonZeroU16>,
}

/// An incomplete request.
struct Partial {
    /// The first bytes of its head.
    input: Vec<u8>,
    /// The rest of its body, which is discarded.
    discard: Option<Discard>,
    held: Held,
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            discard: None,
            held: Held::new(Part::Request, size_of::<Self>()),
        }
    }
}

impl Partial {
    fn keep(&mut self, input: Vec<u8>) {
        self.held.set(size_of::<Self>() + input.capacity());
        self.input = input;
    }
}

/// The result of handling received bytes.
pub(in crate::connection) enum Received {
    /// Every complete request was answered.
    Answered,
    /// The client speaks HTTP/2.
    Http2,
    /// This work is left.
    Work(PendingWork),
    /// The client broke TLS and was sent an alert, which it must not lose.
    Malformed,
    /// The connection is over.
    End,
}

impl Connection {
    pub(in crate::connection) fn new(
        context: Rc<Context>,
        timer: Timer,
        transport: Transport,
    ) -> Self {
        Self {
            context,
            timer,
            transport,
            partial: None,
            requests: 0,
            midway: false,
            expected: Expected::Nothing,
            https_port: None,
        }
    }

    /// Redirects every request to HTTPS on `port`, if it is `Some`.
    pub(in crate::connection) fn redirecting_to(self, port: Option<NonZeroU16>) -> Self {
        Self {
            https_port: port,
            ..self
        }
    }

    /// Leaves the connection to HTTP/2 if that is among `protocols` and the client begins with it.
    pub(in crate::connection) fn speaking(self, protocols: Protocols) -> Self {
        let expected = match (protocols.http2, protocols.http1) {
            (true, true) => Expected::Http2,
            (true, false) => Expected::OnlyHttp2,
            (false, _) => Expected::Nothing,
        };
        Self { expected, ..self }
    }

    /// Whether the client speaks HTTP/2. Then nothing was answered.
    pub(in crate::connection) fn is_http2(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| self.is_preface(&partial.input))
    }

    fn is_preface(&self, received: &[u8]) -> bool {
        let is_possible = matches!(self.expected, Expected::Http2 | Expected::OnlyHttp2);
        is_possible && received.starts_with(PREFACE_LINE)
    }

    /// Leaves the connection to another protocol.
    pub(in crate::connection) fn into_parts(self) -> Parts {
        Parts {
            context: self.context,
            timer: self.timer,
            transport: self.transport,
            input: self.partial.unwrap_or_default().input,
            https_port: self.https_port,
        }
    }

    /// Receives bytes and answers the requests that they complete.
    pub(in crate::connection) fn poll_receive(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> Poll<Received> {
        Poll::Ready(match ready!(self.transport.poll_read(context)) {
            Ok(Some(received)) => match self.take(&received) {
                None if self.is_http2() => Received::Http2,
                None => Received::Answered,
                Some(work) => Received::Work(work),
            },
            Ok(None) => {
                self.end_of_input();
                Received::End
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Received::Malformed,
            Err(_) => Received::End,
        })
    }

    /// Answers the requests that `received` completes.
    pub(super) fn take(&mut self, received: &[u8]) -> Option<PendingWork> {
        if let Some(partial) = &mut self.partial
            && !partial.input.is_empty()
        {
            let mut input = mem::take(&mut partial.input);
            input.extend_from_slice(received);
            partial.keep(input);
            return self.take_input();
        }
        let (used, work) = self.answer(received);
        if used < received.len() {
            self.partial().keep(received[used..].to_vec());
        }
        work
    }

    /// Answers the requests in the buffered input.
    pub(super) fn take_input(&mut self) -> Option<PendingWork> {
        if !self.has_input() {
            let next = self.after_batch(Next::Receive, false);
            return self.wait_or_work(None, next, false, false, Instant::now());
        }
        let mut input = mem::take(&mut self.partial().input);
        let (used, work) = self.answer(&input);
        if used < input.len() {
            input.drain(..used);
            self.partial().keep(input);
        } else if !self.has_body() {
            self.partial = None;
        }
        work
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    /// Whether received bytes are not answered yet.
    pub(super) fn has_input(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| !partial.input.is_empty())
    }

    /// Whether the rest of a request body is still to be received.
    fn has_body(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.discard.is_some())
    }

    /// Answers the requests in `data` without waiting. Returns the number of bytes used, and the
    /// work that is left, if any besides receiving more.
    fn answer(&mut self, data: &[u8]) -> (usize, Option<PendingWork>) {
        let context = Rc::clone(&self.context);
        let mut scratch = context.scratch.borrow_mut();
        scratch.out.clear();
        let snapshot = context.snapshot();
        let now = Instant::now();
        let requests = self.requests;
        let (used, mut next) = self.answer_each(data, now, &snapshot, &mut scratch);
        let written = self.write_batch(&mut scratch, &next);
        context.access_log.batch_sent(written.is_ok());
        if let Next::Send(rest) = &mut next {
            rest.exchange.sent(Instant::now());
        }
        let Ok(unsent) = written else {
            return (used, Some(PendingWork::close()));
        };
        let unread = used < data.len();
        let next = self.after_batch(next, unread);
        let answered = self.requests > requests;
        (used, self.wait_or_work(unsent, next, unread, answered, now))
    }

    /// Sends the responses in `scratch`.
    fn write_batch(&mut self, scratch: &mut Scratch, next: &Next) -> io::Result<Option<Unsent>> {
        let (io, out) = (&self.context.io, &scratch.out);
        if let Some((file, range)) = &scratch.last_body.take()
            && let Content::Memory(bytes) = &file.content
        {
            return self.transport.write_with_body(io, out, bytes, range);
        }
        self.transport.write_now(io, out, next.flags())
    }

    /// The step after a batch of responses: `next`, unless the connection is to end.
    fn after_batch(&self, next: Next, unread: bool) -> Next {
        match next {
            Next::Close if unread => Next::Linger,
            Next::Receive if !unread && !self.has_body() && self.must_end() => self.close_mode(),
            next => next,
        }
    }

    /// Waits for the client if no work is left.
    fn wait_or_work(
        &mut self,
        unsent: Option<Unsent>,
        next: Next,
        unread: bool,
        answered: bool,
        now: Instant,
    ) -> Option<PendingWork> {
        if unsent.is_none() && matches!(next, Next::Receive) {
            self.wait_for_more(unread, answered, now);
            return None;
        }
        Some(PendingWork { unsent, next })
    }

    fn answer_each(
        &mut self,
        data: &[u8],
        now: Instant,
        snapshot: &Rc<Snapshot>,
        scratch: &mut Scratch,
    ) -> (usize, Next) {
        let mut used = 0;
        loop {
            match self.discard_body(&data[used..]) {
                Ok((count, done)) => {
                    used += count;
                    if !done {
                        return (used, Next::Receive);
                    }
                }
                Err(linger) => return (used, linger),
            }
            if used == data.len() {
                return (used, Next::Receive);
            }
            if scratch.last_body.is_some() || scratch.out.len() >= OUT_BYTES_MAX {
                return (used, Next::Continue);
            }
            match &self.parse(&data[used..], &snapshot.h1) {
                Ok(None) => return (used, Next::Receive),
                Ok(Some(head)) => {
                    used += head.len;
                    if let Some(next) = self.answer_one(head, now, snapshot, scratch) {
                        return (used, next);
                    }
                }
                Err(_) if self.is_preface(&data[used..]) => return (used, Next::Receive),
                Err(error) => {
                    self.context.metrics.core().refusals.count(refusal(*error));
                    let line = &data[used..];
                    if is_proxy_header(line) {
                        let errors = &self.context.metrics.core().proxy_protocol_errors;
                        errors.count(ProxyProtocolError::Unexpected);
                    }
                    let mut exchange = self.refuse(error.status(), line, now, &mut scratch.out);
                    exchange.complete_with_batch();
                    return (used, Next::Linger);
                }
            }
        }
    }

    /// The request head in `data`, if it is complete and may be.
    fn parse<'d>(&self, data: &'d [u8], limits: &Limits) -> Result<Option<Head<'d>>, Error> {
        // In place: a head is too large to be copied for this.
        let mut parsed = parse(data, limits);
        if self.expected == Expected::OnlyHttp2 && matches!(parsed, Ok(Some(_))) {
            parsed = Err(Error::Version);
        }
        parsed
    }

    /// Skips a request body. Returns the number of bytes, and whether the body ended.
    fn discard_body(&mut self, data: &[u8]) -> Result<(usize, bool), Next> {
        let Some(partial) = &mut self.partial else {
            return Ok((0, true));
        };
        let Some(discard) = &mut partial.discard else {
            return Ok((0, true));
        };
        let discarded = discard.feed(data).map_err(|error| {
            self.context.metrics.core().refusals.count(refusal(error));
            Next::Linger
        })?;
        if discarded.done {
            self.partial = None;
        }
        Ok((discarded.consumed, discarded.done))
    }

    /// Answers a malformed request, of which `received` was received, as the last of its
    /// connection.
    fn refuse(&self, status: Status, received: &[u8], now: Instant, out: &mut Vec<u8>) -> Exchange {
        let persistence = Persistence {
            version: Version::Http11,
            persistent: false,
        };
        let mut exchange = self.begin_exchange(Version::Http11, now);
        // Its path is not known.
        exchange.record_status(status, "");
        let mut lines = received.split(|byte| matches!(byte, b'\r' | b'\n'));
        let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
        exchange.log_request(&self.context.snapshot(), || RequestInfo {
            line,
            request: None,
            path: &[],
            len: received.len(),
            ..self.request_info(Version::Http11)
        });
        let mut response = Response::page(status);
        if line.starts_with(b"HEAD ") {
            // However malformed the rest, the client takes content for another response.
            response.body = Body::Empty;
        }
        self.write(&mut response, persistence, &mut exchange, now, out);
        exchange
    }

    /// What the access log wants to know of a request of this connection.
    fn request_info(&self, version: Version) -> RequestInfo<'_> {
        RequestInfo {
            line: &[],
            request: None,
            path: &[],
            len: 0,
            number: self.requests,
            protocol: protocol(version).name(),
            scheme: if self.transport.is_tls() {
                "https"
            } else {
                "http"
            },
            tls: self.transport.tls(),
            socket: self.transport.socket(),
        }
    }

    /// Answers a request from memory. Returns what must follow, or `None` to go on with the next
    /// request.
    fn answer_one(
        &mut self,
        head: &Head<'_>,
        now: Instant,
        snapshot: &Rc<Snapshot>,
        scratch: &mut Scratch,
    ) -> Option<Next> {
        self.requests += 1;
        self.expected = if head.persistent {
            Expected::Request
        } else {
            Expected::Nothing
        };
        let persistence = Persistence {
            version: head.version,
            persistent: self.persists(head, snapshot),
        };
        if head.framing != Framing::None {
            let limit = snapshot.h1.body_discard;
            if matches!(head.framing, Framing::Length(length) if length > limit) {
                let refusals = &self.context.metrics.core().refusals;
                refusals.count(Refusal::BodyTooLarge);
            }
            self.partial().discard = Some(Discard::new(head.framing, limit));
        }
        let mut exchange = self.begin_exchange(head.version, now);
        let (request, buffers) = (&head.request, &mut scratch.buffers);
        let resolution = respond(snapshot, request, self.scheme(), &mut exchange, buffers);
        exchange.log_request(snapshot, || RequestInfo {
            line: head.request_line,
            request: Some(request),
            path: &buffers.path,
            len: head.len,
            ..self.request_info(head.version)
        });
        match resolution {
            Resolution::Prepared(mut response) => {
                let out = &mut scratch.out;
                let written = self.write(&mut response, persistence, &mut exchange, now, out);
                scratch.buffers.reclaim(response.extra);
                let persistent = written.persistent;
                let Some((body, framing)) = written.rest else {
                    exchange.complete_with_batch();
                    return (!persistent).then(|| self.close_mode());
                };
                if let Body::File(file, range) = &body
                    && self.joins(file, range, &exchange)
                {
                    exchange.body_sent(range.end - range.start);
                    exchange.complete_with_batch();
                    scratch.last_body = Some((Rc::clone(file), range.clone()));
                    return (!persistent).then(|| self.close_mode());
                }
                exchange.keep_path(request.target.path());
                Some(Next::Send(Box::new(Rest {
                    body: body.into(),
                    framing,
                    persistent,
                    exchange,
                })))
            }
            Resolution::Lookup(pending) => Some(Next::LookUp(Box::new(Lookup {
                pending,
                snapshot: Rc::clone(snapshot),
                persistence,
                exchange,
            }))),
        }
    }

    /// Whether a range of `file` leaves together with its head: if it is in memory, and is neither
    /// encrypted, which is done piece by piece, nor paced.
    fn joins(&self, file: &File, range: &Range<u64>, exchange: &Exchange) -> bool {
        matches!(file.content, Content::Memory(_))
            && range.end - range.start <= OUT_BYTES_MAX as u64
            && !self.transport.is_tls()
            && !exchange.sets_pace()
    }

    fn begin_exchange(&self, version: Version, now: Instant) -> Exchange {
        let protocol = protocol(version);
        let socket = self.transport.socket().clone();
        let context = Rc::clone(&self.context);
        Exchange::begin(context, self.timer.key(), socket, protocol, now)
    }

    /// Appends the response except a large body or one on disk.
    pub(super) fn write(
        &self,
        response: &mut Response,
        persistence: Persistence,
        exchange: &mut Exchange,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Written {
        let date = self.context.clock.date(now);
        let start = out.len();
        let takes_pages = !self.transport.is_tls();
        let written = write_response(out, response, persistence, &date, takes_pages);
        exchange.head_written(response, written.head_bytes, out.len() - start);
        written
    }

    pub(super) fn scheme(&self) -> Scheme {
        Scheme::on(&self.transport, self.https_port)
    }

    /// Whether the connection persists after this request.
    fn persists(&self, head: &Head<'_>, snapshot: &Snapshot) -> bool {
        let body_fits = match head.framing {
            Framing::Length(length) => length <= snapshot.h1.body_discard,
            Framing::None | Framing::Chunked => true,
        };
        head.persistent
            && body_fits
            // After a final response the client may still send its body or not (RFC 9110, 10.1.1).
            && !head.expect_continue
            // What a client sends behind CONNECT is meant for the tunnel, and is no request.
            && !head.request.target.is_authority()
            && self.requests < snapshot.settings.limits.requests_per_connection
            && self.context.keep_alive() == KeepAlive::Enabled
            && !self.timer.draining()
            && self.transport.key_usable()
    }

    /// Whether the connection ends with the current response, whatever that promised.
    fn must_end(&self) -> bool {
        self.context.keep_alive() == KeepAlive::Disabled || self.timer.draining()
    }

    /// How the connection is closed after a response.
    pub(super) fn close_mode(&self) -> Next {
        if self.expected == Expected::Request || self.has_body() {
            Next::Linger
        } else {
            Next::Close
        }
    }

    /// Starts the timeout of the next request, or of the rest of a partial one.
    fn wait_for_more(&mut self, partial: bool, answered: bool, now: Instant) {
        let midway = partial || self.has_body();
        if !midway {
            self.timer.enter_at(Phase::Idle, now);
        } else if !self.midway || answered {
            self.timer.enter_at(Phase::Request, now);
        }
        self.midway = midway;
    }

    /// The client closed its side, or was too slow.
    fn end_of_input(&mut self) {
        let is_late = self.has_input() && self.timer.expired();
        if is_late && self.send_refusal(Status::REQUEST_TIMEOUT).is_err() {
            return;
        }
        self.transport.close_notify_now();
    }

    /// Best effort: does not wait for a client that takes no more. After an error nothing more may
    /// be sent.
    pub(super) fn send_refusal(&mut self, status: Status) -> io::Result<()> {
        let mut out = Vec::new();
        let received = self.partial.take().unwrap_or_default();
        let mut exchange = self.refuse(status, &received.input, Instant::now(), &mut out);
        self.transport.write_last(&self.context.io, &out)?;
        exchange.complete(Instant::now());
        Ok(())
    }
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
    }
}

/// Why a request is refused, for metrics.
fn refusal(error: Error) -> Refusal {
    match error {
        Error::Version | Error::UnknownCoding | Error::Expectation => Refusal::Unsupported,
        Error::UriTooLong => Refusal::UriTooLong,
        Error::HeadTooLarge | Error::TooManyFields => Refusal::HeadTooLarge,
        Error::BodyTooLarge => Refusal::BodyTooLarge,
        _ => Refusal::Malformed,
    }
}
