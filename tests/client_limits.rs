//! Limits of each client and of each site, over all cores: connections at a time, and requests in a
//! second. Counts are exact: no token comes back while a test runs.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::reload::{APPLIED, hup};
use crate::support::http2::{END_HEADERS, END_STREAM, Http2, block, code, frame, kind};
use crate::support::{Client, Launch, Server, Tree, eventually, get, request, skipped, two_cores};

/// A token in a thousand seconds.
const RATE: &str = "request-rate-per-ip = 0.001";

/// Further addresses of this host.
const SECOND: [u8; 4] = [127, 0, 0, 2];
const PROXY: [u8; 4] = [127, 0, 0, 9];

/// Enough for a hash to spread them over two cores, but for one time in 2^39.
const CONNECTIONS: usize = 40;

fn tree() -> Tree {
    Tree::with("file", b"content")
}

/// A server on two cores with these keys in `[limits]`.
#[track_caller]
fn on_two_cores(tree: &Tree, limits: &str) -> Server {
    let config = format!("[limits]\n{limits}\n{LISTEN}");
    let launch = Launch::run(tree, &config, "");
    launch.arguments(["--cores", "2"]).start()
}

/// One on one core that trusts [`PROXY`].
#[track_caller]
fn behind_a_proxy(tree: &Tree, limits: &str) -> Server {
    let site = format!(
        "proxy-protocol = \"accept\"\n\
         [proxies]\ntrusted = [\"127.0.0.9\"]\nheader = \"x-forwarded-for\"\n\
         [[site]]\nroot = \"{}\"",
        tree.root().display()
    );
    Launch::run_sites(tree, &format!("[limits]\n{limits}"), &site).start()
}

#[track_caller]
fn counts(server: &Server, sample: &str, expected: usize) {
    let address = admin(server);
    eventually(&format!("{sample} is {expected}"), || {
        (Scrape::of(address).value(sample) - expected as f64).abs() < f64::EPSILON
    });
}

/// Both cores have served.
#[track_caller]
fn both_cores_served(server: &Server) {
    let address = admin(server);
    for shard in 0..2 {
        let sample = format!("tidegate_shard_requests_total{{shard=\"{shard}\"}}");
        eventually(&sample, || Scrape::of(address).value(&sample) > 0.0);
    }
}

/// Whether a request was served; else it was refused for the rate of its client.
#[track_caller]
fn is_served(client: &mut Client) -> bool {
    let response = client.get("/file");
    if response.status == 200 {
        assert_eq!(response.body, b"content");
        return true;
    }
    assert_eq!(response.status, 429);
    let after: u32 = response
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .unwrap();
    assert!((1..=1000).contains(&after), "{after}");
    assert!(!response.closes());
    assert!(response.text().contains("Too Many Requests"));
    false
}

/// How many of so many requests of a connection are served.
#[track_caller]
fn served(mut client: Client, requests: usize) -> usize {
    (0..requests).filter(|_| is_served(&mut client)).count()
}

#[test]
fn a_client_has_one_burst_on_all_cores() {
    const BURST: usize = 60;
    const EACH: usize = 5;
    if two_cores().is_none() {
        return;
    }
    let tree = tree();
    let server = on_two_cores(&tree, &format!("{RATE}\nrequest-burst-per-ip = {BURST}"));
    let address = server.address;
    let all = thread::scope(|scope| {
        let client = || served(Client::connect(address), EACH);
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        let counts = clients.into_iter().map(|client| client.join().unwrap());
        counts.sum::<usize>()
    });
    assert_eq!(all, BURST);
    both_cores_served(&server);
    let refused = "tidegate_refusals_total{kind=\"client_rate\"}";
    counts(&server, refused, CONNECTIONS * EACH - BURST);
    server.logs("request refused: limits.request-rate-per-ip client=127.0.0.1");
    // Another address has a burst of its own.
    let other = Client::connect_from(SECOND, address);
    assert_eq!(served(other, BURST + 1), BURST);
    counts(
        &server,
        "tidegate_clients_forgotten_total{of=\"requests\"}",
        0,
    );
}

