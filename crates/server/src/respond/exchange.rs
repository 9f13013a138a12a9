//! One request and its response, whatever the version of HTTP.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_http::Status;
use tidegate_uring::Fd;

use crate::context::Context;
use crate::observe::metrics::{CacheResult, EndedExchange, SiteLabel};
use crate::observe::recent::ShortPath;
use crate::timeouts::Key;
use crate::transport::peer_ip;

pub(crate) use crate::observe::metrics::Protocol;

/// One request and its response, from the request's head to the last byte sent.
///
/// Dropping it ends the exchange, complete or not. Metrics and logs are fed only there
/// ([`Exchange::end`]).
pub(crate) struct Exchange {
    context: Rc<Context>,
    connection: Key,
    socket: Fd,
    protocol: Protocol,
    /// The number of the site, once it is known.
    site: Option<usize>,
    /// The site in metrics.
    site_label: SiteLabel,
    /// `None` until a response is chosen.
    status: Option<Status>,
    /// Bytes of head and body, without TLS, that were handed over to the socket or wait in memory.
    bytes: u64,
    /// Those of `bytes` that were sent from an open file.
    file_bytes: u64,
    /// Whether part of the body was read from the disk.
    is_cold: bool,
    /// Whether the whole response was handed over.
    is_complete: bool,
    /// Whether part of the body was handed over after the head.
    has_waited: bool,
    /// The path of a request that is not answered at once, for the record of slow ones.
    path: Option<Box<ShortPath>>,
    start: Instant,
    first_byte: Option<Instant>,
}

impl Exchange {
    /// Starts an exchange for a request received at `start` on `socket`, the connection's.
    pub(crate) fn begin(
        context: Rc<Context>,
        connection: Key,
        socket: Fd,
        protocol: Protocol,
        start: Instant,
    ) -> Self {
        Self {
            context,
            connection,
            socket,
            protocol,
            site: None,
            site_label: SiteLabel::default(),
            status: None,
            bytes: 0,
            file_bytes: 0,
            is_cold: false,
            is_complete: false,
            has_waited: false,
            path: None,
            start,
            first_byte: None,
        }
    }

    /// Records the site of the request.
    pub(crate) fn set_site(&mut self, number: usize) {
        self.site = Some(number);
        self.site_label = self.context.metrics.label(number);
    }

    /// Records that the head of a response with this status was handed over at `now`, with all of a
    /// small body: `bytes` in total.
    pub(crate) fn head_sent(&mut self, status: Status, bytes: u64, now: Instant) {
        self.status = Some(status);
        self.first_byte = Some(now);
        self.bytes += bytes;
    }

    /// Records that `bytes` of the body were handed over.
    pub(crate) fn body_sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.has_waited = true;
    }

    /// Records that `bytes` of the body were sent from an open file. Metrics have them already: the
    /// pool of pipes counts them as they go.
    pub(crate) fn file_sent(&mut self, bytes: u64) {
        self.file_bytes += bytes;
        self.body_sent(bytes);
    }

    /// Records that part of the body was read from the disk.
    pub(crate) fn read_from_disk(&mut self) {
        self.is_cold = true;
    }

    /// Records the status of a response from memory, if it is an error.
    pub(crate) fn record_status(&self, status: Status, path: &str) {
        self.context.metrics.record_status(status.code(), path);
    }

    /// Keeps the path of a request that is not answered at once.
    pub(crate) fn keep_path(&mut self, path: &str) {
        if self.context.metrics.records() {
            self.path = Some(Box::new(ShortPath::new(path)));
        }
    }

    /// Records whether the cache had the answer.
    pub(crate) fn looked_in_cache(&self, is_hit: bool) {
        let result = if is_hit {
            CacheResult::Hit
        } else {
            CacheResult::Miss
        };
        self.context.metrics.core().cache.count(result);
    }

    /// The time when the request was received.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Records that the whole response was handed over.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The client's address; `None` for sockets without addresses, and if the connection had ended
    /// before it was first asked for. Takes a system call once a connection.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        let timers = &self.context.timers;
        timers.client_or(self.connection, || peer_ip(&self.socket))
    }

    /// From the request to the end. Without a clock read if the response was complete with its head:
    /// then it is the time of the head, which is that of the request for one from memory.
    fn time(&self) -> Duration {
        match self.first_byte {
            Some(at) if self.is_complete && !self.has_waited => at - self.start,
            _ => self.start.elapsed(),
        }
    }

    fn ended(&self) -> EndedExchange<'_> {
        EndedExchange {
            path: self.path.as_deref(),
            site: self.site_label,
            protocol: self.protocol,
            status: self.status.map(Status::code),
            bytes: self.bytes,
            memory_bytes: self.bytes - self.file_bytes,
            is_complete: self.is_complete,
            first_byte: self.first_byte.map(|at| at - self.start),
            time: self.time(),
        }
    }

    /// Counts the exchange, and logs it at the level `trace`. The path is not logged, since the
    /// client chooses it.
    fn end(&self) {
        self.context.metrics.exchange_ended(&self.ended());
        tracing::trace!(
            protocol = ?self.protocol,
            client = self.client().map(tracing::field::display),
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
