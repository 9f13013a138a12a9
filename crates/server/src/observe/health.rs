//! The state of the server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_site::Stalls;
use tidegate_tls::Acceptor;

use crate::clients::Clients;
use crate::config::origins::Origins;
use crate::host::budget::Budget;
use crate::memory::Pressure;
use crate::observe::access_log::LogFiles;
use crate::observe::heartbeat::Heartbeat;
use crate::observe::metrics::{CoreMetrics, SiteLabels};

/// The state of the server, for health checks and metrics.
pub(crate) struct Health {
    is_ready: AtomicBool,
    /// The acceptor of the TLS listeners, if any.
    tls: Mutex<Option<Acceptor>>,
    /// Lines of the log that were lost.
    pub(crate) log_lines_dropped: &'static AtomicU64,
    /// One for each shard, in their order.
    pub(crate) heartbeats: Vec<Arc<Heartbeat>>,
    stalls: Arc<Stalls>,
    /// One for each shard, in their order.
    pub(crate) cores: Vec<Arc<CoreMetrics>>,
    pub(crate) site_labels: Arc<SiteLabels>,
    pub(crate) started_at: SystemTime,
    /// The files of the access logs.
    pub(crate) log_files: Arc<LogFiles>,
    /// The reloads of the configuration.
    pub(crate) reloads: Reloads,
    /// The cache and the origins.
    pub(crate) origins: Origins,
    /// What each client uses.
    pub(crate) clients: Clients,
    /// How much of the memory is used.
    pub(crate) pressure: Arc<Pressure>,
}

/// Counts of reloads.
#[derive(Default)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    /// When the last one was applied, in seconds since 1970; zero: none was.
    applied_at: AtomicU64,
}

impl Reloads {
    /// Counts one that was applied, now.
    pub(crate) fn applied(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.applied_at.store(now.as_secs(), Ordering::Relaxed);
        self.applied.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that was not.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, each with its result.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("applied", count(&self.applied)),
            ("refused", count(&self.refused)),
        ]
    }

    /// When the last one was applied, in seconds since 1970; zero: none was.
    pub(crate) fn applied_at(&self) -> u64 {
        self.applied_at.load(Ordering::Relaxed)
    }
}

impl Health {
    /// The state of a server that is not ready yet.
    pub(crate) fn new(
        tls: Option<Acceptor>,
        log_lines_dropped: &'static AtomicU64,
        heartbeats: Vec<Arc<Heartbeat>>,
        log_files: Arc<LogFiles>,
        budget: Budget,
    ) -> Self {
        Self {
            is_ready: AtomicBool::new(false),
            tls: Mutex::new(tls),
            log_lines_dropped,
            cores: heartbeats.iter().map(|_| Arc::default()).collect(),
            heartbeats,
            stalls: Arc::default(),
            site_labels: Arc::default(),
            started_at: SystemTime::now(),
            log_files,
            reloads: Reloads::default(),
            origins: Origins::default(),
            clients: Clients::default(),
            pressure: Arc::new(Pressure::new(budget)),
        }
    }

    /// The counters of stalls of file systems, which all shards share.
    pub(crate) fn stalls(&self) -> &Arc<Stalls> {
        &self.stalls
    }

    /// Has every shard publish its state. Does not wait: a scrape shows what was published before,
    /// by the last scrape or within two seconds.
    pub(crate) fn scrape(&self) {
        self.heartbeats
            .iter()
            .for_each(|heartbeat| heartbeat.scrape());
    }

    /// A line for each shard that makes no progress.
    pub(crate) fn stalled(&self) -> String {
        let shards = self.heartbeats.iter().enumerate();
        let stalled = shards.filter(|(_, heartbeat)| heartbeat.is_stalled());
        let lines = stalled.map(|(shard, _)| format!("shard {shard} makes no progress\n"));
        lines.collect::<Vec<_>>().concat()
    }

    /// A line for each origin that is down. What is stored is served all the same.
    pub(crate) fn origins_down(&self) -> String {
        let endpoints = self.origins.endpoints();
        let down = endpoints.iter().filter(|endpoint| endpoint.is_down());
        // Sites may have the same one with other settings.
        let names: BTreeSet<_> = down.map(|endpoint| endpoint.name()).collect();
        let lines = names.iter().map(|name| format!("origin {name} is down\n"));
        lines.collect::<Vec<_>>().concat()
    }

    /// The acceptor of the TLS listeners, if any.
    pub(crate) fn tls(&self) -> Option<Acceptor> {
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.clone()
    }

    pub(crate) fn set_tls(&self, acceptor: Option<Acceptor>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
    }

    /// Sets whether the server is ready: it serves and has received no signal to stop.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}
