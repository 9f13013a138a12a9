//! What `/metrics` says of a known load, exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use rustix::fs::{Advice, fadvise};
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

use crate::admin::{LISTEN, admin};
use crate::support::http2::{
    END_HEADERS, END_STREAM, Http2, INITIAL_WINDOW, block, code, frame, kind,
};
use crate::support::{
    Authority, Client, Launch, Tree, eventually, get, installed, noise, request, request_with,
    skipped,
};

/// Clients at a time.
const CLIENTS: u64 = 4;

/// Rounds of requests of each.
const ROUNDS: u64 = 25;

/// All samples of a scrape: the value for each name with its labels.
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let response = Client::connect(address).get("/metrics");
        assert_eq!(response.status, 200);
        let samples = response
            .text()
            .lines()
            .filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The value of a sample, which must be there.
    #[track_caller]
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let known = || self.0.keys().collect::<Vec<_>>();
        let value = self.0.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {:?}", known()))
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> f64 {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        let samples = self.0.iter().filter(|(sample, _)| of_name(sample));
        samples.map(|(_, value)| value).sum()
    }
}

/// Waits until a scrape has these values.
#[track_caller]
fn shows(address: SocketAddr, expected: &[(&str, f64)]) {
    for (sample, value) in expected {
        let what = || {
            format!(
                "{sample} is {}, not {value}",
                Scrape::of(address).value(sample)
            )
        };
        let mut shown = false;
        for _ in 0..500 {
            shown = (Scrape::of(address).value(sample) - value).abs() < f64::EPSILON;
            if shown {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(shown, "{}", what());
    }
}

#[test]
fn requests_of_several_clients_are_counted_exactly() {
    let tree = Tree::with("file", b"content");
    let root = tree.root();
    let root = root.display();
    let sites = format!(
        "[[site]]\nroot = \"{root}\"\n[[site]]\nnames = [\"other.test\", \"b.test\"]\nroot = \"{root}\"\n"
    );
    let launch = Launch::run_sites(&tree, LISTEN, &sites);
    let server = launch.arguments(["--cores", "2"]).start();
    let address = admin(&server);
    let at = server.address;
    let received: usize = thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|_| scope.spawn(|| ask_of_two_sites(at)));
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    let count = (CLIENTS * ROUNDS) as f64;
    let requests = |site: &str, protocol: &str, status: &str| {
        format!(
            "tidegate_requests_total{{site=\"{site}\",protocol=\"{protocol}\",status=\"{status}\"}}"
        )
    };
    let expected = [
        (requests("default", "HTTP/1.1", "2xx"), count),
        (requests("default", "HTTP/1.1", "4xx"), count),
        (requests("other.test", "HTTP/1.1", "2xx"), count),
        (requests("other.test", "HTTP/1.0", "2xx"), count),
        (
            "tidegate_connections_accepted_total".to_owned(),
            (CLIENTS + CLIENTS * ROUNDS) as f64,
        ),
        (
            "tidegate_response_bytes_total{source=\"hot\"}".to_owned(),
            received as f64,
        ),
        (
            "tidegate_response_bytes_total{source=\"cold\"}".to_owned(),
            0.0,
        ),
        ("tidegate_incomplete_responses_total".to_owned(), 0.0),
        (
            "tidegate_time_to_first_byte_seconds_count".to_owned(),
            4.0 * count,
        ),
        (
            "tidegate_response_duration_seconds_bucket{le=\"+Inf\"}".to_owned(),
            4.0 * count,
        ),
        ("tidegate_connections{state=\"idle\"}".to_owned(), 0.0),
    ];
    let expected = expected
        .each_ref()
        .map(|(name, value)| (name.as_str(), *value));
    shows(address, &expected);
    let scrape = Scrape::of(address);
    for name in [
        "tidegate_requests_total",
        "tidegate_shard_requests_total",
        "tidegate_cache_lookups_total",
    ] {
        assert!(
            (scrape.sum(name) - 4.0 * count).abs() < f64::EPSILON,
            "{name}"
        );
    }
    assert!(scrape.value("tidegate_cache_lookups_total{result=\"hit\"}") > count);
    server.stop();
}

/// Rounds of four requests, on one connection and a new one. Returns the number of bytes received.
fn ask_of_two_sites(server: SocketAddr) -> usize {
    let mut received = 0;
    let mut client = Client::connect(server);
    for round in 1..=ROUNDS {
        let close: &[&str] = if round == ROUNDS {
            &["Connection: close"]
        } else {
            &[]
        };
        let fields = [&["Host: Other.test:80"], close].concat();
        client.send(request("GET", "/file"));
        client.send(request("GET", "/none"));
        client.send(request_with("GET", "/file", &fields));
        for _ in 0..3 {
            let response = client.response();
            // What is not in the fields: the status line and two line ends.
            received += response.body.len() + head_bytes(&response.headers, response.status);
        }
        let mut other = Client::connect(server);
        other.send("GET /file HTTP/1.0\r\nHost: b.test\r\n\r\n");
        received += other.rest().len();
    }
    client.ends();
    received
}

/// Bytes of a head with these fields.
fn head_bytes(fields: &[(String, String)], status: u16) -> usize {
    let status_line = match status {
        200 => "HTTP/1.1 200 OK\r\n\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n\r\n",
        status => panic!("{status}"),
    };
    let lines = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    status_line.len() + lines.sum::<usize>()
}

#[test]
fn bytes_from_the_disk_are_cold() {
    if !installed("fincore") {
        return;
    }
    let tree = Tree::with("large", &noise(8 << 20, 1));
    let file = File::open(tree.path("large")).unwrap();
    file.sync_all().unwrap();
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let len = server.get("/large").body.len();
    let whole = len as f64;
    let bytes = |source: &str| {
        let sample = format!("tidegate_response_bytes_total{{source=\"{source}\"}}");
        Scrape::of(address).value(&sample)
    };
    eventually("all bytes are hot", || bytes("hot") >= whole);
    assert!(bytes("cold").abs() < f64::EPSILON);
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let resident = std::process::Command::new("fincore")
        .args(["-nbo", "res"])
        .arg(tree.path("large"))
        .output();
    let resident = String::from_utf8(resident.unwrap().stdout).unwrap();
    if resident.trim() != "0" {
        skipped("files on this file system stay in memory");
        return;
    }
    // Before its end: they are counted as they go.
    let mut client = server.connect();
    client.send(get("/large"));
    let head = client.head();
    assert_eq!(head.content_length(), len);
    eventually("bytes of the disk", || bytes("cold") > 0.0);
    client.body(len);
    eventually("all bytes", || bytes("cold") + bytes("hot") > 2.0 * whole);
    eventually("chunks of the disk", || {
        let scrape = Scrape::of(address);
        scrape.value("tidegate_transfer_chunks_total{source=\"disk\"}") > 0.0
            && scrape.value("tidegate_ring_worker_ops_total{op=\"splice\"}") > 0.0
            && scrape.value("tidegate_pipes{state=\"idle\"}") > 0.0
    });
}

#[test]
fn timeouts_are_counted_by_their_key() {
    let tree = Tree::with("large", &noise(16 << 20, 1));
    let times = "[timeouts]\nheader = \"300ms\"\nkeep-alive = \"300ms\"\nsend-stall = \"1s\"\n";
    let server = Launch::run(&tree, &format!("{LISTEN}{times}"), "").start();
    let address = admin(&server);
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send("GET /large HTTP/1.1\r\n");
    let mut idle = server.connect();
    assert_eq!(idle.get("/none").status, 404);
    let mut stalled = Client::connect_narrow(server.address);
    stalled.send(get("/large"));
    silent.ends();
    assert_eq!(slow.response().status, 408);
    idle.ends();
    shows(
        address,
        &[
            ("tidegate_timeouts_total{kind=\"header\"}", 2.0),
            ("tidegate_timeouts_total{kind=\"keep_alive\"}", 1.0),
            ("tidegate_timeouts_total{kind=\"send_stall\"}", 1.0),
            ("tidegate_incomplete_responses_total", 1.0),
            ("tidegate_connections{state=\"transfer\"}", 0.0),
        ],
    );
    drop(stalled);
    server.stop();
}

#[test]
fn refusals_are_counted_by_their_kind() {
    let tree = Tree::with("file", b"content");
    let limits = "[limits]\nheader-bytes = \"1k\"\nbody-discard = \"1k\"\n";
    let server = Launch::run(&tree, &format!("{LISTEN}{limits}"), "").start();
    let address = admin(&server);
    let long = "a".repeat(2000);
    let requests = [
        ("malformed", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("malformed", "\x16\x03\x01\r\n\r\n".to_owned()),
        ("uri_too_long", format!("GET /{long} HTTP/1.1\r\n")),
        (
            "head_too_large",
            format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"),
        ),
        (
            "unsupported",
            "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(),
        ),
        (
            "unsupported",
            request_with("GET", "/file", &["Expect: a miracle"]),
        ),
        (
            "body_too_large",
            request_with("GET", "/file", &["Content-Length: 2000"]),
        ),
        (
            "body_too_large",
            request_with("GET", "/file", &["Transfer-Encoding: chunked"]) + "7d0\r\na",
        ),
    ];
    for (_, request) in &requests {
        let mut client = server.connect();
        client.send(request);
        client.response();
    }
    let kinds: BTreeSet<_> = requests.iter().map(|(kind, _)| *kind).collect();
    for kind in kinds {
        let count = requests.iter().filter(|(other, _)| *other == kind).count();
        let sample = format!("tidegate_refusals_total{{kind=\"{kind}\"}}");
        shows(address, &[(&sample, count as f64)]);
    }
    let of_none = "tidegate_requests_total{site=\"none\",protocol=\"HTTP/1.1\",status=\"4xx\"}";
    shows(address, &[(of_none, 5.0)]);
    server.stop();
}

#[test]
fn the_limit_of_connections_is_a_refusal() {
    let tree = Tree::with("file", b"content");
    let limits = "[limits]\nconnections-per-core = 4\n";
    let server = Launch::run(&tree, &format!("{LISTEN}{limits}"), "").start();
    let address = admin(&server);
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/file").status, 200);
    }
    shows(address, &[("tidegate_connections{state=\"idle\"}", 4.0)]);
    assert_eq!(server.get("/file").status, 200);
    shows(
        address,
        &[("tidegate_connections_closed_for_room_total", 1.0)],
    );
    assert!(Scrape::of(address).value("tidegate_refusals_total{kind=\"connection_limit\"}") >= 1.0);
    server.stop();
}

#[test]
fn handshakes_are_counted_by_what_they_were() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, LISTEN, "", &[&files]).start();
    let address = admin(&server);
    for suites in [
        &[suite::TLS13_AES_128_GCM_SHA256],
        &[suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
    ] {
        let config = authority.client_with(suites, None);
        for _ in 0..3 {
            let mut client = Client::secure(server.address, &config);
            assert_eq!(client.get("/file").body, b"content");
        }
    }
    // A ticket of another server.
    let other_tree = Tree::with("file", b"content");
    let other = Launch::secure(&other_tree, "", "", &[&files]).start();
    let config = authority.client_with(&[suite::TLS13_AES_256_GCM_SHA384], None);
    for address in [other.address, server.address] {
        assert_eq!(Client::secure(address, &config).get("/file").status, 200);
    }
    let mut plain = server.connect();
    assert_eq!(plain.get("/file").status, 400);
    let mut garbage = TcpStream::connect(server.address).unwrap();
    garbage.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
    drop(TcpStream::connect(server.address).unwrap());
    shows(
        address,
        &[
            ("tidegate_tls_handshakes_total{kind=\"TLSv1.3 full\"}", 2.0),
            (
                "tidegate_tls_handshakes_total{kind=\"TLSv1.3 resumed\"}",
                2.0,
            ),
            ("tidegate_tls_handshakes_total{kind=\"TLSv1.2 full\"}", 1.0),
            (
                "tidegate_tls_handshakes_total{kind=\"TLSv1.2 resumed\"}",
                2.0,
            ),
            (
                "tidegate_tls_handshake_failures_total{kind=\"plain_http\"}",
                1.0,
            ),
            (
                "tidegate_tls_handshake_failures_total{kind=\"malformed\"}",
                1.0,
            ),
            ("tidegate_tls_handshake_failures_total{kind=\"gone\"}", 1.0),
            ("tidegate_refusals_total{kind=\"plain_http\"}", 1.0),
            ("tidegate_tls_tickets_refused_total", 1.0),
        ],
    );
    server.stop();
}

