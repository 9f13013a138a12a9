//! Clients behind proxies: the PROXY protocol, `X-Forwarded-For` and `Forwarded`, from trusted
//! addresses alone. The address that the server takes for the client's is in its log of exchanges.

use std::thread;
use std::time::Duration;

use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::{
    Authority, Client, Launch, Server, Tree, eventually, get, noise, request_with, secure,
};

/// Bytes of a file that no socket takes at once.
const LARGE: usize = 8 << 20;

/// The address of a proxy that is trusted, and another.
const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 9, 9, 9];
const SILENT: [u8; 4] = [127, 9, 9, 7];

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n";

/// A header of version 2 with this command and family, and what follows the length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).expect("a length").to_be_bytes());
    header.extend(rest);
    header
}

/// A header of version 2 for the client 192.0.2.7, with a TLV of 300 bytes.
pub(crate) fn v2_of_client() -> Vec<u8> {
    let mut rest = vec![192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    rest.extend([0xe0, 1, 0x2c]);
    rest.extend([0xaa; 300]);
    v2(0x21, 0x11, &rest)
}

fn tree() -> Tree {
    let tree = Tree::with("small", b"content");
    tree.write("large", &noise(LARGE, 1));
    tree
}

/// A server whose listener has `keys`; `config` starts in the `[server]` table.
#[track_caller]
fn start(tree: &Tree, keys: &str, config: &str) -> Server {
    let root = tree.root();
    let site = format!("{keys}\n[[site]]\nroot = \"{}\"", root.display());
    let config = format!("{config}\n{LISTEN}");
    let launch = Launch::run_sites(tree, &config, &site);
    let trace = ["env", "RUST_LOG=info,tidegate_server=trace"];
    launch.through(trace).start()
}

/// One with the PROXY protocol in this mode.
#[track_caller]
fn proxied(tree: &Tree, mode: &str, config: &str) -> Server {
    let trusted = "[proxies]\ntrusted = [\"127.0.0.1\", \"10.0.0.0/8\", \"unix:\"]";
    let keys = format!("proxy-protocol = \"{mode}\"\n{trusted}");
    start(tree, &keys, config)
}

/// The clients of the exchanges that have ended: `-` for one without an address.
fn clients(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once(": exchange "));
    let client = |fields: &str| {
        let fields = fields.split(' ');
        let mut named = fields.filter_map(|field| field.strip_prefix("client="));
        named.next().unwrap_or("-").to_owned()
    };
    lines.map(|(_, fields)| client(fields)).collect()
}

/// The next exchange to end, the `number`-th, has this client.
#[track_caller]
fn ends_with(server: &Server, number: usize, client: &str) {
    eventually("an exchange has ended", || clients(server).len() > number);
    assert_eq!(clients(server)[number], client);
}

#[track_caller]
fn counts(server: &Server, kind: &str, expected: f64) {
    let sample = format!("tidegate_proxy_protocol_errors_total{{kind=\"{kind}\"}}");
    let address = admin(server);
    eventually(&format!("{kind} is {expected}"), || {
        (Scrape::of(address).value(&sample) - expected).abs() < f64::EPSILON
    });
}

