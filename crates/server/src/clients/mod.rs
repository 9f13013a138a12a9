//! What each client uses, over all cores: open connections, and requests in a second; and what all
//! clients of a site use.
//!
//! One table each for the whole process, of atomic words: a client costs its core a hash and one
//! exchange of a word, without a lock. Their size is fixed, and they are made once a limit is set.
//! All sites share one, so that their number does not change its size.

mod connections;
mod requests;
mod table;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use tidegate_config::{Limits, Settings, Site};

pub(crate) use connections::{Connections, Place};
pub(crate) use requests::{Bucket, Rate, Requests};

/// The tables, once they are used. Reloads keep them.
#[derive(Default)]
pub(crate) struct Clients {
    connections: OnceLock<Arc<Connections>>,
    requests: OnceLock<Arc<Requests>>,
    /// Requests of clients by site.
    site_requests: OnceLock<Arc<Requests>>,
    /// The buckets of whole sites, by their names and paces. Those of sites that are gone are removed.
    sites: Mutex<BTreeMap<(String, u64), Weak<Bucket>>>,
    /// Makes rates and names of sites numbers.
    seed: RandomState,
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

    /// The limits on requests; `None`: there are none.
    pub(crate) fn request_limits(&self, settings: &Settings) -> Option<RequestLimits> {
        let limits = &settings.limits;
        let rate = Rate::new(limits.request_rate_per_ip, limits.request_burst_per_ip);
        let client = rate.map(|rate| ClientLimit {
            table: Arc::clone(self.requests.get_or_init(Arc::default)),
            id: self.seed.hash_one(rate.pace()),
            rate,
        });
        let sites = self.site_limits(&settings.sites);
        (client.is_some() || !sites.is_empty()).then_some(RequestLimits {
            client,
            sites,
            ipv6_prefix: limits.ipv6_prefix,
        })
    }

    /// Those of each site, by its number; empty if no site has any.
    fn site_limits(&self, sites: &[Site]) -> Box<[SiteLimit]> {
        let mut buckets = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if sites.iter().all(|site| site.limits.are_off()) {
            buckets.clear();
            return Box::default();
        }
        let rates = sites.iter().filter_map(client_rate);
        let rates: Vec<_> = rates.collect();
        let limits = sites.iter().map(|site| {
            let name = site.names.first().map_or("", String::as_str);
            let client = client_rate(site).map(|rate| ClientLimit {
                table: Arc::clone(self.site_requests.get_or_init(Arc::default)),
                id: self.seed.hash_one((name, rate.pace())),
                rate: rate.beside(rates.iter().copied()),
            });
            let all = all_rate(site).map(|rate| (bucket(&mut buckets, (name, rate.pace())), rate));
            SiteLimit { client, all }
        });
        let limits = limits.collect();
        buckets.retain(|_, bucket| bucket.strong_count() > 0);
        limits
    }

    /// How often a table was full and forgot a client: of connections, of requests, and of requests
    /// of a site.
    pub(crate) fn forgotten(&self) -> [(&'static str, u64); 3] {
        let connections = self.connections.get().map(|table| table.forgotten());
        let [requests, site_requests] = [&self.requests, &self.site_requests]
            .map(|table| table.get().map_or(0, |table| table.forgotten()));
        [
            ("connections", connections.unwrap_or_default()),
            ("requests", requests),
            ("site_requests", site_requests),
        ]
    }
}

/// `site.limits.request-rate-per-ip`, and the burst.
fn client_rate(site: &Site) -> Option<Rate> {
    let limits = &site.limits;
    Rate::new(limits.request_rate_per_ip, limits.request_burst_per_ip)
}

/// `site.limits.request-rate`, and the burst.
fn all_rate(site: &Site) -> Option<Rate> {
    let limits = &site.limits;
    let burst = match limits.request_burst {
        0 => limits.request_rate.ceil() as u32,
        burst => burst,
    };
    Rate::new(limits.request_rate, burst)
}

/// The bucket of the site with this name at a pace, which it keeps while a configuration has it.
fn bucket(
    buckets: &mut BTreeMap<(String, u64), Weak<Bucket>>,
    (name, pace): (&str, u64),
) -> Arc<Bucket> {
    let key = (name.to_owned(), pace);
    let known = buckets.get(&key).and_then(Weak::upgrade);
    known.unwrap_or_else(|| {
        let bucket = Arc::default();
        buckets.insert(key, Arc::downgrade(&bucket));
        bucket
    })
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

/// The limits on requests: of each client, and of each site.
pub(crate) struct RequestLimits {
    client: Option<ClientLimit>,
    /// By the number of the site; empty if no site has any.
    sites: Box<[SiteLimit]>,
    ipv6_prefix: u8,
}

/// How often each client may send a request.
struct ClientLimit {
    table: Arc<Requests>,
    /// What tells its buckets from those of other sites in the table, and of another pace.
    id: u64,
    rate: Rate,
}

/// `[site.limits]`
struct SiteLimit {
    client: Option<ClientLimit>,
    /// Of all its clients together.
    all: Option<(Arc<Bucket>, Rate)>,
}

/// A limit that a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// `limits.request-rate-per-ip`.
    Client,
    /// `site.limits.request-rate-per-ip`.
    SiteClient,
    /// `site.limits.request-rate`.
    Site,
}

/// A request is refused: after so many seconds another one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) limit: Exceeded,
    pub(crate) seconds: u64,
}

