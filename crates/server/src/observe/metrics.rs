//! What one core counts. Each core has its own counters; a scrape adds them up.
//!
//! Two kinds: counters that requests and connections change as they go, and values that the core
//! publishes every two seconds and when someone scrapes (see `publish.rs`), since they live in
//! structures that no other thread may read.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::{Settings, Site};

use crate::memory::Part;
use crate::observe::counters::{Counter, CounterOf, Histogram, HistogramValues, Kind, kinds};
use crate::observe::http2::Http2Metrics;
use crate::observe::recent::{Recent, ShortPath, SlowRequest, Window};

kinds! {
    /// The protocol of a request.
    Protocol {
        Http10 = "HTTP/1.0",
        Http11 = "HTTP/1.1",
        Http2 = "HTTP/2.0",
    }
}

kinds! {
    /// The class of a response's status.
    StatusClass {
        /// The client left before a response was chosen.
        None = "none",
        Informational = "1xx",
        Successful = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

kinds! {
    /// Where the bytes of a response came from.
    Source {
        /// Memory, or the page cache.
        Hot = "hot",
        /// The disk.
        Cold = "cold",
    }
}

kinds! {
    /// Why a connection or a request was refused.
    Refusal {
        /// The core had its most connections: clients waited in the backlog.
        ConnectionLimit = "connection_limit",
        /// Most of the memory was used: clients waited in the backlog (`limits.memory`).
        MemoryLimit = "memory_limit",
        /// The system had no descriptor or memory for a connection.
        NoResources = "no_resources",
        /// The head or the framing of a request is malformed (400).
        Malformed = "malformed",
        /// The request line is too long (414).
        UriTooLong = "uri_too_long",
        /// The head is too large, or has too many fields (431).
        HeadTooLarge = "head_too_large",
        /// The body is larger than is discarded: the connection ends behind the response.
        BodyTooLarge = "body_too_large",
        /// A version, transfer coding or expectation that is not supported (505, 501, 417).
        Unsupported = "unsupported",
        /// Plain HTTP where TLS is spoken.
        PlainHttp = "plain_http",
        /// A client had its most connections (`limits.connections-per-ip`).
        ClientLimit = "client_limit",
        /// A client sent more requests than it may (`limits.request-rate-per-ip`; 429).
        ClientRate = "client_rate",
        /// A client asked a site more often than it may (`site.limits.request-rate-per-ip`; 429).
        SiteClientRate = "site_client_rate",
        /// A site was asked more often than it may be (`site.limits.request-rate`; 503).
        SiteRate = "site_rate",
    }
}

kinds! {
    /// What was given up since most of the memory was used.
    Relief {
        /// Half of what a core had cached.
        CacheShrunk = "cache_shrunk",
        /// An idle connection.
        IdleClosed = "idle_closed",
        /// A stream of HTTP/2 beside others.
        StreamRefused = "stream_refused",
    }
}

kinds! {
    /// Why a header of the PROXY protocol ended its connection.
    ProxyProtocolError {
        Malformed = "malformed",
        /// Longer than the protocol allows, or than a proxy has a reason to send.
        Oversized = "oversized",
        /// The connection ended within the header.
        Truncated = "truncated",
        /// It was not there within `timeouts.header`.
        Timeout = "timeout",
        /// It was not sent by a proxy of `proxies.trusted`.
        Stranger = "stranger",
        /// A request where a header is required.
        Missing = "missing",
        /// Where a request was expected: late, or on a listener that takes none.
        Unexpected = "unexpected",
    }
}

kinds! {
    /// The key of `[timeouts]` whose time was over.
    Timeout {
        Header = "header",
        KeepAlive = "keep_alive",
        SendStall = "send_stall",
        Linger = "linger",
    }
}

kinds! {
    /// Why a connection was ended whose client is slow.
    SlowConnection {
        /// It takes less of a response than `limits.send-rate-min`.
        Reader = "reader",
        /// It sends less of a request than `limits.receive-rate-min`.
        Sender = "sender",
        /// It was the slowest below `limits.crowded-rate-min`, and others waited.
        ForRoom = "for_room",
    }
}

kinds! {
    /// What a connection waits for.
    ConnectionState {
        /// The TLS handshake, or the first byte of the first request.
        New = "new",
        Idle = "idle",
        /// The rest of a request.
        Request = "request",
        /// A client that takes no more, for now.
        Send = "send",
        /// A lookup or a transfer.
        Transfer = "transfer",
        Linger = "linger",
    }
}

kinds! {
    /// What [`tidegate_site::Site::cached`] found.
    CacheResult {
        Hit = "hit",
        Miss = "miss",
    }
}

kinds! {
    /// How a response with an object of an origin came about.
    CacheStatus {
        /// It was stored and fresh.
        Hit = "hit",
        /// It was stored, and sent though it is stale.
        Stale = "stale",
        /// It was stored, and the origin said that it is unchanged.
        Revalidated = "revalidated",
        /// The origin sent it.
        Miss = "miss",
        /// Another request had asked the origin already.
        Collapsed = "collapsed",
        /// It is not to be stored.
        Pass = "pass",
    }
}

kinds! {
    /// Why a handshake did not complete.
    HandshakeFailure {
        /// The client left, or was too slow.
        Gone = "gone",
        PlainHttp = "plain_http",
        /// No version, suite, group or protocol in common.
        Incompatible = "incompatible",
        /// No certificate for the client, or none of the client's.
        Certificate = "certificate",
        /// The client ended it by an alert.
        Alert = "alert",
        /// The client violated TLS.
        Malformed = "malformed",
        /// More bytes or records than a handshake needs.
        TooLong = "too_long",
        /// This host: no random numbers, or a kernel that takes no keys.
        Host = "host",
    }
}

kinds! {
    /// The parameters of a handshake.
    HandshakeKind {
        Full12 = "TLSv1.2 full",
        Resumed12 = "TLSv1.2 resumed",
        Full13 = "TLSv1.3 full",
        Resumed13 = "TLSv1.3 resumed",
    }
}

/// Sites that are told apart. Those beyond them share the last.
const SITES_MAX: usize = 1024;

/// The label of requests that no site answered, since they could not be parsed.
const NO_SITE: &str = "none";

/// The label of the site without names.
const DEFAULT_SITE: &str = "default";

/// The label of the sites beyond [`SITES_MAX`].
const OTHER_SITES: &str = "other";

/// A site, by the number of its label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SiteLabel(u16);

/// The labels of sites, for all cores: from the configuration and, after a reload, from earlier
/// ones. A label keeps its number.
#[derive(Debug)]
pub(crate) struct SiteLabels(Mutex<Vec<String>>);

impl Default for SiteLabels {
    fn default() -> Self {
        Self(Mutex::new(vec![NO_SITE.to_owned()]))
    }
}

impl SiteLabels {
    /// The labels of `sites`, in their order.
    fn of(&self, sites: &[Site]) -> Vec<SiteLabel> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = sites.iter().map(|site| {
            let name = site.names.first().map_or(DEFAULT_SITE, String::as_str);
            SiteLabel(number_of(&mut known, name))
        });
        labels.collect()
    }

    /// All labels so far, by their numbers.
    pub(crate) fn all(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

/// The number of `name`, which is added to `known` if there is room.
fn number_of(known: &mut Vec<String>, name: &str) -> u16 {
    let found = known.iter().position(|label| label == name);
    let index = found.unwrap_or_else(|| {
        match known.len() {
            len if len < SITES_MAX - 1 => known.push(name.to_owned()),
            len if len < SITES_MAX => known.push(OTHER_SITES.to_owned()),
            _ => {}
        }
        known.len() - 1
    });
    index as u16
}

type OfStatus = CounterOf<StatusClass, { StatusClass::COUNT }>;

/// The requests of one site, by protocol and class of status.
#[derive(Debug, Default)]
pub(crate) struct SiteRequests(pub(crate) [OfStatus; Protocol::COUNT]);

impl SiteRequests {
    fn total(&self) -> u64 {
        self.0.iter().map(OfStatus::total).sum()
    }
}

kinds! {
    /// A table of the cache.
    Table {
        /// Files in memory.
        Hot = "hot",
        /// Open files.
        Files = "files",
        /// Paths that lead to no file.
        Negative = "negative",
    }
}

/// The state of a table of the cache.
#[derive(Debug, Default)]
pub(crate) struct TableValues {
    pub(crate) entries: Counter,
    /// Bytes or descriptors.
    pub(crate) weight: Counter,
    pub(crate) weight_max: Counter,
    pub(crate) evictions: Counter,
}

kinds! {
    /// A pipe of the pool.
    PipeState {
        Idle = "idle",
        InUse = "in_use",
        /// Holds bytes for a client that does not read; another transfer may take it.
        Parked = "parked",
    }
}

kinds! {
    /// Where the bytes of a transfer were when it needed them.
    Chunk {
        Memory = "memory",
        Disk = "disk",
    }
}

kinds! {
    /// What a transfer waits for, or has been given.
    Wait {
        /// A pipe.
        Pipe = "pipe",
        /// A turn to read from the disk.
        Disk = "disk",
        /// A turn to read ahead.
        Readahead = "readahead",
    }
}

kinds! {
    /// An op for the kernel's workers.
    WorkerOp {
        Open = "open",
        Stat = "stat",
        Read = "read",
        Splice = "splice",
        Advise = "advise",
    }
}

kinds! {
    /// A buffer for received bytes.
    RecvBuffer {
        /// The kernel may fill it.
        Free = "free",
        /// Not handled yet.
        Filled = "filled",
        /// Was never needed.
        Unused = "unused",
    }
}

/// What a core publishes of structures that it alone may read.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) connections: CounterOf<ConnectionState, { ConnectionState::COUNT }>,
    pub(crate) timeouts: CounterOf<Timeout, { Timeout::COUNT }>,
    pub(crate) ended_for_room: Counter,
    pub(crate) tables: [TableValues; Table::COUNT],
    pub(crate) pipes: CounterOf<PipeState, { PipeState::COUNT }>,
    pub(crate) pipe_pages: Counter,
    pub(crate) pipes_made: Counter,
    pub(crate) pipes_taken: Counter,
    pub(crate) waiting: CounterOf<Wait, { Wait::COUNT }>,
    pub(crate) disk_reads: Counter,
    pub(crate) chunks: CounterOf<Chunk, { Chunk::COUNT }>,
    pub(crate) prefetches: Counter,
    /// Bytes that were sent from open files.
    pub(crate) file_bytes: CounterOf<Source, { Source::COUNT }>,
    pub(crate) ops_in_flight: Counter,
    pub(crate) ops_queued: Counter,
    pub(crate) worker_ops: CounterOf<WorkerOp, { WorkerOp::COUNT }>,
    pub(crate) recv_buffers: CounterOf<RecvBuffer, { RecvBuffer::COUNT }>,
    pub(crate) recv_buffers_exhausted: Counter,
    /// Bytes that connections hold.
    pub(crate) held: CounterOf<Part, { Part::COUNT }>,
    /// Bytes that their sockets held at the last reading.
    pub(crate) unsent: Counter,
}

/// What the live page shows of the last minutes: a copy, made only while someone looks.
#[derive(Debug, Default)]
struct PublishedRecent {
    is_wanted: AtomicBool,
    windows: Mutex<Vec<Window>>,
}

/// The counters of one core, since it started.
#[derive(Debug)]
// Two cache lines, which the processor fetches together: no other core's counters are in them.
#[repr(align(128))]
pub(crate) struct CoreMetrics {
    pub(crate) accepted: Counter,
    /// Responses that were complete with their batch: the histograms do not have them, so that they
    /// change few counters.
    answered_at_once: Counter,
    /// Responses that were cut short: by the client, a timeout or a fault.
    pub(crate) incomplete: Counter,
    /// Bytes of responses, except those of open files.
    memory_bytes: Counter,
    first_byte: Histogram,
    response: Histogram,
    pub(crate) cache: CounterOf<CacheResult, { CacheResult::COUNT }>,
    /// Responses with objects of origins.
    pub(crate) origin_responses: CounterOf<CacheStatus, { CacheStatus::COUNT }>,
    pub(crate) refusals: CounterOf<Refusal, { Refusal::COUNT }>,
    pub(crate) relief: CounterOf<Relief, { Relief::COUNT }>,
    pub(crate) slow_connections: CounterOf<SlowConnection, { SlowConnection::COUNT }>,
    pub(crate) proxy_protocol_errors: CounterOf<ProxyProtocolError, { ProxyProtocolError::COUNT }>,
    /// Transfers whose client took nothing for `timeouts.send-stall`.
    pub(crate) stalled_transfers: Counter,
    pub(crate) handshakes: CounterOf<HandshakeKind, { HandshakeKind::COUNT }>,
    pub(crate) kernel_tls: Counter,
    pub(crate) handshake_failures: CounterOf<HandshakeFailure, { HandshakeFailure::COUNT }>,
    pub(crate) http2: Http2Metrics,
    /// How long the heartbeat's question waited for its answer.
    pub(crate) delay: Histogram,
    pub(crate) published: Published,
    recent: PublishedRecent,
    /// Those of each site, by its label.
    sites: Box<[OnceLock<Box<SiteRequests>>]>,
}

impl Default for CoreMetrics {
    fn default() -> Self {
        let sites = (0..SITES_MAX).map(|_| OnceLock::new());
        Self {
            accepted: Counter::default(),
            answered_at_once: Counter::default(),
            incomplete: Counter::default(),
            memory_bytes: Counter::default(),
            first_byte: Histogram::default(),
            response: Histogram::default(),
            cache: CounterOf::default(),
            origin_responses: CounterOf::default(),
            refusals: CounterOf::default(),
            relief: CounterOf::default(),
            slow_connections: CounterOf::default(),
            proxy_protocol_errors: CounterOf::default(),
            stalled_transfers: Counter::default(),
            handshakes: CounterOf::default(),
            kernel_tls: Counter::default(),
            handshake_failures: CounterOf::default(),
            http2: Http2Metrics::default(),
            delay: Histogram::default(),
            published: Published::default(),
            recent: PublishedRecent::default(),
            sites: sites.collect(),
        }
    }
}

impl CoreMetrics {
    /// The requests of the site with this label.
    pub(crate) fn site(&self, label: usize) -> Option<&SiteRequests> {
        Some(self.sites.get(label)?.get()?)
    }

    /// Requests that have ended.
    pub(crate) fn requests(&self) -> u64 {
        let sites = self.sites.iter().filter_map(OnceLock::get);
        sites.map(|site| site.total()).sum()
    }

    /// The times to the first byte.
    pub(crate) fn first_byte(&self) -> HistogramValues {
        self.with_those_at_once(&self.first_byte)
    }

    /// The times to the end of the response.
    pub(crate) fn response(&self) -> HistogramValues {
        self.with_those_at_once(&self.response)
    }

    fn with_those_at_once(&self, histogram: &Histogram) -> HistogramValues {
        let mut values = histogram.values();
        values.buckets[0] += self.answered_at_once.get();
        values
    }

    /// Bytes of responses so far; those of open files at the last publication.
    pub(crate) fn bytes(&self, source: Source) -> u64 {
        let of_files = self.published.file_bytes.of(source).get();
        match source {
            Source::Hot => of_files + self.memory_bytes.get(),
            Source::Cold => of_files,
        }
    }

    /// Connections at the last publication.
    pub(crate) fn connections(&self) -> u64 {
        let states = ConnectionState::ALL.iter();
        states
            .map(|state| self.published.connections.of(*state).get())
            .sum()
    }

    /// A table of the cache at the last publication.
    pub(crate) fn table(&self, table: Table) -> &TableValues {
        &self.published.tables[table.index()]
    }

    /// The last minutes at the last publication; asks for the next.
    pub(crate) fn recent(&self) -> Vec<Window> {
        self.recent.is_wanted.store(true, Ordering::Relaxed);
        let windows = self.recent.windows.lock();
        windows.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the counters of a site.
    fn add_site(&self, label: SiteLabel) {
        self.sites[usize::from(label.0)].get_or_init(Box::default);
    }
}

/// An exchange at its end.
#[derive(Debug)]
pub(crate) struct EndedExchange {
    pub(crate) site: SiteLabel,
    pub(crate) protocol: Protocol,
    /// `None` if no response was chosen.
    pub(crate) status: Option<u16>,
    /// Bytes of head and body, except those sent from an open file.
    pub(crate) memory_bytes: u64,
}

/// The times of an exchange, from its request.
#[derive(Debug)]
pub(crate) struct Times {
    /// Until the head of the response; `None` if there was none.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) end: Duration,
}

/// The counters of one core, as its tasks use them.
#[derive(Default)]
pub(crate) struct Metrics {
    core: Arc<CoreMetrics>,
    labels: Arc<SiteLabels>,
    /// The labels of the sites of the snapshot, by their numbers.
    sites: RefCell<Vec<SiteLabel>>,
    recent: RefCell<Recent>,
    /// Whether anyone can see what is recent.
    records: Cell<bool>,
}

impl Metrics {
    pub(crate) fn new(core: Arc<CoreMetrics>, labels: Arc<SiteLabels>) -> Self {
        Self {
            core,
            labels,
            sites: RefCell::default(),
            recent: RefCell::default(),
            records: Cell::new(false),
        }
    }

    /// The counters.
    pub(crate) fn core(&self) -> &CoreMetrics {
        &self.core
    }

    /// Takes the settings of the snapshot from now on.
    pub(crate) fn apply(&self, settings: &Settings) {
        self.records.set(!settings.admin.listen.is_empty());
        let labels = self.labels.of(&settings.sites);
        for label in labels.iter().copied().chain([SiteLabel::default()]) {
            self.core.add_site(label);
        }
        self.sites.replace(labels);
    }

    /// The label of a site of the snapshot.
    pub(crate) fn label(&self, site: usize) -> SiteLabel {
        self.sites.borrow().get(site).copied().unwrap_or_default()
    }

    /// Whether slow requests and errors are recorded.
    pub(crate) fn records(&self) -> bool {
        self.records.get()
    }

    /// Records a response if it is an error. Allocates nothing.
    pub(crate) fn record_status(&self, status: u16, path: &str) {
        if status >= 400 && self.records() {
            self.recent.borrow_mut().add_error(status, path);
        }
    }

    /// Publishes what is recent, if someone looks.
    pub(crate) fn publish_recent(&self, now: Instant) {
        let mut recent = self.recent.borrow_mut();
        recent.turn(now);
        let published = &self.core.recent;
        if published.is_wanted.load(Ordering::Relaxed)
            // Else it is being read: the next time will do.
            && let Ok(mut windows) = published.windows.try_lock()
        {
            published.is_wanted.store(false, Ordering::Relaxed);
            *windows = recent.windows();
        }
    }

    /// Counts an exchange that was complete at once. Allocates nothing and takes no lock.
    #[inline]
    pub(crate) fn answered_at_once(&self, exchange: &EndedExchange) {
        self.core.answered_at_once.add(1);
        self.count(exchange);
    }

    /// Counts any other exchange. Allocates nothing and takes no lock.
    pub(crate) fn exchange_ended(
        &self,
        exchange: &EndedExchange,
        is_complete: bool,
        times: &Times,
    ) {
        let core = self.core();
        self.count(exchange);
        if !is_complete {
            core.incomplete.add(1);
        }
        if let Some(time) = times.first_byte {
            core.first_byte.observe(time);
            core.response.observe(times.end);
        }
    }

    #[inline]
    fn count(&self, exchange: &EndedExchange) {
        let core = self.core();
        if let Some(site) = core.site(exchange.site.0.into()) {
            site.0[exchange.protocol as usize].count(class(exchange.status));
        }
        core.memory_bytes.add(exchange.memory_bytes);
    }

    /// Records an exchange if it is among the slow ones. Allocates nothing.
    pub(crate) fn record_slow(
        &self,
        path: &ShortPath,
        exchange: &EndedExchange,
        bytes: u64,
        times: &Times,
    ) {
        self.recent.borrow_mut().add_slow(&SlowRequest {
            path: *path,
            status: exchange.status.unwrap_or_default(),
            first_byte: times.first_byte,
            time: times.end,
            bytes,
        });
    }
}

fn class(status: Option<u16>) -> StatusClass {
    match status.map(|status| status / 100) {
        Some(1) => StatusClass::Informational,
        Some(2) => StatusClass::Successful,
        Some(3) => StatusClass::Redirection,
        Some(4) => StatusClass::ClientError,
        Some(5) => StatusClass::ServerError,
        _ => StatusClass::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_its_number_and_their_count_is_bounded() {
        let mut known = vec![NO_SITE.to_owned()];
        for number in 1..SITES_MAX - 1 {
            assert_eq!(
                usize::from(number_of(&mut known, &number.to_string())),
                number
            );
        }
        let last = SITES_MAX - 1;
        for name in ["a", "b", "c"] {
            assert_eq!(usize::from(number_of(&mut known, name)), last);
        }
        assert_eq!(number_of(&mut known, "7"), 7);
        assert_eq!((known.len(), &*known[last]), (SITES_MAX, OTHER_SITES));
    }
}
