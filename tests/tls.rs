//! HTTPS: what is answered over TLS is what is answered without.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::Advice;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, cipher_suite as suite};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use crate::support::{
    Authority, Client, Ending, Launch, Response, Server, Tree, content_range, get, installed,
    kernel_sessions, noise,
};

/// Lengths about those where bodies are sent another way: in one record with their head, from memory,
/// in pieces.
const LENGTHS: [usize; 9] = [
    0,
    1,
    1000,
    16_384,
    16_385,
    65_536,
    65_537,
    1 << 20,
    20 << 20,
];

/// A server of `tree` that speaks TLS, and a client's settings.
fn start(tree: &Tree) -> (Server, Arc<ClientConfig>) {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(tree, "", "", &[&files]).start();
    (server, authority.client())
}

fn tree_of_lengths() -> Tree {
    let tree = Tree::new();
    for length in LENGTHS {
        tree.write(&format!("{length}"), &noise(length, length as u64));
    }
    tree
}

#[track_caller]
fn check_every_length(client: &mut Client) {
    for length in LENGTHS {
        let response = client.get(&format!("/{length}"));
        assert_eq!(response.status, 200);
        assert!(response.body == noise(length, length as u64), "{length}");
    }
}

#[test]
fn bodies_of_every_length_arrive_on_one_connection() {
    let tree = tree_of_lengths();
    let (server, config) = start(&tree);
    let mut client = Client::secure(server.address, &config);
    check_every_length(&mut client);
    assert_eq!(
        client.tls().protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    // From the caches now.
    check_every_length(&mut client);
}

#[test]
fn large_bodies_from_memory_arrive_whole() {
    let tree = tree_of_lengths();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "[io]\ninline-max = \"1m\"", "", &[&files]).start();
    let config = authority.client();
    let mut client = Client::secure(server.address, &config);
    check_every_length(&mut client);
    // From memory now.
    client.send([get("/1048576"), get("/65537"), get("/1000")].concat());
    for length in [1 << 20, 65_537, 1000] {
        assert!(
            client.response().body == noise(length, length as u64),
            "{length}"
        );
    }
    let part = client.get_with("/1048576", &["Range: bytes=1000-999999"]);
    assert_eq!(part.status, 206);
    assert!(part.body == noise(1 << 20, 1 << 20)[1000..1_000_000]);
}

/// Checks bodies by `suite`, one from memory, others in pieces.
#[track_caller]
fn check_suite(suite: SupportedCipherSuite) {
    const LENGTHS: [usize; 3] = [1000, 65_537, 1 << 20];
    let tree = Tree::new();
    for length in LENGTHS {
        tree.write(&format!("{length}"), &noise(length, length as u64));
    }
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let config = authority.client_with(&[suite], None);
    let mut client = Client::secure(server.address, &config);
    for length in LENGTHS {
        let response = client.get(&format!("/{length}"));
        assert!(response.body == noise(length, length as u64), "{length}");
    }
    assert_eq!(client.tls().negotiated_cipher_suite(), Some(suite));
}

#[test]
fn bodies_by_tls13_aes_128_gcm() {
    check_suite(suite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn bodies_by_tls13_aes_256_gcm() {
    check_suite(suite::TLS13_AES_256_GCM_SHA384);
}

#[test]
fn bodies_by_tls13_chacha20_poly1305() {
    check_suite(suite::TLS13_CHACHA20_POLY1305_SHA256);
}

#[test]
fn bodies_by_every_suite_of_tls12() {
    // RSA suites need a certificate of another kind.
    for suite in ALL_CIPHER_SUITES {
        let is_rsa = format!("{:?}", suite.suite()).contains("RSA");
        if suite.tls13().is_none() && !is_rsa {
            check_suite(*suite);
        }
    }
}

#[test]
fn a_cold_file_arrives_whole() {
    const LENGTH: usize = 3_000_001;
    let tree = Tree::with("file", &noise(LENGTH, 1));
    let (server, config) = start(&tree);
    let file = File::open(tree.path("file")).unwrap();
    file.sync_all().unwrap();
    let mut client = Client::secure(server.address, &config);
    for _ in 0..3 {
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(client.get("/file").body == noise(LENGTH, 1));
    }
}

#[test]
fn many_clients_at_the_same_time() {
    let tree = tree_of_lengths();
    let (server, config) = start(&tree);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| check_every_length(&mut Client::secure(server.address, &config)));
        }
    });
}

/// What both kinds of client are answered to the same requests.
fn answers(client: &mut Client) -> Vec<Response> {
    let first = client.get("/65537");
    let etag = format!("If-None-Match: {}", first.etag());
    vec![
        client.ask("HEAD", "/65537", &[]),
        client.get_with("/65537", &[&etag]),
        client.get_with("/65537", &["Range: bytes=10-65000"]),
        client.get_with("/1000", &["Range: bytes=-5"]),
        client.get_with("/1000", &["Range: bytes=1000-"]),
        client.get("/none"),
        client.get("/list/"),
        client.ask("OPTIONS", "/1000", &[]),
        client.ask("DELETE", "/1000", &[]),
        first,
    ]
}

