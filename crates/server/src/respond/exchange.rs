//! One request and its response, whatever the version of HTTP.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use tidegate_config::{ForwardedHeader, Proxies};
use tidegate_http::{Fields, ForwardedBy, Status, forwarded_client};
use tidegate_uring::{Fd, UNPACED, set_pacing_rate};

use crate::clients::{RequestLimits, TooMany};
use crate::config::snapshot::Snapshot;
use crate::context::Context;
use crate::observe::access_log::{Ended, Record, RequestInfo};
use crate::observe::metrics::{CacheResult, CacheStatus, EndedExchange, SiteLabel, Times};
use crate::observe::recent::ShortPath;
use crate::respond::response::Response;
use crate::timeouts::Key;

pub(crate) use crate::observe::metrics::Protocol;

/// One request and its response, from the request's head to the last byte sent.
///
/// Dropping it ends the exchange, complete or not. Metrics and logs are fed only there
/// ([`Exchange::end`]).
pub(crate) struct Exchange {
    context: Rc<Context>,
    connection: Key,
    socket: Fd,
    /// As a trusted proxy named it in the request.
    forwarded_client: Option<IpAddr>,
    protocol: Protocol,
    /// The number of the site, once it is known.
    site: Option<u32>,
    /// Bytes in a second of a body that is not sent with its head; zero: as it is.
    pace: u64,
    /// The name that the client logs in with, right or wrong.
    user: Option<Rc<str>>,
    /// The site in metrics.
    site_label: SiteLabel,
    /// `None` until a response is chosen.
    status: Option<Status>,
    /// Bytes of the head.
    head_bytes: u32,
    /// Bytes of head and body, without TLS, that were handed over to the socket or wait in memory.
    bytes: u64,
    /// Those of `bytes` that were sent from an open file.
    file_bytes: u64,
    /// Whether part of the body was read from the disk.
    is_cold: bool,
    /// How the response came about, if it is an object of an origin.
    cache_status: Option<CacheStatus>,
    /// The path of a request that is not answered at once, for the record of slow ones.
    path: Option<Box<ShortPath>>,
    start: Instant,
    first_byte: Option<Instant>,
    /// Whether the whole response was handed over, or will be with its batch.
    is_complete: bool,
    /// When it was; `None` in a batch.
    end: Option<Instant>,
    /// What the access log needs, if it wants a line.
    record: Option<Box<Record>>,
}

