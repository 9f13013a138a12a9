//! `[[site.access]]`: whether a client may have a path.

use std::iter::successors;
use std::net::IpAddr;

use tidegate_config::{Access, Clients};
use tidegate_http::Coding;

/// Bytes of the longest extension of a variant.
const EXTENSION_BYTES_MAX: usize = 3;

/// The clients that a rule names. A lookup takes logarithmic time.
pub(crate) struct AddressTable {
    v4: Networks,
    v6: Networks,
    unix: Option<Verdict>,
    all: Option<Verdict>,
    has_allow: bool,
}

/// What a rule says about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

/// Networks of one family, by their first address. Two of them are nested or disjoint.
#[derive(Default)]
struct Networks(Vec<Network>);

struct Network {
    first: u128,
    /// Inclusive.
    last: u128,
    verdict: Verdict,
    /// The index of the smallest network around it.
    around: Option<usize>,
}

impl AddressTable {
    pub(crate) fn new(rule: &Access) -> Self {
        let allow = rule.allow.iter().map(|clients| (clients, Verdict::Allow));
        let deny = rule.deny.iter().map(|clients| (clients, Verdict::Deny));
        let (mut v4, mut v6, mut unix, mut all) = (Vec::new(), Vec::new(), None, None);
        for (clients, verdict) in allow.chain(deny) {
            match clients {
                Clients::All => all = Some(verdict),
                Clients::Unix => unix = Some(verdict),
                Clients::Network(net) => {
                    let family = if net.addr().is_ipv4() {
                        &mut v4
                    } else {
                        &mut v6
                    };
                    family.push((number(net.network()), number(net.broadcast()), verdict));
                }
            }
        }
        Self {
            v4: Networks::new(v4),
            v6: Networks::new(v6),
            unix,
            all,
            has_allow: !rule.allow.is_empty(),
        }
    }

    /// The verdict of the longest prefix that has `client`.
    fn verdict(&self, client: Option<IpAddr>) -> Option<Verdict> {
        let found = match client.map(|address| address.to_canonical()) {
            None => self.unix,
            Some(address @ IpAddr::V4(_)) => self.v4.find(number(address)),
            Some(address @ IpAddr::V6(_)) => self.v6.find(number(address)),
        };
        found.or(self.all)
    }
}

impl Networks {
    fn new(mut ranges: Vec<(u128, u128, Verdict)>) -> Self {
        // Of two networks that begin together, the larger comes first.
        ranges.sort_by_key(|(first, last, _)| (*first, !*last));
        let mut networks: Vec<Network> = Vec::with_capacity(ranges.len());
        for (first, last, verdict) in ranges {
            let around = smallest_around(&networks, networks.len().checked_sub(1), first);
            networks.push(Network {
                first,
                last,
                verdict,
                around,
            });
        }
        Self(networks)
    }

    fn find(&self, address: u128) -> Option<Verdict> {
        let begun = self.0.partition_point(|network| network.first <= address);
        let found = smallest_around(&self.0, begun.checked_sub(1), address)?;
        Some(self.0[found].verdict)
    }
}

/// The smallest network with `address` among that at `index` and those around it.
fn smallest_around(networks: &[Network], index: Option<usize>, address: u128) -> Option<usize> {
    let mut index = index;
    while let Some(at) = index {
        if address <= networks[at].last {
            return index;
        }
        index = networks[at].around;
    }
    None
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether the rules for a path let the client have it: the first that names it decides. `client`
/// is called only if there is one.
pub(crate) fn admits<'a>(
    rules: impl Iterator<Item = &'a AddressTable>,
    client: impl Fn() -> Option<IpAddr>,
) -> bool {
    let mut has_allow = false;
    for rule in rules {
        if let Some(verdict) = rule.verdict(client()) {
            return verdict == Verdict::Allow;
        }
        has_allow |= rule.has_allow;
    }
    !has_allow
}

/// The names of a path whose rules hold for it: itself and, if it may be a variant that is asked
/// for by name, the file of that variant.
pub(crate) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    successors(Some(path), |path| original(path))
}

/// The path without the extension of a variant, in any case.
fn original(path: &[u8]) -> Option<&[u8]> {
    let dot = path.len()
        - path
            .iter()
            .rev()
            .take(EXTENSION_BYTES_MAX + 1)
            .position(|byte| *byte == b'.')?
        - 1;
    let extension = &path[dot + 1..];
    let mut codings = Coding::ALL.iter();
    let is_variant =
        codings.any(|coding| extension.eq_ignore_ascii_case(coding.extension().as_bytes()));
    is_variant.then_some(&path[..dot])
}

