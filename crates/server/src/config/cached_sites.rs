//! The sites as requests of the admin listener see them that purge or warm.

use std::sync::Arc;

use tidegate_access::Token;
use tidegate_config::{Settings, Site, SiteNames};
use tidegate_http::site_name;
use tidegate_origin::{Cache, Origin};

use crate::error::Error;

/// The sites with their origins, and who may purge and warm.
#[derive(Default)]
pub(crate) struct CachedSites {
    /// `None`: nobody.
    pub(crate) token: Option<Token>,
    sites: Vec<(Arc<Site>, Option<Arc<Origin>>)>,
    names: Option<SiteNames>,
}

impl CachedSites {
    /// Those of `settings`; `origins` has one for each site that has any, in their order. Blocking.
    ///
    /// # Errors
    ///
    /// The file of the token cannot be used.
    pub(crate) fn new(settings: &Settings, origins: &[Option<Arc<Origin>>]) -> Result<Self, Error> {
        let path = settings.admin.token.as_deref();
        let token = path.map(Token::read).transpose()?;
        let sites = settings.sites.iter().zip(origins);
        let sites = sites.map(|(site, origin)| (Arc::new(site.clone()), origin.clone()));
        let names = settings.sites.iter().map(|site| &*site.names);
        Ok(Self {
            token,
            sites: sites.collect(),
            names: Some(SiteNames::of(names)),
        })
    }

    /// The cache, if any site has an origin.
    pub(crate) fn cache(&self) -> Option<&Arc<Cache>> {
        let mut origins = self.sites.iter().filter_map(|(_, origin)| origin.as_ref());
        origins.next().map(|origin| origin.cache())
    }

    /// The site for `host`, if it has an origin.
    pub(crate) fn of(&self, host: Option<&str>) -> Option<(&Arc<Site>, &Arc<Origin>)> {
        let names = self.names.as_ref()?;
        let number = host.map_or(names.default_site(), |host| names.find(&site_name(host)));
        let (site, origin) = self.sites.get(number)?;
        Some((site, origin.as_ref()?))
    }

    /// The names of indexes of all sites that have an origin, each once.
    pub(crate) fn indexes(&self) -> Vec<&str> {
        let sites = self.sites.iter().filter(|(_, origin)| origin.is_some());
        let mut all: Vec<&str> = sites
            .flat_map(|(site, _)| site.index.iter().map(String::as_str))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
