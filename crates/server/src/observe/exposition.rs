//! The metrics of the server, in the text formats that Prometheus reads. docs/metrics.md lists
//! them.
//!
//! Names follow Prometheus' conventions. No label comes from a client, so their number is bounded
//! by the configuration.

use std::collections::BTreeMap;
use std::fmt::{self, Error, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidegate_origin::store::StoreStats;
use tidegate_origin::{
    Cache, Endpoint, EndpointCounters, FailureKind, FleetCounters, HEAD_BOUNDS_MICROS,
};
use tidegate_tls::Acceptor;

use crate::host::budget::Use;
use crate::memory::Pressure;
use crate::observe::counters::{BOUNDS_MICROS, Counter, CounterOf, HistogramValues, Kind};
use crate::observe::health::{Health, Reloads};
use crate::observe::heartbeat::Heartbeat;
use crate::observe::metrics::{CoreMetrics, Protocol, Source, StatusClass, Table};
use crate::observe::process::Process;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Version 0.0.4, which every collector reads.
    Prometheus,
    /// Version 1.0.0, for those that ask for it.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of the whole server.
pub(crate) fn metrics(health: &Health, format: Format) -> String {
    let mut all = Registry::default();
    let registry = all.sub_registry_with_prefix("tidegate");
    register_server(registry, health);
    register_reloads(registry, &health.reloads);
    register_shards(registry, &health.heartbeats, &health.cores);
    register_requests(registry, health);
    register_connections(registry, &health.cores);
    register_http2(registry, &health.cores);
    register_tls(registry, &health.cores);
    register_cache(registry, &health.cores);
    if let Some(cache) = health.origins.cache() {
        register_origin_cache(registry, &cache, &health.cores);
        register_origins(registry, &origins(&health.origins.endpoints()));
    }
    if let Some(fleet) = health.origins.fleet() {
        register_fleet(registry, fleet.counters());
    }
    register_transfers(registry, &health.cores);
    register_ring(registry, &health.cores);
    if let Some(tls) = health.tls() {
        let help = "Session tickets of clients that could not be opened";
        registry.register("tls_tickets_refused", help, counter(tls.tickets_refused()));
        register_certificates(registry, &tls);
    }
    register_memory(registry, &health.pressure, &health.cores);
    register_process(&mut all, health);
    let mut metrics = String::new();
    // It fails only if the writer does, and a string does not.
    text::encode(&mut metrics, &all).expect("text is written to memory");
    match format {
        Format::OpenMetrics => metrics,
        Format::Prometheus => as_prometheus(&metrics),
    }
}

fn register_server(registry: &mut Registry, health: &Health) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What is running", version);
    let help = "1 while the server serves and was not told to stop";
    registry.register("ready", help, gauge(health.is_ready().into()));
    let dropped = health.log_lines_dropped.load(Ordering::Relaxed);
    let help = "Lines of the log that standard error did not take in time";
    registry.register("log_lines_dropped", help, counter(dropped));
    let stalls = health.stalls();
    let stale = counter(stalls.stale.load(Ordering::Relaxed));
    let help = "Requests answered with what was known, while the file system did not answer";
    registry.register("stale_responses", help, stale);
    let refused = counter(stalls.refused.load(Ordering::Relaxed));
    let help = "Requests refused with 503, since the file system did not answer";
    registry.register("stalled_responses", help, refused);
    let lines = counter(health.log_files.lines_dropped());
    let help = "Lines of access logs that could not be written in time";
    registry.register("access_log_lines_dropped", help, lines);
}

fn register_reloads(registry: &mut Registry, reloads: &Reloads) {
    let counts = reloads.counts().into_iter();
    let counts = counts.map(|(result, count)| (label("result", result), count));
    let help = "Reloads of the configuration, by whether they were applied";
    registry.register("reloads", help, counters(counts.collect()));
    let help = "When a reload was last applied, since 1970; 0: not since the start";
    let name = "last_reload_timestamp";
    registry.register_with_unit(name, help, Unit::Seconds, gauge(reloads.applied_at()));
}

