//! Which addresses are listened on: names with several, and IPv6 with or without IPv4.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use crate::support::{Client, Launch, Tree, installed, skipped};

/// Whether this host has IPv6; says so where it has not, since a test is then skipped.
fn has_v6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skipped("no IPv6");
    }
    has
}

fn serve_on(tree: &Tree, addresses: &[&str]) -> Launch {
    let listen = addresses.iter().flat_map(|address| ["--listen", address]);
    Launch::with(["serve", "--cores", "1"])
        .arguments(listen)
        .argument(tree.root())
}

/// `localhost` is `::1` and `127.0.0.1` on most hosts; the port that the system picks is one for all.
#[test]
fn a_name_is_listened_on_at_all_its_addresses() {
    let tree = Tree::with("file", b"content");
    let mut wanted: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    wanted.dedup();
    wanted.retain(|address| TcpListener::bind(address).is_ok());
    let server = serve_on(&tree, &["localhost:0"]).start();
    let mut bound = vec![server.address];
    bound.extend((1..wanted.len()).map(|_| server.next_address()));
    for (bound, wanted) in bound.iter().zip(wanted) {
        assert_eq!(bound.ip(), wanted.ip());
        assert_eq!(bound.port(), server.address.port());
        assert_eq!(Client::connect(*bound).get("/file").body, b"content");
    }
    server.stop();
}

#[test]
fn all_addresses_are_those_of_ipv4_too() {
    if !has_v6() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let server = serve_on(&tree, &["[::]:0"]).start();
    let port = server.address.port();
    for address in [
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    ] {
        let body = Client::connect(address).get("/file").body;
        assert_eq!(body, b"content", "{address}");
    }
    server.stop();
}

#[test]
fn ipv6_may_be_alone() {
    if !has_v6() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let leaves_v4 = |only_v6: bool| {
        let listen = format!("[[listen]]\naddress = \"[::]:0\"\nonly-v6 = {only_v6}");
        let server = Launch::run(&tree, &listen, "").start();
        let port = server.address.port();
        let own = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(Client::connect(own).get("/file").body, b"content");
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
    };
    // Somebody else may have the very port.
    assert!((0..5).any(|_| leaves_v4(true)));
    assert!(!leaves_v4(false));
}

/// In a network of its own, where the port is free.
#[test]
fn ipv6_is_alone_where_ipv4_is_listened_on_beside_it() {
    if !has_v6() || !installed("unshare") {
        return;
    }
    let tree = Tree::with("file", b"content");
    for addresses in [
        ["[::]:8080", "0.0.0.0:8080"],
        ["0.0.0.0:8080", "[::]:8080"],
        ["[::]:8080", "127.0.0.1:8080"],
    ] {
        let server = serve_on(&tree, &addresses)
            .through(["unshare", "--map-root-user", "--net"])
            .start();
        let bound = [server.address, server.next_address()];
        assert_eq!(bound.map(|address| address.to_string()), addresses);
        server.stop();
    }
}
