//! Counts of requests that a file system did not answer in time.

use std::sync::atomic::AtomicU64;

/// The counts of the process. Only a stalled request touches them.
#[derive(Debug, Default)]
pub struct Stalls {
    /// Requests that were answered from a stale cache entry.
    pub stale: AtomicU64,
    /// Requests that were answered with 503, for lack of a cache entry.
    pub refused: AtomicU64,
}
