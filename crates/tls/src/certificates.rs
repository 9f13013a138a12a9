//! Certificates and their keys: read from PEM files, checked, and chosen for a client.
//!
//! A certificate is for the names its `subjectAltName` tells, so no configuration repeats them.
//! Everything that would make clients fail later is refused when it is read, with the file and the
//! reason: an expired chain, a key that belongs to another certificate, an encrypted key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use crate::settings::CertificateFiles;

/// A file of certificates or keys that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CertificateError {
    /// The file at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It can not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is not the PEM it should be.
    #[error("is not valid PEM: {0}")]
    NotPem(pem::Error),
    /// It has no `CERTIFICATE` section.
    #[error("has no certificate")]
    NoCertificate,
    /// It has no private key.
    #[error("has no private key")]
    NoKey,
    /// The key needs a pass phrase, which a server that starts by itself can not be asked for.
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
        /// What the parser says.
        reason: String,
    },
    /// A certificate of the chain has expired.
    #[error("certificate {position} of the chain ({subject}) expired on {time}")]
    Expired {
        /// Its place in the file, from 1.
        position: usize,
        /// Whom it is for.
        subject: String,
        /// `notAfter`.
        time: String,
    },
    /// A certificate of the chain is not valid yet.
    #[error("certificate {position} of the chain ({subject}) is not valid before {time}")]
    NotYetValid {
        /// Its place in the file, from 1.
        position: usize,
        /// Whom it is for.
        subject: String,
        /// `notBefore`.
        time: String,
    },
}

/// One certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    names: Vec<String>,
    not_after: SystemTime,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads and checks a pair of files; `now` is held against the chain's validity.
    pub fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let chain = read_chain(&files.certificate)?;
        let (names, not_after) =
            check_chain(&chain, now).map_err(|reason| at(&files.certificate, reason))?;
        let key = read_key(&files.key, provider, chain, files)
            .map_err(|reason| at(&files.key, reason))?;
        Ok(Self {
            files: files.clone(),
            names,
            not_after,
            key: Arc::new(key),
        })
    }

    /// The files it was read from.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// The host names and IP addresses it is for, in lower case; wildcards as `*.example.com`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When the first certificate of the chain to expire does so.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What its key signs with: `"ECDSA"`, `"RSA"`, `"Ed25519"`.
    pub fn algorithm(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        }
    }

    fn signs_for(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

/// All certificates of a listener, and which is for whom.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Certificate>,
    /// Places in `all` for each name, the preferred first. Wildcards are under their `*.`.
    by_name: HashMap<String, Vec<usize>>,
    /// The first certificate and those that share a name with it.
    default: Vec<usize>,
}

impl Certificates {
    /// Reads all of `files`; the first pair at fault is the error.
    pub fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let all: Result<Vec<_>, _> = files
            .iter()
            .map(|files| Certificate::load(files, provider, now))
            .collect();
        Ok(Self::new(all?))
    }

    fn new(all: Vec<Certificate>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_default().push(place);
            }
        }
        let first_names = all.first().map_or(&[][..], |first| &first.names);
        let mut default: Vec<usize> = (0..all.len())
            .filter(|&place| {
                place == 0
                    || all[place]
                        .names
                        .iter()
                        .any(|name| first_names.contains(name))
            })
            .collect();
        // A stable sort: ECDSA signs at a tenth of RSA's cost, and the order of the
        // configuration decides between equals.
        for places in by_name.values_mut() {
            places.sort_by_key(|&place| all[place].is_rsa());
        }
        default.sort_by_key(|&place| all[place].is_rsa());
        Self {
            all,
            by_name,
            default,
        }
    }

    /// Every certificate, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.all.iter()
    }

    /// The certificate for a client that asks for `server_name` and can check `schemes`: one with
    /// the exact name, else with a wildcard for its first label, else the default. Of those the
    /// first whose key the client can check; if it can check none, the preferred one, and the
    /// handshake tells the client that nothing fits.
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Certificate> {
        let candidates = server_name
            .and_then(|name| self.named(name))
            .unwrap_or(&self.default);
        candidates
            .iter()
            .find(|&&place| self.all[place].signs_for(schemes))
            .or(candidates.first())
            .map(|&place| &self.all[place])
    }

    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        let name = lower_case(name.strip_suffix('.').unwrap_or(name));
        self.by_name.get(name.as_ref()).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }

    pub(crate) fn key_for(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.choose(server_name, schemes)
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Reads every certificate of a PEM file; none is an error.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = fs::read(path).map_err(|error| at(path, Reason::Unreadable(error)))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| at(path, Reason::NotPem(error)))?;
    if chain.is_empty() {
        return Err(at(path, Reason::NoCertificate));
    }
    Ok(chain)
}

/// Whom a certificate is for, as in a log: the subject in the order of RFC 4514, the common way
/// of writing it.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string())
}

pub(crate) fn at(path: &Path, reason: Reason) -> CertificateError {
    CertificateError {
        path: path.to_owned(),
        reason,
    }
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn read_key(
    path: &Path,
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    files: &CertificateFiles,
) -> Result<CertifiedKey, Reason> {
    let bytes = Zeroizing::new(fs::read(path).map_err(Reason::Unreadable)?);
    let der = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(der) => der,
        Err(_) if mentions_encryption(&bytes) => return Err(Reason::EncryptedKey),
        Err(pem::Error::NoItemsFound) => return Err(Reason::NoKey),
        Err(error) => return Err(Reason::NotPem(error)),
    };
    CertifiedKey::from_der(chain, der, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Reason::OtherKey(files.certificate.clone()),
        error => Reason::UnusableKey(error),
    })
}

/// PKCS#8 says it in the name of the section, the older formats in a header of it.
fn mentions_encryption(pem: &[u8]) -> bool {
    let pem = String::from_utf8_lossy(pem);
    pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED")
}

/// The names of the chain's first certificate and the earliest `notAfter` of all.
fn check_chain(
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(Vec<String>, SystemTime), Reason> {
    let mut names = Vec::new();
    let mut earliest = None;
    for (position, der) in (1..).zip(chain) {
        let certificate = match X509Certificate::from_der(der) {
            Ok((_, certificate)) => certificate,
            Err(error) => {
                return Err(Reason::Unparsable {
                    position,
                    reason: error.to_string(),
                });
            }
        };
        let not_after = check_validity(&certificate, position, now)?;
        earliest = Some(earliest.map_or(not_after, |time: SystemTime| time.min(not_after)));
        if position == 1 {
            names = names_of(&certificate);
        }
    }
    earliest
        .map(|not_after| (names, not_after))
        .ok_or(Reason::NoCertificate)
}

fn check_validity(
    certificate: &X509Certificate<'_>,
    position: usize,
    now: SystemTime,
) -> Result<SystemTime, Reason> {
    let validity = certificate.validity();
    let not_after = system_time(validity.not_after);
    if now > not_after {
        return Err(Reason::Expired {
            position,
            subject: certificate.subject().to_string(),
            time: validity.not_after.to_string(),
        });
    }
    if now < system_time(validity.not_before) {
        return Err(Reason::NotYetValid {
            position,
            subject: certificate.subject().to_string(),
            time: validity.not_before.to_string(),
        });
    }
    Ok(not_after)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let since = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        UNIX_EPOCH - since
    } else {
        UNIX_EPOCH + since
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    alternatives
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => ip_address(bytes),
            _ => None,
        })
        .collect()
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}
