//! The rules of a site.

pub(crate) mod headers;
pub(crate) mod paths;
pub(crate) mod redirects;
mod template;
