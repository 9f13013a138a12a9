//! The live page of the admin listener, and the JSON that it polls each second.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::observe::counters::{BOUNDS_MICROS, Counter, CounterOf, Kind};
use crate::observe::health::Health;
use crate::observe::metrics::{CoreMetrics, Protocol, SiteRequests, Source, StatusClass};
use crate::observe::recent::{ErrorCount, SlowRequest, Window};

/// The page.
pub(crate) const PAGE: &str = include_str!("live.html");

/// The policy of the page: its own script and style, and requests to this listener. A test compares
/// the hashes.
pub(crate) const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'sha256-4A0VhlyuFhMLtqQgCOfSzXi4J9X4fjhTTzXiqCeCtbs='; \
    style-src 'sha256-hAlyYuFk2ETAgcJ4aGRJrWG9ArlRJCp6Tup5wkJbZRw='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Rows of each table of the page.
const ROWS_MAX: usize = 10;

/// The state of the server as JSON. Times are in milliseconds since 1970, or in seconds.
pub(crate) fn status(health: &Health) -> String {
    let sites = health.site_labels.all().len();
    let cores = health.cores.iter().map(|core| core_status(core, sites));
    let windows: Vec<Window> = health.cores.iter().flat_map(|core| core.recent()).collect();
    let bounds: Vec<f64> = BOUNDS_MICROS
        .iter()
        .map(|micros| seconds(*micros))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": health.is_ready(),
        "started": unix_millis(health.started_at),
        "time": unix_millis(SystemTime::now()),
        "bounds": bounds,
        "cores": cores.collect::<Vec<_>>(),
        "slowest": slowest(&windows),
        "errors": most_frequent(&windows),
    })
    .to_string()
}

fn core_status(core: &Arc<CoreMetrics>, sites: usize) -> Value {
    json!({
        "requests": core.requests(),
        "status": status_classes(core, sites),
        "bytes": {"hot": core.bytes(Source::Hot), "cold": core.bytes(Source::Cold)},
        "connections": core.connections(),
        "states": of_kind(&core.published.connections),
        "first_byte": core.first_byte().buckets,
    })
}

/// The requests of all sites by class.
fn status_classes(core: &CoreMetrics, sites: usize) -> Value {
    let requests = |class: StatusClass| -> u64 {
        let sites = (0..sites).filter_map(|site| core.site(site));
        let of_site =
            |protocol: &Protocol, site: &SiteRequests| site.0[protocol.index()].of(class).get();
        sites
            .map(|site| {
                Protocol::ALL
                    .iter()
                    .map(|protocol| of_site(protocol, site))
                    .sum::<u64>()
            })
            .sum()
    };
    let all = StatusClass::ALL.iter();
    all.map(|class| (class.name().to_owned(), requests(*class).into()))
        .collect::<Map<_, _>>()
        .into()
}

fn of_kind<K: Kind, const N: usize>(counters: &CounterOf<K, N>) -> Value {
    let value = |counter: &Counter| Value::from(counter.get());
    let all = K::ALL.iter();
    all.map(|kind| (kind.name().to_owned(), value(counters.of(*kind))))
        .collect::<Map<_, _>>()
        .into()
}

fn slowest(windows: &[Window]) -> Vec<Value> {
    let mut all: Vec<&SlowRequest> = windows.iter().flat_map(|window| &window.slow).collect();
    all.sort_by_key(|slow| Reverse(slow.time));
    let rows = all.into_iter().take(ROWS_MAX).map(|slow| {
        json!({
            "path": slow.path.text(),
            "status": slow.status,
            "first_byte": slow.first_byte.map(|time| time.as_secs_f64()),
            "seconds": slow.time.as_secs_f64(),
            "bytes": slow.bytes,
        })
    });
    rows.collect()
}

fn most_frequent(windows: &[Window]) -> Vec<Value> {
    let mut all: Vec<ErrorCount> = Vec::new();
    for error in windows.iter().flat_map(|window| &window.errors) {
        let same =
            |other: &&mut ErrorCount| other.status == error.status && other.path == error.path;
        match all.iter_mut().find(same) {
            Some(known) => known.count += error.count,
            None => all.push(*error),
        }
    }
    all.sort_by_key(|error| Reverse(error.count));
    let rows = all.into_iter().take(ROWS_MAX).map(
        |error| json!({"path": error.path.text(), "status": error.status, "count": error.count}),
    );
    rows.collect()
}

#[expect(clippy::cast_precision_loss, reason = "they are small")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_its_script_and_its_style() {
        for (name, element) in [("script-src", "script"), ("style-src", "style")] {
            let (_, rest) = PAGE.split_once(&format!("<{element}>")).unwrap();
            let (content, _) = rest.split_once(&format!("</{element}>")).unwrap();
            let hash = BASE64_STANDARD.encode(Sha256::digest(content));
            let expected = format!("{name} 'sha256-{hash}'");
            assert!(POLICY.contains(&expected), "{expected}");
        }
    }

    #[test]
    fn the_page_needs_no_other_file() {
        for word in [
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