fn register_shards(registry: &mut Registry, heartbeats: &[Arc<Heartbeat>], cores: &[Core]) {
    let beats = |read: fn(&Heartbeat) -> u64| each("shard", heartbeats, read);
    let each_core = |read: fn(&CoreMetrics) -> u64| each("shard", cores, read);
    let silence = beats(|heartbeat| heartbeat.silence().as_secs());
    let help = "How long the shard gives no sign of life, in steps of two seconds";
    registry.register_with_unit("shard_silence", help, Unit::Seconds, gauges(silence));
    let help = "How often the shard made no progress for four seconds or more";
    registry.register("shard_stalls", help, counters(beats(Heartbeat::stalls)));
    let help = "How long the shard took to answer a question that is sent every two seconds";
    let delay = histogram(cores, |core| core.delay.values());
    registry.register_with_unit("shard_delay", help, Unit::Seconds, delay);
    let help = "Requests that the shard answered or gave up";
    let requests = counters(each_core(CoreMetrics::requests));
    registry.register("shard_requests", help, requests);
    let help = "Connections of the shard";
    let connections = gauges(each_core(CoreMetrics::connections));
    registry.register("shard_connections", help, connections);
}

fn register_requests(registry: &mut Registry, health: &Health) {
    let cores = &health.cores;
    let help = "Requests, by site, protocol and class of status; none: the client left before";
    registry.register("requests", help, counters(requests(health)));
    let help = "Bytes of responses with their heads, without TLS; cold: from the disk";
    let bytes = Source::ALL.iter().map(|source| {
        let sum = cores.iter().map(|core| core.bytes(*source)).sum();
        (label("source", source.name()), sum)
    });
    let bytes = counters(bytes.collect());
    registry.register_with_unit("response", help, Unit::Bytes, bytes);
    let help = "Responses that were not sent to their end";
    let incomplete = counter(sum(cores, |core| &core.incomplete));
    registry.register("incomplete_responses", help, incomplete);
    let help = "From a request to the head of its response; 0 for one from memory";
    let first_byte = histogram(cores, CoreMetrics::first_byte);
    registry.register_with_unit("time_to_first_byte", help, Unit::Seconds, first_byte);
    let help = "From a request to the last byte of its response that the socket took";
    let response = histogram(cores, CoreMetrics::response);
    registry.register_with_unit("response_duration", help, Unit::Seconds, response);
    let help = "Connections and requests that were refused";
    let refusals = counters(of_kind("kind", cores, |core| &core.refusals));
    registry.register("refusals", help, refusals);
    let help = "Clients whose count was dropped, since a table of [limits] was full";
    let forgotten = health.clients.forgotten().into_iter();
    let forgotten = forgotten.map(|(of, count)| (label("of", of), count));
    registry.register("clients_forgotten", help, counters(forgotten.collect()));
}

/// The requests of each site that had some, by protocol and class.
fn requests(health: &Health) -> Vec<Value> {
    let mut values = Vec::new();
    for (number, site) in health.site_labels.all().into_iter().enumerate() {
        for protocol in Protocol::ALL {
            for class in StatusClass::ALL {
                let of_core = |core: &Core| {
                    let site = core.site(number)?;
                    Some(site.0[protocol.index()].of(*class).get())
                };
                let count: u64 = health.cores.iter().filter_map(of_core).sum();
                if count > 0 || (*class == StatusClass::Successful && number > 0) {
                    let labels = vec![
                        ("site", site.clone()),
                        ("protocol", protocol.name().to_owned()),
                        ("status", class.name().to_owned()),
                    ];
                    values.push((labels, count));
                }
            }
        }
    }
    values
}

fn register_connections(registry: &mut Registry, cores: &[Core]) {
    let help = "Connections by what they wait for";
    let connections = gauges(of_kind("state", cores, |core| &core.published.connections));
    registry.register("connections", help, connections);
    let help = "Connections that were accepted";
    let accepted = counter(sum(cores, |core| &core.accepted));
    registry.register("connections_accepted", help, accepted);
    let help = "Idle connections that were closed to make room for new ones";
    let closed = counter(sum(cores, |core| &core.published.ended_for_room));
    registry.register("connections_closed_for_room", help, closed);
    let help = "Connections that were closed since their clients are slow";
    let slow = counters(of_kind("kind", cores, |core| &core.slow_connections));
    registry.register("slow_connections_closed", help, slow);
    let help = "Connections that were ended since a time of [timeouts] was over";
    let timeouts = counters(of_kind("kind", cores, |core| &core.published.timeouts));
    registry.register("timeouts", help, timeouts);
    let help = "Connections that a header of the PROXY protocol ended";
    let errors = counters(of_kind("kind", cores, |core| &core.proxy_protocol_errors));
    registry.register("proxy_protocol_errors", help, errors);
}

