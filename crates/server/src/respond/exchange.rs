//! One request and its response, whatever the version of HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use rustix::net::getpeername;
use tidegate_http::Status;
use tidegate_uring::Fd;

use crate::context::Context;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http10,
    Http11,
}

/// One request and its response, from the request's head to the last byte that is sent.
///
/// Dropped: the exchange has ended, be it complete or not. That is the one place that metrics and
/// logs are fed from ([`Exchange::end`]).
pub(crate) struct Exchange {
    context: Rc<Context>,
    socket: Fd,
    protocol: Protocol,
    /// The number of the site that the request was for, once it is known.
    site: Option<usize>,
    /// Once a response was chosen.
    status: Option<Status>,
    /// Bytes that the socket took, or that wait for it in memory: of the head and the body, without
    /// TLS.
    bytes: u64,
    /// Whether some of the body was read from the disk.
    is_cold: bool,
    /// Whether all of the response was handed over.
    is_complete: bool,
    start: Instant,
    first_byte: Option<Instant>,
}

impl Exchange {
    /// Begins with a request that came over `socket`, at `start`.
    pub(crate) fn begin(
        context: Rc<Context>,
        socket: Fd,
        protocol: Protocol,
        start: Instant,
    ) -> Self {
        Self {
            context,
            socket,
            protocol,
            site: None,
            status: None,
            bytes: 0,
            is_cold: false,
            is_complete: false,
            start,
            first_byte: None,
        }
    }

    /// The request is for this site.
    pub(crate) fn set_site(&mut self, number: usize) {
        self.site = Some(number);
    }

    /// This response was chosen.
    pub(crate) fn set_status(&mut self, status: Status) {
        self.status = Some(status);
    }

    /// `count` bytes of the response were handed over at `now`.
    pub(crate) fn sent(&mut self, count: u64, now: Instant) {
        self.bytes += count;
        self.first_byte.get_or_insert(now);
    }

    /// Some of the response was read from the disk.
    pub(crate) fn read_from_disk(&mut self) {
        self.is_cold = true;
    }

    /// All of the response was handed over.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The address of the client; `None` once the connection has ended, and for sockets without
    /// addresses. A system call.
    fn peer(&self) -> Option<SocketAddr> {
        let peer = getpeername(&self.socket).ok().flatten()?;
        SocketAddr::try_from(peer).ok()
    }

    /// Counts the exchange, and logs it at the level `trace`. The path is left out: it is the
    /// client's to choose.
    fn end(&self) {
        let count = &self.context.counters.requests;
        count.set(count.get() + 1);
        tracing::trace!(
            protocol = ?self.protocol,
            peer = self.peer().map(tracing::field::display),
            site = self.site,
            status = self.status.map(Status::code),
            bytes = self.bytes,
            cold = self.is_cold,
            complete = self.is_complete,
            first_byte = ?self.first_byte.map(|at| at - self.start),
            time = ?self.start.elapsed(),
            "exchange"
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end();
    }
}
