//! One fault of a configuration.

use std::path::PathBuf;

use tidegate_config::Place;

/// A fault of the configuration on this host, or a likely mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The subject, in a word or two.
    pub topic: &'static str,
    /// The key.
    pub place: Place,
    /// Whether it keeps the server from starting.
    pub is_error: bool,
    /// What is wrong, in one line.
    pub reason: String,
    /// The file or directory that cannot be used, if it is one.
    pub path: Option<PathBuf>,
}

/// The topic of faults of certificate files. The server logs these itself.
pub const CERTIFICATE: &str = "certificate";

/// The topic of faults of access logs. One is an error for a process that runs as this user.
pub const ACCESS_LOG: &str = "access log";

impl Diagnostic {
    /// A likely mistake: the server starts.
    pub(crate) fn warning(topic: &'static str, place: Place, reason: impl Into<String>) -> Self {
        Self {
            topic,
            place,
            is_error: false,
            reason: reason.into(),
            path: None,
        }
    }
}
