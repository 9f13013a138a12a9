//! The admin listener: health, readiness and what Prometheus collects.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rcgen::date_time_ymd;
use rustix::process::Signal;

use crate::support::{Authority, Client, Files, Launch, Server, Tree, eventually, get, key_pair};

pub(crate) const LISTEN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// Where the server says that its admin listener is.
#[track_caller]
pub(crate) fn admin(server: &Server) -> SocketAddr {
    let mut log = String::new();
    eventually("the line of the admin listener", || {
        log = server.log();
        let rest = log.split_once("admin on http://");
        rest.is_some_and(|(_, rest)| rest.contains('\n'))
    });
    let (_, rest) = log.split_once("admin on http://").expect("it is there");
    let end = rest.find(|char: char| char != '.' && char != ':' && !char.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())]
        .parse()
        .expect("an address")
}

/// A certificate for `name` that expires as `year` begins.
fn issue(authority: &Authority, files: &Files, name: &str, year: i32) {
    let key = key_pair();
    let cert = authority.sign(&[name], &key, |params| {
        params.not_after = date_time_ymd(year, 1, 1);
    });
    fs::write(&files.key, key.serialize_pem()).expect("a key");
    fs::write(&files.cert, cert).expect("a certificate");
}

/// Seconds from 1970 to the start of `year`.
fn new_year(year: i32) -> i64 {
    date_time_ymd(year, 1, 1).unix_timestamp()
}

/// When Prometheus is told that the certificate for `name` expires.
#[track_caller]
fn expiry(address: SocketAddr, name: &str) -> i64 {
    let metrics = Client::connect(address).get("/metrics");
    assert_eq!(metrics.status, 200);
    let start = "tidegate_certificate_expiry_timestamp_seconds{";
    let names = format!("names=\"{name}\"");
    let mut lines = metrics.text().lines();
    let line = lines.find(|line| line.starts_with(start) && line.contains(&names));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).expect("a time")
}

#[test]
fn certificates_expire_when_the_metrics_say() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let [first, second] = ["first", "second"].map(|file| authority.issue(file, &[]));
    issue(&authority, &first, "localhost", 2101);
    issue(&authority, &second, "other.test", 2102);
    // One is listed twice.
    let server = Launch::secure(&tree, LISTEN, "", &[&first, &second, &first]).start();
    let address = admin(&server);
    let metrics = Client::connect(address).get("/metrics");
    assert_eq!(
        metrics
            .text()
            .matches("\ntidegate_certificate_expiry")
            .count(),
        2
    );
    for (name, time) in [("localhost", 2101), ("other.test", 2102)] {
        assert_eq!(expiry(address, name), new_year(time), "{name}");
    }
    issue(&authority, &first, "localhost", 2103);
    server.signal(Signal::HUP);
    eventually("the time of the new certificate", || {
        expiry(address, "localhost") == new_year(2103)
    });
    server.stop();
}

#[test]
fn a_server_that_stops_is_not_ready() {
    let tree = Tree::with("large", &vec![0; 64 << 20]);
    let mut server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let status = |path| Client::connect(address).get(path).status;
    assert_eq!(status("/healthz"), 200);
    assert_eq!(status("/readyz"), 200);
    // A response under way keeps the server from ending.
    let mut slow = server.connect();
    slow.send(get("/large"));
    slow.head();
    server.signal(Signal::TERM);
    eventually("503", || status("/readyz") == 503);
    assert_eq!(status("/healthz"), 200);
    server.signal(Signal::TERM);
    server.wait();
}

#[test]
fn clients_that_stall_hold_up_no_probe() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let stall = |sent: &str| {
        let mut client = TcpStream::connect(address).expect("a connection");
        client.write_all(sent.as_bytes()).expect("half a head");
        client
    };
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.extend((0..100).map(|_| stall("")));
        stalled.extend((0..10).map(|_| stall("GET /healthz HTTP/1.1\r\n")));
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(Client::connect(address).get(path).status, 200);
        }
    }
    // Each is told why, whether another needed its place or its time was over.
    for mut client in stalled {
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        let status = &answer[9..];
        assert!(matches!(status, b"503" | b"408"), "{answer:?}");
    }
    let warnings = || server.log().matches("too many").count();
    eventually("a warning", || warnings() > 0);
    let warnings = warnings();
    // One in ten seconds, not one for each of two thousand.
    assert!((1..100).contains(&warnings), "{warnings}");
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

#[test]
fn what_it_does_not_have_is_refused() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let missing = Client::connect(address).get("/file");
    // For a probe, and not as a page.
    assert_eq!((missing.status, missing.text()), (404, "404 Not Found\n"));
    let refused = Client::connect(address).ask("POST", "/metrics", &[]);
    assert_eq!(refused.status, 405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    // Nor do the sites have it.
    assert_eq!(server.get("/metrics").status, 404);
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let tree = Tree::with("file", b"content");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!("[admin]\nlisten = \"{address}\"\n");
    let output = Launch::run(&tree, &config, "").output();
    output.refusal(1, &[&address.to_string(), "cannot listen", "in use"]);
}