#[test]
fn a_client_has_so_many_connections_on_all_cores() {
    const MAX: usize = 10;
    if two_cores().is_none() {
        return;
    }
    let tree = tree();
    let server = on_two_cores(&tree, &format!("connections-per-ip = {MAX}"));
    let answered = |mut client: Client| {
        // It may have been closed already.
        let _ = client.try_send(get("/file"));
        client.response_or_end().map(|_| client)
    };
    let one = || answered(server.connect());
    let mut open: Vec<_> = (0..CONNECTIONS).filter_map(|_| one()).collect();
    assert_eq!(open.len(), MAX);
    let refused = "tidegate_refusals_total{kind=\"client_limit\"}";
    counts(&server, refused, CONNECTIONS - MAX);
    both_cores_served(&server);
    server.logs("connection closed: limits.connections-per-ip client=127.0.0.1");
    let other = answered(Client::connect_from(SECOND, server.address));
    assert!(other.is_some(), "another address");
    assert!(
        open.iter_mut().all(is_served),
        "those that are open stay so"
    );
    // As many as end can be made again.
    open.truncate(MAX - 3);
    eventually("room again", || {
        open.extend(one());
        open.len() == MAX
    });
    assert!(one().is_none());
    drop(open);
    eventually("all have ended", || one().is_some());
    counts(
        &server,
        "tidegate_clients_forgotten_total{of=\"connections\"}",
        0,
    );
}

/// A server on two cores with two sites: `a` with these limits, and `b`, the default.
#[track_caller]
fn two_sites(tree: &Tree, limits: &str) -> Server {
    let root = tree.root();
    let root = root.display();
    let sites = format!(
        "[[site]]\nroot = \"{root}\"\nnames = [\"a\"]\n[site.limits]\n{limits}\n\
         [[site]]\nroot = \"{root}\""
    );
    let launch = Launch::run_sites(tree, LISTEN, &sites);
    launch.arguments(["--cores", "2"]).start()
}

/// The statuses of so many requests to a site, by as many connections at the same time.
fn statuses_of(address: SocketAddr, host: &str, from: [u8; 4], each: usize) -> Vec<u16> {
    let ask = || {
        let mut client = Client::connect_from(from, address);
        let host = format!("Host: {host}");
        let statuses = (0..each).map(|_| {
            client.send(request_to("/file", &host));
            client.response().status
        });
        statuses.collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        let statuses = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        statuses.collect()
    })
}

fn request_to(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{host}\r\n\r\n")
}

fn count_of(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|one| **one == status).count()
}

#[test]
fn a_client_has_one_burst_of_a_site_on_all_cores() {
    const BURST: usize = 60;
    const ALL: usize = CONNECTIONS * 5;
    if two_cores().is_none() {
        return;
    }
    let tree = tree();
    let server = two_sites(&tree, &format!("{RATE}\nrequest-burst-per-ip = {BURST}"));
    let ask = |host, from| statuses_of(server.address, host, from, 5);
    let statuses = ask("a", [127, 0, 0, 1]);
    assert_eq!(count_of(&statuses, 200), BURST);
    assert_eq!(count_of(&statuses, 429), ALL - BURST);
    both_cores_served(&server);
    let refused = "tidegate_refusals_total{kind=\"site_client_rate\"}";
    counts(&server, refused, ALL - BURST);
    server.logs("request refused: site.limits.request-rate-per-ip client=127.0.0.1 site=\"a\"");
    // Another address has its own, and so has another site none.
    assert_eq!(count_of(&ask("a", SECOND), 200), BURST);
    assert_eq!(count_of(&ask("b", [127, 0, 0, 1]), 200), ALL);
    let forgotten = "tidegate_clients_forgotten_total{of=\"site_requests\"}";
    counts(&server, forgotten, 0);
}