fn register_http2(registry: &mut Registry, cores: &[Core]) {
    let help = "Connections of HTTP/2, by how the client chose it";
    let connections = counters(of_kind("kind", cores, |core| &core.http2.connections));
    registry.register("http2_connections", help, connections);
    let help = "Connections of HTTP/2 that the server ended, by the code of GOAWAY";
    let goaways = counters(of_kind("code", cores, |core| &core.http2.goaways));
    registry.register("http2_goaways", help, goaways);
    let help = "Those that were ended since the client broke the protocol, or asked too much";
    let faults = counters(of_kind("kind", cores, |core| &core.http2.connection_faults));
    registry.register("http2_connection_errors", help, faults);
    let help = "Streams that clients reset";
    let resets = counters(of_kind("code", cores, |core| &core.http2.client_resets));
    registry.register("http2_client_resets", help, resets);
    let help =
        "Streams that the server reset since the client broke the protocol, or asked too much";
    let faults = counters(of_kind("kind", cores, |core| &core.http2.stream_faults));
    registry.register("http2_stream_errors", help, faults);
}

fn register_tls(registry: &mut Registry, cores: &[Core]) {
    let help = "TLS handshakes that were completed; resumed: by a ticket";
    let handshakes = counters(of_kind("kind", cores, |core| &core.handshakes));
    registry.register("tls_handshakes", help, handshakes);
    let help = "TLS handshakes that failed";
    let failures = counters(of_kind("kind", cores, |core| &core.handshake_failures));
    registry.register("tls_handshake_failures", help, failures);
    let help = "TLS connections that the kernel encrypts (kTLS)";
    let kernel = counter(sum(cores, |core| &core.kernel_tls));
    registry.register("tls_kernel_connections", help, kernel);
}

fn register_cache(registry: &mut Registry, cores: &[Core]) {
    let help = "Requests by whether the answer was in memory, found and fresh";
    let lookups = counters(of_kind("result", cores, |core| &core.cache));
    registry.register("cache_lookups", help, lookups);
    let tables = |read: fn(&CoreMetrics, Table) -> &Counter| {
        let values = Table::ALL.iter().map(|table| {
            let sum = cores.iter().map(|core| read(core, *table).get()).sum();
            (label("table", table.name()), sum)
        });
        values.collect::<Vec<_>>()
    };
    let help = "Paths in the cache";
    let entries = gauges(tables(|core, table| &core.table(table).entries));
    registry.register("cache_entries", help, entries);
    let help = "What the paths in the cache take: bytes; for open files, descriptors";
    let weight = gauges(tables(|core, table| &core.table(table).weight));
    registry.register("cache_weight", help, weight);
    let help = "The most that the paths in the cache may take: bytes; for open files, descriptors";
    let weight_max = gauges(tables(|core, table| &core.table(table).weight_max));
    registry.register("cache_weight_max", help, weight_max);
    let help = "Paths that left the cache to make room for others";
    let evictions = counters(tables(|core, table| &core.table(table).evictions));
    registry.register("cache_evictions", help, evictions);
}

fn register_fleet(registry: &mut Registry, fleet: &FleetCounters) {
    let count = |value: &AtomicU64| counter(value.load(Ordering::Relaxed));
    let help = "Requests for objects that were sent to their owners among the peers";
    registry.register("peer_requests", help, count(&fleet.requests));
    let help = "Requests to peers that were of no use, so that the origin was asked";
    registry.register("peer_failures", help, count(&fleet.failures));
    let help = "Requests of peers";
    registry.register("peer_served", help, count(&fleet.served));
    let help = "Requests to the address for peers without the token of the fleet";
    registry.register("peer_refused", help, count(&fleet.refused));
}

