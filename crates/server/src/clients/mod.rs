//! What each client uses, over all cores: open connections, and requests in a second.
//!
//! One table each for the whole process, of atomic words: a client costs its core a hash and one
//! exchange of a word, without a lock. Their size is fixed, and they are made once a limit is set.

mod connections;
mod requests;
mod table;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tidegate_config::Limits;

pub(crate) use connections::{Connections, Place};
pub(crate) use requests::{Rate, Requests};

/// The tables, once they are used. Reloads keep them.
#[derive(Default)]
pub(crate) struct Clients {
    connections: OnceLock<Arc<Connections>>,
    requests: OnceLock<Arc<Requests>>,
}

impl Clients {
    /// The limit on the connections of a client; `None`: there is none.
    pub(crate) fn connection_limit(&self, limits: &Limits) -> Option<ConnectionLimit> {
        let max = limits.connections_per_ip;
        (max > 0).then(|| ConnectionLimit {
            table: Arc::clone(self.connections.get_or_init(Arc::default)),
            max: max as u64,
            ipv6_prefix: limits.ipv6_prefix,
        })
    }

    /// The limit on the requests of a client; `None`: there is none.
    pub(crate) fn request_limit(&self, limits: &Limits) -> Option<RequestLimit> {
        let rate = Rate::new(limits.request_rate_per_ip, limits.request_burst_per_ip)?;
        Some(RequestLimit {
            table: Arc::clone(self.requests.get_or_init(Arc::default)),
            rate,
            ipv6_prefix: limits.ipv6_prefix,
        })
    }

    /// How often a table was full and forgot a client: of connections, and of requests.
    pub(crate) fn forgotten(&self) -> [(&'static str, u64); 2] {
        let connections = self.connections.get().map(|table| table.forgotten());
        let requests = self.requests.get().map(|table| table.forgotten());
        [
            ("connections", connections.unwrap_or_default()),
            ("requests", requests.unwrap_or_default()),
        ]
    }
}

/// `limits.connections-per-ip`.
pub(crate) struct ConnectionLimit {
    table: Arc<Connections>,
    max: u64,
    ipv6_prefix: u8,
}

impl ConnectionLimit {
    /// Counts a connection of `client` until the place is dropped; `None`: it has its most.
    pub(crate) fn admit(&self, client: IpAddr) -> Option<Place> {
        let client = network(client, self.ipv6_prefix);
        Connections::admit(&self.table, client, self.max)
    }
}

/// `limits.request-rate-per-ip`, and the burst.
pub(crate) struct RequestLimit {
    table: Arc<Requests>,
    rate: Rate,
    ipv6_prefix: u8,
}

impl RequestLimit {
    /// Counts a request of `client` at `now`.
    ///
    /// # Errors
    ///
    /// It has sent too many: after so many seconds another one is allowed.
    pub(crate) fn admit(&self, client: IpAddr, now: Instant) -> Result<(), u64> {
        let client = network(client, self.ipv6_prefix);
        self.table.admit(client, self.rate, now)
    }
}

/// The address by which a client is counted: an IPv6 client has the network of its provider's
/// prefix.
pub(crate) fn network(client: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let host_bits = 128_u32.saturating_sub(ipv6_prefix.into());
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or_default();
            IpAddr::V6((address.to_bits() & mask).into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        for (client, prefix, expected) in [
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 56, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 32, "2001:db8::"),
            ("2001:db8:1:2:3:4:5:6", 0, "::"),
            ("192.0.2.1", 64, "192.0.2.1"),
            ("::ffff:192.0.2.1", 64, "192.0.2.1"),
        ] {
            let network = network(ip(client), prefix);
            assert_eq!(network, ip(expected), "{client}/{prefix}");
        }
    }

    #[test]
    fn there_are_limits_and_tables_only_if_they_are_set() {
        let clients = Clients::default();
        let mut limits = Limits::default();
        assert!(clients.connection_limit(&limits).is_none());
        assert!(clients.request_limit(&limits).is_none());
        assert!(clients.connections.get().is_none() && clients.requests.get().is_none());
        limits.connections_per_ip = 1;
        limits.request_rate_per_ip = 0.001;
        limits.request_burst_per_ip = 1;
        let now = Instant::now();
        let connections = clients.connection_limit(&limits).unwrap();
        let requests = clients.request_limit(&limits).unwrap();
        let place = connections.admit(ip("2001:db8::1"));
        assert!(place.is_some() && connections.admit(ip("2001:db8::2")).is_none());
        assert_eq!(requests.admit(ip("2001:db8::1"), now), Ok(()));
        assert_eq!(requests.admit(ip("2001:db8::2"), now), Err(1000));
        // A reload changes the limits and keeps the counts.
        limits.connections_per_ip = 2;
        limits.request_burst_per_ip = 2;
        let connections = clients.connection_limit(&limits).unwrap();
        let requests = clients.request_limit(&limits).unwrap();
        let second = connections.admit(ip("2001:db8::3"));
        assert!(second.is_some() && connections.admit(ip("2001:db8::4")).is_none());
        assert_eq!(requests.admit(ip("2001:db8::3"), now), Ok(()));
        assert_eq!(requests.admit(ip("2001:db8::4"), now), Err(1000));
    }
}
