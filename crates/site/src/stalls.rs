//! What file systems that do not answer came to, for the whole process.

use std::sync::atomic::AtomicU64;

/// Counts, so far. They are touched only where something stalls.
#[derive(Debug, Default)]
pub struct Stalls {
    /// Requests that were answered with what was known, since a look did not come back.
    pub stale: AtomicU64,
    /// Requests that were refused (503), since nothing was known and no look came back in time.
    pub refused: AtomicU64,
}
