//! One connection: requests in, responses out, until one side ends it.
//!
//! What is in memory is answered on the spot: all requests that came in one piece are parsed,
//! their responses built in the shard's scratch buffer and sent by one call. Only what must wait
//! (a lookup, a transfer, a client that is slow to take a response) is a future of its own, boxed,
//! so that the task of an idle connection stays small.

mod h1_response;

use std::io;
use std::mem;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::{SendFlags, Shutdown, shutdown};
use tidegate_h1::{Discard, Framing, Head, Version, parse};
use tidegate_http::Status;
use tidegate_uring::Fd;

use crate::accept::Manner;
use crate::connection::h1_response::{Persistence, Written, write_response};
use crate::respond::lookup::{PendingLookup, look_up};
use crate::respond::respond::{Answer, respond};
use crate::respond::response::{Response, Scheme};
use crate::respond::send_body::{Rest, send_body, send_now, send_raw};
use crate::timeouts::{Key, Phase};
use crate::transport::link::Link;
use crate::transport::tls_handshake;
use crate::transport::tls_stream;
use crate::worker::{Scratch, Shard};

/// Responses are sent when this many bytes of them are waiting.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes read from a client that goes on sending after its last response.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A connection that is served.
pub(crate) struct Connection {
    pub(crate) shard: Rc<Shard>,
    pub(crate) link: Link,
    /// What was received of a request that is not complete, if one has begun.
    #[expect(
        clippy::box_collection,
        reason = "a pointer's size where it is not there"
    )]
    input: Option<Box<Vec<u8>>>,
    key: Key,
    requests: u32,
    /// A request has begun and not all of it is here.
    midway: bool,
    /// The client takes the connection to be kept, and may send more at any time.
    expects_more: bool,
    /// The port that requests are sent to by HTTPS instead of being answered.
    https_port: Option<NonZeroU16>,
    /// The rest of a request body that nobody wants.
    discard: Option<Box<Discard>>,
}

/// The connection is over; all that was to be said was said.
pub(crate) struct Closed;

/// What is left to do once the requests at hand were answered from memory.
struct Todo {
    /// Responses that the socket did not take at once.
    unsent: Option<Bytes>,
    next: Next,
}

enum Next {
    /// Receive more.
    Receive,
    /// Go on with what is at hand: enough responses are waiting.
    Continue,
    /// Look up what this request asks for.
    LookUp(Box<PendingLookup>, Persistence),
    /// Send what follows the bytes at hand, then persist or not.
    Send(Box<Rest>, bool),
    /// Close.
    Close,
    /// Close, and read what the client is still sending: to close with bytes unread would reset
    /// the connection, and the response with it (RFC 9112, section 9.6).
    Linger,
}

/// Serves a connection to its end.
///
/// A future by hand: an async fn would keep what it awaits beside what that is made of, and there
/// are as many of these as there are connections. (For an idle one it was 200 bytes, and is 72.)
pub(crate) enum Serving {
    /// For a request, or for the rest of one.
    Waiting(Connection),
    /// With what takes waiting.
    Busy(Pin<Box<dyn Future<Output = Result<Connection, Closed>>>>),
    Over,
}

// One for each idle connection.
const _: () = assert!(size_of::<Serving>() <= 72);

impl Serving {
    /// Serves what was accepted by a listener with this manner.
    pub(crate) fn new(shard: Rc<Shard>, socket: &Fd, manner: &Manner) -> Self {
        let mut connection = Connection::new(shard, socket);
        match manner {
            Manner::Plain => {}
            Manner::Redirect(port) => connection.https_port = Some(*port),
            Manner::Secure(tls) => {
                return Self::Busy(Box::pin(tls_handshake::secure(connection, tls.clone())));
            }
        }
        Self::Waiting(connection)
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // It is over if what follows panics.
            let (now, poll) = match mem::replace(&mut *self, Self::Over) {
                Self::Waiting(connection) => connection.poll_receive(context),
                Self::Busy(mut work) => match work.as_mut().poll(context) {
                    Poll::Ready(Ok(connection)) => (Self::Waiting(connection), Poll::Ready(())),
                    Poll::Ready(Err(Closed)) => (Self::Over, Poll::Ready(())),
                    Poll::Pending => (Self::Busy(work), Poll::Pending),
                },
                Self::Over => return Poll::Ready(()),
            };
            *self = now;
            ready!(poll);
        }
    }
}