#[test]
fn a_site_has_one_burst_for_all_clients_on_all_cores() {
    const BURST: usize = 70;
    const ALL: usize = CONNECTIONS * 5;
    if two_cores().is_none() {
        return;
    }
    let tree = tree();
    let limits = format!("request-rate = 0.001\nrequest-burst = {BURST}");
    let server = two_sites(&tree, &limits);
    let ask = |host, from| statuses_of(server.address, host, from, 5);
    let statuses = ask("a", [127, 0, 0, 1]);
    assert_eq!(count_of(&statuses, 200), BURST);
    assert_eq!(count_of(&statuses, 503), ALL - BURST);
    both_cores_served(&server);
    server.logs("request refused: site.limits.request-rate client=127.0.0.1 site=\"a\"");
    // It is the same bucket for another address, by any protocol.
    assert_eq!(count_of(&ask("a", SECOND), 503), ALL);
    let refused = "tidegate_refusals_total{kind=\"site_rate\"}";
    counts(&server, refused, 2 * ALL - BURST);
    let mut client = Http2::connect(server.address);
    client.authority = "a";
    let response = client.get("/file");
    assert_eq!(response.status, 503);
    let after: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1000).contains(&after), "{after}");
    client.authority = "b";
    assert_eq!(client.get("/file").status, 200);
    assert_eq!(count_of(&ask("b", [127, 0, 0, 1]), 200), ALL);
}

/// Requests that arrive together are answered in their order.
#[test]
fn pipelined_requests_are_counted_one_by_one() {
    let tree = tree();
    tree.write("429.html", b"a page of the site");
    let limits = format!("[limits]\n{RATE}\nrequest-burst-per-ip = 3");
    let pages = "error-pages = { 429 = \"/429.html\", 404 = \"/429.html\" }";
    let server = Launch::run(&tree, &limits, pages).start();
    let mut client = server.connect();
    let methods = ["GET", "HEAD", "POST", "GET", "HEAD", "POST", "GET"];
    let requests = methods.map(|method| request(method, "/none"));
    client.send(requests.concat());
    let statuses = methods.map(|method| {
        let head = client.head();
        if method != "HEAD" {
            let is_of_the_site = client.body_of(&head) == b"a page of the site";
            assert_eq!(is_of_the_site, head.status == 404, "a short page");
        }
        head.status
    });
    assert_eq!(statuses, [404, 404, 405, 429, 429, 429, 429]);
}

#[test]
fn a_stream_of_http2_is_a_request() {
    let tree = tree();
    let limits = format!("[limits]\n{RATE}\nrequest-burst-per-ip = 5");
    let server = Launch::http2(&tree, &limits, "").start();
    let mut client = Http2::connect(server.address);
    let streams: Vec<_> = (0..8)
        .map(|_| client.request("GET", "/file", &[]))
        .collect();
    let responses = streams.into_iter().map(|stream| client.response(stream));
    let responses: Vec<_> = responses.collect();
    for response in &responses {
        assert_eq!(response.status == 429, response.has("retry-after"));
    }
    let answered = responses.iter().filter(|one| one.status == 200);
    assert_eq!(answered.count(), 5);
    assert!(responses.iter().all(|one| matches!(one.status, 200 | 429)));
    // The connection goes on, and others of this client share its bucket.
    client.settle();
    assert_eq!(client.get("/file").status, 429);
    assert!(client.goaways.is_empty());
    assert_eq!(Http2::connect(server.address).get("/file").status, 429);
    assert_eq!(server.get("/file").status, 429);
    let mut other = Client::connect_from(SECOND, server.address);
    assert!(is_served(&mut other));
}

/// Heads that are malformed are streams as well.
#[test]
fn a_malformed_stream_of_http2_is_a_request() {
    let tree = tree();
    let limits = format!("[limits]\n{RATE}\nrequest-burst-per-ip = 2");
    let server = Launch::http2(&tree, &limits, "").start();
    let mut client = Http2::connect(server.address);
    let long = "x".repeat(100);
    let fields: Vec<_> = (0..101).map(|_| ("x-a", long.as_str())).collect();
    let statuses = [(); 3].map(|()| client.ask("GET", "/file", &fields).status);
    assert_eq!(statuses, [431, 431, 429]);
    assert_eq!(client.get("/file").status, 429);
}

