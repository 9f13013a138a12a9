//! HTTP/1.1 on a connection: requests in, responses out, until one side ends it.
//!
//! What is in memory is answered on the spot: all requests that came in one piece are parsed, their
//! responses built in the core's scratch buffer and sent by one call. Only what waits (a look-up, a
//! transfer, a slow client) is a future of its own, boxed, so that the task of an idle connection
//! stays small.

use std::io;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Instant;

use bytes::Bytes;
use rustix::net::SendFlags;
use tidegate_h1::{Discard, Framing, Head, Streamed, Version, parse, write_error};
use tidegate_http::{Accepted, Method, Navigation, Request, Status};
use tidegate_site::{Cached, Error as SiteError};

use super::lingering_close::linger;
use super::task::ConnectionTask;
use crate::config::snapshot::Snapshot;
use crate::context::{Context, Scratch};
use crate::respond::body::{BodySource, Piece};
use crate::respond::lookup::{Wanted, look_up};
use crate::respond::response::{Answer, Body, Reply, is_challenge};
use crate::respond::send_range::send_range;
use crate::timeouts::{Phase, Timer};
use crate::transport::{Closed, Transport, Unsent};

/// Responses are sent once this many bytes of them are in the buffer.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes sent from memory after which others run.
const QUANTUM_BYTES: usize = 256 * 1024;

/// What a piece of a body counts at least against the quantum: each costs some system calls, however
/// small it is.
const PIECE_COST_MIN: usize = 16 * 1024;

/// Bytes that frame a chunk, at most.
const CHUNK_FRAMING_BYTES_MAX: usize = 32;

/// A connection that speaks HTTP/1.1.
pub(crate) struct Connection {
    context: Rc<Context>,
    timer: Timer,
    transport: Transport,
    /// What was received of a request that is not complete, if one has begun.
    partial: Option<Box<Partial>>,
    requests: u32,
    /// A request has begun and not all of it is here.
    midway: bool,
    /// The client takes the connection to be kept, and may send more at any time.
    expects_more: bool,
    /// The port of HTTPS that every request is redirected to.
    https_port: Option<NonZeroU16>,
}

/// A request that is not complete.
#[derive(Default)]
struct Partial {
    /// The first bytes of its head.
    input: Vec<u8>,
    /// The rest of its body, which is not used.
    discard: Option<Discard>,
}

/// What is left to do once the requests at hand were answered from memory.
struct PendingWork {
    /// Responses that the socket did not take at once.
    unsent: Option<Unsent>,
    next: Next,
}

enum Next {
    /// Receive more.
    Receive,
    /// Go on with the input at hand: enough responses are waiting.
    Continue,
    /// Look up what this request asks for.
    LookUp(Box<Wanted>),
    /// Send the rest of a response.
    Send(Box<Rest>),
    /// Close.
    Close,
    /// Close, but receive what the client is still sending ([`linger`]).
    Linger,
}

/// How far a request was answered without waiting.
enum Answered {
    /// It must be looked up; if it is refused with a status, just the page for that.
    No(Option<Status>),
    /// All but what follows.
    Begun(Body),
    Whole,
}

impl Answered {
    /// The response was begun, and this follows.
    fn of(body: Option<Body>) -> Self {
        body.map_or(Self::Whole, Self::Begun)
    }
}

/// The rest of a response.
struct Rest {
    body: BodySource,
    /// How its end is told, unless by Content-Length.
    framing: Option<Streamed>,
    /// Whether the connection goes on after it.
    persistent: bool,
}

impl Connection {
    pub(super) fn new(context: Rc<Context>, timer: Timer, transport: Transport) -> Self {
        Self {
            context,
            timer,
            transport,
            partial: None,
            requests: 0,
            midway: false,
            expects_more: false,
            https_port: None,
        }
    }

    /// Redirects every request to HTTPS on `port`.
    pub(super) fn redirecting_to(self, port: NonZeroU16) -> Self {
        Self {
            https_port: Some(port),
            ..self
        }
    }