impl RequestLimits {
    /// Whether any is about one client.
    pub(crate) fn count_clients(&self) -> bool {
        self.client.is_some() || self.sites.iter().any(|site| site.client.is_some())
    }

    /// Counts a request at `now` to a site, which is `None` if it is malformed. One of no client
    /// counts for the site alone.
    ///
    /// # Errors
    ///
    /// The client, or all of the site, have sent too many. It takes no token then.
    pub(crate) fn admit(
        &self,
        client: Option<IpAddr>,
        site: Option<usize>,
        now: Instant,
    ) -> Result<(), TooMany> {
        let client = client.map(|client| network(client, self.ipv6_prefix));
        let of_client = self.client.as_ref().zip(client);
        let own = of_client.map(|(limit, client)| {
            let entry = limit.table.admit((limit.id, client), limit.rate, now);
            entry.map(|entry| (limit, entry))
        });
        let own = own.transpose().map_err(|seconds| TooMany {
            limit: Exceeded::Client,
            seconds,
        })?;
        let site = site.and_then(|number| self.sites.get(number));
        let admitted = site.map_or(Ok(()), |site| site.admit(client, now));
        if let (Err(_), Some((limit, entry))) = (admitted, own) {
            limit.table.give_back(entry, limit.rate);
        }
        admitted
    }
}

