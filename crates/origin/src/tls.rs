//! TLS as a client of stores and origins: which authorities are trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Whose certificates a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Nobody's: no TLS is spoken.
    Nobody,
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in a PEM file.
    File(&'a Path),
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of authorities is not usable.
    #[error("cannot read the authorities in {}: {reason}", path.display())]
    Authorities {
        /// As it was given.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cryptographic provider lacks the default versions.
    #[error("cannot speak TLS")]
    Provider(#[source] rustls::Error),
}

/// The TLS of a client with these authorities. Blocking.
///
/// # Errors
///
/// The file is not there or holds no certificate.
pub fn client_config(trust: Trust<'_>) -> Result<ClientConfig, TlsError> {
    let roots = match trust {
        Trust::Nobody => RootCertStore::empty(),
        Trust::System => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            roots
        }
        Trust::File(path) => authorities(path)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities in a PEM file. Blocking.
///
/// # Errors
///
/// The file is not there or holds no certificate.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |reason: String| TlsError::Authorities {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path);
    for certificate in certificates.map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("it has no certificate".to_owned()));
    }
    Ok(roots)
}