/// The cache of origins.
fn register_origin_cache(registry: &mut Registry, cache: &Cache, cores: &[Core]) {
    let help = "Responses with objects of origins, by how they came about";
    let responses = counters(of_kind("state", cores, |core| &core.origin_responses));
    registry.register("origin_responses", help, responses);
    let counts = cache.counters();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let help = "Bytes that were written into the cache of origins";
    let filled = counter(count(&counts.filled_bytes));
    registry.register_with_unit("origin_cache_filled", help, Unit::Bytes, filled);
    let purges = [("soft", &counts.soft_purges), ("hard", &counts.hard_purges)];
    let purges = purges.map(|(manner, purges)| (label("manner", manner), count(purges)));
    let help = "Purges of objects of origins";
    registry.register("origin_cache_purges", help, counters(purges.into()));
    let help = "Fills of slices that were begun";
    registry.register("origin_cache_fills", help, counter(count(&counts.fills)));
    let help = "Fills that ended early";
    let failures = counter(count(&counts.fill_failures));
    registry.register("origin_cache_fill_failures", help, failures);
    let help = "Fills that are under way";
    let under_way = gauge(cache.fills_under_way() as u64);
    registry.register("origin_cache_fills_under_way", help, under_way);
    register_store(registry, &cache.store().stats());
    let help = "Memory for bytes of origins that are on their way";
    let under_way = gauge(cache.memory());
    registry.register_with_unit("origin_memory", help, Unit::Bytes, under_way);
    let help = "Memory for what is known of objects";
    let memory = gauge(cache.records_memory());
    registry.register_with_unit("origin_cache_records_memory", help, Unit::Bytes, memory);
}

/// The disk of that cache.
fn register_store(registry: &mut Registry, stats: &StoreStats) {
    let bytes = |registry: &mut Registry, name, help, value| {
        registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
    };
    let help = "The most that the cache of origins may take of its disk";
    bytes(registry, "origin_cache_size", help, stats.size);
    let help = "What the cache of origins takes of its disk";
    bytes(registry, "origin_cache_used", help, stats.bytes);
    let help = "What is reserved for fills that are under way";
    bytes(
        registry,
        "origin_cache_reserved",
        help,
        stats.reserved_bytes,
    );
    let help = "Memory for the index of the cache of origins";
    bytes(
        registry,
        "origin_cache_index_memory",
        help,
        stats.index_memory,
    );
    let help = "Files in the cache of origins: slices and records";
    registry.register("origin_cache_blobs", help, gauge(stats.blobs));
    let help = "1 once what was on the disk at the start is found";
    registry.register("origin_cache_indexed", help, gauge(stats.is_indexed.into()));
    let help = "Files that left the cache of origins to make room for others";
    registry.register("origin_cache_evictions", help, counter(stats.evictions));
    let help = "Bytes of those";
    let evicted = counter(stats.evicted_bytes);
    registry.register_with_unit("origin_cache_evicted", help, Unit::Bytes, evicted);
    let kinds = [
        ("full", stats.failures_full),
        ("io", stats.failures_io),
        ("damaged", stats.failures_damaged),
    ];
    let kinds = kinds.map(|(kind, count)| (label("kind", kind), count));
    let help = "Failures of the disk of the cache of origins";
    registry.register("origin_cache_failures", help, counters(kinds.into()));
}

/// The endpoints by their URLs: sites may have the same one with other settings.
type Origins = BTreeMap<Arc<str>, Vec<Arc<Endpoint>>>;

fn origins(endpoints: &[Arc<Endpoint>]) -> Origins {
    let mut origins = Origins::new();
    for endpoint in endpoints {
        let name = Arc::clone(endpoint.name());
        origins.entry(name).or_default().push(Arc::clone(endpoint));
    }
    origins
}

