//! The state that all handshakes of a listener share, on all cores: certificates, ticket keys,
//! suites.
//!
//! The profile is Mozilla's intermediate one, which rustls' defaults are: TLS 1.2 and 1.3, ECDHE
//! with AES-GCM or ChaCha20-Poly1305, the client's order of suites. Early data (0-RTT) is never
//! accepted, since it can be replayed.
//!
//! A reload builds new state and swaps it at once; connections keep the state they began with.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::alpn::{Alpn, Configs};
use crate::certificate_error::{CertificateError, Reason, at};
use crate::certificates::{Certificate, Certificates};
use crate::counted_tickets::CountedTickets;
use crate::opener;
use crate::pem;
use crate::resolver::Resolver;
use crate::settings::{ClientAuthentication, LeastVersion, Missing, Settings};
use crate::tickets::{TicketKeys, client_policy};

/// How much early data is skipped, since none is accepted. Another server that had this host before
/// may have issued tickets that allow it (nginx: 16 KiB). rustls itself offers and accepts no early
/// data with stateless tickets. It counts undecryptable bytes each time it looks at them, once for
/// each record that follows, so this is 128 times what a handshake may have received.
const SKIPPED_EARLY_BYTES_MAX: u32 = 8 << 20;

/// Why a listener cannot speak TLS with its settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no certificate at all.
    #[error("a TLS listener needs at least one certificate")]
    NoCertificates,
    /// A file of certificates or keys can not be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The authorities for client certificates can not be used.
    #[error("{}: not usable as client authorities: {reason}", path.display())]
    Authorities {
        /// The file they are in.
        path: PathBuf,
        /// The error of rustls.
        reason: String,
    },
    /// rustls refuses the settings, or the system has no random numbers.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Setup(error)
    }
}

impl Error {
    /// The file at fault, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Certificate(error) => Some(&error.path),
            Self::Authorities { path, .. } => Some(path),
            Self::NoCertificates | Self::Setup(_) => None,
        }
    }

    /// Whether it concerns the authorities for client certificates.
    pub fn is_of_authorities(&self) -> bool {
        matches!(self, Self::Authorities { .. })
    }
}

/// Accepts TLS connections. Cloning is cheap; clones share their state, and so a reload of one is a
/// reload of all.
#[derive(Debug, Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
    alpn: Alpn,
}

#[derive(Debug)]
struct Shared {
    provider: Arc<CryptoProvider>,
    loaded: ArcSwap<Loaded>,
    /// The state of the files when they were last read, successfully or not.
    seen: Mutex<Vec<Option<Stamp>>>,
    tickets_refused: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Loaded {
    settings: Settings,
    configs: Configs,
    certificates: Arc<Certificates>,
    problems: Arc<[CertificateError]>,
    /// When to read certificates again that were held back, although their files are unchanged.
    read_again_at: Option<SystemTime>,
    authorities: Vec<CertificateDer<'static>>,
    ticket_keys: Arc<TicketKeys>,
}

/// What [`Acceptor::prepare`] read.
#[derive(Debug)]
pub struct AcceptorUpdate {
    loaded: Arc<Loaded>,
    seen: Vec<Option<Stamp>>,
}

impl Acceptor {
    /// Reads the files of `settings`, which blocks the thread for as long as the disk takes.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::with_ticket_keys(settings, &[])
    }

