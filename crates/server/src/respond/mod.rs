//! From a request to its response, whatever the version of HTTP.

pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod body_reader;
pub(crate) mod complete;
pub(crate) mod exchange;
pub(crate) mod lookup;
pub(crate) mod refusal;
#[expect(
    clippy::module_inception,
    reason = "the one function of this folder that all others serve"
)]
pub(crate) mod respond;
pub(crate) mod response;
pub(crate) mod send_range;
