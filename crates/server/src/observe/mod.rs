//! How the server is seen from outside: health, metrics, the log.

pub(crate) mod access_log;
pub(crate) mod admin;
pub(crate) mod admin_listener;
mod admin_response;
mod cache_requests;
pub(crate) mod counters;
pub(crate) mod exposition;
pub(crate) mod health;
pub(crate) mod heartbeat;
pub(crate) mod http2;
pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod recent;
