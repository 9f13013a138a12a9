//! Errors of files with certificates or keys.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::Error as PemError;
use x509_parser::time::ASN1Time;

/// The most bytes read from a file. A bundle of all authorities that browsers trust has a quarter
/// of that; and a file without an end must not take all memory.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// A file of certificates or keys that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CertificateError {
    /// The file at fault.
    pub path: PathBuf,
    /// The reason.
    pub reason: Reason,
}

/// The error of the file `path`.
pub(crate) fn at(path: &Path, reason: Reason) -> CertificateError {
    CertificateError {
        path: path.to_owned(),
        reason,
    }
}

/// The fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It can not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a directory, pipe, socket or device, which may have no end or never deliver.
    #[error("is a {0} and not a regular file")]
    NotRegular(&'static str),
    /// It has more bytes than any file of certificates.
    #[error("is larger than {} bytes", FILE_BYTES_MAX)]
    TooLarge,
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// It is DER or PKCS#12.
    #[error(
        "is binary (DER or PKCS#12) and not PEM: convert it, as by `openssl x509`, `openssl pkey` \
         or `openssl pkcs12 -nodes`"
    )]
    Binary,
    /// Its characters have two bytes each.
    #[error("is UTF-16: store it as ASCII or UTF-8")]
    Utf16,
    /// It is not valid PEM.
    #[error("is not valid PEM: {}", fault(.0))]
    NotPem(PemError),
    /// It has no `CERTIFICATE` section, only sections with these labels.
    #[error("has no certificate{}", but(.0))]
    NoCertificate(String),
    /// It has no private key, only sections with these labels.
    #[error("has no private key{}", but(.0))]
    NoKey(String),
    /// The key is encrypted: it needs a pass phrase, and an unattended server has nobody to ask for
    /// it.
    #[error("the private key is encrypted; store it without a pass phrase")]
    EncryptedKey,
    /// The key is of a kind or size that can not sign.
    #[error("the private key cannot be used: {0}")]
    UnusableKey(rustls::Error),
    /// The key belongs to another certificate.
    #[error("the private key does not fit the certificate in {}", .0.display())]
    OtherKey(PathBuf),
    /// A certificate of the chain can not be parsed.
    #[error("certificate {position} of the chain cannot be parsed: {reason}")]
    Unparsable {
        /// Its place in the file, from 1.
        position: usize,
        /// The error of the parser.
        reason: String,
    },
    /// The certificate's key is of a kind that TLS here cannot use.
    #[error(
        "the certificate is for a key that cannot be used here: {0}; have one issued for ECDSA \
         (P-256, P-384, P-521), RSA (rsaEncryption, 2048 to 8192 bits) or Ed25519"
    )]
    UnusableKind(String),
    /// A certificate of the chain is not valid at this time. It is served all the same.
    #[error("{0}; clients refuse it, but it is served")]
    Untimely(Untimely),
    /// The first certificate is not valid now, but the one that it replaces is.
    #[error("{0}; the one before it is valid and stays")]
    Replaced(Untimely),
}

/// The parser's message, which would print lines of the file as lists of numbers.
fn fault(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            let label = String::from_utf8_lossy(end_marker);
            format!("the line `-----END {label}-----` is missing; is the file whole?")
        }
        // A line may be part of a key.
        PemError::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end with -----".to_owned()
        }
        other => other.to_string(),
    }
}

/// Names the sections found instead.
fn but(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!(", but {labels}")
    }
}

/// A certificate of a chain that is not valid at this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untimely {
    /// Its place in the file, from 1.
    pub position: usize,
    /// Its subject.
    pub subject: String,
    /// `notAfter` if it has expired, else `notBefore`.
    pub time: ASN1Time,
    /// Whether it has expired. If not it is not valid yet.
    pub has_expired: bool,
}

impl fmt::Display for Untimely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, subject, time) = (self.position, &self.subject, self.time);
        write!(f, "certificate {position} of the chain ({subject}) ")?;
        if self.has_expired {
            write!(f, "expired on {time}")
        } else {
            write!(f, "is not valid before {time}")
        }
    }
}