fn register_origins(registry: &mut Registry, origins: &Origins) {
    let each = |read: fn(&EndpointCounters) -> &AtomicU64| {
        of_origins(origins, |counters| read(counters).load(Ordering::Relaxed))
    };
    let help = "1 while the origin answers; 0 after several failures in a row";
    let is_up = |endpoints: &Vec<Arc<Endpoint>>| !endpoints.iter().any(|one| one.is_down());
    let up = origins
        .iter()
        .map(|(name, endpoints)| (label("origin", name), is_up(endpoints).into()));
    registry.register("origin_up", help, gauges(up.collect()));
    let help = "Requests to the origin";
    let requests = counters(each(|counters| &counters.requests));
    registry.register("origin_requests", help, requests);
    let help = "Requests that were sent again after a failure";
    let retries = counters(each(|counters| &counters.retries));
    registry.register("origin_retries", help, retries);
    let help = "Requests that were sent beside a slow one";
    let hedges = counters(each(|counters| &counters.hedges));
    registry.register("origin_hedges", help, hedges);
    let help = "Bytes of bodies that the origin sent";
    let body = counters(each(|counters| &counters.body_bytes));
    registry.register_with_unit("origin_body", help, Unit::Bytes, body);
    let failures = FailureKind::ALL.iter().flat_map(|kind| {
        let counts = of_origins(origins, |counters| counters.failures(*kind));
        counts.into_iter().map(|(mut labels, count)| {
            labels.push(("kind", kind.name().to_owned()));
            (labels, count)
        })
    });
    let help = "Requests to the origin that failed";
    registry.register("origin_failures", help, counters(failures.collect()));
    let help = "From a request to the head of the origin's response";
    let times = HeadTimes(origins.clone());
    registry.register_with_unit("origin_time_to_head", help, Unit::Seconds, times);
}

/// A value for each origin: the sum over its endpoints.
fn of_origins(origins: &Origins, read: impl Fn(&EndpointCounters) -> u64) -> Vec<Value> {
    let values = origins.iter().map(|(name, endpoints)| {
        let sum = endpoints.iter().map(|one| read(one.counters())).sum();
        (label("origin", name), sum)
    });
    values.collect()
}

fn register_transfers(registry: &mut Registry, cores: &[Core]) {
    let help = "Pipes for splice; parked: with bytes for clients that do not read";
    let pipes = gauges(of_kind("state", cores, |core| &core.published.pipes));
    registry.register("pipes", help, pipes);
    let help = "Pages that the pipes may hold";
    let pages = gauge(sum(cores, |core| &core.published.pipe_pages));
    registry.register("pipe_pages", help, pages);
    let help = "Pipes that were made";
    let made = counter(sum(cores, |core| &core.published.pipes_made));
    registry.register("pipes_made", help, made);
    let help = "Parked pipes that were taken for another transfer";
    let taken = counter(sum(cores, |core| &core.published.pipes_taken));
    registry.register("pipes_taken", help, taken);
    let help = "Transfers that wait for a pipe, for their turn to read the disk or to read ahead";
    let waiting = gauges(of_kind("reason", cores, |core| &core.published.waiting));
    registry.register("transfers_waiting", help, waiting);
    let help = "Transfers that read the disk now";
    let reads = gauge(sum(cores, |core| &core.published.disk_reads));
    registry.register("transfers_reading_disk", help, reads);
    let help = "Pieces of files that were moved to a pipe, by where they were";
    let chunks = counters(of_kind("source", cores, |core| &core.published.chunks));
    registry.register("transfer_chunks", help, chunks);
    let help = "Pieces of files that were read ahead";
    let prefetches = counter(sum(cores, |core| &core.published.prefetches));
    registry.register("transfer_prefetches", help, prefetches);
}

fn register_ring(registry: &mut Registry, cores: &[Core]) {
    let help = "Operations of io_uring in flight";
    let in_flight = gauge(sum(cores, |core| &core.published.ops_in_flight));
    registry.register("ring_ops_in_flight", help, in_flight);
    let help = "Operations of io_uring that wait for room in the submission queue";
    let queued = gauge(sum(cores, |core| &core.published.ops_queued));
    registry.register("ring_ops_queued", help, queued);
    let help = "Operations that may wait for a disk, which go to the kernel's workers (io-wq)";
    let worker_ops = counters(of_kind("op", cores, |core| &core.published.worker_ops));
    registry.register("ring_worker_ops", help, worker_ops);
    let help = "Buffers for received bytes";
    let buffers = gauges(of_kind("state", cores, |core| &core.published.recv_buffers));
    registry.register("recv_buffers", help, buffers);
    let help = "How often a connection found no buffer for received bytes, and waited";
    let exhausted = counter(sum(cores, |core| &core.published.recv_buffers_exhausted));
    registry.register("recv_buffers_exhausted", help, exhausted);
}