#[test]
fn each_format_is_for_those_who_prefer_it() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let fetch = |accept: &[&str]| Client::connect(address).get_with("/metrics", accept);
    let open = fetch(&[prometheus]);
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(media));
    assert!(open.text().ends_with("# EOF\n"));
    for accept in [&[][..], &["Accept: */*"], &["Accept: text/plain"]] {
        let plain = fetch(accept);
        let media = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(plain.header("content-type"), Some(media));
        check_prometheus(plain.text());
    }
}

/// Every sample has a type and a help, named as it is.
#[track_caller]
fn check_prometheus(metrics: &str) {
    let named = |kind: &str| -> BTreeSet<&str> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split(' ').next()).collect()
    };
    let (helps, types) = (named("# HELP "), named("# TYPE "));
    assert_eq!(helps, types);
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let parts = ["_bucket", "_sum", "_count", ""];
        let base = parts
            .iter()
            .find_map(|part| name.strip_suffix(part).filter(|base| types.contains(base)));
        assert!(base.is_some(), "{line}");
        assert!(
            name.starts_with("tidegate_") || name.starts_with("process_"),
            "{line}"
        );
    }
}

#[test]
fn no_label_comes_from_a_client() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let mut client = server.connect();
    assert_eq!(client.get("/file").status, 200);
    let before: Vec<_> = Scrape::of(address).0.into_keys().collect();
    for number in 0..100 {
        let (path, host) = (format!("/file?{number}"), format!("Host: h{number}.test"));
        assert_eq!(client.get_with(&path, &[&host]).status, 200);
    }
    let after: Vec<_> = Scrape::of(address).0.into_keys().collect();
    assert_eq!(before, after);
}

