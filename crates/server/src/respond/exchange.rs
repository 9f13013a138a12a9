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
    /// Bytes of the head and the body, without TLS, that were handed over: to the socket, or where
    /// many responses leave together to their buffer.
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

    /// The head of a response with this status was handed over at `now`, and all of a small body:
    /// `bytes` in all.
    pub(crate) fn head_sent(&mut self, status: Status, bytes: u64, now: Instant) {
        self.status = Some(status);
        self.first_byte = Some(now);
        self.bytes += bytes;
    }

    /// `bytes` of the body were handed over.
    pub(crate) fn body_sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Some of the body was read from the disk.
    pub(crate) fn read_from_disk(&mut self) {
        self.is_cold = true;
    }

    /// When the request came.
    pub(crate) fn start(&self) -> Instant {
        self.start
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
        self.context.metrics.count_request();
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
