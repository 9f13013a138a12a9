//! Work of an HTTP/1.1 connection that waits for a lookup or for the client.

use std::num::NonZeroUsize;
use std::time::Instant;

use bytes::Bytes;
use rustix::net::SendFlags;
use tidegate_h1::ResponseFraming;
use tidegate_http::Status;
use tidegate_site::Error as SiteError;

use super::connection::Connection;
use super::work::{Lookup, Next, PendingWork, Rest};
use crate::config::LINGER_BYTES_MAX;
use crate::connection::lingering_close::linger;
use crate::respond::body::{BodySource, Next as NextPiece, Piece};
use crate::respond::complete::complete;
use crate::respond::send_range::send_range;
use crate::timeouts::Phase;
use crate::transport::Closed;

/// Bytes sent from memory before other tasks run.
const QUANTUM_BYTES: usize = 256 * 1024;

/// The least cost of a piece: even a small one takes several system calls.
const PIECE_COST_MIN: usize = 16 * 1024;

/// The most bytes that frame a chunk.
const CHUNK_FRAMING_BYTES_MAX: usize = 32;

/// The usual size of a head.
const HEAD_BYTES: usize = 512;

impl Connection {
    /// Answers requests that arrived with the handshake, until it has to receive more.
    pub(in crate::connection) async fn serve_early(
        mut self,
        received: Vec<u8>,
    ) -> Result<Self, Closed> {
        if received.is_empty() {
            return Ok(self);
        }
        match self.take(&received) {
            None => Ok(self),
            Some(work) => Box::pin(self.carry_on(work)).await,
        }
    }

    /// Responds to the received bytes with `status`, and drops what follows.
    pub(in crate::connection) async fn refuse_and_linger(mut self, status: Status) -> Closed {
        match self.send_refusal(status) {
            Ok(()) => self.linger().await,
            Err(_) => Closed,
        }
    }

    /// Ends the connection, and drops what the client is still sending.
    pub(in crate::connection) async fn linger(&mut self) -> Closed {
        let (context, timer) = (&self.context, &self.timer);
        linger(context, &mut self.transport, timer, LINGER_BYTES_MAX).await;
        Closed
    }