#[test]
fn what_is_answered_is_what_is_answered_without_tls() {
    let tree = tree_of_lengths();
    tree.write("list/a", b"a");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\n[[listen]]\naddress = \"127.0.0.1:0\"\n{}[[site]]\nroot = \"{}\"\ndirectory-listing = true\n",
        files.entry(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let plain = answers(&mut Client::connect(server.next_address()));
    let secure = answers(&mut Client::secure(server.address, &authority.client()));
    for (plain, secure) in plain.iter().zip(&secure) {
        assert_eq!(plain.status, secure.status);
        assert_eq!(plain.steady_headers(), secure.steady_headers());
        assert!(plain.body == secure.body, "{:?}", plain.headers);
    }
}

#[test]
fn ranges_of_a_large_file_in_parts() {
    let tree = tree_of_lengths();
    let (server, config) = start(&tree);
    let mut client = Client::secure(server.address, &config);
    let content = noise(20 << 20, 20 << 20);
    let response = client.get_with("/20971520", &["Range: bytes=5-20000000"]);
    let range = response.header("content-range").map(content_range);
    assert_eq!(range, Some((5..20_000_001, 20 << 20)));
    assert!(response.body == content[5..=20_000_000]);
    let response = client.get_with("/20971520", &["Range: bytes=0-9,100-99999,-7"]);
    assert_eq!(response.status, 206);
    let text = &response.body;
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    assert!(has(&content[100..1000]) && has(&content[(20 << 20) - 7..]));
    assert_eq!(client.get("/1").body, noise(1, 1));
}

#[test]
fn requests_in_one_record_and_in_many_are_answered_in_order() {
    let tree = tree_of_lengths();
    let (server, config) = start(&tree);
    let mut client = Client::secure(server.address, &config);
    let paths = ["/1000", "/65537", "/1", "/1048576", "/none", "/16384"];
    client.send(paths.map(get).concat());
    for path in paths {
        let response = client.response();
        let length = path[1..].parse().ok();
        let expected = length.map(|length: usize| noise(length, length as u64));
        assert!(
            expected.is_none_or(|expected| expected == response.body),
            "{path}"
        );
    }
    for byte in get("/1000").as_bytes() {
        client.send([*byte]);
    }
    assert!(client.response().body == noise(1000, 1000));
}

#[test]
fn a_session_is_resumed_by_every_core() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let launch = Launch::secure(&tree, "", "", &[&files]);
    let cores = std::thread::available_parallelism().unwrap().get().min(2);
    let server = launch.arguments(["--cores", &cores.to_string()]).start();
    for suites in [
        &[suite::TLS13_AES_128_GCM_SHA256],
        &[suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
    ] {
        let config = authority.client_with(suites, None);
        // Sixteen connections are on one of two cores once in 32,768 runs.
        for number in 0..16 {
            let mut client = Client::secure(server.address, &config);
            assert_eq!(client.get("/file").body, b"content");
            let expected = match number {
                0 => HandshakeKind::Full,
                _ => HandshakeKind::Resumed,
            };
            assert_eq!(client.tls().handshake_kind(), Some(expected), "{number}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_agrees_on_it() {
    let tree = Tree::with("file", b"content");
    let (server, config) = start(&tree);
    for (offered, agreed) in [
        (&["http/1.0"][..], "http/1.0"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
    ] {
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let mut client = Client::secure(server.address, &Arc::new(config));
        client.send("GET /file HTTP/1.0\r\n\r\n");
        assert_eq!(client.response().body, b"content");
        assert_eq!(client.tls().alpn_protocol(), Some(agreed.as_bytes()));
    }
}

#[test]
fn the_last_response_is_followed_by_close_notify() {
    let tree = tree_of_lengths();
    let (server, config) = start(&tree);
    for path in ["/1000", "/1048576", "/20971520", "/none"] {
        let mut client = Client::secure(server.address, &config);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        assert!(client.response().closes());
        assert!(client.ends_with_close_notify(), "{path}");
    }
    // A client that has said so itself, and one that left without a word.
    let mut client = Client::secure(server.address, &config);
    client.get("/1000");
    client.tls().send_close_notify();
    client.send("");
    assert!(client.ends_with_close_notify());
    let mut client = Client::secure(server.address, &config);
    client.get("/1000");
    client.finish_sending();
    assert!(client.ends_with_close_notify());
}

#[test]
fn a_response_that_is_cut_short_is_not_followed_by_close_notify() {
    const LENGTH: usize = 30 << 20;
    let tree = Tree::with("file", &noise(LENGTH, 1));
    let (server, config) = start(&tree);
    let (sockets, sessions) = (server.sockets(), kernel_sessions());
    let mut client = Client::secure(server.address, &config);
    client.send(get("/file"));
    assert_eq!(client.head().content_length(), LENGTH);
    let in_kernel = kernel_sessions() > sessions;
    File::options()
        .write(true)
        .open(tree.path("file"))
        .unwrap()
        .set_len(10_000)
        .unwrap();
    // The kernel has a record begun, which leaves by an alert alone.
    let expected = if in_kernel {
        Ending::InternalError
    } else {
        Ending::Cut
    };
    assert_eq!(client.ending(), expected);
    server.wait_for_sockets(sockets);
}

#[test]
fn clients_that_leave_and_stall_leave_nothing_behind() {
    let tree = tree_of_lengths();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\n{}[timeouts]\nsend-stall = \"300ms\"\nkeep-alive = \"1s\"\n[[site]]\nroot = \"{}\"\n",
        files.entry(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let config = authority.client();
    let before = server.sockets();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let mut client = Client::secure(server.address, &config);
            client.send(get("/20971520"));
            client.body(number * 100_000);
            client
        })
        .collect();
    // Half of them leave, the others take nothing any more.
    let stalled: Vec<_> = clients.into_iter().skip(4).collect();
    server.wait_for_sockets(before);
    drop(stalled);
    assert!(Client::secure(server.address, &config).get("/1").status == 200);
}

#[test]
fn a_policy_is_told_over_tls_only() {
    const POLICY: &str = "max-age=63072000; includeSubDomains";
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\n[[listen]]\naddress = \"127.0.0.1:0\"\n[tls]\nhsts = \"{POLICY}\"\n{}\
         [[site]]\nroot = \"{}\"\n",
        files.entry(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let policies = |mut client: Client| {
        let etag = format!("If-None-Match: {}", client.get("/file").etag());
        let responses = [
            client.get("/file"),
            client.get_with("/file", &[&etag]),
            client.get("/none"),
            client.ask("OPTIONS", "/file", &[]),
        ];
        responses.map(|response| {
            let policy = response.header("strict-transport-security");
            policy.map(str::to_owned)
        })
    };
    let secure = policies(Client::secure(server.address, &authority.client()));
    assert_eq!(secure, [(); 4].map(|()| Some(POLICY.to_owned())));
    let plain = policies(Client::connect(server.next_address()));
    assert_eq!(plain, [(); 4].map(|()| None));
}

/// What a request with `host` is redirected to.
fn location(address: SocketAddr, target: &str, host: &str) -> (u16, Option<String>) {
    let mut client = Client::connect(address);
    let response = client.get_with(target, &[&format!("Host: {host}")]);
    let location = response.header("location").map(str::to_owned);
    (response.status, location)
}

#[test]
fn a_listener_that_sends_to_https() {
    let tree = Tree::with("file", b"content");
    tree.write(".well-known/acme-challenge/token", b"proof");
    let root = tree.root();
    let sites = format!(
        "https-redirect = 443\n[[listen]]\naddress = \"127.0.0.1:0\"\nhttps-redirect = 8443\n\
         [[site]]\nroot = \"{}\"\n",
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let usual = |target, host| location(server.address, target, host);
    let moved = |to: &str| (308, Some(to.to_owned()));
    assert_eq!(
        usual("/a%20b/../c?d=1&e", "example.com"),
        moved("https://example.com/a%20b/../c?d=1&e")
    );
    assert_eq!(usual("/", "example.com:80"), moved("https://example.com/"));
    assert_eq!(usual("/", "[::1]:80"), moved("https://[::1]/"));
    assert_eq!(usual("/", "[::1]"), moved("https://[::1]/"));
    let other = location(server.next_address(), "/file", "example.com:8080");
    assert_eq!(other, moved("https://example.com:8443/file"));
    // Certificates are renewed by it.
    let response = server.get("/.well-known/acme-challenge/token");
    assert_eq!((response.status, response.text()), (200, "proof"));
    // HTTP/1.0 without a host.
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status, 400);
}

#[test]
fn curl_and_openssl_are_served() {
    let tree = Tree::with("file", &noise(100_000, 1));
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let port = server.address.port();
    if installed("curl") {
        let url = format!("https://localhost:{port}/file");
        for version in ["1.2", "1.3"] {
            let output = Command::new("curl")
                .args(["-sS", "--fail", "--tls-max", version, "--cacert"])
                .arg(authority.file())
                .args([&url, &url])
                .output()
                .unwrap();
            let twice = [noise(100_000, 1), noise(100_000, 1)].concat();
            assert!(output.stdout == twice, "{output:?}");
        }
    }
    if installed("openssl") {
        let connect = format!("localhost:{port}");
        let output = Command::new("openssl")
            .args(["s_client", "-verify_return_error", "-alpn", "h2,http/1.1"])
            .args(["-connect", &connect, "-CAfile"])
            .arg(authority.file())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("ALPN protocol: h2"), "{text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    }
}