    /// Receives and answers: the task's next state, and whether it is to be polled at once.
    pub(super) fn poll_receive(
        mut self,
        context: &mut task::Context<'_>,
    ) -> (ConnectionTask, Poll<()>) {
        let again = Poll::Ready(());
        match self.transport.poll_read(context) {
            Poll::Pending => (ConnectionTask::Receiving(self), Poll::Pending),
            Poll::Ready(Ok(Some(received))) => match self.take(&received) {
                None => (ConnectionTask::Receiving(self), again),
                Some(work) => (
                    ConnectionTask::Working(Box::pin(self.carry_on(work))),
                    again,
                ),
            },
            Poll::Ready(Ok(None)) => {
                self.end_of_input();
                (ConnectionTask::Done, again)
            }
            // The client broke TLS and was sent an alert, which it must not lose.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let closing = async move { Err(self.linger().await) };
                (ConnectionTask::Working(Box::pin(closing)), again)
            }
            Poll::Ready(Err(_)) => (ConnectionTask::Done, again),
        }
    }

    /// Answers what came with the handshake, until there is only to receive.
    pub(super) async fn serve_early(mut self, received: Vec<u8>) -> Result<Self, Closed> {
        if received.is_empty() {
            return Ok(self);
        }
        match self.take(&received) {
            None => Ok(self),
            Some(work) => Box::pin(self.carry_on(work)).await,
        }
    }

    /// Answers the requests that `received` completes.
    fn take(&mut self, received: &[u8]) -> Option<PendingWork> {
        if let Some(partial) = &mut self.partial
            && !partial.input.is_empty()
        {
            partial.input.extend_from_slice(received);
            return self.take_input();
        }
        let (used, work) = self.answer(received);
        if used < received.len() {
            self.partial().input = received[used..].to_vec();
        }
        work
    }

    /// Answers the requests that were received before.
    fn take_input(&mut self) -> Option<PendingWork> {
        let mut input = match &mut self.partial {
            Some(partial) => std::mem::take(&mut partial.input),
            None => Vec::new(),
        };
        let (used, work) = self.answer(&input);
        if used < input.len() {
            input.drain(..used);
            self.partial().input = input;
        } else if !self.has_body() {
            self.partial = None;
        }
        work
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    /// Whether bytes were received that are not answered.
    fn has_input(&self) -> bool {
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

    /// Answers the requests in `data` without waiting: how many bytes that took, and what is left
    /// to do, if not just to receive more.
    fn answer(&mut self, data: &[u8]) -> (usize, Option<PendingWork>) {
        let context = Rc::clone(&self.context);
        let mut scratch = context.scratch.borrow_mut();
        scratch.out.clear();
        let snapshot = context.snapshot();
        let now = Instant::now();
        let requests = self.requests;
        let (used, next) = self.answer_each(data, now, &snapshot, &mut scratch);
        let written = self
            .transport
            .write_now(&context.io, &scratch.out, next.flags());
        let Ok(unsent) = written else {
            return (used, Some(PendingWork::close()));
        };
        let next = match next {
            Next::Close if used < data.len() => Next::Linger,
            Next::Receive
                if used == data.len() && !self.has_body() && context.keep_alive_disabled() =>
            {
                self.close_mode()
            }
            next => next,
        };
        if unsent.is_none() && matches!(next, Next::Receive) {
            self.wait_for_more(used < data.len(), self.requests > requests, now);
            return (used, None);
        }
        (used, Some(PendingWork { unsent, next }))
    }

    fn answer_each(
        &mut self,
        data: &[u8],
        now: Instant,
        snapshot: &Snapshot,
        scratch: &mut Scratch,
    ) -> (usize, Next) {
        let mut used = 0;
        loop {
            if scratch.out.len() >= OUT_BYTES_MAX {
                return (used, Next::Continue);
            }
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
            match parse(&data[used..], &snapshot.http) {
                Ok(None) => return (used, Next::Receive),
                Ok(Some(head)) => {
                    let bytes = &data[used..used + head.len];
                    used += head.len;
                    if let Some(next) = self.answer_one(&head, bytes, now, snapshot, scratch) {
                        return (used, next);
                    }
                }
                Err(error) => {
                    self.refuse(error.status(), now, &mut scratch.out);
                    return (used, Next::Linger);
                }
            }
        }
    }

    /// Passes over a request body: how many bytes, and whether that was all of it.
    fn discard_body(&mut self, data: &[u8]) -> Result<(usize, bool), Next> {
        let Some(partial) = &mut self.partial else {
            return Ok((0, true));
        };
        let Some(discard) = &mut partial.discard else {
            return Ok((0, true));
        };
        let discarded = discard.feed(data).map_err(|_| Next::Linger)?;
        if discarded.done {
            self.partial = None;
        }
        Ok((discarded.consumed, discarded.done))
    }

    /// Answers a request that cannot be understood, as the last of its connection.
    fn refuse(&self, status: Status, now: Instant, out: &mut Vec<u8>) {
        let date = self.context.clock.date(now);
        write_error(out, status, &date, Version::Http11, false, true);
    }

    /// Answers a request from what is in memory, or tells what to do instead or after it.
    fn answer_one(
        &mut self,
        head: &Head<'_>,
        bytes: &[u8],
        now: Instant,
        snapshot: &Snapshot,
        scratch: &mut Scratch,
    ) -> Option<Next> {
        self.requests += 1;
        self.expects_more = head.persistent;
        self.context.metrics.count_request();
        let reply = Reply {
            version: head.version,
            persistent: self.persists(head, snapshot),
            with_body: head.request.method != Method::Head,
        };
        if head.framing != Framing::None {
            let limit = snapshot.http.body_discard;
            self.partial().discard = Some(Discard::new(head.framing, limit));
        }
        match self.answer_at_once(&head.request, reply, now, snapshot, scratch) {
            Answered::Whole => (!reply.persistent).then(|| self.close_mode()),
            Answered::Begun(body) => Some(Next::send(body, reply.persistent)),
            // The buffer that it was received into is given back meanwhile.
            Answered::No(refusal) => Some(Next::LookUp(Box::new(Wanted {
                head: bytes.into(),
                reply,
                refusal,
            }))),
        }
    }

    fn answer_at_once(
        &self,
        request: &Request<'_>,
        reply: Reply,
        now: Instant,
        snapshot: &Snapshot,
        scratch: &mut Scratch,
    ) -> Answered {
        let Scratch { out, path, .. } = scratch;
        let context = &self.context;
        let site = snapshot.sites.of(request.host);
        let decoded = request.target.decode_path(site.encoded_slash(), path);
        if decoded.is_err() {
            // Half a path means nothing, to the site's rules neither.
            path.clear();
        }
        let date = context.clock.date(now);
        let answer = Answer {
            request,
            path,
            site,
            reply,
            date: &date,
            hsts: self.hsts(snapshot),
            range_limits: snapshot.ranges,
        };
        let refuse = |status, out| {
            if site.names_error_page(status) {
                Answered::No(Some(status))
            } else {
                Answered::of(answer.refuse(status, None, out))
            }
        };
        if let Some(port) = self.https_port
            && !is_challenge(path)
        {
            return Answered::of(answer.to_https(port, out));
        }
        match (request.method, decoded) {
            (Method::Get | Method::Head, Ok(())) => {
                let navigation = || Navigation::of(request);
                match site.cached(path, Accepted::of(request), navigation, now) {
                    Cached::File(file) => Answered::of(answer.file(&file, out)),
                    Cached::NotFound { page } => {
                        Answered::of(answer.refuse(Status::NOT_FOUND, page.as_ref(), out))
                    }
                    Cached::Miss => Answered::No(None),
                }
            }
            (Method::Options, Ok(())) => Answered::of(answer.options(out)),
            (Method::Options, Err(_)) if request.target.is_asterisk() => {
                Answered::of(answer.options(out))
            }
            (Method::Get | Method::Head | Method::Options, Err(_)) => {
                refuse(Status::BAD_REQUEST, out)
            }
            (Method::Known, Ok(())) if site.ruling(path, None).is_some() => Answered::No(None),
            (Method::Known, _) => refuse(Status::METHOD_NOT_ALLOWED, out),
            (Method::Unknown, _) => refuse(Status::NOT_IMPLEMENTED, out),
        }
    }

    /// The policy that is told by responses over TLS.
    fn hsts<'s>(&self, snapshot: &'s Snapshot) -> &'s str {
        if self.transport.is_tls() {
            &snapshot.settings.tls.hsts
        } else {
            ""
        }
    }

    /// Whether the connection goes on after this request.
    fn persists(&self, head: &Head<'_>, snapshot: &Snapshot) -> bool {
        let body_fits = match head.framing {
            Framing::Length(length) => length <= snapshot.http.body_discard,
            Framing::None | Framing::Chunked => true,
        };
        head.persistent
            && body_fits
            // The client may send its body or not, now that it has an answer (RFC 9110, 10.1.1).
            && !head.expect_continue
            && self.requests < snapshot.settings.limits.requests_per_connection
            && !self.context.keep_alive_disabled()
            && self.transport.key_usable()
    }

    /// How the connection is closed after a response.
    fn close_mode(&self) -> Next {
        if self.expects_more || self.has_body() {
            Next::Linger
        } else {
            Next::Close
        }
    }

    /// What follows a response that took waiting.
    fn after(&self, persistent: bool) -> Next {
        match self.close_mode() {
            _ if persistent => Next::Continue,
            Next::Close if !self.has_input() => Next::Close,
            _ => Next::Linger,
        }
    }

    /// Starts the time for the next request, or for the rest of one that has begun.
    fn wait_for_more(&mut self, partial: bool, answered: bool, now: Instant) {
        let midway = partial || self.has_body();
        if !midway {
            self.timer.enter_at(Phase::Idle, now);
        } else if !self.midway || answered {
            self.timer.enter_at(Phase::Request, now);
        }
        self.midway = midway;
    }

    /// Does what takes waiting, then answers what came meanwhile, until there is only to receive.
    ///
    /// Not an async fn: that keeps its arguments twice.
    fn carry_on(mut self, mut work: PendingWork) -> impl Future<Output = Result<Self, Closed>> {
        async move {
            loop {
                if let Some(unsent) = work.unsent {
                    self.transport
                        .flush(&self.context.io, &self.timer, unsent)
                        .await?;
                }
                let next = match work.next {
                    Next::LookUp(wanted) => {
                        let next = Box::pin(self.look_up(*wanted)).await?;
                        work = PendingWork { unsent: None, next };
                        continue;
                    }
                    Next::Send(mut rest) => {
                        self.send_rest(&mut rest).await?;
                        self.after(rest.persistent)
                    }
                    next => next,
                };
                match next {
                    Next::Close => {
                        self.transport
                            .close_notify(&self.context.io, &self.timer)
                            .await;
                        return Err(Closed);
                    }
                    Next::Linger => return Err(self.linger().await),
                    Next::Receive | Next::Continue | Next::LookUp(_) | Next::Send(_) => {}
                }
                // The next request gets a time of its own.
                self.midway = false;
                match self.take_input() {
                    Some(more) => work = more,
                    None => return Ok(self),
                }
            }
        }
    }

    /// Looks a request up and sends the head of its response, with what is in memory of the body:
    /// what follows.
    ///
    /// The caller boxes it: it is much larger than a transfer, which may last for hours.
    async fn look_up(&mut self, wanted: Wanted) -> Result<Next, Closed> {
        // A disk is not hurried by the connection's timer.
        self.timer.enter(Phase::Transfer);
        let snapshot = Rc::clone(&self.context.snapshot());
        let hsts = self.hsts(&snapshot);
        let looked = look_up(&self.context, &snapshot, hsts, wanted).await?;
        let next = match looked.body {
            Some(body) => Next::send(body, looked.persistent),
            None => self.after(looked.persistent),
        };
        let (io, flags) = (&self.context.io, next.flags());
        self.transport
            .write(io, &self.timer, looked.bytes, flags)
            .await?;
        Ok(next)
    }

    /// Sends the body of a response, piece by piece.
    async fn send_rest(&mut self, rest: &mut Rest) -> Result<(), Closed> {
        let mut turn = 0;
        loop {
            if !rest.body.has_length() {
                // A client is not ended for the time that the server takes.
                self.timer.enter(Phase::Transfer);
            }
            let piece = match rest.body.next(usize::MAX).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return self.send_end(rest.framing).await,
                Err(error) => return Err(self.cut(rest.framing, &error)),
            };
            turn += match piece {
                Piece::Bytes(bytes) => self.send_bytes(bytes, rest).await?,
                Piece::File(file, range) => {
                    let (context, timer) = (&self.context, &self.timer);
                    send_range(context, &mut self.transport, timer, &file, range).await?;
                    // A transfer has turns of its own.
                    0
                }
            };
            if turn >= QUANTUM_BYTES {
                turn = 0;
                self.context.io.ring.yield_now().await;
            }
        }
    }

    /// Sends bytes of a body: what they count against the quantum.
    async fn send_bytes(&mut self, bytes: Bytes, rest: &Rest) -> Result<usize, Closed> {
        let flags = if rest.body.is_complete() {
            SendFlags::empty()
        } else {
            SendFlags::MORE
        };
        let (bytes, cost) = match rest.framing {
            // To make a piece takes the core a moment: others run after it.
            Some(framing) => (framed(framing, &bytes), QUANTUM_BYTES),
            None => {
                let cost = bytes.len().max(PIECE_COST_MIN);
                (bytes, cost)
            }
        };
        let io = &self.context.io;
        self.transport.write(io, &self.timer, bytes, flags).await?;
        Ok(cost)
    }

    /// Sends what tells the end of a body.
    async fn send_end(&mut self, framing: Option<Streamed>) -> Result<(), Closed> {
        let mut end = Vec::new();
        if let Some(framing) = framing {
            framing.write_end(&mut end);
        }
        let (io, flags) = (&self.context.io, SendFlags::empty());
        let sent = self.transport.write(io, &self.timer, end.into(), flags);
        Ok(sent.await?)
    }

    /// Ends a response whose end would not tell that it is short.
    fn cut(&mut self, framing: Option<Streamed>, error: &SiteError) -> Closed {
        if self.context.file_warnings.is_due() {
            tracing::warn!(%error, "response cut short");
        }
        if framing == Some(Streamed::UntilClose) {
            self.transport.abort_close_delimited();
        } else {
            self.transport.abort();
        }
        Closed
    }

    /// The client sends no more, or was too slow to.
    fn end_of_input(&mut self) {
        if self.has_input() && self.timer.expired() {
            let _ = self.send_refusal(Status::REQUEST_TIMEOUT);
        }
        self.transport.close_notify_now();
    }

    /// Refuses what was received with `status`, and drops what else comes.
    pub(super) async fn refuse_and_linger(mut self, status: Status) -> Closed {
        match self.send_refusal(status) {
            Ok(()) => self.linger().await,
            Err(_) => Closed,
        }
    }

    /// Courtesy: a client that takes no more is not waited for.
    fn send_refusal(&mut self, status: Status) -> io::Result<()> {
        let mut out = Vec::new();
        self.refuse(status, Instant::now(), &mut out);
        let (io, flags) = (&self.context.io, SendFlags::empty());
        self.transport.write_now(io, &out, flags).map(drop)
    }

    async fn linger(&mut self) -> Closed {
        linger(&self.context, &mut self.transport, &self.timer).await;
        Closed
    }
}

/// A piece of a body whose length is not known, with its framing.
fn framed(framing: Streamed, bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + CHUNK_FRAMING_BYTES_MAX);
    framing.write_piece(bytes, &mut out);
    out.into()
}

impl Next {
    fn send(body: Body, persistent: bool) -> Self {
        let (body, framing) = body.into_source();
        Self::Send(Box::new(Rest {
            body,
            framing,
            persistent,
        }))
    }

    /// How the bytes before it are sent: those of a head wait for the first of the body, which
    /// surely follow.
    fn flags(&self) -> SendFlags {
        match self {
            Self::Send(_) => SendFlags::MORE,
            _ => SendFlags::empty(),
        }
    }
}

impl PendingWork {
    fn close() -> Self {
        Self {
            unsent: None,
            next: Next::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that `function` makes.
    fn future_bytes<A, B, F: Future>(_function: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_transfer_has_no_room_for_a_look_up() {
        // One for each download that is under way or stalled.
        let bytes = future_bytes(Connection::carry_on);
        assert!(bytes <= 1240, "{bytes}");
    }
}