#[test]
fn a_scrape_that_reads_nothing_holds_up_no_other() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let sockets = server.sockets();
    let stalled: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::connect_narrow(address);
            client.send(get("/metrics"));
            client
        })
        .collect();
    for _ in 0..10 {
        assert!(Scrape::of(address).value("tidegate_ready") > 0.0);
        assert_eq!(server.get("/file").body, b"content");
    }
    // Their time is over, although they are still there.
    server.wait_for_sockets(sockets);
    drop(stalled);
    server.stop();
}

#[test]
fn the_live_page_has_the_slowest_and_the_most_frequent_errors() {
    let tree = Tree::with("large", &noise(16 << 20, 1));
    let server = Launch::run(&tree, LISTEN, "").start();
    let address = admin(&server);
    let page = Client::connect(address).get("/");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    let mut slow = Client::connect_narrow(server.address);
    slow.send(get("/large?secret"));
    let head = slow.head();
    thread::sleep(std::time::Duration::from_millis(300));
    slow.body(head.content_length());
    let mut client = server.connect();
    let hostile = "/<script>alert(1)</script>\"";
    for _ in 0..3 {
        client.send(request("GET", hostile));
        assert_eq!(client.response().status, 404);
    }
    for number in 0..1000 {
        assert_eq!(client.get(&format!("/{number}")).status, 404);
    }
    let live = || -> serde_json::Value {
        let response = Client::connect(address).get("/live.json");
        assert_eq!(response.header("content-type"), Some("application/json"));
        serde_json::from_slice(&response.body).expect("JSON")
    };
    // The first one, unless the machine was busy when another was answered.
    let slow = |live: &serde_json::Value| {
        let requests = live["slowest"].as_array().cloned().unwrap_or_default();
        let mut large = requests.into_iter().filter(|one| one["path"] == "/large");
        large.next().and_then(|one| one["seconds"].as_f64())
    };
    eventually("the slowest", || slow(&live()).is_some());
    let live = live();
    assert!(slow(&live).is_some_and(|seconds| seconds >= 0.3), "{live}");
    let errors = live["errors"].as_array().unwrap();
    assert!(
        errors.len() <= 10 && errors.iter().all(|error| error["status"] == 404),
        "{live}"
    );
    assert_eq!(live["cores"][0]["status"]["4xx"], 1003);
    assert_eq!(live["ready"], true);
    assert!(!live.to_string().contains("secret"));
    server.stop();
}

