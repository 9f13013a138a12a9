//! A configuration on its way to the cores: all that blocks or can fail is done.

use std::ops::Deref;
use std::sync::Arc;

use tidegate_config::Settings;
use tidegate_h1::Limits;
use tidegate_http::RangeLimits;
use tidegate_site::{OpenedSites, Stalls};

use crate::error::Error;
use crate::host::limits::ResourceShare;

/// The settings and what is made of them once, for all cores. What a part of the server derives
/// from the settings belongs here: so a reload replaces it.
pub(crate) struct Derived {
    pub(crate) settings: Settings,
    /// Bounds on a request's head and body.
    pub(crate) h1: Limits,
    /// Bounds on the ranges of a request.
    pub(crate) ranges: RangeLimits,
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
    pub(crate) fn of(settings: Settings) -> Self {
        let limits = &settings.limits;
        Self {
            h1: Limits {
                header_bytes: limits.header_bytes,
                headers: limits.headers,
                body_discard: limits.body_discard,
            },
            ranges: RangeLimits {
                ascending: limits.ranges,
                unordered: limits.ranges_unordered,
            },
            settings,
        }
    }
}

impl Prepared {
    /// Opens the sites, for each of `cores` cores. Blocking. Stalls of their file systems are
    /// counted in `stalls`.
    ///
    /// # Errors
    ///
    /// A root that cannot be opened, or whatever else the settings name and the host lacks.
    pub(crate) fn of(
        settings: Settings,
        share: ResourceShare,
        cores: usize,
        stalls: &Arc<Stalls>,
    ) -> Result<Vec<Self>, Error> {
        let derived = Arc::new(Derived::of(settings));
        let sites = OpenedSites::open(&derived.settings.sites)?;
        let prepared = |sites| Self {
            derived: Arc::clone(&derived),
            share,
            sites,
            stalls: Arc::clone(stalls),
        };
        let others: Result<Vec<_>, _> = (1..cores).map(|_| sites.try_clone()).collect();
        Ok(others?.into_iter().chain([sites]).map(prepared).collect())
    }
}

impl Deref for Prepared {
    type Target = Derived;

    fn deref(&self) -> &Derived {
        &self.derived
    }
}
