//! The certificates of TLS listeners, and the thread that reads them again when they change.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use tidegate_config::{
    self as config, ClientAuth, Ktls, Listen, MissingCertificates, Protocols, Settings, TlsVersion,
};
use tidegate_tls::kernel;
use tidegate_tls::{
    Acceptor, AcceptorUpdate, Alpn, Certificate, CertificateFiles, ClientAuthentication, Error,
    KernelFeatures, LeastVersion, Missing, Settings as TlsSettings,
};
use tidegate_uring::catch_panic;

use crate::error::Error as ServerError;

/// How often to check the certificate files for a change, by a few calls of stat(2).
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate that expires sooner causes a warning: automatic renewal would have replaced it.
const EXPIRES_SOON: Duration = Duration::from_hours(7 * 24);

/// The state that TLS listeners share. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: Acceptor,
    /// The cipher suites that the kernel supports.
    pub(crate) kernel: KernelFeatures,
}

impl Tls {
    /// Reads the certificates and probes the kernel; `None` if no listener uses TLS. Sessions of the
    /// process with these keys of tickets resume.
    pub(crate) fn of(settings: &Settings, ticket_keys: &[u8]) -> Result<Option<Self>, Error> {
        if !settings.listen.iter().any(|listen| listen.tls) {
            return Ok(None);
        }
        let acceptor = Acceptor::with_ticket_keys(tls_settings(&settings.tls), ticket_keys)?;
        log_certificates(&acceptor);
        let kernel = kernel_features(settings.tls.ktls);
        Ok(Some(Self { acceptor, kernel }))
    }

    /// The state for connections of `listen`, which offers its protocols. The kernel's TLS is for
    /// TCP alone.
    pub(crate) fn for_listener(&self, listen: &Listen) -> Self {
        let kernel = match listen.unix_path() {
            Some(_) => KernelFeatures::none(),
            None => self.kernel.clone(),
        };
        Self {
            acceptor: self.acceptor.offering(alpn(listen.protocols)),
            kernel,
        }
    }
}

/// The TLS of the next configuration.
pub(crate) struct NextTls {
    /// `None`: no listener uses TLS.
    pub(crate) tls: Option<Tls>,
    /// What its acceptor takes over, if it is the one of before.
    update: Option<AcceptorUpdate>,
    /// `None`: the one of before goes on.
    reloader: Option<CertReloader>,
}

impl NextTls {
    /// Reads the certificates, while `running` serves by `before`. Blocking; nothing changes yet.
    pub(crate) fn prepare(
        settings: &Settings,
        running: Option<&Tls>,
        before: &Settings,
    ) -> Result<Self, ServerError> {
        let uses_tls = settings.listen.iter().any(|listen| listen.tls);
        let Some(running) = running.filter(|_| uses_tls) else {
            let tls = Tls::of(settings, &[])?;
            return Ok(Self {
                reloader: Some(CertReloader::start(tls.as_ref())?),
                update: None,
                tls,
            });
        };
        let kernel = if settings.tls.ktls == before.tls.ktls {
            running.kernel.clone()
        } else {
            kernel_features(settings.tls.ktls)
        };
        let acceptor = running.acceptor.clone();
        Ok(Self {
            update: Some(acceptor.prepare(tls_settings(&settings.tls))?),
            tls: Some(Tls { acceptor, kernel }),
            reloader: None,
        })
    }

    /// Serves new connections by it. Returns the state for listeners.
    pub(crate) fn install(self, reloader: &mut CertReloader) -> Option<Tls> {
        if let Some(next) = self.reloader {
            *reloader = next;
        }
        if let Some((tls, update)) = self.tls.as_ref().zip(self.update) {
            tls.acceptor.install(update);
            log_certificates(&tls.acceptor);
        }
        self.tls
    }
}

/// An acceptor with the settings of `[tls]`; `None` if it names no certificate. Blocking.
pub(crate) fn acceptor(tls: &config::Tls) -> Result<Option<Acceptor>, Error> {
    if tls.certificates.is_empty() {
        return Ok(None);
    }
    Acceptor::new(tls_settings(tls)).map(Some)
}

/// Whole days until the first certificate of its chain expires; 0 if it has.
pub(crate) fn days_left(certificate: &Certificate) -> u64 {
    time_left(certificate).as_secs() / Duration::from_hours(24).as_secs()
}

/// Whether it should have been renewed already.
pub(crate) fn expires_soon(certificate: &Certificate) -> bool {
    time_left(certificate) < EXPIRES_SOON
}

fn time_left(certificate: &Certificate) -> Duration {
    let left = certificate.not_after().duration_since(SystemTime::now());
    left.unwrap_or_default()
}

/// Reloads certificates in a thread of its own, since their file system may not answer. `None` if
/// no listener uses TLS.
pub(crate) struct CertReloader(Option<SyncSender<()>>);