/// What a client opens only to cancel it, and what breaks the protocol, is answered by a reset alone.
#[test]
fn streams_that_are_reset_are_requests() {
    let tree = tree();
    let limits = format!("[limits]\n{RATE}\nrequest-burst-per-ip = 20");
    let server = Launch::http2(&tree, &limits, "").start();
    let mut client = Http2::connect(server.address);
    assert_eq!(client.get("/file").status, 200);
    let head = block(&client.fields("GET", "/file", &[]));
    let bytes = (0..10).flat_map(|_| {
        let stream = client.next_stream();
        let open = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head);
        let cancel = frame(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes());
        [open, cancel].concat()
    });
    let bytes: Vec<u8> = bytes.collect();
    client.send(&bytes);
    let broken = block(&[(":method", "GET"), (":method", "GET")]);
    for _ in 0..5 {
        let stream = client.next_stream();
        client.send_frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &broken);
        assert!(client.response_or_reset(stream).is_err());
    }
    let statuses = [(); 6].map(|()| client.get("/file").status);
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
}

#[test]
fn a_client_is_the_one_that_a_proxy_names() {
    let tree = tree();
    let limits = format!("{RATE}\nrequest-burst-per-ip = 2");
    let server = behind_a_proxy(&tree, &limits);
    let mut proxy = Client::connect_from(PROXY, server.address);
    let mut statuses = |client: &str| {
        let field = format!("X-Forwarded-For: {client}");
        [(); 3].map(|()| proxy.get_with("/file", &[&field]).status)
    };
    assert_eq!(statuses("192.0.2.7"), [200, 200, 429]);
    assert_eq!(statuses("192.0.2.8"), [200, 200, 429]);
    assert_eq!(statuses("2001:db8::1"), [200, 200, 429]);
    assert_eq!(statuses("2001:db8::ffff:1"), [429; 3], "the same network");
    assert_eq!(statuses("2001:db8:0:1::1"), [200, 200, 429]);
    // It is nobody's client itself.
    assert_eq!(statuses("unknown"), [200; 3]);
    // Nobody else names another.
    let mut stranger = Client::connect_from(SECOND, server.address);
    let statuses = ["192.0.2.10", "192.0.2.11", "192.0.2.12"].map(|client| {
        let field = format!("X-Forwarded-For: {client}");
        stranger.get_with("/file", &[&field]).status
    });
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn a_client_of_a_site_is_the_one_that_a_proxy_names() {
    let tree = tree();
    let site = format!(
        "proxy-protocol = \"accept\"\n\
         [proxies]\ntrusted = [\"127.0.0.9\"]\nheader = \"forwarded\"\n\
         [[site]]\nroot = \"{}\"\n[site.limits]\n{RATE}\nrequest-burst-per-ip = 2\n\
         request-rate = 0.001\nrequest-burst = 7",
        tree.root().display()
    );
    let server = Launch::run_sites(&tree, "", &site).start();
    let statuses = |start: &str, field: &str| {
        let mut proxy = Client::connect_from(PROXY, server.address);
        proxy.send(start);
        [(); 3].map(|()| proxy.get_with("/file", &[field]).status)
    };
    let named = |client: &str| statuses("", &format!("Forwarded: for={client}"));
    assert_eq!(named("192.0.2.7"), [200, 200, 429]);
    let v4 = "PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n";
    assert_eq!(statuses(v4, "X-A: b"), [429; 3], "by the other way");
    assert_eq!(named("\"[2001:db8::1]\""), [200, 200, 429]);
    assert_eq!(named("\"[2001:db8::2]\""), [429; 3], "the same network");
    // It is nobody's client itself, but the site's.
    assert_eq!(named("unknown"), [200; 3]);
    assert_eq!(named("unknown"), [503; 3]);
    assert_eq!(named("192.0.2.9"), [503; 3], "it is not the client's fault");
}

#[test]
fn a_client_is_the_one_of_the_proxy_protocol() {
    let tree = tree();
    let limits =
        format!("{RATE}\nrequest-burst-per-ip = 3\nconnections-per-ip = 2\nipv6-prefix = 56");
    let server = behind_a_proxy(&tree, &limits);
    let named = |header: &str| {
        let mut client = Client::connect_from(PROXY, server.address);
        client.send(format!("{header}{}", get("/file")));
        client.response_or_end().map(|one| (one.status, client))
    };
    let v4 = "PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n";
    let (first, second) = (named(v4).unwrap(), named(v4).unwrap());
    assert_eq!((first.0, second.0), (200, 200));
    assert!(named(v4).is_none(), "its most connections");
    let mut client = first.1;
    assert_eq!(
        [client.get("/file").status, client.get("/file").status],
        [200, 429]
    );
    // A /56 of IPv6 is a client.
    let v6 = |client: &str| format!("PROXY TCP6 {client} ::1 1 2\r\n");
    let one = named(&v6("2001:db8:0:1::1")).unwrap();
    let other = named(&v6("2001:db8:0:ff::1")).unwrap();
    assert_eq!((one.0, other.0), (200, 200));
    assert!(named(&v6("2001:db8:0:2::1")).is_none());
    assert!(named(&v6("2001:db8:0:100::1")).is_some());
    // The proxy itself has no limit.
    let own: Vec<_> = (0..5).map(|_| named("")).collect();
    assert!(own.iter().flatten().all(|(status, _)| *status == 200));
    assert_eq!(own.iter().flatten().count(), 5);
}

#[test]
fn addresses_of_ipv6_are_limited_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skipped("no IPv6 here");
    }
    let tree = tree();
    let limits = format!("[limits]\n{RATE}\nrequest-burst-per-ip = 2");
    let launch = Launch::run(&tree, &limits, "");
    let server = launch.arguments(["--listen", "[::]:0"]).start();
    // Clients of IPv4 have mapped addresses, which are all in the same /64 as ::1.
    for host in ["[::1]", "127.0.0.1", "127.0.0.2"] {
        let address = format!("{host}:{}", server.address.port());
        let address: SocketAddr = address.parse().unwrap();
        let client = |requests| served(dial(address), requests);
        assert_eq!((client(1), client(2), client(3)), (1, 1, 0), "{host}");
    }
}

