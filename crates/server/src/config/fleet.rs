//! The fleet of this node: its peers, and the listener for them.

use std::path::Path;
use std::sync::Arc;

use tidegate_access::read_secret;
use tidegate_config as config;
use tidegate_origin::tls::Trust;
use tidegate_origin::{Cache, Fleet, FleetConfig, Origin, Peers, Token};

use crate::accept::listener::resolve;
use crate::config::client_tls::client_tls;
use crate::error::Error;

/// A node of a fleet.
pub(crate) struct Node {
    pub(crate) fleet: Arc<Fleet>,
    peers: Arc<Peers>,
}

impl Node {
    /// Looks up the peers, and listens for them. Blocking.
    ///
    /// # Errors
    ///
    /// The token cannot be read, or the address cannot be listened on.
    pub(crate) fn start(configured: &config::Fleet, cache: &Arc<Cache>) -> Result<Self, Error> {
        let address = &configured.listen;
        let addresses = resolve(address).map_err(|source| Error::Resolve {
            address: address.clone(),
            source,
        })?;
        let config = FleetConfig {
            peers: configured.peers.clone(),
            own: configured.self_address.clone(),
            port: addresses[0].port(),
            token: configured.token.as_deref().map(read_token).transpose()?,
        };
        let fleet = Fleet::start(config, client_tls(Trust::Nobody)?, cache.runtime());
        let peers =
            Peers::listen(&addresses, &fleet, cache).map_err(|source| Error::ListenForPeers {
                address: address.clone(),
                source,
            })?;
        tracing::info!("listening for peers on {address}");
        Ok(Self { fleet, peers })
    }

    /// Replaces the nodes. Blocking.
    pub(crate) fn set_peers(&self, configured: &config::Fleet, cache: &Cache) {
        self.fleet.set_peers(&configured.peers, cache.runtime());
    }

    /// Replaces the origins that peers ask for.
    pub(crate) fn set_sites(&self, sites: &[Option<Arc<Origin>>]) {
        self.peers
            .set_sites(sites.iter().flatten().cloned().collect());
    }
}

fn read_token(path: &Path) -> Result<Token, Error> {
    let secret = read_secret(path).map_err(|error| Error::FleetToken(error.to_string()))?;
    let unfit = || Error::FleetToken(format!("{} fits into no field", path.display()));
    Token::new(&secret).ok_or_else(unfit)
}