    /// Does the work, then answers what was received meanwhile, until it has to receive more.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub(in crate::connection) fn carry_on(
        mut self,
        mut work: PendingWork,
    ) -> impl Future<Output = Result<Self, Closed>> {
        async move {
            loop {
                if let Some(unsent) = work.unsent {
                    let (io, timer) = (&self.context.io, &self.timer);
                    self.transport.flush(io, timer, unsent).await?;
                }
                let next = match work.next {
                    Next::LookUp(lookup) => {
                        // Boxed again: it is much larger than a transfer, which may last for hours.
                        let next = Box::pin(self.look_up(lookup)).await?;
                        work = PendingWork { unsent: None, next };
                        continue;
                    }
                    Next::Send(mut rest) => {
                        self.send_rest(&mut rest).await?;
                        self.after(rest.persistent)
                    }
                    Next::Continue => {
                        // As much as a turn may send was sent.
                        self.context.io.ring.yield_now().await;
                        Next::Continue
                    }
                    next => next,
                };
                match next {
                    Next::Close => {
                        let (io, timer) = (&self.context.io, &self.timer);
                        self.transport.close_notify(io, timer).await;
                        return Err(Closed);
                    }
                    Next::Linger => return Err(self.linger().await),
                    Next::Receive | Next::Continue | Next::LookUp(_) | Next::Send(_) => {}
                }
                // The next request gets its own timeout.
                self.midway = false;
                match self.take_input() {
                    Some(more) => work = more,
                    None => return Ok(self),
                }
            }
        }
    }

    /// Performs a lookup and sends the head of the response, and its body if that is small and in
    /// memory. Returns the next step.
    async fn look_up(&mut self, lookup: Box<Lookup>) -> Result<Next, Closed> {
        let Lookup {
            pending,
            snapshot,
            persistence,
            mut exchange,
        } = *lookup;
        // The connection's timer does not limit the disk.
        self.timer.enter(Phase::Transfer);
        let (context, scheme) = (&self.context, self.scheme());
        let response = complete(context, &snapshot, *pending, scheme, &mut exchange);
        let mut response = response.await;
        drop(snapshot);
        let mut out = Vec::with_capacity(HEAD_BYTES);
        let now = Instant::now();
        let written = self.write(&mut response, persistence, &mut exchange, now, &mut out);
        drop(response);
        let flags = match &written.rest {
            None => SendFlags::empty(),
            Some(_) => SendFlags::MORE,
        };
        let (io, timer) = (&self.context.io, &self.timer);
        self.transport.write(io, timer, out.into(), flags).await?;
        let persistent = written.persistent;
        let Some((body, framing)) = written.rest else {
            exchange.complete(Instant::now());
            return Ok(self.after(persistent));
        };
        exchange.sent(Instant::now());
        Ok(Next::Send(Box::new(Rest {
            body: body.into(),
            framing,
            persistent,
            exchange,
        })))
    }

    /// The step after a response that had to wait.
    fn after(&self, persistent: bool) -> Next {
        match self.close_mode() {
            _ if persistent => Next::Continue,
            Next::Close if !self.has_input() => Next::Close,
            _ => Next::Linger,
        }
    }

    /// Sends the body of a response, piece by piece.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    fn send_rest(&mut self, rest: &mut Rest) -> impl Future<Output = Result<(), Closed>> {
        async move {
            let mut turn = 0;
            rest.exchange.begin_body();
            loop {
                if !rest.body.has_length() {
                    // The server's own time does not count against the client.
                    self.timer.enter(Phase::Transfer);
                }
                let piece = match self.next_piece(&mut rest.body).await {
                    Ok(Some(piece)) => piece,
                    Ok(None) => return self.send_end(rest).await,
                    Err(error) => return Err(self.cut_short(rest.framing, &error)),
                };
                turn += match piece {
                    Piece::Bytes(bytes) => self.send_bytes(bytes, rest).await?,
                    Piece::File(file, range) => {
                        let (context, timer) = (&self.context, &self.timer);
                        let (transport, exchange) = (&mut self.transport, &mut rest.exchange);
                        send_range(context, transport, timer, exchange, &file, range).await?;
                        // A transfer yields by itself.
                        0
                    }
                };
                if rest.body.is_complete() {
                    rest.exchange.complete(Instant::now());
                    return Ok(());
                }
                if turn >= QUANTUM_BYTES {
                    turn = 0;
                    self.context.io.ring.yield_now().await;
                }
            }
        }
    }

    /// The next piece of a body. What has pages leaves as these, unless it is encrypted.
    async fn next_piece(&self, body: &mut BodySource) -> Result<Option<Piece>, SiteError> {
        if !self.transport.is_tls()
            && let Some(piece) = body.next_in_pages()
        {
            return Ok(Some(piece));
        }
        loop {
            match body.next_now(NonZeroUsize::MAX) {
                NextPiece::Piece(piece) => return Ok(Some(piece)),
                NextPiece::End => return Ok(None),
                NextPiece::Waits => {
                    if body.is_of_origin() {
                        // The head is worth something before the origin answers.
                        self.transport.push();
                    }
                    body.make().await?;
                }
            }
        }
    }

    /// Sends bytes of a body. Returns their cost against the quantum.
    async fn send_bytes(&mut self, bytes: Bytes, rest: &mut Rest) -> Result<usize, Closed> {
        let flags = if rest.body.is_complete() {
            SendFlags::empty()
        } else {
            SendFlags::MORE
        };
        let cost = if rest.body.has_length() {
            bytes.len().max(PIECE_COST_MIN)
        } else {
            // Making a piece occupies the core, so other tasks run after it.
            QUANTUM_BYTES
        };
        let bytes = framed(rest.framing, bytes);
        let (io, len) = (&self.context.io, bytes.len());
        self.transport.write(io, &self.timer, bytes, flags).await?;
        rest.exchange.body_sent(len as u64);
        Ok(cost)
    }

    /// Sends the end of a chunked body.
    async fn send_end(&mut self, rest: &mut Rest) -> Result<(), Closed> {
        let mut end = Vec::new();
        rest.framing.write_end(&mut end);
        let (io, len, flags) = (&self.context.io, end.len(), SendFlags::empty());
        let sent = self.transport.write(io, &self.timer, end.into(), flags);
        sent.await?;
        rest.exchange.body_sent(len as u64);
        rest.exchange.complete(Instant::now());
        Ok(())
    }

    /// Ends an incomplete response so that the client notices.
    fn cut_short(&mut self, framing: ResponseFraming, error: &SiteError) -> Closed {
        if self.context.file_warnings.is_due() {
            tracing::warn!(%error, "response cut short");
        }
        if framing == ResponseFraming::UntilClose {
            self.transport.abort_close_delimited();
        } else {
            self.transport.abort();
        }
        Closed
    }
}

/// Frames bytes of a body. Sized content needs no framing.
fn framed(framing: ResponseFraming, bytes: Bytes) -> Bytes {
    if framing != ResponseFraming::Chunked {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len() + CHUNK_FRAMING_BYTES_MAX);
    framing.write_piece(&bytes, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that `function` makes, in bytes.
    fn future_bytes<A, B, F: Future>(_function: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_transfer_has_no_room_for_a_look_up() {
        // Each active or stalled download holds one.
        let bytes = future_bytes(Connection::carry_on);
        // A size class of the allocator; the next one is 1,536.
        assert!(bytes <= 1280, "{bytes}");
    }
}
