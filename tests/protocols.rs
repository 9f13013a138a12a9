//! Which version of HTTP is spoken on a connection: `listen.protocols`, ALPN, the preface.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::{AlertDescription, ClientConfig, Error};

use crate::proxies::v2_of_client;
use crate::reload::{APPLIED, hup};
use crate::support::http2::{Http2, PREFACE, frame, kind};
use crate::support::{Authority, Client, Launch, Server, Tree, secure};

/// A server of `tree` with one listener that speaks TLS, to which `listen` adds keys.
fn start(tree: &Tree, authority: &Authority, listen: &str) -> Server {
    let entry = authority.issue("server", &["localhost"]).entry();
    let root = tree.root();
    let site = format!("[[site]]\nroot = \"{}\"\n", root.display());
    Launch::run_sites(tree, "", &format!("tls = true\n{listen}\n{entry}\n{site}")).start()
}

/// What a client that offers these protocols agrees on with the server.
fn agreed(
    address: SocketAddr,
    config: &ClientConfig,
    offered: &[&str],
) -> Result<Option<String>, Error> {
    let mut config = config.clone();
    let offered = offered.iter();
    config.alpn_protocols = offered.map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).expect("a connection");
    let mut stream = secure(stream, &Arc::new(config), "localhost");
    if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
        let error = error.into_inner().expect("an error of TLS");
        return Err(*error.downcast().expect("an error of TLS"));
    }
    let agreed = stream.conn.alpn_protocol();
    Ok(agreed.map(|name| String::from_utf8_lossy(name).into_owned()))
}

#[test]
fn a_listener_offers_its_protocols_by_alpn() {
    let (tree, authority) = (Tree::with("file", b"content"), Authority::new());
    let config = authority.client();
    let browser = &["h2", "http/1.1"][..];
    // Those that the listener speaks; what is agreed with a browser, with a client of HTTP/1.1, and
    // with one of HTTP/2 alone.
    let rows = [
        ("", [Some("h2"), Some("http/1.1"), Some("h2")]),
        (
            "protocols = [\"http/1.1\"]",
            [Some("http/1.1"), Some("http/1.1"), None],
        ),
        (
            "protocols = [\"h2\", \"http/1.1\"]",
            [Some("h2"), Some("http/1.1"), Some("h2")],
        ),
        (
            "protocols = [\"http/1.1\", \"h2\"]",
            [Some("h2"), Some("http/1.1"), Some("h2")],
        ),
        ("protocols = [\"h2\"]", [Some("h2"), None, Some("h2")]),
    ];
    let refused = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    for (listen, expected) in rows {
        let server = start(&tree, &authority, listen);
        let offers = [browser, &["http/1.1"], &["h2"]];
        for (offered, expected) in offers.into_iter().zip(expected) {
            let agreed = agreed(server.address, &config, offered);
            let expected = expected.map(|name| Some(name.to_owned()));
            assert_eq!(
                agreed,
                expected.ok_or(refused.clone()),
                "{listen}: {offered:?}"
            );
        }
        assert_eq!(
            agreed(server.address, &config, &["spdy/3"]),
            Err(refused.clone())
        );
        assert_eq!(agreed(server.address, &config, &[]), Ok(None));
    }
}

/// HTTP/2 is never agreed on with a suite that it forbids: there is none (RFC 9113, appendix A).
#[test]
fn http2_is_spoken_with_every_suite() {
    let (tree, authority) = (Tree::with("file", b"content"), Authority::new());
    let server = start(&tree, &authority, "protocols = [\"h2\"]");
    for &suite in ALL_CIPHER_SUITES {
        let config = authority.client_with(&[suite], None);
        // The key of the certificate is an ECDSA one.
        if !format!("{:?}", suite.suite()).contains("RSA") {
            let mut client = Http2::secure(server.address, &config);
            assert_eq!(client.get("/file").body, b"content", "{suite:?}");
        }
    }
}

/// A server of `tree` without TLS that speaks `protocols`.
fn start_plain(tree: &Tree, protocols: &str) -> Server {
    let root = tree.root();
    let sites = format!("{protocols}\n[[site]]\nroot = \"{}\"\n", root.display());
    Launch::run_sites(tree, "", &sites).start()
}

#[test]
fn both_versions_are_spoken_on_one_port() {
    let tree = Tree::with("file", b"content");
    let server = start_plain(&tree, "");
    assert_eq!(server.get("/file").body, b"content");
    assert_eq!(Http2::connect(server.address).get("/file").body, b"content");
    // Before the first request alone.
    let mut client = server.connect();
    assert_eq!(client.get("/file").status, 200);
    client.send(PREFACE);
    assert_eq!(client.response().status, 505);
}