impl SiteLimit {
    /// As [`RequestLimits::admit`].
    fn admit(&self, client: Option<IpAddr>, now: Instant) -> Result<(), TooMany> {
        let of_client = self.client.as_ref().zip(client);
        let own = of_client.map(|(limit, client)| {
            let entry = limit.table.admit((limit.id, client), limit.rate, now);
            entry.map(|entry| (limit, entry))
        });
        let own = own.transpose().map_err(|seconds| TooMany {
            limit: Exceeded::SiteClient,
            seconds,
        })?;
        let all = self.all.as_ref();
        let admitted = all.map_or(Ok(()), |(bucket, rate)| bucket.admit(*rate, now));
        if let (Err(_), Some((limit, entry))) = (admitted, own) {
            limit.table.give_back(entry, limit.rate);
        }
        admitted.map_err(|seconds| TooMany {
            limit: Exceeded::Site,
            seconds,
        })
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
    use tidegate_config::SiteLimits;

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

    fn settings(limits: Limits, sites: &[(&str, SiteLimits)]) -> Settings {
        let sites = sites.iter().map(|(name, limits)| Site {
            names: vec![(*name).to_owned()],
            limits: *limits,
            ..Site::default()
        });
        Settings {
            limits,
            sites: sites.collect(),
            ..Settings::for_directory("/".into())
        }
    }

    fn per_ip(burst: u32) -> SiteLimits {
        SiteLimits {
            request_rate_per_ip: 0.001,
            request_burst_per_ip: burst,
            ..SiteLimits::default()
        }
    }

    fn in_all(burst: u32) -> SiteLimits {
        SiteLimits {
            request_rate: 0.01,
            request_burst: burst,
            ..SiteLimits::default()
        }
    }

    fn refused(limit: Exceeded, seconds: u64) -> Result<(), TooMany> {
        Err(TooMany { limit, seconds })
    }

    #[test]
    fn there_are_limits_and_tables_only_if_they_are_set() {
        let clients = Clients::default();
        let mut limits = Limits::default();
        let requests = |limits: &Limits| {
            clients.request_limits(&settings(limits.clone(), &[("a", SiteLimits::default())]))
        };
        assert!(clients.connection_limit(&limits).is_none());
        assert!(requests(&limits).is_none());
        assert!(clients.connections.get().is_none() && clients.requests.get().is_none());
        limits.connections_per_ip = 1;
        limits.request_rate_per_ip = 0.001;
        limits.request_burst_per_ip = 1;
        let now = Instant::now();
        let admit = |limits: &RequestLimits, client| limits.admit(Some(ip(client)), None, now);
        let connections = clients.connection_limit(&limits).unwrap();
        let of_requests = requests(&limits).unwrap();
        let place = connections.admit(ip("2001:db8::1"));
        assert!(place.is_some() && connections.admit(ip("2001:db8::2")).is_none());
        assert_eq!(admit(&of_requests, "2001:db8::1"), Ok(()));
        let too_many = refused(Exceeded::Client, 1000);
        assert_eq!(admit(&of_requests, "2001:db8::2"), too_many);
        // A reload changes the limits and keeps the counts.
        limits.connections_per_ip = 2;
        limits.request_burst_per_ip = 2;
        let connections = clients.connection_limit(&limits).unwrap();
        let of_requests = requests(&limits).unwrap();
        let second = connections.admit(ip("2001:db8::3"));
        assert!(second.is_some() && connections.admit(ip("2001:db8::4")).is_none());
        assert_eq!(admit(&of_requests, "2001:db8::3"), Ok(()));
        assert_eq!(admit(&of_requests, "2001:db8::4"), too_many);
        // Not those of another rate.
        limits.request_rate_per_ip = 1000.0;
        let of_requests = requests(&limits).unwrap();
        assert_eq!(admit(&of_requests, "2001:db8::5"), Ok(()));
        assert!(clients.site_requests.get().is_none());
    }

    #[test]
    fn sites_have_buckets_of_their_own() {
        let (clients, now) = (Clients::default(), Instant::now());
        let one = Some(ip("192.0.2.1"));
        let limits = |sites: &[(&str, SiteLimits)]| {
            let settings = settings(Limits::default(), sites);
            clients.request_limits(&settings).unwrap()
        };
        let sites = [("a", per_ip(1)), ("b", per_ip(2)), ("c", in_all(1))];
        let first = limits(&sites);
        assert!(first.count_clients());
        assert_eq!(first.admit(one, Some(0), now), Ok(()));
        let too_many = refused(Exceeded::SiteClient, 1000);
        assert_eq!(first.admit(one, Some(0), now), too_many);
        assert_eq!(first.admit(Some(ip("192.0.2.2")), Some(0), now), Ok(()));
        assert_eq!(first.admit(one, Some(1), now), Ok(()));
        assert_eq!(first.admit(one, Some(2), now), Ok(()));
        let full = refused(Exceeded::Site, 100);
        assert_eq!(first.admit(None, Some(2), now), full);
        assert_eq!(first.admit(None, Some(0), now), Ok(()), "nobody's");
        assert_eq!(first.admit(one, None, now), Ok(()), "no site's");
        // After a reload the sites have other numbers, and the same counts.
        let [a, b, c] = sites;
        let second = limits(&[c, b, ("new", SiteLimits::default()), a]);
        assert_eq!(second.admit(one, Some(0), now), full);
        assert_eq!(second.admit(one, Some(1), now), Ok(()));
        assert_eq!(second.admit(one, Some(1), now), too_many);
        assert_eq!(second.admit(one, Some(2), now), Ok(()));
        assert_eq!(second.admit(one, Some(3), now), too_many);
        // A site that was gone begins anew.
        drop((first, second));
        assert!(!limits(&[("new", in_all(9))]).count_clients());
        assert_eq!(clients.sites.lock().unwrap().len(), 1);
        assert_eq!(limits(&[c]).admit(one, Some(0), now), Ok(()));
    }

    #[test]
    fn what_one_limit_refuses_takes_no_token_of_another() {
        let (clients, now) = (Clients::default(), Instant::now());
        let own = Limits {
            request_rate_per_ip: 0.001,
            request_burst_per_ip: 4,
            ..Limits::default()
        };
        let both = SiteLimits {
            request_rate: 0.01,
            request_burst: 1,
            ..per_ip(2)
        };
        let open = SiteLimits::default();
        let settings = settings(own, &[("both", both), ("one", per_ip(1)), ("open", open)]);
        let limits = clients.request_limits(&settings).unwrap();
        let admit = |site| limits.admit(Some(ip("192.0.2.1")), Some(site), now);
        assert_eq!([admit(0), admit(1)], [Ok(()); 2]);
        for _ in 0..9 {
            assert_eq!(admit(0), refused(Exceeded::Site, 100));
            assert_eq!(admit(1), refused(Exceeded::SiteClient, 1000));
        }
        assert_eq!([admit(2), admit(2)], [Ok(()); 2]);
        assert_eq!(admit(2), refused(Exceeded::Client, 1000));
    }

    #[test]
    fn a_site_has_the_burst_of_a_second() {
        for (rate, burst) in [(0.2, 1), (1.0, 1), (2.5, 3), (1000.0, 1000)] {
            let limits = SiteLimits {
                request_rate: rate,
                ..SiteLimits::default()
            };
            let (clients, now) = (Clients::default(), Instant::now());
            let limits = clients.request_limits(&settings(Limits::default(), &[("a", limits)]));
            let limits = limits.unwrap();
            let admitted = (0..2000).filter(|_| limits.admit(None, Some(0), now).is_ok());
            assert_eq!(admitted.count(), burst, "{rate}");
        }
    }
}
