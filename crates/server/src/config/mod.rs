//! The configuration, as a core uses it.

pub(crate) mod credentials;
pub(crate) mod http2;
pub(crate) mod logins;
pub(crate) mod prepared;
pub(crate) mod sites;
pub(crate) mod snapshot;
