//! Why an object cannot be had.

use std::error::Error as StdError;
use std::fmt::Write;
use std::sync::Arc;

/// Why an origin gave no object, or not all of it. Shared by all that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The origin has no such object (404, 410), or nobody may know of it.
    #[error("the origin has no such object")]
    NotFound,
    /// The origin refuses the object itself (403), while others can be had.
    #[error("the origin forbids the object")]
    Forbidden,
    /// The origin is overloaded (429, 503), or too many requests to it wait here.
    #[error("{origin} is overloaded: {reason}")]
    Busy {
        /// Its URL.
        origin: Arc<str>,
        /// What it said.
        reason: Arc<str>,
        /// Seconds after which to ask again, if it said so.
        retry_after: Option<u64>,
    },
    /// No connection, no name, no valid certificate, credentials that are refused, or an answer
    /// that breaks HTTP or contradicts an earlier one.
    #[error("{origin} failed: {reason}")]
    Failed {
        /// Its URL.
        origin: Arc<str>,
        /// What happened, and what to do about it where that is known.
        reason: Arc<str>,
    },
    /// No connection or no byte in time.
    #[error("{origin} does not answer: {reason}")]
    TimedOut {
        /// Its URL.
        origin: Arc<str>,
        /// What was waited for.
        reason: Arc<str>,
    },
    /// The object was replaced while it was read: what was sent belongs to the version before.
    #[error("the object changed at its origin while it was read")]
    Changed,
}

impl Error {
    /// Seconds after which the origin wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a stored response may be used instead (RFC 5861, section 4).
    pub(crate) fn allows_stale(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Failed { .. } | Self::TimedOut { .. } => true,
            Self::NotFound | Self::Forbidden | Self::Changed => false,
        }
    }

    /// Whether another endpoint, or the same one a moment later, may do better.
    pub(crate) fn is_transient(&self) -> bool {
        self.allows_stale()
    }
}

/// An error with its causes: hyper's own text names none.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let _ = write!(text, ": {error}");
        next = error.source();
    }
    text
}