#[cfg(test)]
mod tests {
    use tidegate_config::Paths;

    use super::*;

    fn table(allow: &[&str], deny: &[&str]) -> AddressTable {
        let all = |list: &[&str]| list.iter().map(|text| text.parse().expect(text)).collect();
        AddressTable::new(&Access {
            paths: Paths {
                pattern: "/**".parse().unwrap(),
                except: Vec::new(),
                ignore_case: false,
            },
            allow: all(allow),
            deny: all(deny),
        })
    }

    fn is_served(tables: &[AddressTable], client: &str) -> bool {
        admits(tables.iter(), || client.parse().ok())
    }

    #[test]
    fn the_longest_prefix_decides() {
        let nested = [
            "10.0.0.0/8",
            "10.1.2.0/24",
            "192.0.2.7",
            "2001:db8::/32",
            "2001:db8:1:1::/64",
        ];
        let tables = [table(
            &nested,
            &["10.1.0.0/16", "10.1.2.3", "2001:db8:1::/48", "all"],
        )];
        let rows = [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("10.1.0.0", false),
            ("10.1.1.255", false),
            ("10.1.2.0", true),
            ("10.1.2.3", false),
            ("10.1.2.4", true),
            ("10.1.3.0", false),
            ("10.2.0.0", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.4", true),
            ("::ffff:10.1.2.3", false),
            ("::10.1.2.4", false),
            ("2001:db8::1", true),
            ("2001:db8:1::1", false),
            ("2001:db8:1:1::1", true),
            ("2001:db8:1:2::1", false),
            ("2001:db9::", false),
            ("a socket without addresses", false),
        ];
        for (client, expected) in rows {
            assert_eq!(is_served(&tables, client), expected, "{client}");
        }
    }

    #[test]
    fn the_first_rule_that_names_the_client_decides() {
        let first = || table(&[], &["10.0.0.1"]);
        let rows: [(Vec<AddressTable>, &str, bool); 12] = [
            (vec![], "10.0.0.1", true),
            (vec![first()], "10.0.0.1", false),
            (vec![first()], "10.0.0.2", true),
            (
                vec![first(), table(&["10.0.0.0/8"], &[])],
                "10.0.0.1",
                false,
            ),
            (vec![first(), table(&["10.0.0.0/8"], &[])], "10.0.0.2", true),
            (
                vec![first(), table(&["10.0.0.0/8"], &[])],
                "11.0.0.0",
                false,
            ),
            (vec![table(&["10.0.0.0/8"], &[]), first()], "10.0.0.1", true),
            (
                vec![table(&["all"], &[]), table(&[], &["all"])],
                "::1",
                true,
            ),
            (
                vec![table(&["unix:"], &["all"])],
                "a socket without addresses",
                true,
            ),
            (vec![table(&["unix:"], &["all"])], "::1", false),
            (vec![table(&["0.0.0.0/0"], &[])], "::1", false),
            (vec![table(&["::/0"], &[])], "10.0.0.1", false),
        ];
        for (number, (tables, client, expected)) in rows.iter().enumerate() {
            assert_eq!(is_served(tables, client), *expected, "{number}");
        }
    }

    #[test]
    fn the_client_is_looked_up_only_for_a_rule() {
        assert!(admits([].into_iter(), || panic!("no rule asks")));
    }

    #[test]
    fn a_variant_has_the_rules_of_its_file() {
        let rows: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[b""]),
            (b"/a.GZ", &[b"/a.GZ", b"/a"]),
            (b"/a.gz.br", &[b"/a.gz.br", b"/a.gz", b"/a"]),
            (b"/a", &[b"/a"]),
            (b"/a.gz", &[b"/a.gz", b"/a"]),
            (b"/a.br", &[b"/a.br", b"/a"]),
            (b"/a.zst", &[b"/a.zst", b"/a"]),
            (b"/agz", &[b"/agz"]),
            (b"/a.gz/", &[b"/a.gz/"]),
        ];
        for (path, expected) in rows {
            let names: Vec<_> = names(path).collect();
            assert_eq!(names, expected, "{}", path.escape_ascii());
        }
    }
}