    /// As [`Acceptor::new`], with the keys of another acceptor ([`Acceptor::ticket_keys`]), so that
    /// its sessions resume here. Keys for another client authentication are not taken, nor are
    /// malformed ones.
    pub fn with_ticket_keys(settings: Settings, keys: &[u8]) -> Result<Self, Error> {
        if settings.certificates.is_empty() {
            return Err(Error::NoCertificates);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = stamps(&settings);
        let tickets_refused = Arc::default();
        let loaded = load(settings, &provider, None, &tickets_refused, keys)?;
        let shared = Arc::new(Shared {
            provider,
            loaded: ArcSwap::from_pointee(loaded),
            seen: Mutex::new(seen),
            tickets_refused,
        });
        let alpn = Alpn::Http1;
        Ok(Self { shared, alpn })
    }

    /// A clone for a listener that offers these protocols. [`Acceptor::new`] offers HTTP/1.
    #[must_use]
    pub fn offering(&self, alpn: Alpn) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, alpn }
    }

    /// Reads the files again, and serves their certificates to all new connections. If a file
    /// cannot be used, the loaded certificates stay and the error says why; with
    /// [`Missing::LeaveOut`] that holds for that file alone. A certificate that is not valid now
    /// does not replace a valid one.
    pub fn reload(&self) -> Result<(), Error> {
        let shared = &*self.shared;
        let before = shared.loaded.load();
        let seen = stamps(&before.settings);
        *shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let loaded = load(
            before.settings.clone(),
            &shared.provider,
            Some(&before),
            &shared.tickets_refused,
            &[],
        )?;
        // Other settings that were installed meanwhile stay.
        shared.loaded.compare_and_swap(&before, Arc::new(loaded));
        Ok(())
    }

    /// Reads the files of other settings, for [`Acceptor::install`]. Blocking. Nothing changes
    /// before that. Certificates and tickets are kept as [`Acceptor::reload`] does.
    pub fn prepare(&self, settings: Settings) -> Result<AcceptorUpdate, Error> {
        if settings.certificates.is_empty() {
            return Err(Error::NoCertificates);
        }
        let seen = stamps(&settings);
        let before = self.shared.loaded.load();
        let loaded = Arc::new(load(
            settings,
            &self.shared.provider,
            Some(&before),
            &self.shared.tickets_refused,
            &[],
        )?);
        Ok(AcceptorUpdate { loaded, seen })
    }

    /// Serves new connections by what was prepared.
    pub fn install(&self, prepared: AcceptorUpdate) {
        let shared = &*self.shared;
        *shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = prepared.seen;
        shared.loaded.store(prepared.loaded);
    }

    /// The keys of its session tickets, for [`Acceptor::with_ticket_keys`]. They are secret.
    pub fn ticket_keys(&self) -> Zeroizing<Vec<u8>> {
        let loaded = self.shared.loaded.load();
        let clients = client_policy(&loaded.settings.client_authentication, &loaded.authorities);
        loaded.ticket_keys.export(&clients)
    }

    /// Whether the files changed since they were last read, successfully or not, or a certificate
    /// that was not valid is due: a few stat(2) calls. A swapped symlink on the path counts as a
    /// change, as Kubernetes swaps `..data`.
    pub fn changed(&self) -> bool {
        let loaded = self.shared.loaded.load();
        if loaded
            .read_again_at
            .is_some_and(|time| SystemTime::now() > time)
        {
            return true;
        }
        let now = stamps(&loaded.settings);
        let seen = self
            .shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *seen != now
    }

    /// The certificates for new connections.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.shared.loaded.load().certificates)
    }

    /// Whether there is a certificate to show. Without one no handshake succeeds.
    pub fn is_ready(&self) -> bool {
        !self.shared.loaded.load().certificates.is_empty()
    }

    /// Tickets of clients that could not be opened so far: of another server, or too old.
    pub fn tickets_refused(&self) -> u64 {
        self.shared.tickets_refused.load(Ordering::Relaxed)
    }

    /// Problems of the certificates that were no errors when they were read.
    pub fn problems(&self) -> Arc<[CertificateError]> {
        Arc::clone(&self.shared.loaded.load().problems)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(self.shared.loaded.load().configs.of(self.alpn))
    }
}

fn load(
    settings: Settings,
    provider: &Arc<CryptoProvider>,
    before: Option<&Loaded>,
    tickets_refused: &Arc<AtomicU64>,
    ticket_keys: &[u8],
) -> Result<Loaded, Error> {
    let served = before.map(|before| &*before.certificates);
    let mut choice = Choice::new(SystemTime::now());
    for files in &settings.certificates {
        let old = served.and_then(|served| served.of(files));
        let new = Certificate::load(files, provider);
        choice.add(new, old, settings.missing)?;
    }
    let certificates = Arc::new(Certificates::new(choice.certificates));
    let authorities = match settings.client_authentication.authorities() {
        Some(path) => read_authorities(path)?,
        None => Vec::new(),
    };
    let versions = match settings.least_version {
        LeastVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12][..],
        LeastVersion::Tls13 => &[&rustls::version::TLS13][..],
    };
    let verifier = verifier(&settings, provider, &authorities)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Resolver(Arc::clone(&certificates))));
    let ticket_keys = chosen_ticket_keys(before, ticket_keys, &settings, &authorities)?;
    let tickets = CountedTickets::new(Arc::clone(&ticket_keys), tickets_refused);
    config.ticketer = Arc::new(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = settings.tickets;
    config.max_early_data_size = SKIPPED_EARLY_BYTES_MAX;
    config.enable_secret_extraction = true;
    Ok(Loaded {
        settings,
        configs: Configs::of_all(&config),
        certificates,
        problems: choice.problems.into(),
        read_again_at: choice.read_again_at,
        authorities,
        ticket_keys,
    })
}

