//! The admin listener: whether the server is well, and what Prometheus collects of it.
//!
//! It is for those who run the server, a handful of requests a minute, on a thread of its own:
//! nothing that is asked here costs a shard anything. It speaks plain HTTP, one request a
//! connection.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidegate_config::Admin;
use tidegate_h1::{Limits, ResponseFraming, ResponseHead, Version, parse};
use tidegate_http::{FieldBlock, FieldLines, HttpDate, Method, Request, Status};
use tidegate_site::Stalls;
use tidegate_tls::{Acceptor, Certificate};

use crate::error::Error;
use crate::observe::admin_listener::{self, Service};
use crate::observe::heartbeat::Heartbeat;

/// What `/metrics` is (`OpenMetrics` 1.0).
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told about the server.
pub(crate) struct Condition {
    /// It serves, and was not told to stop.
    is_ready: AtomicBool,
    tls: Option<Acceptor>,
    log_lines_dropped: &'static AtomicU64,
    /// One for each shard, in their order.
    heartbeats: Vec<Arc<Heartbeat>>,
    stalls: Arc<Stalls>,
}

impl Condition {
    /// Of a server that does not serve yet, with what its TLS listeners accept by.
    pub(crate) fn new(
        tls: Option<Acceptor>,
        log_lines_dropped: &'static AtomicU64,
        heartbeats: Vec<Arc<Heartbeat>>,
    ) -> Self {
        Self {
            is_ready: AtomicBool::new(false),
            tls,
            log_lines_dropped,
            heartbeats,
            stalls: Arc::default(),
        }
    }

    /// Where shards count what file systems that do not answer came to.
    pub(crate) fn stalls(&self) -> &Arc<Stalls> {
        &self.stalls
    }

    /// A line for each shard that gets nowhere.
    fn stalled(&self) -> String {
        let shards = self.heartbeats.iter().enumerate();
        let stalled = shards.filter(|(_, heartbeat)| heartbeat.is_stalled());
        let lines = stalled.map(|(shard, _)| format!("shard {shard} makes no progress\n"));
        lines.collect::<Vec<_>>().concat()
    }

