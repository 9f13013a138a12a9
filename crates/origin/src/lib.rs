//! Objects of other hosts: a cache on disk in front of S3 stores and HTTP origins.
//!
//! ```text
//!   a core: Origin::find --> fresh in memory ------------------------------> Object
//!              |  stale, unknown
//!              v
//!           one flight for all cores --> the record on disk ---------------> Object
//!              |  none, stale
//!              v
//!           client: GET of one slice, If-None-Match --> 304, 404, an error
//!              |  200, 206                                  |
//!              v                                            v
//!           one fill for all: socket -> file -> publish     Object, stale or absent
//!              |
//!   a core: Origin::slice --> an open file, which may still grow
//! ```
//!
//! Cores wait for nothing here: connections, TLS and the cache's disk have threads of their own.
//! The futures may be awaited on any executor, and dropped at any time: flights and fills go on.
//!
//! # The modules, from top to bottom
//!
//! 1. `peers`: answers the requests of other nodes.
//! 2. `origin`: from a path to an object, and to its slices.
//! 3. `cache`: what all cores share: tables of flights and fills.
//! 4. `object`, `purge`: what is known of an object, and since when it is purged.
//! 5. `fill`: a slice that grows. `record`: what is stored of an object.
//! 6. `fleet`: the nodes, and which of them owns an object.
//! 7. `client`: endpoints, their health, retries. `s3`: signatures and credentials.
//! 8. `store`: the disk.
//! 9. `freshness`, `key`, `error`, `tls`.
//!
//! `publish`, which uploads a release, stands beside them: it uses `s3` alone.

mod buffers;
mod cache;
mod client;
mod error;
mod fill;
mod fleet;
mod freshness;
mod key;
mod memory;
mod object;
mod origin;
mod peers;
pub mod publish;
mod purge;
mod record;
pub mod s3;
pub mod store;
pub mod tls;

pub use cache::{Cache, CacheConfig, Counters, OpenError};
pub use client::{
    Authority, Endpoint, EndpointConfig, EndpointCounters, FailureKind, HEAD_BOUNDS_MICROS,
    HEAD_BUCKETS, probe_all,
};
pub use error::Error;
pub use fill::{Growing, Stream};
pub use fleet::{Fleet, FleetConfig, FleetCounters, Token};
pub use key::Key;
pub use object::{CacheState, Found, Object, Slice};
pub use origin::{Fetched, Origin, OriginConfig, Wanted};
pub use peers::Peers;
pub use purge::{Manner, Purged};