#[test]
fn http2_is_counted_with_what_clients_do_wrong() {
    let tree = Tree::with("index.html", b"content");
    tree.write("large", &noise(1 << 20, 1));
    let limits = "[http2]\nconcurrent-streams = 2\nreset-burst = 10\nreset-rate = 1\n";
    let server = Launch::http2(&tree, &format!("{LISTEN}{limits}"), "").start();
    let address = admin(&server);
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 1000)]);
    client.grants = false;
    let large = [(); 2].map(|()| client.request("GET", "/large", &[]));
    let refused = client.request("GET", "/", &[]);
    assert_eq!(
        client.response_or_reset(refused).err(),
        Some(code::REFUSED_STREAM)
    );
    client.reset(large[0], code::CANCEL);
    client.reset(large[1], 77);
    client.settle();
    let upper_case = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
        ("Upper", "case"),
    ]);
    let stream = client.next_stream();
    let flags = END_HEADERS | END_STREAM;
    client.send_frame(kind::HEADERS, flags, stream, &upper_case);
    assert_eq!(
        client.response_or_reset(stream).err(),
        Some(code::PROTOCOL_ERROR)
    );
    assert_eq!(client.get("/").status, 200);
    let request = block(&client.fields("GET", "/large", &[]));
    for _ in 0..20 {
        let stream = client.next_stream();
        let mut rapid = frame(kind::HEADERS, flags, stream, &request);
        rapid.extend(frame(
            kind::RST_STREAM,
            0,
            stream,
            &code::CANCEL.to_be_bytes(),
        ));
        // The server may have closed the connection.
        let _ = client.try_send(&rapid);
    }
    client.ends();
    assert_eq!(client.goaways[0].1, code::ENHANCE_YOUR_CALM);
    let mut client = Http2::connect(server.address);
    client.send_frame(kind::PING, 0, 1, b"a stream");
    client.ends();
    let scrape = Scrape::of(address);
    for (sample, expected) in [
        ("http2_connections_total{kind=\"preface\"}", 2.0),
        ("http2_connections_total{kind=\"alpn\"}", 0.0),
        ("http2_stream_errors_total{kind=\"too_many_streams\"}", 1.0),
        ("http2_stream_errors_total{kind=\"field_name\"}", 1.0),
        ("http2_client_resets_total{code=\"other\"}", 1.0),
        (
            "http2_connection_errors_total{kind=\"too_many_resets\"}",
            1.0,
        ),
        ("http2_connection_errors_total{kind=\"frame_stream\"}", 1.0),
        ("http2_goaways_total{code=\"ENHANCE_YOUR_CALM\"}", 1.0),
        ("http2_goaways_total{code=\"PROTOCOL_ERROR\"}", 1.0),
    ] {
        let found = scrape.value(&format!("tidegate_{sample}"));
        assert!((found - expected).abs() < 0.1, "{sample}: {found}");
    }
    assert!(scrape.value("tidegate_http2_client_resets_total{code=\"CANCEL\"}") >= 3.0);
    let requests = "tidegate_requests_total{site=\"default\",protocol=\"HTTP/2.0\"";
    assert!(scrape.value(&format!("{requests},status=\"2xx\"}}")) >= 1.0);
    // The log comes through a pipe of its own.
    for text in ["too many streams are reset", "client=127.0.0.1"] {
        eventually(text, || server.log().contains(text));
    }
}

