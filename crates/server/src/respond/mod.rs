//! From a request to its response.

pub(crate) mod lookup;
pub(crate) mod response;
pub(crate) mod send_body;
