//! The configuration, as a core uses it.

pub(crate) mod sites;
pub(crate) mod snapshot;
