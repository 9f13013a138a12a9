//! The next configuration, on its way from the thread that prepares it to the workers.

use std::sync::Arc;

use tidegate_config::NeedsRestart;

use crate::accept::listener::{Listener, NextListener};
use crate::config::prepared::{Derived, Prepared};
use crate::host::budget::Budget;
use crate::transport::certificates::NextTls;

/// A configuration that every worker can take over.
pub(crate) struct NextConfiguration {
    pub(crate) budget: Budget,
    pub(crate) derived: Arc<Derived>,
    /// One for each worker.
    pub(crate) updates: Vec<CoreUpdate>,
    /// All, in the order of the configuration.
    pub(crate) listeners: Vec<NextListener>,
    pub(crate) tls: NextTls,
    /// What the file says and only a restart can apply.
    pub(crate) kept: Vec<NeedsRestart>,
}

/// The part of one worker, which takes it over and cannot refuse it.
pub(crate) struct CoreUpdate {
    pub(crate) prepared: Prepared,
    /// All of the core.
    pub(crate) listeners: Vec<Listener>,
}

/// Why a configuration is not applied to this process.
#[derive(Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// It is wrong. Lines for the operator.
    Refused(String),
    /// This process has given up what it takes, as said here. A new one has not.
    Outside(String),
}

impl From<String> for Unprepared {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}