#[test]
fn a_preface_may_arrive_in_pieces() {
    let tree = Tree::with("file", b"content");
    let server = start_plain(&tree, "");
    let mut client = Http2::silent(server.address);
    let mut start = PREFACE.to_vec();
    start.extend(frame(kind::SETTINGS, 0, 0, &[]));
    for byte in start {
        client.send(&[byte]);
    }
    assert_eq!(client.get("/file").body, b"content");
}

#[test]
fn a_listener_without_http2_refuses_its_preface() {
    let tree = Tree::with("file", b"content");
    let server = start_plain(&tree, "protocols = [\"http/1.1\"]");
    let mut client = server.connect();
    client.send(PREFACE);
    let response = client.response();
    assert_eq!(response.status, 505);
    assert!(response.closes());
    client.ends();
}

#[test]
fn a_listener_with_http2_alone_refuses_other_requests() {
    let (tree, authority) = (Tree::with("file", b"content"), Authority::new());
    let alone = "protocols = [\"h2\"]";
    let server = start_plain(&tree, alone);
    let secure = start(&tree, &authority, alone);
    let mut config = ClientConfig::clone(&authority.client());
    config.alpn_protocols.clear();
    let clients = [
        server.connect(),
        Client::secure(secure.address, &Arc::new(config)),
    ];
    for mut client in clients {
        let response = client.get("/file");
        assert_eq!(response.status, 505);
        assert!(response.text().contains("does not speak this version"));
        assert!(response.closes());
        assert!(client.response_or_end().is_none());
    }
    assert_eq!(Http2::connect(server.address).get("/file").body, b"content");
}

/// RFC 9113 has no such upgrade any more, and a server may ignore it (RFC 9110, section 7.8).
#[test]
fn an_upgrade_is_ignored() {
    let tree = Tree::with("file", b"content");
    let server = start_plain(&tree, "");
    let mut client = server.connect();
    let upgrade = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ];
    for _ in 0..2 {
        let response = client.get_with("/file", &upgrade);
        assert_eq!((response.status, &*response.body), (200, &b"content"[..]));
        assert!(!response.has("upgrade"));
    }
}

#[test]
fn http2_behind_the_proxy_protocol() {
    let tree = Tree::with("file", b"content");
    for protocols in ["[\"h2\"]", "[\"h2\", \"http/1.1\"]"] {
        let root = tree.root();
        let sites = format!(
            "protocols = {protocols}\nproxy-protocol = \"require\"\n\
             [proxies]\ntrusted = [\"127.0.0.0/8\"]\n[[site]]\nroot = \"{}\"\n\
             [[site.access]]\nmatch = \"/**\"\nallow = [\"192.0.2.7\"]\n",
            root.display()
        );
        let server = Launch::run_sites(&tree, "", &sites).start();
        let mut client = Http2::silent(server.address);
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n");
        client.begin(&[]);
        assert_eq!(client.get("/file").body, b"content", "{protocols}");
        // In one piece.
        let mut client = Http2::silent(server.address);
        let mut start = b"PROXY TCP4 192.0.2.8 192.0.2.1 40000 443\r\n".to_vec();
        start.extend(PREFACE);
        start.extend(frame(kind::SETTINGS, 0, 0, &[]));
        client.send(&start);
        assert_eq!(client.get("/file").status, 403, "{protocols}");
        // Version 2, in one piece and cut within the preface.
        for cut in [0, v2_of_client().len() + 10] {
            let mut start = v2_of_client();
            start.extend(PREFACE);
            start.extend(frame(kind::SETTINGS, 0, 0, &[]));
            let (first, second) = start.split_at(cut);
            let mut client = Http2::silent(server.address);
            client.send(first);
            thread::sleep(Duration::from_millis(20));
            client.send(second);
            assert_eq!(client.get("/file").body, b"content", "{protocols}");
        }
    }
}