/// Chooses the certificates to serve, from those just read and those served before.
struct Choice {
    now: SystemTime,
    certificates: Vec<Arc<Certificate>>,
    problems: Vec<CertificateError>,
    read_again_at: Option<SystemTime>,
}

impl Choice {
    fn new(now: SystemTime) -> Self {
        Self {
            now,
            certificates: Vec::new(),
            problems: Vec::new(),
            read_again_at: None,
        }
    }

    /// Takes a certificate, `new` as it was just read or `old` as it is served.
    fn add(
        &mut self,
        new: Result<Certificate, CertificateError>,
        old: Option<&Arc<Certificate>>,
        missing: Missing,
    ) -> Result<(), CertificateError> {
        match new {
            Ok(new) => self.add_usable(Arc::new(new), old),
            Err(error) if missing == Missing::LeaveOut => {
                self.problems.push(error);
                if let Some(old) = old {
                    self.serve(Arc::clone(old));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn add_usable(&mut self, new: Arc<Certificate>, old: Option<&Arc<Certificate>>) {
        let now = self.now;
        let valid = old.filter(|old| old.is_timely(now).is_ok());
        let (Some(old), Err(untimely)) = (valid, new.is_timely(now)) else {
            self.serve(new);
            return;
        };
        let times = [self.read_again_at, old.changes_at(now), new.changes_at(now)];
        self.read_again_at = times.into_iter().flatten().min();
        let path = &new.files().certificate;
        self.problems.push(at(path, Reason::Replaced(untimely)));
        self.serve(Arc::clone(old));
    }

    fn serve(&mut self, certificate: Arc<Certificate>) {
        let path = &certificate.files().certificate;
        for untimely in certificate.untimely(self.now) {
            self.problems.push(at(path, Reason::Untimely(untimely)));
        }
        self.certificates.push(certificate);
    }
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    pem::read_certificates(path).map_err(|reason| Error::Authorities {
        path: path.to_owned(),
        reason: reason.to_string(),
    })
}

/// Tickets stay valid across a reload, unless the client authentication changes: a ticket holds the
/// client's certificate, if there is one, and resumption does not check it again.
fn chosen_ticket_keys(
    before: Option<&Loaded>,
    exported: &[u8],
    settings: &Settings,
    authorities: &[CertificateDer<'_>],
) -> Result<Arc<TicketKeys>, Error> {
    let authentication = &settings.client_authentication;
    if let Some(before) = before
        && before.authorities == authorities
        && before.settings.client_authentication == *authentication
    {
        return Ok(Arc::clone(&before.ticket_keys));
    }
    let clients = client_policy(authentication, authorities);
    let keys = TicketKeys::import(exported, &clients).or_else(TicketKeys::random);
    keys.map(Arc::new)
        .ok_or(Error::Setup(rustls::Error::FailedToGetRandomBytes))
}

fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let (path, required) = match &settings.client_authentication {
        ClientAuthentication::Off => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuthentication::Request { authorities } => (authorities, false),
        ClientAuthentication::Require { authorities } => (authorities, true),
    };
    let unusable = |reason: String| Error::Authorities {
        path: path.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| unusable(error.to_string()))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// Identifies the state of a file without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    /// Where the path leads once all symlinks are followed.
    target: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of `mtime` and of `ctime`, which no program can set back.
    times: [i64; 4],
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let (target, metadata) = found(path).ok()?;
        Some(Self {
            target,
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            times: [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ],
        })
    }
}

/// Where `path` leads, and what is there. If this process may not look, no path, and the file that
/// is opened for it.
fn found(path: &Path) -> io::Result<(PathBuf, Metadata)> {
    let target = fs::canonicalize(path);
    let looked = target.and_then(|target| Ok((target.clone(), fs::metadata(&target)?)));
    match looked {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok((PathBuf::new(), opener::open(path)?.metadata()?))
        }
        other => other,
    }
}

/// One for each file of the settings, `None` for one that is not there.
fn stamps(settings: &Settings) -> Vec<Option<Stamp>> {
    settings
        .certificates
        .iter()
        .flat_map(|files| [&files.certificate, &files.key])
        .chain(settings.client_authentication.authorities())
        .map(|path| Stamp::of(path))
        .collect()
}
