//! X-Forwarded-For and Forwarded: only what a trusted proxy wrote counts.

use std::net::IpAddr;

use tidegate_http::{Fields, ForwardedBy, forwarded_client};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// `data` is field lines.
pub(crate) fn check(data: &[u8]) {
    let fields = Fields::of_block(data);
    for (by, name) in [
        (ForwardedBy::XForwardedFor, "x-forwarded-for"),
        (ForwardedBy::Forwarded, "forwarded"),
    ] {
        let of = |trusts: &dyn Fn(IpAddr) -> bool| forwarded_client(fields, by, Some(PEER), trusts);
        let last = of(&|_| false);
        let first = of(&|_| true);
        let client = of(&is_proxy);
        for address in [last, first, client] {
            let address = address.expect("the peer, if there is none");
            assert_eq!(address, address.to_canonical());
        }
        if fields.named(name).next().is_none() {
            assert_eq!([last, first, client], [Some(PEER); 3]);
        }
        // Who is not trusted is not believed: nothing to its left counts.
        if last.is_some_and(|last| !is_proxy(last)) {
            assert_eq!(client, last);
        }
        if forwarded_client(fields, by, None, |_| false).is_none() {
            assert_eq!(last, Some(PEER));
        }
    }
}

/// Those of 10.0.0.0/8 and `fd00::/8`.
fn is_proxy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}
