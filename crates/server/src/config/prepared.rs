//! A configuration on its way to the cores: all that blocks or can fail is done.

use std::ops::Deref;
use std::sync::Arc;

use tidegate_config::Settings;
use tidegate_h1::Limits;
use tidegate_http::RangeLimits;
use tidegate_site::{OpenedSites, Stalls};

use crate::clients::{Clients, ConnectionLimit, RequestLimits};
use crate::config::cached_sites::CachedSites;
use crate::config::credentials::Credentials;
use crate::config::http2;
use crate::error::Error;
use crate::host::limits::ResourceShare;
use crate::observe::access_log::{AccessLogs, LogFiles};
use crate::observe::health::Health;

/// The settings and what is made of them once, for all cores. What a part of the server derives
/// from the settings belongs here: so a reload replaces it.
pub(crate) struct Derived {
    pub(crate) settings: Settings,
    /// Bounds on a request's head and body.
    pub(crate) h1: Limits,
    /// Bounds on a connection of HTTP/2.
    pub(crate) h2: Arc<tidegate_h2::Limits>,
    /// Bounds on the ranges of a request.
    pub(crate) ranges: RangeLimits,
    /// The bound on the connections of a client; `None`: there is none.
    pub(crate) client_connections: Option<ConnectionLimit>,
    /// The bounds on the requests of clients and sites; `None`: there are none.
    pub(crate) request_limits: Option<RequestLimits>,
    pub(crate) access_logs: AccessLogs,
    pub(crate) credentials: Credentials,
    /// What requests that purge or warm have to know.
    pub(crate) cached: Arc<CachedSites>,
    /// Whether bodies of some site are sent at a limited rate.
    pub(crate) is_paced: bool,
}

/// What one core makes its next [`Snapshot`] of, which cannot fail.
///
/// [`Snapshot`]: super::snapshot::Snapshot
pub(crate) struct Prepared {
    pub(crate) derived: Arc<Derived>,
    pub(crate) share: ResourceShare,
    pub(crate) sites: OpenedSites,
    pub(crate) stalls: Arc<Stalls>,
}

impl Derived {
    /// Opens the files of access logs, and reads those of credentials. Blocking.
    pub(crate) fn of(
        settings: Settings,
        log_files: &LogFiles,
        clients: &Clients,
        cached: CachedSites,
    ) -> Result<Self, Error> {
        let limits = &settings.limits;
        Ok(Self {
            h1: Limits {
                header_bytes: limits.header_bytes,
                headers: limits.headers,
                body_discard: limits.body_discard,
            },
            h2: Arc::new(http2::limits(&settings)),
            ranges: RangeLimits {
                ascending: limits.ranges,
                unordered: limits.ranges_unordered,
            },
            client_connections: clients.connection_limit(limits),
            request_limits: clients.request_limits(&settings),
            access_logs: AccessLogs::open(&settings, log_files)?,
            is_paced: settings.sites.iter().any(|site| !site.pace.is_empty()),
            credentials: Credentials::load(&settings)?,
            cached: Arc::new(cached),
            settings,
        })
    }
}

impl Prepared {
    /// Opens the sites and the logs, for each of the cores of `health`. Blocking.
    ///
    /// # Errors
    ///
    /// A root that cannot be opened, or whatever else the settings name and the host lacks.
    pub(crate) fn of(
        settings: Settings,
        share: ResourceShare,
        health: &Health,
    ) -> Result<Vec<Self>, Error> {
        let origins = health.origins.open(&settings)?;
        let cached = CachedSites::new(&settings, &origins)?;
        let (logs, clients) = (&health.log_files, &health.clients);
        let derived = Arc::new(Derived::of(settings, logs, clients, cached)?);
        let sites = OpenedSites::open(&derived.settings.sites)?.with_origins(origins);
        let prepared = |sites| Self {
            derived: Arc::clone(&derived),
            share,
            sites,
            stalls: Arc::clone(health.stalls()),
        };
        let others: Result<Vec<_>, _> =
            (1..health.cores.len()).map(|_| sites.try_clone()).collect();
        Ok(others?.into_iter().chain([sites]).map(prepared).collect())
    }
}

impl Deref for Prepared {
    type Target = Derived;

    fn deref(&self) -> &Derived {
        &self.derived
    }
}