#[test]
fn bodies_of_http2_that_are_too_large_are_counted() {
    let tree = Tree::with("index.html", b"content");
    let limits = "[limits]\nbody-discard = \"1k\"\n";
    let server = Launch::http2(&tree, &format!("{LISTEN}{limits}"), "").start();
    let mut client = Http2::connect(server.address);
    let announced: &[(&str, &str)] = &[("content-length", "2000")];
    for fields in [announced, &[]] {
        let stream = client.next_stream();
        let head = block(&client.fields("PUT", "/", fields));
        client.send_frame(kind::HEADERS, END_HEADERS, stream, &head);
        client.send_frame(kind::DATA, 0, stream, &[0; 2000]);
        assert_eq!(client.response(stream).status, 405);
    }
    let sample = "tidegate_refusals_total{kind=\"body_too_large\"}";
    shows(admin(&server), &[(sample, 2.0)]);
}

#[test]
fn a_connection_that_has_served_its_requests_is_counted() {
    let tree = Tree::with("index.html", b"content");
    let limits = "[limits]\nrequests-per-connection = 2\n";
    let server = Launch::http2(&tree, &format!("{LISTEN}{limits}"), "").start();
    let mut client = Http2::connect(server.address);
    client.get("/");
    client.get("/");
    client.ends();
    let scrape = Scrape::of(admin(&server));
    assert!(scrape.value("tidegate_http2_goaways_total{code=\"NO_ERROR\"}") >= 1.0);
}
