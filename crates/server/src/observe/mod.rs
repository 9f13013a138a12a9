//! How the server is seen from outside: health and metrics.

pub(crate) mod admin;
pub(crate) mod admin_listener;
pub(crate) mod heartbeat;
pub(crate) mod metrics;
pub(crate) mod throttle;