// Moved once for each request that is not answered at once.
const _: () = assert!(size_of::<Exchange>() <= 176);

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
            forwarded_client: None,
            protocol,
            site: None,
            pace: 0,
            user: None,
            site_label: SiteLabel::default(),
            status: None,
            head_bytes: 0,
            bytes: 0,
            file_bytes: 0,
            is_cold: false,
            cache_status: None,
            path: None,
            start,
            first_byte: None,
            is_complete: false,
            end: None,
            record: None,
        }
    }

    /// Records the site of the request.
    pub(crate) fn set_site(&mut self, number: usize) {
        // The configuration has far fewer.
        self.site = Some(number as u32);
        self.site_label = self.context.metrics.label(number);
    }

    /// Keeps what the access log of its site needs of the request: the receive buffer may be gone
    /// at the end. A request without a site, since it is malformed, is in the log of the default
    /// site. `info` is called if there is a log.
    #[inline]
    pub(crate) fn log_request<'a>(
        &mut self,
        snapshot: &Snapshot,
        info: impl FnOnce() -> RequestInfo<'a>,
    ) {
        if snapshot.access_logs.are_all_off() {
            return;
        }
        let site = self.site.map(|number| number as usize);
        let site = site.unwrap_or_else(|| snapshot.sites.of(None).number());
        if let Some(log) = snapshot.access_logs.of(site) {
            let recorder = &self.context.access_log;
            self.record = recorder.request(log, &info(), || self.client());
        }
    }

    /// Records the chosen response. Its head was written, with all of a small body: `bytes` in
    /// total.
    #[inline]
    pub(crate) fn head_written(&mut self, response: &Response, head_bytes: usize, bytes: usize) {
        self.status = Some(response.status);
        // The configuration and the limits of a request bound it.
        self.head_bytes = head_bytes as u32;
        self.bytes += bytes as u64;
        if let Some(status) = response.cache_status {
            self.cache_status = Some(status);
            self.context.metrics.core().origin_responses.count(status);
        }
        if let Some(record) = &mut self.record
            && record.wants_response()
        {
            let fields = [response.fields.lines(), response.extra.lines()];
            record.response(fields, response.content_length);
        }
    }

    /// Records that what was written was handed over to the socket at `now`.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.first_byte.get_or_insert(now);
    }

    /// Records that `bytes` of the body were handed over.
    pub(crate) fn body_sent(&mut self, bytes: u64) {
        self.bytes += bytes;
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

    /// Sets the rate at which the body is sent, if not with its head: `None` for no limit.
    pub(crate) fn set_pace(&mut self, rate: Option<u64>) {
        self.pace = rate.unwrap_or(UNPACED);
    }

    /// The rate at which the body is sent, in bytes a second; `None` for no limit.
    pub(crate) fn pace(&self) -> Option<u64> {
        Some(self.pace).filter(|pace| !matches!(*pace, 0 | UNPACED))
    }

    /// Whether [`Self::begin_body`] has something to say to the kernel.
    pub(crate) fn sets_pace(&self) -> bool {
        self.pace != 0
    }

    /// Has the kernel pace the body that follows. Without rules for that, nothing is called.
    pub(crate) fn begin_body(&self) {
        if self.sets_pace() {
            // Only a socket that has ended refuses it.
            let _ = set_pacing_rate(&self.socket, self.pace);
        }
    }

    /// Records the name that the client logs in with, for a path that demands a password.
    pub(crate) fn set_user(&mut self, name: Rc<str>) {
        self.user = Some(name);
    }

    /// The name that the client logs in with, right or wrong (see the status): any text. `None` if
    /// the path demands no password, or the request has none.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
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

    /// Records that the whole response was handed over at `now`.
    pub(crate) fn complete(&mut self, now: Instant) {
        self.sent(now);
        self.is_complete = true;
        self.end = Some(now);
    }

    /// Records that the whole response will be handed over with others, at the end of its batch:
    /// the exchange is over, and [`Recorder::batch_sent`] tells the log when.
    ///
    /// [`Recorder::batch_sent`]: crate::observe::access_log::Recorder::batch_sent
    pub(crate) fn complete_with_batch(&mut self) {
        self.is_complete = true;
    }

    /// Records the client that the request names, if the connection is that of a trusted proxy.
    pub(crate) fn find_client(&mut self, fields: Fields<'_>, proxies: &Proxies) {
        let by = match proxies.header {
            ForwardedHeader::Off => return,
            ForwardedHeader::XForwardedFor => ForwardedBy::XForwardedFor,
            ForwardedHeader::Forwarded => ForwardedBy::Forwarded,
        };
        if self.peer_is_trusted() {
            let peer = self.context.client(self.connection, &self.socket);
            let trusts = |address| proxies.trust(Some(address));
            self.forwarded_client = forwarded_client(fields, by, peer, trusts);
        }
    }

    /// Whether the connection is that of a trusted proxy.
    pub(crate) fn peer_is_trusted(&self) -> bool {
        self.context.peer_is_trusted(self.connection, &self.socket)
    }

    /// The client's address: as a trusted proxy named it, else the peer's. `None` for sockets
    /// without addresses, and if the connection had ended before it was first asked for. Takes a
    /// system call once a connection.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        let named = self.forwarded_client;
        named.or_else(|| self.context.client(self.connection, &self.socket))
    }

    /// Counts the request for its client and its site.
    ///
    /// # Errors
    ///
    /// They have sent too many.
    pub(crate) fn admit(&self, limits: &RequestLimits) -> Result<(), TooMany> {
        let site = self.site.map(|number| number as usize);
        let (context, client) = (&self.context, self.client());
        context.admit_request(limits, client, site, self.start)
    }

    /// The times of a response that is not complete with its batch.
    fn times(&self) -> Times {
        Times {
            first_byte: self.first_byte.map(|at| at - self.start),
            end: self.end.unwrap_or_else(Instant::now) - self.start,
        }
    }

    fn ended(&self) -> EndedExchange {
        EndedExchange {
            site: self.site_label,
            protocol: self.protocol,
            status: self.status.map(Status::code),
            memory_bytes: self.bytes - self.file_bytes,
        }
    }

    /// Counts the exchange, and logs it at the level `trace`. The path is not logged, since the
    /// client chooses it.
    fn end(&mut self) {
        self.count();
        self.log();
        tracing::trace!(
            protocol = ?self.protocol,
            client = self.client().map(tracing::field::display),
            site = self.site,
            user = self.user(),
            status = self.status.map(Status::code),
            bytes = self.bytes,
            cold = self.is_cold,
            complete = self.is_complete,
            first_byte = ?self.first_byte.map(|at| at - self.start),
            time = ?self.start.elapsed(),
            "exchange"
        );
    }

    /// Counts the exchange. One that is complete with its batch took no time that metrics would
    /// show, and costs no clock read.
    fn count(&self) {
        let (metrics, ended) = (&self.context.metrics, self.ended());
        if self.is_complete && self.end.is_none() {
            return metrics.answered_at_once(&ended);
        }
        let times = self.times();
        metrics.exchange_ended(&ended, self.is_complete, &times);
        if let Some(path) = &self.path {
            metrics.record_slow(path, &ended, self.bytes, &times);
        }
    }

    /// Writes the line of the access log, if it wants one.
    fn log(&mut self) {
        let Some(record) = self.record.take() else {
            return;
        };
        let ended = Ended {
            status: self.status.map(Status::code),
            head_bytes: self.head_bytes.into(),
            bytes: self.bytes,
            is_complete: self.is_complete,
            is_cold: self.is_cold,
            cache_status: self.cache_status,
            start: self.start,
            first_byte: self.first_byte,
            socket: self.socket.clone(),
        };
        let log = &self.context.access_log;
        match self.end {
            Some(end) => log.end(record, &ended, end),
            None if self.is_complete => log.end_with_batch(record, ended),
            None => log.end(record, &ended, Instant::now()),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end();
    }
}