fn register_certificates(registry: &mut Registry, tls: &Acceptor) {
    let certificates = tls.certificates();
    let expiry = certificates.iter().map(|certificate| {
        let file = certificate.files().certificate.display().to_string();
        let labels = vec![("file", file), ("names", certificate.names().join(" "))];
        (labels, unix_seconds(certificate.not_after()))
    });
    // A certificate that is listed twice is one series.
    let expiry: BTreeMap<_, _> = expiry.collect();
    let help = "When the first certificate of the chain expires, since 1970";
    let name = "certificate_expiry_timestamp";
    registry.register_with_unit(
        name,
        help,
        Unit::Seconds,
        gauges(expiry.into_iter().collect()),
    );
}

fn register_memory(registry: &mut Registry, pressure: &Pressure, cores: &[Core]) {
    let Use { bytes, bytes_max } = pressure.used();
    let help = "Memory that the process may take, or its cgroup";
    registry.register_with_unit("memory_budget", help, Unit::Bytes, gauge(bytes_max));
    let help = "Memory that is taken and that the kernel cannot take back";
    registry.register_with_unit("memory_used", help, Unit::Bytes, gauge(bytes));
    let help = "1 while so much of the memory is used that clients wait and caches shrink";
    registry.register("memory_short", help, gauge(pressure.is_short().into()));
    let help = "How often so much of the memory came to be used";
    registry.register("memory_shortages", help, counter(pressure.shortages()));
    let help = "Memory that connections hold beside their sockets";
    let by_part = gauges(of_kind("part", cores, |core| &core.published.held));
    registry.register_with_unit("memory_held", help, Unit::Bytes, by_part);
    let help = "What sockets hold of responses that clients have not taken, estimated";
    let unsent = gauge(sum(cores, |core| &core.published.unsent));
    registry.register_with_unit("memory_sockets", help, Unit::Bytes, unsent);
    let help = "What was given up since most of the memory was used";
    let relief = counters(of_kind("action", cores, |core| &core.relief));
    registry.register("memory_relief", help, relief);
}

/// What Prometheus' own clients report of every process.
fn register_process(registry: &mut Registry, health: &Health) {
    let process = Process::read();
    let help = "User and system CPU time";
    let cpu = Decimal(process.cpu_seconds, MetricType::Counter);
    registry.register_with_unit("process_cpu", help, Unit::Seconds, cpu);
    let help = "Resident memory";
    let resident = gauge(process.resident_bytes);
    registry.register_with_unit("process_resident_memory", help, Unit::Bytes, resident);
    let help = "Open file descriptors";
    registry.register("process_open_fds", help, gauge(process.open_fds));
    let help = "The most file descriptors that may be open";
    registry.register("process_max_fds", help, gauge(process.max_fds));
    let help = "When the process started, since 1970";
    let started = gauge(unix_seconds(health.started_at));
    registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
}

type Core = Arc<CoreMetrics>;