/// Connects from the address that it connects to.
fn dial(address: SocketAddr) -> Client {
    match address {
        SocketAddr::V4(v4) => Client::connect_from(v4.ip().octets(), address),
        SocketAddr::V6(_) => Client::connect(address),
    }
}

#[test]
fn a_reload_changes_the_limits() {
    let tree = tree();
    let server = Launch::run(&tree, "", "").start();
    let reload = |limits: &str| {
        drop(Launch::run(&tree, &format!("[limits]\n{limits}"), ""));
        hup(&server, APPLIED);
    };
    let mut client = server.connect();
    assert!((0..10).all(|_| is_served(&mut client)), "off by default");
    reload(&format!(
        "{RATE}\nrequest-burst-per-ip = 2\nconnections-per-ip = 1"
    ));
    let statuses = [(); 3].map(|()| is_served(&mut client));
    assert_eq!(statuses, [true, true, false]);
    // The one that was open before does not count.
    let mut second = server.connect();
    assert!(!is_served(&mut second));
    server.connect().ends();
    reload(&format!(
        "{RATE}\nrequest-burst-per-ip = 4\nconnections-per-ip = 2"
    ));
    assert_eq!(served(server.connect(), 3), 2, "what was used stays so");
    reload("");
    assert!((0..10).all(|_| is_served(&mut client)));
    let clients: Vec<_> = (0..10).map(|_| served(server.connect(), 1)).collect();
    assert_eq!(clients, [1; 10]);
}

#[test]
fn nonsense_is_refused_with_its_line() {
    let tree = tree();
    for (limits, words) in [
        (
            "request-rate-per-ip = -1",
            "4: limits.request-rate-per-ip: -1 is outside",
        ),
        (
            "request-rate-per-ip = 1\nrequest-burst-per-ip = 0",
            "5: limits.request-burst-per-ip: 0 is outside",
        ),
        (
            "request-rate-per-ip = 0.001\nrequest-burst-per-ip = 1000",
            "5: limits.request-burst-per-ip: a burst of 1000 at a rate of 0.001",
        ),
        ("ipv6-prefix = 8", "4: limits.ipv6-prefix: 8 is outside"),
        (
            "connections-per-ip = -1",
            "4: limits.connections-per-ip: -1 is outside",
        ),
    ] {
        drop(Launch::run(&tree, &format!("[limits]\n{limits}"), ""));
        let file = tree.base().join("tidegate.toml");
        let check = Launch::with(["check", "--config"]).argument(file);
        check.output().refusal(1, &["tidegate.toml:", words]);
    }
}
