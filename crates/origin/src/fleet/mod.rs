//! The nodes of a fleet: which of them owns an object, and how it is asked.
//!
//! Nodes tell each other nothing: each makes its list of the same addresses, and hashes alike. Two
//! whose lists differ for a while disagree about owners, which costs requests to the origin and
//! nothing else, since what came from a peer is never asked of another one.

mod members;
mod rendezvous;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache as Table;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::time::sleep;

use self::members::{Lookups, is_own};
use crate::client::Endpoint;

/// Marks requests of peers.
pub(crate) const PEER: HeaderName = HeaderName::from_static("tidegate-peer");

/// The name of the site's origins: nodes whose configurations differ give each other nothing.
pub(crate) const ORIGIN: HeaderName = HeaderName::from_static("tidegate-origin");

/// How many milliseconds ago the origin was asked for what a response says. A response without it
/// says nothing of the object.
pub(crate) const ASKED_AGO: HeaderName = HeaderName::from_static("tidegate-asked-ago");

/// How often names are looked up.
const LOOKUP_EVERY: Duration = Duration::from_secs(5);

/// Objects that the nodes do not share, and for how long that is believed.
const UNSHARED_MAX: usize = 10_000;
const UNSHARED_TIME: Duration = Duration::from_mins(1);

/// What a node knows of its fleet.
#[derive(Clone)]
pub struct FleetConfig {
    /// The nodes, `HOST:PORT`. A name stands for all of its addresses.
    pub peers: Vec<String>,
    /// `HOST:PORT` by which they know this node; `None`: an address of this host with `port`.
    pub own: Option<String>,
    /// The port on which they ask this node.
    pub port: u16,
    /// The secret of all nodes; `None`: there is none.
    pub token: Option<Token>,
}

/// A secret, which is never written.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// The secret `text`. `None`: no field can hold it.
    pub fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The nodes with the same sites.
pub struct Fleet {
    config: FleetConfig,
    tls: ClientConfig,
    peers: Mutex<Vec<String>>,
    lookups: tokio::sync::Mutex<Lookups>,
    /// Sorted by address.
    nodes: RwLock<Arc<[Node]>>,
    unshared: Table<u128, Instant>,
    counters: FleetCounters,
}

#[derive(Clone)]
struct Node {
    address: SocketAddr,
    seed: u64,
    /// `None`: it is this one.
    endpoint: Option<Arc<Endpoint>>,
}

/// What happened between peers so far.
#[derive(Debug, Default)]
pub struct FleetCounters {
    /// Requests that were sent to peers.
    pub requests: AtomicU64,
    /// Those that were of no use: no answer in time, or one that says nothing of the object. The
    /// origin was asked instead.
    pub failures: AtomicU64,
    /// Requests of peers that were answered.
    pub served: AtomicU64,
    /// Requests that were refused, since they did not have the token.
    pub refused: AtomicU64,
}

impl Fleet {
    /// A fleet whose names are looked up on `runtime` from now on, until it is dropped. Blocking:
    /// waits for the first lookup.
    ///
    /// `tls` is of no use without https, but a client has to have one.
    pub fn start(config: FleetConfig, tls: ClientConfig, runtime: &Handle) -> Arc<Self> {
        let fleet = Arc::new(Self {
            tls,
            peers: Mutex::new(config.peers.clone()),
            config,
            lookups: tokio::sync::Mutex::default(),
            nodes: RwLock::new(Arc::new([])),
            unshared: Table::new(UNSHARED_MAX),
            counters: FleetCounters::default(),
        });
        runtime.block_on(fleet.refresh());
        runtime.spawn(refresh_for_ever(Arc::downgrade(&fleet)));
        fleet
    }

    /// Replaces the nodes. Blocking: waits for the lookup of their names.
    pub fn set_peers(&self, peers: &[String], runtime: &Handle) {
        peers.clone_into(&mut self.peers.lock().unwrap_or_else(PoisonError::into_inner));
        runtime.block_on(self.refresh());
    }

    /// What happened so far.
    pub fn counters(&self) -> &FleetCounters {
        &self.counters
    }

    /// The addresses of all nodes, and whether each is this one.
    pub fn members(&self) -> Vec<(SocketAddr, bool)> {
        let nodes = self.nodes();
        let members = nodes.iter();
        members
            .map(|node| (node.address, node.endpoint.is_none()))
            .collect()
    }

    /// The peer that owns an object; `None`: this node does, or there are no others.
    pub(crate) fn owner(&self, hash: u128) -> Option<Arc<Endpoint>> {
        let nodes = self.nodes();
        let index = rendezvous::owner(nodes.iter().map(|node| node.seed), hash)?;
        nodes[index].endpoint.clone()
    }

    /// The fields that every request to a peer has.
    pub(crate) fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = vec![(PEER, HeaderValue::from_static("1"))];
        if let Some(Token(value)) = &self.config.token {
            fields.push((AUTHORIZATION, value.clone()));
        }
        fields
    }

    /// Whether a request with these fields is one of a peer.
    pub(crate) fn admits(&self, fields: &HeaderMap) -> bool {
        let is_right = |Token(token): &Token| {
            let said = fields.get(AUTHORIZATION);
            said.is_some_and(|said| {
                verify_slices_are_equal(said.as_bytes(), token.as_bytes()).is_ok()
            })
        };
        fields.contains_key(PEER) && self.config.token.as_ref().is_none_or(is_right)
    }

    /// Its owner says that an object must not be stored: each node asks the origin for it.
    pub(crate) fn set_unshared(&self, hash: u128) {
        self.unshared.insert(hash, Instant::now() + UNSHARED_TIME);
    }

    /// Whether that was said lately.
    pub(crate) fn is_unshared(&self, hash: u128) -> bool {
        let until = self.unshared.get(&hash);
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn count_request(&self) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn nodes(&self) -> Arc<[Node]> {
        Arc::clone(&self.nodes.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn refresh(&self) {
        let mut lookups = self.lookups.lock().await;
        let peers = {
            let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.clone()
        };
        let addresses = lookups.addresses(&peers).await;
        let own = match &self.config.own {
            Some(own) => {
                Lookups::default()
                    .addresses(std::slice::from_ref(own))
                    .await
            }
            None => Vec::new(),
        };
        let before = self.nodes();
        if before
            .iter()
            .map(|node| node.address)
            .eq(addresses.iter().copied())
        {
            return;
        }
        tracing::info!(?addresses, "nodes of the fleet");
        let nodes = addresses.into_iter().map(|address| {
            let known = before.iter().find(|node| node.address == address);
            known.cloned().unwrap_or_else(|| self.node(address, &own))
        });
        let nodes = nodes.collect();
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    fn node(&self, address: SocketAddr, own: &[SocketAddr]) -> Node {
        let is_own = is_own(address, own, self.config.port);
        Node {
            address,
            seed: rendezvous::seed(address),
            endpoint: (!is_own).then(|| Arc::new(Endpoint::of_peer(address, self.tls.clone()))),
        }
    }
}

async fn refresh_for_ever(fleet: Weak<Fleet>) {
    loop {
        sleep(LOOKUP_EVERY).await;
        match fleet.upgrade() {
            Some(fleet) => fleet.refresh().await,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_no_text() {
        let token = Token::new("secret").unwrap();
        assert_eq!(token.0.as_bytes(), b"Bearer secret");
        assert!(!format!("{token:?} {:?}", token.0).contains("secret"));
        assert_eq!(Token::new("a\nb"), None);
    }
}
