//! What every client may do, though it is for a few.

use std::net::SocketAddr;

use tidegate_config::{Clients, ForwardedHeader, Place, ProxyProtocol, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;

/// The shortest prefixes of networks that one operator may have: `10.0.0.0/8` and `fc00::/7`.
const IPV4_PREFIX_MIN: u8 = 8;
const IPV6_PREFIX_MIN: u8 = 7;

/// Networks of `proxies.trusted` in which anybody may be, if what a proxy says is believed.
pub(super) fn trusted_strangers(settings: &Settings) -> Vec<Diagnostic> {
    let mut listeners = settings.listen.iter();
    let is_believed = settings.proxies.header != ForwardedHeader::Off
        || listeners.any(|listen| listen.proxy_protocol != ProxyProtocol::Off);
    let trusted = settings.proxies.trusted.iter().enumerate();
    trusted
        .filter(|(_, clients)| is_believed && is_large(clients))
        .map(|(number, _)| {
            let place = Place::of("proxies").key("trusted").item(number);
            let reason = "a network this large has strangers, and each of them could choose its \
                          address: name the networks of the proxies";
            Diagnostic::warning("proxies", place, reason)
        })
        .collect()
}

fn is_large(clients: &Clients) -> bool {
    match clients {
        Clients::All => true,
        Clients::Unix => false,
        Clients::Network(network) => {
            let min = if network.addr().is_ipv4() {
                IPV4_PREFIX_MIN
            } else {
                IPV6_PREFIX_MIN
            };
            network.prefix_len() < min
        }
    }
}

/// An admin listener on all addresses: it has neither passwords nor TLS.
pub(super) fn open_admin(settings: &Settings) -> Option<Diagnostic> {
    let address: SocketAddr = settings.admin.listen.parse().ok()?;
    let is_open = address.ip().to_canonical().is_unspecified();
    is_open.then(|| {
        let reason = "on all addresses, and it has no passwords: listen on 127.0.0.1 or an inner \
                      address, or keep strangers off by a firewall";
        Diagnostic::warning("admin", Place::of("admin").key("listen"), reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> usize {
        let text = format!("{text}\n[[site]]\nroot = '.'");
        let settings = Settings::parse(&text, "t.toml".as_ref()).unwrap();
        trusted_strangers(&settings).len() + usize::from(open_admin(&settings).is_some())
    }

    #[test]
    fn large_networks_of_proxies_are_told() {
        let rows = [
            ("\"0.0.0.0/0\"", 1),
            ("\"::/0\", \"2000::/3\"", 2),
            ("\"0.0.0.0/1\", \"128.0.0.0/1\"", 2),
            ("\"10.0.0.0/8\", \"fc00::/7\", \"unix:\", \"192.0.2.1\"", 0),
        ];
        for (trusted, count) in rows {
            let trusted = format!("[proxies]\ntrusted = [{trusted}]\n");
            assert_eq!(told(&trusted), 0, "nothing is believed");
            let header = format!("{trusted}header = \"forwarded\"");
            assert_eq!(told(&header), count, "{header}");
            let listen = "[[listen]]\naddress = \"127.0.0.1:80\"\nproxy-protocol = \"accept\"";
            assert_eq!(told(&format!("{listen}\n{trusted}")), count, "{trusted}");
        }
    }

    #[test]
    fn an_admin_listener_on_all_addresses_is_told() {
        let rows = [
            ("[::]:9900", 1),
            ("0.0.0.0:9900", 1),
            (":9900", 1),
            ("[::ffff:0.0.0.0]:9900", 1),
            ("127.0.0.1:9900", 0),
            ("[::1]:9900", 0),
            ("10.0.0.1:9900", 0),
            ("localhost:9900", 0),
        ];
        for (listen, count) in rows {
            assert_eq!(
                told(&format!("[admin]\nlisten = \"{listen}\"")),
                count,
                "{listen}"
            );
        }
    }
}