    /// Whether the server serves, from now on.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}

/// Listens as `admin` says, if it does, and answers until the process ends.
pub(crate) fn start(admin: &Admin, condition: &Arc<Condition>) -> Result<(), Error> {
    if admin.listen.is_empty() {
        return Ok(());
    }
    let failed = |source| Error::Listen {
        address: admin.listen.clone(),
        source,
    };
    let listener = TcpListener::bind(&admin.listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let condition = Arc::clone(condition);
    let thread = thread::Builder::new().name("admin".to_owned());
    thread
        .spawn(move || {
            if let Err(error) = admin_listener::serve(&listener, &condition) {
                tracing::error!(%error, "the admin listener has ended");
            }
        })
        .map_err(Error::AdminThread)?;
    tracing::info!("admin on http://{address}");
    Ok(())
}

impl Service for Arc<Condition> {
    fn response(&self, received: &[u8]) -> Option<Vec<u8>> {
        answer(received, self)
    }

    fn too_slow(&self) -> Vec<u8> {
        said(Status::REQUEST_TIMEOUT, Method::Get)
    }

    fn no_room(&self) -> Vec<u8> {
        said(Status::SERVICE_UNAVAILABLE, Method::Get)
    }
}

/// The response to the request in `received`; `None` while its head is not complete.
fn answer(received: &[u8], condition: &Condition) -> Option<Vec<u8>> {
    match parse(received, &Limits::default()) {
        Ok(head) => head.map(|head| answer_request(&head.request, condition)),
        Err(error) => Some(said(error.status(), Method::Get)),
    }
}

fn answer_request(request: &Request<'_>, condition: &Condition) -> Vec<u8> {
    let method = request.method;
    if !matches!(method, Method::Get | Method::Head) {
        return said(Status::METHOD_NOT_ALLOWED, method);
    }
    let stalled = condition.stalled();
    match request.target.path() {
        "/healthz" | "/readyz" if !stalled.is_empty() => {
            written(Status::SERVICE_UNAVAILABLE, "text/plain", &stalled, method)
        }
        "/healthz" => said(Status::OK, method),
        "/readyz" if condition.is_ready() => said(Status::OK, method),
        "/readyz" => said(Status::SERVICE_UNAVAILABLE, method),
        "/metrics" => written(Status::OK, METRICS_TYPE, &metrics(condition), method),
        _ => said(Status::NOT_FOUND, method),
    }
}

/// A status, in words: for a probe, and not as a page.
fn said(status: Status, method: Method) -> Vec<u8> {
    let text = format!("{}\n", status.code_and_reason());
    written(status, "text/plain; charset=utf-8", &text, method)
}

/// `text` of a type.
fn written(status: Status, content_type: &str, text: &str, method: Method) -> Vec<u8> {
    let mut fields = FieldBlock::new();
    fields.push("Content-Type", content_type);
    fields.push("Cache-Control", "no-store");
    if status == Status::METHOD_NOT_ALLOWED {
        fields.push("Allow", "GET, HEAD");
    }
    let head = ResponseHead {
        status,
        date: &HttpDate::new(SystemTime::now()),
        persistent: false,
        version: Version::Http11,
        framing: ResponseFraming::Length(text.len() as u64),
        fields: [fields.lines(), FieldLines::default()],
    };
    let mut out = Vec::new();
    head.write(&mut out);
    if method != Method::Head {
        out.extend_from_slice(text.as_bytes());
    }
    out
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    file: String,
    /// The names it is for, with spaces between.
    names: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: usize,
}

/// What Prometheus collects, in its text format.
fn metrics(condition: &Condition) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What is running", version);
    let ready: Gauge = Gauge::default();
    ready.set(condition.is_ready().into());
    let help = "1 while the server serves and was not told to stop";
    registry.register("ready", help, ready);
    let dropped: Counter = Counter::default();
    dropped.inc_by(condition.log_lines_dropped.load(Ordering::Relaxed));
    let help = "Lines of the log that standard error did not take in time";
    registry.register("log_lines_dropped", help, dropped);
    let silence = Family::<ShardLabels, Gauge>::default();
    for (shard, heartbeat) in condition.heartbeats.iter().enumerate() {
        let seconds = silence.get_or_create(&ShardLabels { shard });
        seconds.set(i64::try_from(heartbeat.silence().as_secs()).unwrap_or(i64::MAX));
    }
    let help = "How long the shard gives no sign of life, in steps of two seconds";
    registry.register_with_unit("shard_silence", help, Unit::Seconds, silence);
    register_stalls(&mut registry, &condition.stalls);
    if let Some(tls) = &condition.tls {
        let expiry = Family::<CertificateLabels, Gauge>::default();
        for certificate in tls.certificates().iter() {
            let time = expiry.get_or_create(&labels(certificate));
            time.set(unix_seconds(certificate.not_after()));
        }
        let help = "When the first certificate of the chain expires, since 1970";
        let name = "certificate_expiry_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, expiry);
    }
    let mut metrics = String::new();
    // Only a writer that fails makes it fail, and a string does not.
    text::encode(&mut metrics, &registry).expect("text is written to memory");
    metrics
}

fn register_stalls(registry: &mut Registry, stalls: &Stalls) {
    let counter = |count: &AtomicU64| ConstCounter::new(count.load(Ordering::Relaxed));
    let help = "Requests answered with what was known, while the file system did not answer";
    registry.register("stale_responses", help, counter(&stalls.stale));
    let help = "Requests refused with 503, since the file system did not answer";
    registry.register("stalled_responses", help, counter(&stalls.refused));
}

fn labels(certificate: &Certificate) -> CertificateLabels {
    CertificateLabels {
        file: certificate.files().certificate.display().to_string(),
        names: certificate.names().join(" "),
    }
}

/// Whole seconds since 1970; zero for what was before.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

    fn asked(request: &str, condition: &Condition) -> String {
        let answer = answer(request.as_bytes(), condition);
        String::from_utf8(answer.expect("a whole request")).unwrap()
    }

    fn get(path: &str, condition: &Condition) -> String {
        asked(
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            condition,
        )
    }

    #[test]
    fn it_is_ready_when_it_was_said_to_be() {
        let condition = Condition::new(None, &NONE_DROPPED, Vec::new());
        assert!(get("/healthz", &condition).starts_with("HTTP/1.1 200 "));
        assert!(get("/readyz", &condition).starts_with("HTTP/1.1 503 "));
        condition.set_ready(true);
        assert!(get("/readyz", &condition).starts_with("HTTP/1.1 200 "));
        assert!(get("/metrics", &condition).contains("\ntidegate_ready 1\n"));
        condition.set_ready(false);
        assert!(get("/readyz", &condition).starts_with("HTTP/1.1 503 "));
        assert!(get("/metrics", &condition).contains("\ntidegate_ready 0\n"));
    }

    #[test]
    fn what_is_not_asked_rightly_is_refused() {
        let condition = Condition::new(None, &NONE_DROPPED, Vec::new());
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            (
                "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                405,
            ),
            ("GET /metrics HTTP/1.1\r\n\r\n", 400),
            ("\x16\x03\x01\r\n\r\n", 400),
        ] {
            let answer = asked(request, &condition);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }

    #[test]
    fn a_head_has_the_length_and_no_body() {
        let condition = Condition::new(None, &NONE_DROPPED, Vec::new());
        let whole = get("/metrics", &condition);
        let (_, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(body.ends_with("# EOF\n"), "{body}");
        let head = asked("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", &condition);
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{head}"
        );
    }
}
