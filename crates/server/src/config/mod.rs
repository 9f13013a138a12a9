//! What the config comes to in this process.

pub(crate) mod sites;
