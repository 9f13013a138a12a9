//! From a request to its response, whatever the version of HTTP.

pub(crate) mod body;
pub(crate) mod lookup;
pub(crate) mod response;
pub(crate) mod send_range;
