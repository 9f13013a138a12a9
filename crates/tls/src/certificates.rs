//! Certificates and their keys: read from PEM files, checked, and chosen for a client.
//!
//! A certificate covers the names of its `subjectAltName`, so no configuration repeats them.
//! Unusable files are refused when they are read, with the file and the reason: a key that belongs
//! to another certificate, an encrypted key. A certificate that is not valid now is served
//! nevertheless, since that does no more harm than a closed port, and is reported
//! ([`Certificate::untimely`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::certificate_error::{CertificateError, Reason, Untimely, at};
use crate::names::Names;
use crate::pem;
use crate::settings::CertificateFiles;

/// One certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    names: Names,
    /// Of each certificate of the chain, in the order in which they are sent.
    validity: Vec<Validity>,
    key: Arc<CertifiedKey>,
}

/// The validity period of a certificate.
#[derive(Debug)]
struct Validity {
    position: usize,
    subject: String,
    not_before: ASN1Time,
    not_after: ASN1Time,
}

impl Validity {
    fn untimely(&self, now: SystemTime) -> Option<Untimely> {
        let has_expired = now > system_time(self.not_after);
        let time = match () {
            () if has_expired => self.not_after,
            () if now < system_time(self.not_before) => self.not_before,
            () => return None,
        };
        Some(Untimely {
            position: self.position,
            subject: self.subject.clone(),
            time,
            has_expired,
        })
    }
}

impl Certificate {
    /// Reads and checks a pair of files.
    pub fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let at_certificate = |reason| at(&files.certificate, reason);
        let chain = pem::read_certificates(&files.certificate).map_err(at_certificate)?;
        let parsed = parse(&chain).map_err(at_certificate)?;
        let unusable = unusable_kind(parsed[0].public_key());
        let key = read_key(&files.key, provider).map_err(|reason| match &unusable {
            Some(kind) => at_certificate(Reason::UnusableKind(kind.clone())),
            None => at(&files.key, reason),
        })?;
        let Some(own) = own_place(&parsed, &*key) else {
            return Err(match unusable {
                Some(kind) => at_certificate(Reason::UnusableKind(kind)),
                None => at(&files.key, Reason::OtherKey(files.certificate.clone())),
            });
        };
        let order = order(&parsed, own);
        let sent = order.iter().map(|&place| parsed[place].as_raw().to_vec());
        Ok(Self {
            files: files.clone(),
            names: names_of(&parsed[own]),
            validity: order
                .iter()
                .map(|&place| validity(&parsed[place], place + 1))
                .collect(),
            key: Arc::new(CertifiedKey::new(sent.map(Into::into).collect(), key)),
        })
    }

    /// The certificates of the chain that are not valid at `now`.
    pub fn untimely(&self, now: SystemTime) -> impl Iterator<Item = Untimely> + '_ {
        self.validity
            .iter()
            .filter_map(move |validity| validity.untimely(now))
    }

    /// Checks that the server's own certificate is valid at `now`, whatever else is in the chain.
    pub(crate) fn is_timely(&self, now: SystemTime) -> Result<(), Untimely> {
        let own = self.validity.first();
        own.and_then(|own| own.untimely(now)).map_or(Ok(()), Err)
    }

    /// When that changes next.
    pub(crate) fn changes_at(&self, now: SystemTime) -> Option<SystemTime> {
        let own = self.validity.first()?;
        let times = [own.not_before, own.not_after].map(system_time);
        times.into_iter().find(|time| *time > now)
    }

    /// The files that it was read from.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// The host names and IP addresses that it covers.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The earliest expiry in the chain.
    pub fn not_after(&self) -> SystemTime {
        let times = self.validity.iter().map(|one| system_time(one.not_after));
        times.min().unwrap_or(UNIX_EPOCH)
    }

    /// The signature algorithm of its key: `"ECDSA"`, `"RSA"`, `"Ed25519"`.
    pub fn algorithm(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        }
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    fn signs_for(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

/// All certificates of a listener, by name.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Arc<Certificate>>,
    /// Indices into `all` for each name, the preferred first. Wildcards are under their `*.`.
    by_name: HashMap<String, Vec<usize>>,
    /// The first certificate and those that share a name with it.
    default: Vec<usize>,
}