impl Connection {
    fn new(shard: Rc<Shard>, socket: &Fd) -> Self {
        let count = &shard.counters.connections;
        count.set(count.get() + 1);
        let time = shard.settings.timeouts.header;
        let key = shard
            .deadlines
            .join(socket, Phase::Fresh, time, Instant::now());
        Self {
            link: Link::Plain(shard.ring.recv(socket)),
            shard,
            input: None,
            key,
            requests: 0,
            midway: false,
            expects_more: false,
            https_port: None,
            discard: None,
        }
    }

    pub(crate) fn socket(&self) -> &Fd {
        self.link.socket()
    }

    /// Takes what comes next: what there is to do then, and whether to wait before it.
    fn poll_receive(mut self, context: &mut Context<'_>) -> (Serving, Poll<()>) {
        let done = Poll::Ready(());
        match self.link.poll_next(context) {
            Poll::Pending => (Serving::Waiting(self), Poll::Pending),
            Poll::Ready(Ok(Some(received))) => match self.take(&received) {
                None => (Serving::Waiting(self), done),
                Some(todo) => (Serving::Busy(Box::pin(self.carry_on(todo))), done),
            },
            Poll::Ready(Ok(None)) => {
                self.end_of_input();
                (Serving::Over, done)
            }
            // The client broke TLS and was told so; to close with bytes unread would take that
            // from it.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let lingering = async move { Err(self.linger().await) };
                (Serving::Busy(Box::pin(lingering)), done)
            }
            Poll::Ready(Err(_)) => (Serving::Over, done),
        }
    }

    /// Marks what the connection is about to do, and how long that may take.
    pub(crate) fn enter(&self, phase: Phase) {
        let timeouts = &self.shard.settings.timeouts;
        let time = match phase {
            Phase::Idle => timeouts.keep_alive,
            Phase::Fresh | Phase::Request => timeouts.header,
            Phase::Send | Phase::Transfer => timeouts.send_stall,
            Phase::Linger => timeouts.linger,
        };
        self.enter_for(phase, time);
    }

    /// As [`Connection::enter`], for a time of its own.
    pub(crate) fn enter_for(&self, phase: Phase, time: Duration) {
        self.shard
            .deadlines
            .enter(self.key, phase, time, Instant::now());
    }

    /// Answers what came with the handshake, until there is only to receive.
    pub(crate) async fn take_early(mut self, received: Vec<u8>) -> Result<Self, Closed> {
        if received.is_empty() {
            return Ok(self);
        }
        match self.take(&received) {
            None => Ok(self),
            Some(todo) => Box::pin(self.carry_on(todo)).await,
        }
    }

    /// Answers what was received, with what of a request was there before.
    fn take(&mut self, received: &[u8]) -> Option<Todo> {
        if let Some(input) = &mut self.input {
            input.extend_from_slice(received);
            return self.take_input();
        }
        let (used, todo) = self.answer(received);
        if used < received.len() {
            self.input = Some(Box::new(received[used..].to_vec()));
        }
        todo
    }

    fn take_input(&mut self) -> Option<Todo> {
        let mut input = self.input.take().unwrap_or_default();
        let (used, todo) = self.answer(&input);
        if used < input.len() {
            input.drain(..used);
            self.input = Some(input);
        }
        todo
    }

    /// Answers the requests in `data` without waiting: how many bytes that took, and what is left
    /// to do, if not just to receive more.
    fn answer(&mut self, data: &[u8]) -> (usize, Option<Todo>) {
        let shard = Rc::clone(&self.shard);
        let mut scratch = shard.scratch.borrow_mut();
        scratch.out.clear();
        let heads = self.requests;
        let (used, next) = self.answer_each(data, &mut scratch);
        let Scratch { out, sealed, .. } = &mut *scratch;
        let Ok(unsent) = self.send_sealed(out, sealed, next.flags()) else {
            return (used, Some(Todo::close()));
        };
        let next = match next {
            Next::Close if used < data.len() => Next::Linger,
            Next::Receive if used == data.len() && self.discard.is_none() && shard.keeps_none() => {
                self.farewell()
            }
            next => next,
        };
        if unsent.is_none() && matches!(next, Next::Receive) {
            self.wait_for_more(used < data.len(), self.requests > heads);
            return (used, None);
        }
        (used, Some(Todo { unsent, next }))
    }

    /// Sends what the socket takes at once of `plain`: what is left to be sent, as it is.
    pub(crate) fn send_at_once(
        &mut self,
        plain: &[u8],
        flags: SendFlags,
    ) -> io::Result<Option<Bytes>> {
        let shard = Rc::clone(&self.shard);
        let mut scratch = shard.scratch.borrow_mut();
        self.send_sealed(plain, &mut scratch.sealed, flags)
    }

    /// As [`Connection::send_at_once`], with records of TLS made in `sealed`.
    fn send_sealed(
        &mut self,
        plain: &[u8],
        sealed: &mut Vec<u8>,
        flags: SendFlags,
    ) -> io::Result<Option<Bytes>> {
        let bytes = self.link.seal(plain, sealed)?;
        let sent = if self.link.owes() {
            0
        } else {
            send_now(self.link.socket(), bytes, flags)?
        };
        Ok((sent < bytes.len()).then(|| Bytes::copy_from_slice(&bytes[sent..])))
    }

    fn answer_each(&mut self, data: &[u8], scratch: &mut Scratch) -> (usize, Next) {
        let now = Instant::now();
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
            match parse(&data[used..], &self.shard.http) {
                Ok(None) => return (used, Next::Receive),
                Ok(Some(head)) => {
                    used += head.len;
                    if let Some(next) = self.answer_one(&head, now, scratch) {
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
        let Some(discard) = &mut self.discard else {
            return Ok((0, true));
        };
        let discarded = discard.feed(data).map_err(|_| Next::Linger)?;
        if discarded.done {
            self.discard = None;
        }
        Ok((discarded.consumed, discarded.done))
    }

    /// Answers a request that cannot be understood, as the last of its connection.
    fn refuse(&self, status: Status, now: Instant, out: &mut Vec<u8>) {
        let persistence = Persistence {
            version: Version::Http11,
            persistent: false,
        };
        let date = self.shard.clock.date(now);
        write_response(out, &mut Response::page(status), persistence, &date);
    }

    /// Answers a request from what is in memory, or tells what to do instead or after it.
    fn answer_one(&mut self, head: &Head<'_>, now: Instant, scratch: &mut Scratch) -> Option<Next> {
        self.requests += 1;
        self.expects_more = head.persistent;
        let count = &self.shard.counters.requests;
        count.set(count.get() + 1);
        let persistence = Persistence {
            version: head.version,
            persistent: self.persists(head),
        };
        if head.framing != Framing::None {
            let limit = self.shard.http.body_discard;
            self.discard = Some(Box::new(Discard::new(head.framing, limit)));
        }
        match respond(
            &self.shard,
            &head.request,
            self.scheme(),
            now,
            &mut scratch.buffers,
        ) {
            Answer::Prepared(response) => self.write(response, persistence, now, scratch),
            Answer::Lookup(pending) => Some(Next::LookUp(pending, persistence)),
        }
    }

    /// Writes a response from memory: what to do after it, if not to answer the next request.
    fn write(
        &self,
        mut response: Response,
        persistence: Persistence,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<Next> {
        let date = self.shard.clock.date(now);
        let written = write_response(&mut scratch.out, &mut response, persistence, &date);
        scratch.buffers.reclaim(response.extra);
        let persistent = written.persistent;
        match Next::send(written) {
            None => (!persistent).then(|| self.farewell()),
            send => send,
        }
    }

    fn scheme(&self) -> Scheme {
        match (&self.link, self.https_port) {
            (Link::Secure(_), _) => Scheme::Https,
            (Link::Plain(_), Some(port)) => Scheme::HttpRedirected(port),
            (Link::Plain(_), None) => Scheme::Http,
        }
    }

    /// Whether the connection goes on after this request.
    fn persists(&self, head: &Head<'_>) -> bool {
        let body_fits = match head.framing {
            Framing::Length(length) => length <= self.shard.http.body_discard,
            Framing::None | Framing::Chunked => true,
        };
        head.persistent
            && body_fits
            // The client may send its body or not, now that it has an answer (RFC 9110, 10.1.1).
            && !head.expect_continue
            && self.requests < self.shard.settings.limits.requests_per_connection
            && !self.shard.keeps_none()
            && self.link.is_fresh()
    }

    /// What is left to do with the response to a request that was looked up.
    fn send_looked_up(
        &mut self,
        mut response: Response,
        persistence: Persistence,
    ) -> Result<Todo, Closed> {
        let date = self.shard.clock.date(Instant::now());
        let mut out = Vec::with_capacity(512);
        let written = write_response(&mut out, &mut response, persistence, &date);
        let unsent = self.link.seal_bytes(out.into()).map_err(|_| Closed)?;
        let persistent = written.persistent;
        Ok(Todo {
            unsent: Some(unsent),
            next: Next::send(written).unwrap_or_else(|| self.after(persistent)),
        })
    }

    /// What is left to do after a response that took waiting.
    fn after(&self, persistent: bool) -> Next {
        match self.farewell() {
            _ if persistent => Next::Continue,
            Next::Close if self.input.is_none() => Next::Close,
            _ => Next::Linger,
        }
    }

    /// How the connection is ended behind a response.
    fn farewell(&self) -> Next {
        if self.expects_more || self.discard.is_some() {
            Next::Linger
        } else {
            Next::Close
        }
    }

    /// Notes that more is expected: the next request, or the rest of one that has begun.
    fn wait_for_more(&mut self, partial: bool, answered: bool) {
        let midway = partial || self.discard.is_some();
        if !midway {
            self.enter(Phase::Idle);
        } else if !self.midway || answered {
            self.enter(Phase::Request);
        }
        self.midway = midway;
    }

    /// Does what takes waiting, then answers what came meanwhile, until there is only to receive.
    async fn carry_on(mut self, mut todo: Todo) -> Result<Self, Closed> {
        loop {
            if let Some(unsent) = todo.unsent {
                send_raw(&mut self, unsent, todo.next.flags()).await?;
            }
            let next = match todo.next {
                Next::LookUp(pending, persistence) => {
                    // The connection's deadline does not hurry a disk.
                    self.enter(Phase::Transfer);
                    let scheme = self.scheme();
                    // Boxed again: it is much larger than a transfer, and that may last for hours.
                    let response = Box::pin(look_up(&self.shard, *pending, scheme)).await;
                    todo = self.send_looked_up(response, persistence)?;
                    continue;
                }
                Next::Send(mut rest, persistent) => {
                    send_body(&mut self, &mut rest).await?;
                    self.after(persistent)
                }
                next => next,
            };
            match next {
                Next::Close => {
                    self.say_goodbye().await;
                    return Err(Closed);
                }
                Next::Linger => return Err(self.linger().await),
                Next::Receive | Next::Continue | Next::LookUp(..) | Next::Send(..) => {}
            }
            // Whatever was under way has had its time; the next request gets a time of its own.
            self.midway = false;
            match self.take_input() {
                Some(more) => todo = more,
                None => return Ok(self),
            }
        }
    }

    /// The client sends no more, or was too slow to.
    fn end_of_input(&mut self) {
        if self.input.is_some() && self.shard.deadlines.expired(self.key) {
            let _ = self.send_refusal(Status::REQUEST_TIMEOUT);
        }
        if let Link::Secure(secure) = &mut self.link {
            secure.say_goodbye();
        }
    }

    /// Refuses what was received with `status`, and reads what else comes.
    pub(crate) async fn refuse_and_linger(mut self, status: Status) -> Closed {
        match self.send_refusal(status) {
            Ok(()) => self.linger().await,
            Err(_) => Closed,
        }
    }

    /// Courtesy: a client that takes no more is not waited for.
    fn send_refusal(&mut self, status: Status) -> io::Result<()> {
        let (mut out, mut sealed) = (Vec::new(), Vec::new());
        self.refuse(status, Instant::now(), &mut out);
        self.send_sealed(&out, &mut sealed, SendFlags::empty())
            .map(drop)
    }

    /// Says that nothing follows, where that is said (TLS).
    async fn say_goodbye(&mut self) {
        if self.link.is_secure() {
            // A client that is gone needs no telling.
            let _ = Box::pin(tls_stream::goodbye(self)).await;
        }
    }

    /// Tells the client that nothing follows, and reads what it is still sending.
    pub(crate) async fn linger(&mut self) -> Closed {
        self.say_goodbye().await;
        let time = self.shard.settings.timeouts.linger;
        if time.is_zero() || shutdown(self.socket(), Shutdown::Write).is_err() {
            return Closed;
        }
        self.enter(Phase::Linger);
        let mut count = 0;
        while count < LINGER_BYTES_MAX {
            match self.link.skip().await {
                Ok(Some(received)) => count += received,
                Ok(None) | Err(_) => break,
            }
        }
        Closed
    }
}

impl Next {
    /// To send what follows a head, if anything does.
    fn send(written: Written) -> Option<Self> {
        let Written { rest, persistent } = written;
        rest.map(|rest| Self::Send(Box::new(rest), persistent))
    }

    /// How the bytes before it are sent: those of a head wait for the first of the body, which
    /// surely follow.
    fn flags(&self) -> SendFlags {
        match self {
            Self::Send(..) => SendFlags::MORE,
            _ => SendFlags::empty(),
        }
    }
}

impl Todo {
    fn close() -> Self {
        Self {
            unsent: None,
            next: Next::Close,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shard.deadlines.leave(self.key);
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