#[test]
fn a_connection_serves_the_hosts_of_its_certificate() {
    let (tree, authority) = (Tree::with("file", b"content"), Authority::new());
    tree.write("421.html", b"elsewhere");
    let entry = authority
        .issue("server", &["localhost", "*.b.test"])
        .entry();
    let root = tree.root();
    let start = |proxies: &str| {
        let site = format!("root = \"{}\"\n", root.display());
        let sites = format!(
            "tls = true\n{proxies}\n{entry}\n\
             [[site]]\n{site}error-pages = {{ 421 = \"/421.html\" }}\n\
             [[site]]\nnames = [\"d.test\"]\n{site}"
        );
        Launch::run_sites(&tree, "", &sites).start()
    };
    let server = start("");
    let mut client = Http2::secure(server.address, &authority.client());
    for authority in ["localhost", "localhost:8443", "LocalHost.", "x.b.test"] {
        client.authority = authority;
        assert_eq!(client.get("/file").body, b"content", "{authority}");
    }
    let rows: [(&'static str, &[u8]); 3] = [
        ("c.test", b"elsewhere"),
        ("y.x.b.test", b"elsewhere"),
        ("d.test", b""),
    ];
    for (authority, page) in rows {
        client.authority = authority;
        for target in ["/file", "/none"] {
            let response = client.get(target);
            assert_eq!(response.status, 421, "{authority}");
            assert!(page.is_empty() || response.body == page, "{authority}");
        }
    }
    client.authority = "localhost";
    assert_eq!(client.get("/file").body, b"content");
    // Clients of HTTP/1.1 do not share a connection between hosts.
    let mut client = Client::secure(server.address, &authority.client());
    assert_eq!(client.get("/file").status, 200);
    // A gateway may.
    let server = start("[proxies]\ntrusted = [\"127.0.0.0/8\"]\n");
    let mut client = Http2::secure(server.address, &authority.client());
    client.authority = "c.test";
    assert_eq!(client.get("/file").body, b"content");
}

/// The settings that the server begins with, by their numbers (RFC 9113, section 6.5.2).
#[track_caller]
fn settings(client: &mut Http2) -> Vec<(u16, u32)> {
    let frame = client.frame().expect("settings");
    assert_eq!((frame.kind, frame.flags), (kind::SETTINGS, 0));
    let settings = frame.payload.chunks(6).map(|setting| {
        let name = u16::from_be_bytes([setting[0], setting[1]]);
        let value = [setting[2], setting[3], setting[4], setting[5]];
        (name, u32::from_be_bytes(value))
    });
    settings.collect()
}

#[test]
fn a_reload_is_for_new_connections() {
    let tree = Tree::with("file", b"content");
    let server = start_plain(&tree, "");
    let mut kept = Http2::connect(server.address);
    assert_eq!(kept.get("/file").body, b"content");
    let root = tree.root();
    let site = format!("[[site]]\nroot = \"{}\"\n", root.display());
    drop(Launch::run_sites(
        &tree,
        "",
        &format!("[http2]\nconcurrent-streams = 7\n{site}"),
    ));
    hup(&server, APPLIED);
    let mut client = Http2::connect(server.address);
    assert!(settings(&mut client).contains(&(3, 7)));
    assert_eq!(client.get("/file").body, b"content");
    drop(Launch::run_sites(
        &tree,
        "",
        &format!("protocols = [\"http/1.1\"]\n{site}"),
    ));
    hup(&server, APPLIED);
    let mut client = server.connect();
    client.send(PREFACE);
    assert_eq!(client.response().status, 505);
    assert_eq!(kept.get("/file").body, b"content");
}

#[test]
fn the_settings_are_those_of_the_configuration() {
    let tree = Tree::with("file", b"content");
    let config = "[http2]\nconcurrent-streams = 7\n\
         stream-window = \"128k\"\nconnection-window = \"1m\"\n\
         [limits]\nheader-bytes = \"4k\"\n";
    let server = Launch::http2(&tree, config, "").start();
    let mut client = Http2::connect(server.address);
    let settings = settings(&mut client);
    // SETTINGS_MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE.
    for expected in [(3, 7), (4, 128 << 10), (6, 4 << 10)] {
        assert!(settings.contains(&expected), "{expected:?}: {settings:?}");
    }
    let window = client.frame().expect("a window");
    assert_eq!((window.kind, window.stream), (kind::WINDOW_UPDATE, 0));
    assert_eq!(window.number(0), (1 << 20) - 65_535);
    let long = "x".repeat(120);
    let names: Vec<String> = (0..40).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (&**name, &*long)).collect();
    assert_eq!(client.ask("GET", "/file", &fields).status, 431);
    assert_eq!(client.get("/file").body, b"content");
}

#[test]
fn likely_mistakes_are_told() {
    let tree = Tree::with("file", b"content");
    let file = tree.base().join("tidegate.toml");
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\nprotocols = [\"h2\"]\n\
         [limits]\nheader-bytes = \"1m\"\n[[site]]\nroot = {:?}\n",
        tree.root()
    );
    fs::write(&file, text).expect("a file");
    let output = Launch::with(["check", "--config"]).argument(&file).output();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for expected in [
        ":3: listen.protocols: warning: browsers speak HTTP/2 with TLS only",
        ":5: limits.header-bytes: warning: by HTTP/2 a head has at most 9 frames of 16k",
    ] {
        assert!(output.stderr.contains(expected), "{output:?}");
    }
}
