//! Who may have what: decided before the cache answers, and for whatever is sent in place of the
//! requested path.

use tidegate_site::{File, Found, Site};

use crate::respond::exchange::Exchange;

/// Whether `path` belongs to an ACME HTTP challenge (RFC 8555, section 8.3).
pub(super) fn is_challenge(path: &[u8]) -> bool {
    path.starts_with(b"/.well-known/acme-challenge/")
}

/// Whether the client may have the requested `path`, decoded.
pub(super) fn admits(site: &Site, path: &[u8], exchange: &Exchange) -> bool {
    is_challenge(path) || site.admits(path, || exchange.client())
}

/// Whether the client may have `file`, which is sent for a path that it may have.
pub(super) fn admits_file(site: &Site, file: &File, exchange: &Exchange) -> bool {
    let mut others = file.other_paths.iter();
    others.all(|path| site.admits(path, || exchange.client()))
}

/// Whether the client may have what was found for `path`, which it may have.
pub(super) fn admits_found(site: &Site, found: &Found, path: &[u8], exchange: &Exchange) -> bool {
    if !site.is_restricted() {
        return true;
    }
    let admits = |path: &[u8]| site.admits(path, || exchange.client());
    match found {
        Found::File(file) | Found::Fallback(file) => admits_file(site, file, exchange),
        Found::Compressed(compressed) => admits_file(site, &compressed.description, exchange),
        Found::Decompression(started) => admits_file(site, started.description(), exchange),
        Found::Listing { directory, .. } => directory == path || admits(directory),
        // Where the client would be sent.
        Found::Redirect { .. } => admits(&[path, b"/"].concat()),
        // An error page is for all.
        Found::Refused { .. } => true,
    }
}