impl CertReloader {
    /// Reloads certificates when their files change, until it is dropped.
    pub(crate) fn start(tls: Option<&Tls>) -> Result<Self, ServerError> {
        let Some(acceptor) = tls.map(|tls| tls.acceptor.clone()) else {
            return Ok(Self(None));
        };
        let (sender, demands) = sync_channel(1);
        thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || {
                look_after(&demands, |is_demanded| {
                    if is_demanded || acceptor.changed() {
                        reload(&acceptor);
                    }
                });
            })
            .map_err(ServerError::CertificatesThread)?;
        Ok(Self(Some(sender)))
    }

    /// Reloads the certificates, for a HUP of a server without a configuration file. Does not wait
    /// for the thread.
    pub(crate) fn reload(&self) {
        const NO_FILE: &str = "there is no configuration file to read again";
        if self.0.is_some() {
            tracing::info!("HUP: {NO_FILE}; reading certificates again");
        } else {
            tracing::info!("HUP: {NO_FILE}, and no listener speaks TLS");
        }
        if let Some(thread) = &self.0 {
            // A request that is already queued is enough.
            let _ = thread.try_send(());
        }
    }
}

/// Calls `look(false)` every [`LOOK_EVERY`] and `look(true)` on request, until the sender is
/// dropped. A panic of `look` is reported by the panic hook and does not end the calls.
fn look_after(demands: &Receiver<()>, look: impl Fn(bool)) {
    loop {
        let is_demanded = match demands.recv_timeout(LOOK_EVERY) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let _ = catch_panic(|| look(is_demanded));
    }
}

fn reload(acceptor: &Acceptor) {
    let was_ready = acceptor.is_ready();
    match acceptor.reload() {
        Ok(()) => {
            tracing::info!("certificates read again");
            log_certificates(acceptor);
            if !was_ready && acceptor.is_ready() {
                tracing::info!("there is a certificate: listening where TLS is spoken");
            }
        }
        Err(error) => tracing::error!(%error, "the certificates stay as they were"),
    }
}

fn log_certificates(acceptor: &Acceptor) {
    for problem in &*acceptor.problems() {
        tracing::error!("{problem}");
    }
    for certificate in acceptor.certificates().iter() {
        let file = certificate.files().certificate.display();
        let days = days_left(certificate);
        if expires_soon(certificate) {
            tracing::warn!(%file, days, names = ?certificate.names(), "a certificate expires soon");
        } else {
            tracing::info!(%file, days, names = ?certificate.names(), "certificate");
        }
    }
}

fn alpn(protocols: Protocols) -> Alpn {
    match (protocols.http2, protocols.http1) {
        (true, true) => Alpn::Http2OrHttp1,
        (true, false) => Alpn::Http2,
        (false, _) => Alpn::Http1,
    }
}

fn kernel_features(ktls: Ktls) -> KernelFeatures {
    match ktls {
        Ktls::Auto => probe(),
        Ktls::Off => KernelFeatures::none(),
    }
}

fn probe() -> KernelFeatures {
    let features = kernel::probe();
    let mut said = None;
    for (suite, missing) in features.suites() {
        // Logged once for each reason.
        if let Some(missing) = missing.err().filter(|missing| said != Some(*missing)) {
            let suite = suite.name();
            tracing::info!(suite, "TLS stays in user space: {missing}");
            said = Some(missing);
        }
    }
    features
}

fn tls_settings(tls: &config::Tls) -> TlsSettings {
    let files = tls.certificates.iter().map(|files| CertificateFiles {
        certificate: files.cert.clone(),
        key: files.key.clone(),
    });
    TlsSettings {
        client_authentication: client_authentication(tls),
        least_version: match tls.min_version {
            TlsVersion::Tls12 => LeastVersion::Tls12,
            TlsVersion::Tls13 => LeastVersion::Tls13,
        },
        missing: match tls.missing {
            MissingCertificates::Refuse => Missing::Refuse,
            MissingCertificates::ServeHttp => Missing::LeaveOut,
        },
        ..TlsSettings::new(files.collect())
    }
}

fn client_authentication(tls: &config::Tls) -> ClientAuthentication {
    let Some(authorities) = tls.client_ca.clone() else {
        return ClientAuthentication::Off;
    };
    match tls.client_auth {
        ClientAuth::Off => ClientAuthentication::Off,
        ClientAuth::Request => ClientAuthentication::Request { authorities },
        ClientAuth::Require => ClientAuthentication::Require { authorities },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_panic_is_not_the_last_look() {
        let (sender, demands) = sync_channel(1);
        let (looked, looks) = channel();
        thread::spawn(move || {
            look_after(&demands, |is_demanded| {
                looked.send(is_demanded).expect("a test that waits");
                panic!("a look that fails");
            });
        });
        for _ in 0..2 {
            sender.send(()).expect("a thread that looks");
            // Calls without a demand may come between.
            while !looks.recv().expect("a thread that looks") {}
        }
    }
}
