//! The addresses of the nodes, and which of them is this one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long a lookup of a name may take.
const LOOKUP_TIME: Duration = Duration::from_secs(2);

/// The addresses that each name had when it was last found.
#[derive(Debug, Default)]
pub(super) struct Lookups(HashMap<String, Vec<SocketAddr>>);

impl Lookups {
    /// The addresses of `peers`, `HOST:PORT`: sorted, none twice. A name that cannot be looked up
    /// keeps those that it had.
    pub(super) async fn addresses(&mut self, peers: &[String]) -> Vec<SocketAddr> {
        self.0.retain(|name, _| peers.contains(name));
        let fixed = |peer: &String| peer.parse().ok().map(canonical);
        let names = peers.iter().filter(|peer| fixed(peer).is_none());
        let found = join_all(names.map(|name| async move { (name, look_up(name).await) }));
        for (name, found) in found.await {
            match found {
                Ok(found) => {
                    self.0.insert(name.clone(), found);
                }
                Err(error) => tracing::debug!(name, error, "no addresses of peers"),
            }
        }
        let mut all: Vec<_> = peers.iter().filter_map(fixed).collect();
        all.extend(self.0.values().flatten());
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The addresses of a name; at least one.
async fn look_up(name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = timeout(LOOKUP_TIME, lookup_host(name)).await;
    let found = found.map_err(|_| "the lookup took too long".to_owned())?;
    let found = found.map_err(|error| error.to_string())?;
    let found: Vec<_> = found.map(canonical).collect();
    if found.is_empty() {
        return Err("the name has none".to_owned());
    }
    Ok(found)
}

/// An IPv4 address in its own form, so that all nodes name it alike.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether this node has the address: it is among `own`, or without any the host has it, and `port`
/// is the port that peers connect to.
pub(super) fn is_own(address: SocketAddr, own: &[SocketAddr], port: u16) -> bool {
    if own.is_empty() {
        address.port() == port && is_of_this_host(address.ip())
    } else {
        own.contains(&address)
    }
}

/// Whether an interface of this host has the address: nobody else can bind a socket to it.
fn is_of_this_host(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_finds_itself() {
        let own = [address("192.0.2.1:81")];
        let table: [(&str, &[SocketAddr], bool); 5] = [
            ("127.0.0.1:81", &[], true),
            ("127.0.0.1:82", &[], false),
            ("192.0.2.1:81", &[], false),
            ("192.0.2.1:81", &own, true),
            ("127.0.0.1:81", &own, false),
        ];
        for (text, own, expected) in table {
            assert_eq!(is_own(address(text), own, 81), expected, "{text} {own:?}");
        }
    }

    #[test]
    fn names_stand_for_their_addresses_and_keep_them() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut lookups = Lookups::default();
        let gone = "gone.invalid:1".to_owned();
        let known = vec![address("192.0.2.7:1")];
        lookups.0.insert(gone.clone(), known.clone());
        let peers = [
            "localhost:1".to_owned(),
            "[::ffff:127.0.0.1]:1".to_owned(),
            "192.0.2.9:2".to_owned(),
            gone,
        ];
        let all = runtime.block_on(lookups.addresses(&peers));
        for expected in ["127.0.0.1:1", "192.0.2.9:2", "192.0.2.7:1"] {
            let times = all.iter().filter(|one| **one == address(expected)).count();
            assert_eq!(times, 1, "{expected} in {all:?}");
        }
        assert!(all.is_sorted());
        let all = runtime.block_on(lookups.addresses(&["192.0.2.9:2".to_owned()]));
        assert_eq!(all, [address("192.0.2.9:2")]);
        assert!(lookups.0.is_empty());
    }
}
