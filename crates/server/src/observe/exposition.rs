//! The metrics of the server as text (`OpenMetrics` 1.0).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidegate_site::Stalls;
use tidegate_tls::{Acceptor, Certificate};

use crate::observe::health::{Health, Reloads};
use crate::observe::heartbeat::Heartbeat;

/// The media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    file: String,
    /// Its names, with spaces between.
    names: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: usize,
}

/// The metrics of the whole server.
pub(crate) fn metrics(health: &Health) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    register_process(&mut registry, health);
    register_heartbeats(&mut registry, &health.heartbeats);
    register_stalls(&mut registry, health.stalls());
    register_reloads(&mut registry, &health.reloads);
    if let Some(tls) = &health.tls {
        register_certificates(&mut registry, tls);
    }
    let mut metrics = String::new();
    // It fails only if the writer does, and a string does not.
    text::encode(&mut metrics, &registry).expect("text is written to memory");
    metrics
}

fn register_process(registry: &mut Registry, health: &Health) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What is running", version);
    let ready: Gauge = Gauge::default();
    ready.set(health.is_ready().into());
    let help = "1 while the server serves and was not told to stop";
    registry.register("ready", help, ready);
    let dropped: Counter = Counter::default();
    dropped.inc_by(health.log_lines_dropped.load(Ordering::Relaxed));
    let help = "Lines of the log that standard error did not take in time";
    registry.register("log_lines_dropped", help, dropped);
}

fn register_heartbeats(registry: &mut Registry, heartbeats: &[Arc<Heartbeat>]) {
    let silence = Family::<ShardLabels, Gauge>::default();
    for (shard, heartbeat) in heartbeats.iter().enumerate() {
        let seconds = silence.get_or_create(&ShardLabels { shard });
        seconds.set(i64::try_from(heartbeat.silence().as_secs()).unwrap_or(i64::MAX));
    }
    let help = "How long the shard gives no sign of life, in steps of two seconds";
    registry.register_with_unit("shard_silence", help, Unit::Seconds, silence);
}

fn register_certificates(registry: &mut Registry, tls: &Acceptor) {
    let expiry = Family::<CertificateLabels, Gauge>::default();
    for certificate in tls.certificates().iter() {
        let time = expiry.get_or_create(&labels(certificate));
        time.set(unix_seconds(certificate.not_after()));
    }
    let help = "When the first certificate of the chain expires, since 1970";
    let name = "certificate_expiry_timestamp";
    registry.register_with_unit(name, help, Unit::Seconds, expiry);
}

fn register_stalls(registry: &mut Registry, stalls: &Stalls) {
    let counter = |count: &AtomicU64| ConstCounter::new(count.load(Ordering::Relaxed));
    let help = "Requests answered with what was known, while the file system did not answer";
    registry.register("stale_responses", help, counter(&stalls.stale));
    let help = "Requests refused with 503, since the file system did not answer";
    registry.register("stalled_responses", help, counter(&stalls.refused));
}

fn register_reloads(registry: &mut Registry, reloads: &Reloads) {
    let counts = Family::<ReloadLabels, Counter>::default();
    for (result, count) in reloads.counts() {
        counts.get_or_create(&ReloadLabels { result }).inc_by(count);
    }
    let help = "Reloads of the configuration, by whether they were applied";
    registry.register("reloads", help, counts);
    let time: Gauge = Gauge::default();
    time.set(i64::try_from(reloads.applied_at()).unwrap_or(i64::MAX));
    let help = "When a reload was last applied, since 1970; 0: not since the start";
    let name = "last_reload_timestamp";
    registry.register_with_unit(name, help, Unit::Seconds, time);
}

fn labels(certificate: &Certificate) -> CertificateLabels {
    CertificateLabels {
        file: certificate.files().certificate.display().to_string(),
        names: certificate.names().join(" "),
    }
}

/// Whole seconds since 1970; zero for an earlier time.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