impl Certificates {
    /// Reads all of `files`; the error is that of the first pair at fault.
    pub fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let all: Result<Vec<_>, _> = files
            .iter()
            .map(|files| Certificate::load(files, provider).map(Arc::new))
            .collect();
        Ok(Self::new(all?))
    }

    pub(crate) fn new(all: Vec<Arc<Certificate>>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, certificate) in all.iter().enumerate() {
            for name in certificate.names.iter() {
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
        self.all.iter().map(Arc::as_ref)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The certificate that was read from `files`.
    pub(crate) fn of(&self, files: &CertificateFiles) -> Option<&Arc<Certificate>> {
        self.all
            .iter()
            .find(|certificate| certificate.files == *files)
    }

    /// The certificate for a client that sends `server_name` and can check `schemes`: one with the
    /// exact name, else with a wildcard for its first label, else the default. Among those, the
    /// first whose key the client can check. If it can check none, the preferred one; the handshake
    /// then fails with an alert.
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
            .map(|&place| &*self.all[place])
    }

    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        let name = lower_case(name.strip_suffix('.').unwrap_or(name));
        self.by_name.get(name.as_ref()).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

/// The subject of a certificate, for logs, in the order of RFC 4514, the common notation.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string())
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn read_key(path: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, Reason> {
    let der = pem::read_key(path)?;
    let key = provider.key_provider.load_private_key(der);
    key.map_err(Reason::UnusableKey)
}

fn parse<'d>(chain: &'d [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'d>>, Reason> {
    let parsed = (1..).zip(chain).map(|(position, der)| {
        let parsed = X509Certificate::from_der(der);
        let (_, certificate) = parsed.map_err(|error| Reason::Unparsable {
            position,
            reason: error.to_string(),
        })?;
        Ok(certificate)
    });
    parsed.collect()
}

/// The index of the first certificate that is for `key`. It is not checked by rustls, which cannot
/// parse every certificate that can be served (X.509 version 1).
fn own_place(chain: &[X509Certificate<'_>], key: &dyn SigningKey) -> Option<usize> {
    let Some(public) = key.public_key() else {
        return Some(0);
    };
    let is_for_key = |one: &X509Certificate<'_>| one.public_key().raw == public.as_ref();
    chain.iter().position(is_for_key)
}

/// The indices of a chain's certificates in the order in which they are sent: the server's own,
/// then each issuer of the one before it, then the rest (RFC 8446, section 4.4.2).
fn order(chain: &[X509Certificate<'_>], own: usize) -> Vec<usize> {
    let mut rest: Vec<usize> = (0..chain.len()).filter(|&place| place != own).collect();
    let mut order = vec![own];
    let mut last = own;
    while let Some(found) = rest
        .iter()
        .position(|&place| chain[place].subject().as_raw() == chain[last].issuer().as_raw())
    {
        last = rest.remove(found);
        order.push(last);
    }
    order.append(&mut rest);
    order
}

/// The kind of a certificate's key, if rustls cannot sign with such a key.
fn unusable_kind(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let algorithm = key.algorithm.algorithm.to_id_string();
    let kind = match algorithm.as_str() {
        "1.2.840.113549.1.1.1" => return unusable_rsa(key),
        "1.2.840.10045.2.1" => return unusable_curve(key),
        "1.3.101.112" => return None,
        "1.3.101.113" => "Ed448",
        "1.2.840.113549.1.1.10" => "RSA-PSS (id-RSASSA-PSS)",
        "1.2.840.10040.4.1" => "DSA",
        other => return Some(format!("an algorithm with the object identifier {other}")),
    };
    Some(kind.to_owned())
}

fn unusable_rsa(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2048..=8192).contains(&rsa.key_size()) => None,
        Ok(PublicKey::RSA(rsa)) => Some(format!("RSA of {} bits", rsa.key_size())),
        _ => Some("RSA that cannot be parsed".to_owned()),
    }
}

fn unusable_curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let parameters = key.algorithm.parameters.as_ref();
    let curve = parameters.and_then(|curve| curve.as_oid().ok());
    match curve?.to_id_string().as_str() {
        "1.2.840.10045.3.1.7" | "1.3.132.0.34" | "1.3.132.0.35" => None,
        other => Some(format!(
            "ECDSA on the curve with the object identifier {other}"
        )),
    }
}

fn validity(certificate: &X509Certificate<'_>, position: usize) -> Validity {
    let validity = certificate.validity();
    Validity {
        position,
        subject: certificate.subject().to_string(),
        not_before: validity.not_before,
        not_after: validity.not_after,
    }
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

fn names_of(certificate: &X509Certificate<'_>) -> Names {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Names::default();
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
