//! The rules of a site.

pub(crate) mod access;
pub(crate) mod headers;
pub(crate) mod paths;
pub(crate) mod redirects;
mod template;
