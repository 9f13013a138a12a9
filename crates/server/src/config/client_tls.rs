//! TLS as a client of other hosts.

use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use tidegate_origin::tls::{self, TlsError, Trust, client_config};

use crate::error::Error;

/// The TLS of a client that trusts `trust`, and has no certificate of its own. Blocking.
///
/// # Errors
///
/// A file of authorities cannot be read.
pub(super) fn client_tls(trust: Trust<'_>) -> Result<ClientConfig, Error> {
    client_config(trust).map_err(tls_error)
}

/// The authorities in a PEM file. Blocking.
///
/// # Errors
///
/// It cannot be read, or has none.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    tls::authorities(path).map_err(tls_error)
}

fn tls_error(error: TlsError) -> Error {
    match error {
        TlsError::Authorities { path, reason } => Error::Authorities { path, reason },
        TlsError::Provider(error) => Error::OriginTls(error),
    }
}