fn from(address: [u8; 4], server: &Server) -> Client {
    Client::connect_from(address, server.address)
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let tree = tree();
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0; 4]].concat();
    let headers = [
        (V1.to_vec(), "192.0.2.7"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN a b c\r\n".to_vec(), "127.0.0.1"),
        (v2_of_client(), "192.0.2.7"),
        (v2(0x21, 0x21, &v6), "2001:db8::7"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
        (v2(0x21, 0, &[4, 0, 0]), "127.0.0.1"),
        (v2(0x21, 0x31, &[b'x'; 216]), "127.0.0.1"),
    ];
    for mode in ["accept", "require"] {
        let server = proxied(&tree, mode, "");
        for (number, (header, client)) in headers.iter().enumerate() {
            // Two requests come with the header, and one follows.
            let mut proxy = from(PROXY, &server);
            proxy.send([header, get("/small").as_bytes(), get("/none").as_bytes()].concat());
            assert_eq!(proxy.response().text(), "content");
            assert_eq!(proxy.response().status, 404);
            assert_eq!(proxy.get("/small").text(), "content");
            for exchange in 0..3 {
                ends_with(&server, number * 3 + exchange, client);
            }
        }
        counts(&server, "malformed", 0.0);
    }
}

#[test]
fn a_header_may_arrive_byte_by_byte() {
    let tree = tree();
    let server = proxied(&tree, "accept", "");
    for (number, header) in [V1.to_vec(), v2_of_client()].iter().enumerate() {
        let mut proxy = from(PROXY, &server);
        for byte in [header, get("/small").as_bytes()].concat() {
            proxy.send([byte]);
            if number == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(proxy.response().text(), "content");
        ends_with(&server, number, "192.0.2.7");
    }
}

#[test]
fn without_a_header_it_depends_on_the_mode() {
    let tree = tree();
    let server = proxied(&tree, "accept", "");
    for (number, address) in [PROXY, STRANGER].into_iter().enumerate() {
        let mut client = from(address, &server);
        // Each of these bytes could be that of a header.
        client.send("P");
        thread::sleep(Duration::from_millis(20));
        client.send("OST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().status, 405);
        let mut client = from(address, &server);
        client.send("\r\n");
        thread::sleep(Duration::from_millis(20));
        client.send(get("/small"));
        assert_eq!(client.response().status, 200);
        let [a, b, c, d] = address;
        ends_with(&server, number * 2 + 1, &format!("{a}.{b}.{c}.{d}"));
    }
    let server = proxied(&tree, "require", "");
    let mut client = from(PROXY, &server);
    client.send(get("/small"));
    client.ends();
    counts(&server, "missing", 1.0);
}

#[test]
fn strangers_are_cut_off() {
    let tree = tree();
    for (mode, headers) in [
        ("accept", vec![V1.to_vec(), v2_of_client()]),
        ("require", vec![V1.to_vec(), get("/small").into()]),
    ] {
        let server = proxied(&tree, mode, "");
        for (number, header) in headers.iter().enumerate() {
            let mut stranger = from(STRANGER, &server);
            // The server may have closed it already.
            let _ = stranger.try_send([header, get("/small").as_bytes()].concat());
            stranger.ends();
            counts(&server, "stranger", number as f64 + 1.0);
        }
        assert_eq!(clients(&server), [""; 0], "none was answered");
    }
}

#[test]
fn malformed_headers_are_counted_by_their_kind() {
    let tree = tree();
    let server = proxied(&tree, "require", "[timeouts]\nheader = \"300ms\"");
    let rows: &[(&str, &[&[u8]])] = &[
        (
            "malformed",
            &[
                b"PROXY TCP4 1.2.3 127.0.0.1 1 2\r\n",
                b"PROXY TCP4 1.2.3.4 127.0.0.1 1 99999\r\n",
                b"PROXY SCTP 1.2.3.4 127.0.0.1 1 2\r\n",
                b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2\nGET / HTTP/1.1\r\n\r\n",
                &v2(0x31, 0x11, &[0; 12]),
                &v2(0x2f, 0x11, &[0; 12]),
                &v2(0x21, 0x11, &[0; 11]),
                &v2(0x21, 0x21, &[0; 12]),
            ],
        ),
        (
            "oversized",
            &[
                &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
                &v2(0x21, 0, &[0; 4081]),
                &v2(0x21, 0, &vec![0; 65535])[..16],
            ],
        ),
        (
            "missing",
            &[b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", b"\x16\x03\x01\0\0"],
        ),
    ];
    for (kind, headers) in rows {
        for header in *headers {
            let mut proxy = from(PROXY, &server);
            let _ = proxy.try_send(header);
            proxy.ends();
        }
        counts(&server, kind, headers.len() as f64);
    }
    for header in [&V1[..20], &v2_of_client()[..100]] {
        let mut slow = from(PROXY, &server);
        slow.send(header);
        slow.ends();
        let mut gone = from(PROXY, &server);
        gone.send(header);
        gone.finish_sending();
        gone.ends();
    }
    counts(&server, "timeout", 2.0);
    counts(&server, "truncated", 2.0);
    // A probe of the port is none of these, and neither is one that is silent.
    let mut probe = from(PROXY, &server);
    probe.finish_sending();
    probe.ends();
    from(PROXY, &server).ends();
    counts(&server, "timeout", 2.0);
    counts(&server, "truncated", 2.0);
    assert_eq!(clients(&server), [""; 0], "none was answered");
}

#[test]
fn a_header_in_the_place_of_a_request_is_counted() {
    let tree = tree();
    let server = proxied(&tree, "accept", "");
    for (number, header) in [V1.to_vec(), v2_of_client()].iter().enumerate() {
        let mut proxy = from(PROXY, &server);
        proxy.send([V1, get("/small").as_bytes(), header].concat());
        assert_eq!(proxy.response().status, 200);
        assert_eq!(proxy.response().status, 400);
        proxy.ends();
        counts(&server, "unexpected", number as f64 + 1.0);
    }
    // On a listener that takes none.
    let server = start(&tree, "", "");
    let mut proxy = from(PROXY, &server);
    proxy.send([V1, get("/small").as_bytes()].concat());
    assert_eq!(proxy.response().status, 400);
    counts(&server, "unexpected", 1.0);
}

#[test]
fn it_comes_before_tls() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let config = authority.client();
    for (mode, trusted) in [("require", "127.0.0.1"), ("accept", "127.0.0.1")] {
        let proxies = format!("[proxies]\ntrusted = [\"{trusted}\"]");
        let keys = format!("tls = true\nproxy-protocol = \"{mode}\"\n{proxies}");
        let server = start(&tree, &keys, &files.entry());
        for (number, header) in [V1.to_vec(), v2_of_client()].iter().enumerate() {
            let mut proxy = from(PROXY, &server);
            proxy.send(header);
            let mut client = proxy.with_tls(|stream| secure(stream, &config, "localhost"));
            assert_eq!(client.get("/small").text(), "content");
            assert!(client.get("/large").body == noise(LARGE, 1));
            ends_with(&server, number * 2 + 1, "192.0.2.7");
        }
        // Nobody speaks plain HTTP there.
        let mut proxy = from(PROXY, &server);
        proxy.send([V1, get("/small").as_bytes()].concat());
        assert_eq!(proxy.response().status, 400);
        if mode == "accept" {
            let client = from(STRANGER, &server);
            let mut client = client.with_tls(|stream| secure(stream, &config, "localhost"));
            assert_eq!(client.get("/small").text(), "content");
        }
    }
}

#[test]
fn many_proxied_clients_are_told_apart() {
    let tree = tree();
    let server = proxied(&tree, "require", "");
    let large = noise(LARGE, 1);
    thread::scope(|scope| {
        for number in 0..24 {
            let (address, large) = (server.address, &large);
            scope.spawn(move || {
                for _ in 0..8 {
                    let header = format!("PROXY TCP4 198.51.100.{number} 127.0.0.1 1 2\r\n");
                    let mut proxy = Client::connect_from(PROXY, address);
                    proxy.send(header + &get("/small"));
                    assert_eq!(proxy.response().text(), "content");
                    if number % 8 == 0 {
                        assert!(proxy.get("/large").body == *large);
                    } else {
                        assert_eq!(proxy.get("/small").text(), "content");
                    }
                }
            });
        }
    });
    eventually("all have ended", || clients(&server).len() == 24 * 16);
    let clients = clients(&server);
    for number in 0..24 {
        let client = format!("198.51.100.{number}");
        let count = clients.iter().filter(|&found| *found == client).count();
        assert_eq!(count, 16, "{client}");
    }
}

/// The clients of requests with these fields, from a trusted proxy and from a stranger.
#[track_caller]
fn named(server: &Server, fields: &[&str]) -> (String, String) {
    let before = clients(server).len();
    for address in [PROXY, STRANGER] {
        let mut client = from(address, server);
        client.send(request_with("GET", "/small", fields));
        assert_eq!(client.response().status, 200);
    }
    eventually("both have ended", || clients(server).len() == before + 2);
    let clients = clients(server);
    (clients[before].clone(), clients[before + 1].clone())
}

#[test]
fn header_fields_name_the_client_if_a_trusted_proxy_sends_them() {
    let tree = tree();
    let proxies = "[proxies]\ntrusted = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let hostile = format!("X-Forwarded-For: {}192.0.2.7", ",".repeat(12_000));
    let long = format!("X-Forwarded-For: {}192.0.2.7", "10.0.0.1,".repeat(1500));
    #[rustfmt::skip] // a row a line
    let rows: &[(&str, &[&str], &str)] = &[
        ("x-forwarded-for", &["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        ("x-forwarded-for", &["X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
        ("x-forwarded-for", &["X-Forwarded-For: 6.6.6.6", "X: y", "x-forwarded-for: 192.0.2.7:80"], "192.0.2.7"),
        ("x-forwarded-for", &["X-Forwarded-For: [2001:db8::7]:443"], "2001:db8::7"),
        ("x-forwarded-for", &["X-Forwarded-For: 6.6.6.6, \"><script>"], "127.0.0.1"),
        ("x-forwarded-for", &["X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
        ("x-forwarded-for", &["Forwarded: for=192.0.2.7"], "127.0.0.1"),
        ("x-forwarded-for", &[], "127.0.0.1"),
        ("x-forwarded-for", &[&hostile], "192.0.2.7"),
        ("x-forwarded-for", &[&long], "192.0.2.7"),
        ("forwarded", &["Forwarded: for=6.6.6.6, for=192.0.2.7;proto=https"], "192.0.2.7"),
        ("forwarded", &["Forwarded: for=\"[2001:db8::7]:1\";by=10.0.0.1", "Forwarded: for=10.0.0.9"], "2001:db8::7"),
        ("forwarded", &["Forwarded: for=_hidden"], "127.0.0.1"),
        ("forwarded", &["X-Forwarded-For: 192.0.2.7"], "127.0.0.1"),
        ("off", &["X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7"], "127.0.0.1"),
    ];
    for header in ["x-forwarded-for", "forwarded", "off"] {
        let server = start(&tree, &format!("{proxies}\nheader = \"{header}\""), "");
        for (_, fields, expected) in rows.iter().filter(|row| row.0 == header) {
            let (client, stranger) = named(&server, fields);
            assert_eq!(client, *expected, "{header} {fields:?}");
            assert_eq!(stranger, "127.9.9.9", "{header} {fields:?}");
        }
    }
}

#[test]
fn each_request_of_a_connection_has_its_client() {
    let tree = tree();
    let proxies =
        "[proxies]\ntrusted = [\"127.0.0.1\", \"192.0.2.7\"]\nheader = \"x-forwarded-for\"";
    let server = start(
        &tree,
        &format!("proxy-protocol = \"accept\"\n{proxies}"),
        "",
    );
    let mut proxy = from(PROXY, &server);
    // The PROXY protocol names another trusted proxy, which names its clients.
    proxy.send(V1);
    for (number, client) in ["203.0.113.1", "203.0.113.2"].iter().enumerate() {
        let field = format!("X-Forwarded-For: {client}");
        assert_eq!(proxy.get_with("/small", &[&field]).status, 200);
        ends_with(&server, number, client);
    }
    assert_eq!(proxy.get("/large").body.len(), LARGE);
    ends_with(&server, 2, "192.0.2.7");
}

/// Whether an address that a trusted proxy names decides about access.
#[test]
fn rules_of_access_are_about_the_client() {
    let tree = tree();
    let proxies = "[proxies]\ntrusted = [\"127.0.0.1\"]\nheader = \"x-forwarded-for\"";
    let root = tree.root();
    let site = format!(
        "{proxies}\n[[site]]\nroot = \"{}\"\n[[site.access]]\nmatch = \"/**\"\nallow = [\"192.0.2.0/24\"]",
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &site).start();
    for (address, client, status) in [
        (PROXY, "192.0.2.7", 200),
        (PROXY, "6.6.6.6", 403),
        (PROXY, "192.0.2.7, 6.6.6.6", 403),
        (STRANGER, "192.0.2.7", 403),
    ] {
        let mut client_of = from(address, &server);
        let field = format!("X-Forwarded-For: {client}");
        let response = client_of.get_with("/small", &[&field]);
        assert_eq!(response.status, status, "{client}");
    }
}

#[test]
fn a_client_has_so_many_connections() {
    let tree = tree();
    let limit = "[limits]\nconnections-per-ip = 3";
    let server = proxied(&tree, "accept", limit);
    let refused = |expected: f64| {
        let address = admin(&server);
        let sample = "tidegate_refusals_total{kind=\"client_limit\"}";
        eventually("refused connections", || {
            (Scrape::of(address).value(sample) - expected).abs() < f64::EPSILON
        });
    };
    let connected = |mut client: Client, header: &[u8]| {
        client.send([header, get("/small").as_bytes()].concat());
        client.response_or_end().map(|_| client)
    };
    let one = || connected(from(STRANGER, &server), b"");
    let mut all: Vec<_> = (0..3).map(|_| one().expect("within the limit")).collect();
    assert!(one().is_none());
    refused(1.0);
    assert!(
        connected(from([127, 9, 9, 8], &server), b"").is_some(),
        "another client"
    );
    // The client that a proxy names has its own connections; the proxy itself has no limit.
    let named: Vec<_> = (0..3)
        .map(|_| connected(from(PROXY, &server), V1))
        .collect();
    assert!(named.iter().all(Option::is_some));
    assert!(connected(from(PROXY, &server), V1).is_none());
    refused(2.0);
    let own: Vec<_> = (0..5)
        .map(|_| connected(from(PROXY, &server), b""))
        .collect();
    assert!(own.iter().all(Option::is_some));
    // Those that send nothing count from the start.
    let silent: Vec<_> = (0..3).map(|_| from(SILENT, &server)).collect();
    from(SILENT, &server).ends();
    refused(3.0);
    drop(silent);
    drop(all.pop());
    eventually("room again", || one().is_some());
}

#[test]
fn a_unix_socket_can_be_that_of_a_trusted_proxy() {
    let tree = tree();
    let path = tree.base().join("socket");
    for trusted in [true, false] {
        let networks = if trusted {
            "\"unix:\""
        } else {
            "\"10.0.0.0/8\""
        };
        let keys = format!(
            "[[listen]]\naddress = \"unix:{}\"\nproxy-protocol = \"accept\"\n\
             [proxies]\ntrusted = [{networks}]\nheader = \"x-forwarded-for\"",
            path.display()
        );
        let server = start(&tree, &keys, "");
        let mut client = Client::connect_unix(&path);
        let fields = ["X-Forwarded-For: 192.0.2.8"];
        assert_eq!(client.get_with("/small", &fields).status, 200);
        ends_with(&server, 0, if trusted { "192.0.2.8" } else { "-" });
        let mut proxy = Client::connect_unix(&path);
        let _ = proxy.try_send([V1, get("/small").as_bytes()].concat());
        if trusted {
            assert_eq!(proxy.response().status, 200);
            ends_with(&server, 1, "192.0.2.7");
        } else {
            proxy.ends();
            counts(&server, "stranger", 1.0);
        }
        server.stop();
    }
}

#[test]
fn who_is_trusted_must_be_said() {
    let tree = tree();
    let site = |keys: &str| format!("{keys}\n[[site]]\nroot = \"{}\"", tree.root().display());
    for (keys, key) in [
        (
            "proxy-protocol = \"require\"",
            "listen.proxy-protocol: nobody is trusted",
        ),
        (
            "[proxies]\nheader = \"forwarded\"",
            "proxies.header: nobody is trusted",
        ),
        (
            "[proxies]\ntrusted = [\"all\"]",
            "proxies.trusted: every client",
        ),
    ] {
        let output = Launch::run_sites(&tree, "", &site(keys)).output();
        output.refusal(1, &["tidegate.toml:", key]);
    }
}
