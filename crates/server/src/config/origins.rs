//! The cache of the process, and the origins of its sites.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use tidegate_config as config;
use tidegate_config::{Credentials, OriginKind, Settings};
use tidegate_origin::s3::S3Authority;
use tidegate_origin::tls::Trust;
use tidegate_origin::{
    Authority, Cache, CacheConfig, Endpoint, EndpointConfig, Fleet, Origin, OriginConfig,
};

use crate::config::cached_sites::CachedSites;
use crate::config::client_tls::client_tls;
use crate::config::fleet::Node;
use crate::error::Error;
use crate::host::budget::Budget;
use crate::host::limits::origin_bytes;

/// The cache and the endpoints of the process: a reload keeps those that it does not change, with
/// their connections.
#[derive(Default)]
pub(crate) struct Origins {
    opened: Mutex<Opened>,
    /// The sites of the configuration that is applied.
    sites: Mutex<Arc<CachedSites>>,
}

#[derive(Default)]
struct Opened {
    cache: Option<Arc<Cache>>,
    /// Whether the cache is that of a predecessor, which goes on until this process serves.
    succeeds: bool,
    endpoints: Vec<(config::Origin, Arc<Endpoint>)>,
    node: Option<Node>,
}

impl Origins {
    /// This process is the successor of another one.
    pub(crate) fn succeed(&self) {
        self.lock().succeeds = true;
    }

    /// The cache, if any site has an origin.
    pub(crate) fn cache(&self) -> Option<Arc<Cache>> {
        self.lock().cache.clone()
    }

    /// Tells the cache whether the process has hardly any memory left.
    pub(crate) fn set_short_of_memory(&self, is_short: bool) {
        if let Some(cache) = self.cache() {
            cache.set_short_of_memory(is_short);
        }
    }

    /// The fleet, if this node is in one.
    pub(crate) fn fleet(&self) -> Option<Arc<Fleet>> {
        let opened = self.lock();
        opened.node.as_ref().map(|node| Arc::clone(&node.fleet))
    }

    /// The endpoints in use.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let opened = self.lock();
        let endpoints = opened.endpoints.iter();
        endpoints
            .map(|(_, endpoint)| Arc::clone(endpoint))
            .collect()
    }

    /// The sites of the configuration that is applied.
    pub(crate) fn sites(&self) -> Arc<CachedSites> {
        Arc::clone(&self.sites.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on these are purged and warmed.
    pub(crate) fn set_sites(&self, sites: &Arc<CachedSites>) {
        *self.sites.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(sites);
    }

    /// The origin of each site, in the order of the sites. Opens the cache if a site needs it.
    /// Blocking.
    ///
    /// # Errors
    ///
    /// The cache cannot be opened, peers cannot be listened for, or a file cannot be read.
    pub(crate) fn open(&self, settings: &Settings) -> Result<Vec<Option<Arc<Origin>>>, Error> {
        if settings.sites.iter().all(|site| site.origins.is_empty()) {
            return Ok(settings.sites.iter().map(|_| None).collect());
        }
        let mut opened = self.lock();
        let cache = match (&opened.cache, &settings.cache.disk) {
            (Some(cache), _) => Arc::clone(cache),
            (None, Some(disk)) => {
                let config = CacheConfig {
                    path: disk.path.clone(),
                    size: disk.size,
                    slice: disk.slice,
                    succeeds: opened.succeeds,
                };
                let cache = Cache::open(&config).map_err(Error::Cache)?;
                opened.cache = Some(Arc::clone(&cache));
                cache
            }
            // The configuration is checked for it.
            (None, None) => return Ok(settings.sites.iter().map(|_| None).collect()),
        };
        cache.set_memory(origin_bytes(settings, Budget::find(settings).bytes));
        match (&opened.node, &settings.fleet) {
            (Some(node), Some(fleet)) => node.set_peers(fleet, &cache),
            (None, Some(fleet)) => opened.node = Some(Node::start(fleet, &cache)?),
            // It stays until a restart.
            (_, None) => {}
        }
        let fleet = opened.node.as_ref().map(|node| Arc::clone(&node.fleet));
        let mut endpoints = Vec::new();
        let mut sites = Vec::new();
        for site in &settings.sites {
            sites.push(site_origin(
                site,
                &cache,
                &opened.endpoints,
                &mut endpoints,
                fleet.as_ref(),
            )?);
        }
        opened.endpoints = endpoints;
        if let Some(node) = &opened.node {
            node.set_sites(&sites);
        }
        Ok(sites)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Known = Vec<(config::Origin, Arc<Endpoint>)>;

fn site_origin(
    site: &config::Site,
    cache: &Arc<Cache>,
    before: &Known,
    endpoints: &mut Known,
    fleet: Option<&Arc<Fleet>>,
) -> Result<Option<Arc<Origin>>, Error> {
    let Some(primary) = site.origins.first() else {
        return Ok(None);
    };
    let mut of_site = Vec::new();
    for origin in &site.origins {
        let known = endpoints
            .iter()
            .chain(before)
            .find(|(known, _)| known == origin);
        let endpoint = match known {
            Some((_, endpoint)) => Arc::clone(endpoint),
            None => Arc::new(endpoint(origin)?),
        };
        if !endpoints.iter().any(|(known, _)| known == origin) {
            endpoints.push((origin.clone(), Arc::clone(&endpoint)));
        }
        of_site.push(endpoint);
    }
    let config = OriginConfig {
        host: site.names.first().cloned().unwrap_or_default(),
        name: primary.url.to_string(),
        cache_key: site.cache_key.clone(),
        rules: site.cache_rules.clone(),
        negative: primary.negative,
        is_s3: matches!(primary.kind, OriginKind::S3 { .. }),
    };
    let origin = Origin::new(cache, of_site, config).among(fleet.cloned());
    Ok(Some(Arc::new(origin)))
}

/// The endpoint of an origin. Nothing is connected yet. Blocking.
///
/// # Errors
///
/// A file of authorities cannot be read.
pub(crate) fn endpoint(origin: &config::Origin) -> Result<Endpoint, Error> {
    let url = &origin.url;
    let default_port = if url.is_https { 443 } else { 80 };
    let authority = match url.port {
        port if port == default_port => url.host.clone(),
        port => format!("{}:{port}", url.host),
    };
    let host = match &origin.kind {
        OriginKind::Http { host } => host.clone(),
        OriginKind::S3 { .. } => None,
    };
    let config = EndpointConfig {
        is_https: url.is_https,
        authority,
        prefix: url.path.clone(),
        host,
        connect_timeout: origin.connect_timeout,
        first_byte_timeout: origin.first_byte_timeout,
        stall_timeout: origin.stall_timeout,
        connections: origin.connections,
        health: origin.health.clone(),
    };
    let authority = match &origin.kind {
        OriginKind::S3 {
            region,
            profile,
            credentials: Credentials::Auto,
            ..
        } => {
            let tls = client_tls(Trust::System)?;
            let authority = S3Authority::new(region.clone(), profile.clone(), tls);
            Some(authority as Arc<dyn Authority>)
        }
        OriginKind::S3 { .. } | OriginKind::Http { .. } => None,
    };
    Ok(Endpoint::new(config, endpoint_tls(origin)?, authority))
}

/// Trusts the authorities of the origin's file, else those of the system.
fn endpoint_tls(origin: &config::Origin) -> Result<ClientConfig, Error> {
    client_tls(match &origin.ca {
        Some(path) => Trust::File(path),
        None if origin.url.is_https => Trust::System,
        None => Trust::Nobody,
    })
}