/// The labels of a value, and the value.
type Value = (Vec<(&'static str, String)>, u64);

/// Counters or gauges that were read.
#[derive(Debug)]
struct Values {
    values: Vec<Value>,
    kind: MetricType,
}

impl EncodeMetric for Values {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for (labels, value) in &self.values {
            if labels.is_empty() {
                encode_value(&mut encoder, *value, self.kind)?;
            } else {
                let mut encoder = encoder.encode_family(labels)?;
                encode_value(&mut encoder, *value, self.kind)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

fn encode_value(
    encoder: &mut MetricEncoder<'_>,
    value: u64,
    kind: MetricType,
) -> Result<(), Error> {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => encoder.encode_gauge(&value),
    }
}

/// A single value with decimals.
#[derive(Debug)]
struct Decimal(f64, MetricType);

impl EncodeMetric for Decimal {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        encoder.encode_counter::<NoLabelSet, _, f64>(&self.0, None)
    }

    fn metric_type(&self) -> MetricType {
        self.1
    }
}

impl EncodeMetric for HistogramValues {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let ends = BOUNDS_MICROS.iter().map(|micros| seconds(*micros));
        let ends = ends.chain([f64::INFINITY]);
        let buckets: Vec<_> = ends.zip(self.buckets).collect();
        let (sum, count) = (seconds(self.sum_micros), self.buckets.iter().sum());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The times to the head of each origin's responses.
#[derive(Clone)]
struct HeadTimes(Origins);

impl fmt::Debug for HeadTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl EncodeMetric for HeadTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for (name, endpoints) in &self.0 {
            let sum_of = |read: &dyn Fn(&EndpointCounters) -> &AtomicU64| -> u64 {
                let counts = endpoints.iter().map(|one| read(one.counters()));
                counts.map(|count| count.load(Ordering::Relaxed)).sum()
            };
            let ends = HEAD_BOUNDS_MICROS.iter().map(|micros| seconds(*micros));
            let ends = ends.chain([f64::INFINITY]).enumerate();
            let buckets: Vec<_> = ends
                .map(|(at, end)| (end, sum_of(&|counters| &counters.head_buckets[at])))
                .collect();
            let sum = seconds(sum_of(&|counters| &counters.head_micros));
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = label("origin", name);
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for centuries of microseconds"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn counters(values: Vec<Value>) -> Values {
    let kind = MetricType::Counter;
    Values { values, kind }
}

fn gauges(values: Vec<Value>) -> Values {
    let kind = MetricType::Gauge;
    Values { values, kind }
}

fn counter(value: u64) -> Values {
    counters(vec![(Vec::new(), value)])
}

fn gauge(value: u64) -> Values {
    gauges(vec![(Vec::new(), value)])
}

fn label(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}

/// The sum over the cores.
fn sum(cores: &[Core], read: fn(&CoreMetrics) -> &Counter) -> u64 {
    cores.iter().map(|core| read(core).get()).sum()
}

/// The sums over the cores, for each value of the label `name`.
fn of_kind<K: Kind, const N: usize>(
    name: &'static str,
    cores: &[Core],
    read: fn(&CoreMetrics) -> &CounterOf<K, N>,
) -> Vec<Value> {
    let values = K::ALL.iter().map(|kind| {
        let sum = cores.iter().map(|core| read(core).of(*kind).get()).sum();
        (label(name, kind.name()), sum)
    });
    values.collect()
}

/// A value for each of `all`, with its number as the label `name`.
fn each<T>(name: &'static str, all: &[Arc<T>], read: impl Fn(&T) -> u64) -> Vec<Value> {
    let values = all.iter().enumerate();
    let values = values.map(|(number, one)| (label(name, &number.to_string()), read(one)));
    values.collect()
}

fn histogram(cores: &[Core], read: fn(&CoreMetrics) -> HistogramValues) -> HistogramValues {
    let mut values = HistogramValues::default();
    for core in cores {
        values.add(&read(core));
    }
    values
}

/// `OpenMetrics` as version 0.0.4 of Prometheus' own format: the name in HELP and TYPE is that of
/// the samples, and there is neither an info nor a unit.
fn as_prometheus(metrics: &str) -> String {
    let mut out = String::with_capacity(metrics.len());
    let mut help = "";
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            // A string takes all that is written.
            let _ = writeln!(
                out,
                "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}"
            );
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Whole seconds since 1970; zero for an earlier time.
fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_prometheus_have_their_suffixes() {
        let metrics = "# HELP a Help, of a.\n# TYPE a counter\na_total 1\n\
            # HELP b_seconds B.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2\n\
            # HELP c C.\n# TYPE c info\nc_info{version=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_total Help, of a.\n# TYPE a_total counter\na_total 1\n\
            # HELP b_seconds B.\n# TYPE b_seconds gauge\nb_seconds 2\n\
            # HELP c_info C.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n";
        assert_eq!(as_prometheus(metrics), expected);
    }
}
