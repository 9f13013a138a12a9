//! Certificates: which is for whom, what is refused at the start, and how they are renewed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::ClientConfig;

use crate::support::{Authority, Client, Files, Launch, Server, Tree, eventually, get, key_pair};

fn tree() -> Tree {
    Tree::with("file", b"content")
}

/// The certificate that `name` is shown.
#[track_caller]
fn shown(server: &Server, config: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let mut client = Client::secure_as(server.address, config, name);
    client.get("/file");
    let chain = client.tls().peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let tree = tree();
    let authority = Authority::new();
    let first = authority.issue("first", &["first.test", "127.0.0.1"]);
    let wild = authority.issue("wild", &["*.wild.test"]);
    let exact = authority.issue("exact", &["exact.wild.test"]);
    let server = Launch::secure(&tree, "", "", &[&first, &wild, &exact]).start();
    let config = authority.client();
    let mut seen: Vec<_> = ["first.test", "any.wild.test", "exact.wild.test"]
        .map(|name| shown(&server, &config, name))
        .into();
    assert_eq!(shown(&server, &config, "ANY.wild.test"), seen[1]);
    // Without a name, as for an address, the first.
    assert_eq!(shown(&server, &config, "127.0.0.1"), seen[0]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    // A name of none of them: the first, which the client refuses.
    let mut client = Client::secure_as(server.address, &config, "other.test");
    let refused = client.try_send(get("/file")).unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
}

#[test]
fn clients_that_are_asked_for_certificates() {
    let tree = tree();
    let authority = Authority::new();
    let stranger = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let known = authority.issue("client", &["client"]);
    let unknown = stranger.issue("client", &["client"]);
    let suites = rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES;
    let clients = [None, Some(&known), Some(&unknown)];
    for (mode, served) in [
        ("request", [true, true, false]),
        ("require", [false, true, false]),
    ] {
        let authorities = authority.file();
        let tls = format!(
            "client-auth = \"{mode}\"\nclient-ca = \"{}\"",
            authorities.display()
        );
        let mut server = Launch::secure(&tree, "", &tls, &[&files]).start();
        for (identity, served) in clients.into_iter().zip(served) {
            let config = authority.client_with(suites, identity);
            let mut client = Client::secure(server.address, &config);
            let answer = client
                .try_send(get("/file"))
                .ok()
                .and_then(|()| client.response_or_refusal());
            assert_eq!(answer.is_some(), served, "{mode}");
        }
        // Then the log is whole.
        server.signal(Signal::TERM);
        server.wait();
        let log = server.log();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("CN=client"))
            .collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("peer=127.0.0.1:"), "{log}");
    }
}

#[test]
fn a_hangup_reads_certificates_again_and_a_broken_one_keeps_the_old() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let config = authority.client();
    let first = shown(&server, &config, "localhost");
    let mut kept = Client::secure(server.address, &config);
    kept.get("/file");

    fs::write(&files.key, "not a key").unwrap();
    server.signal(Signal::HUP);
    eventually("the broken key is told of", || {
        let log = server.log();
        log.contains("not reloaded: ") && log.contains("server.key")
    });
    assert_eq!(shown(&server, &config, "localhost"), first);

    // A pipe without a writer does not hold up the next reload.
    fs::remove_file(&files.key).unwrap();
    authority.fifo("server.key");
    server.signal(Signal::HUP);
    eventually("the pipe is told of", || {
        server.log().contains("server.key: is a pipe")
    });
    fs::remove_file(&files.key).unwrap();

    authority.issue("server", &["localhost"]);
    server.signal(Signal::HUP);
    eventually("another certificate", || {
        // A session that is resumed shows the certificate that it began with.
        shown(&server, &authority.client(), "localhost") != first
    });
    assert_eq!(kept.get("/file").body, b"content");
    server.stop();
}

#[test]
fn a_link_that_is_swapped_renews_certificates() {
    let tree = tree();
    let authority = Authority::new();
    for version in ["1", "2"] {
        fs::create_dir(authority.path(version)).unwrap();
        authority.issue(&format!("{version}/tls"), &["localhost"]);
    }
    // As Kubernetes has it: the files are links into a link that is swapped.
    symlink("1", authority.path("..data")).unwrap();
    let files = Files {
        cert: authority.path("tls.pem"),
        key: authority.path("tls.key"),
    };
    symlink("..data/tls.pem", &files.cert).unwrap();
    symlink("..data/tls.key", &files.key).unwrap();
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let first = shown(&server, &authority.client(), "localhost");
    symlink("2", authority.path("..new")).unwrap();
    fs::rename(authority.path("..new"), authority.path("..data")).unwrap();
    eventually("the other certificate", || {
        shown(&server, &authority.client(), "localhost") != first
    });
}

#[test]
fn a_hangup_without_tls_ends_nothing() {
    let tree = tree();
    let server = Server::serve(&tree);
    server.signal(Signal::HUP);
    eventually("a line about it", || {
        server.log().contains("no listener speaks TLS")
    });
    assert_eq!(server.get("/file").body, b"content");
}

/// Starts with `files`, which must be refused at `line` and `key` for `reason`; so must `check`.
#[track_caller]
fn refused(files: &Files, line: u32, key: &str, reason: &str) {
    let tree = tree();
    let place = format!("tidegate.toml:{line}: tls.{key}: ");
    let output = Launch::secure(&tree, "", "", &[files]).output();
    output.refusal(1, &[&place, reason]);
    let config = tree.base().join("tidegate.toml");
    let output = Launch::with(["check", "--config"])
        .argument(config)
        .output();
    output.refusal(1, &[&place, reason]);
}

#[test]
fn files_that_cannot_be_used_are_refused_at_their_lines() {
    // As `Launch::secure` writes them.
    const CERT: u32 = 14;
    const KEY: u32 = 15;
    let authority = Authority::new();
    let good = authority.issue("good", &["localhost"]);
    let other = authority.issue("other", &["localhost"]);
    let mixed = Files {
        key: other.key.clone(),
        ..good.clone()
    };
    refused(&mixed, KEY, "certificates.key", "does not fit");
    let missing = Files {
        key: authority.path("none.key"),
        ..good.clone()
    };
    refused(&missing, KEY, "certificates.key", "no such file");
    let not_pem = Files {
        cert: authority.write("junk", "junk"),
        ..good.clone()
    };
    refused(&not_pem, CERT, "certificates.cert", "has no certificate");
    // Neither may hold up the start, nor a later reload.
    let fifo = Files {
        key: authority.fifo("fifo.key"),
        ..good.clone()
    };
    let reason = "fifo.key: is a pipe and not a regular file";
    refused(&fifo, KEY, "certificates.key", reason);
    let endless = Files {
        cert: "/dev/zero".into(),
        ..good.clone()
    };
    let reason = "/dev/zero: is a device and not a regular file";
    refused(&endless, CERT, "certificates.cert", reason);
    let large = Files {
        cert: authority.write("large.pem", &" ".repeat((1 << 20) + 1)),
        ..good.clone()
    };
    let reason = "large.pem: is larger than 1048576 bytes";
    refused(&large, CERT, "certificates.cert", reason);
    let encrypted = Files {
        key: authority.write(
            "encrypted.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ),
        ..good
    };
    refused(&encrypted, KEY, "certificates.key", "is encrypted");
}

/// A certificate of the authority's that is valid from one year to another, as `NAME.pem` and `.key`.
fn issue_for_years(authority: &Authority, name: &str, from: i32, to: i32) -> Files {
    let key = key_pair();
    let cert = authority.sign(&["localhost"], &key, |params| {
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
    });
    Files {
        cert: authority.write(&format!("{name}.pem"), &cert),
        key: authority.write(&format!("{name}.key"), &key.serialize_pem()),
    }
}

/// What a client that looks at nothing is answered for `/file`; `None` where curl is missing.
fn fetched_unchecked(server: &Server) -> Option<Vec<u8>> {
    if !crate::support::installed("curl") {
        return None;
    }
    let url = format!("https://localhost:{}/file", server.address.port());
    let curl = Command::new("curl").args(["-sSk", &url]).output().unwrap();
    Some(curl.stdout)
}

#[test]
fn what_is_not_valid_now_is_served_and_told_of() {
    let authority = Authority::new();
    let expired = issue_for_years(&authority, "expired", 2000, 2001);
    let future = issue_for_years(&authority, "future", 2098, 2099);
    let good = authority.issue("good", &["localhost"]);
    let chain = [&good.cert, &expired.cert].map(|path| fs::read_to_string(path).unwrap());
    let extra = Files {
        cert: authority.write("extra.pem", &chain.concat()),
        ..good
    };
    for (files, words) in [
        (
            &expired,
            "certificate 1 of the chain (CN=rcgen self signed cert) expired on",
        ),
        (&future, "is not valid before Jan"),
        (
            &extra,
            "certificate 2 of the chain (CN=rcgen self signed cert) expired on",
        ),
    ] {
        let tree = tree();
        let server = Launch::secure(&tree, "", "", &[files]).start();
        let log = server.log();
        assert!(log.contains("ERROR") && log.contains(words), "{log}");
        if let Some(body) = fetched_unchecked(&server) {
            assert_eq!(body, b"content");
        }
        let config = tree.base().join("tidegate.toml");
        let output = Launch::with(["check", "--config"])
            .argument(&config)
            .output();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.ends_with("tidegate.toml: ok\n"), "{output:?}");
        let place = "tidegate.toml:14: tls.certificates.cert: warning: ";
        assert!(output.stderr.contains(place), "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
        let output = Launch::with(["doctor", "--config"])
            .argument(&config)
            .output();
        let lines = output.stdout.lines();
        let told = |line: &str| line.starts_with("fair  certificate") && line.contains(words);
        assert!(lines.into_iter().any(told), "{output:?}");
    }
}

#[test]
fn a_renewal_that_has_expired_does_not_replace_a_certificate_that_is_valid() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let config = authority.client();
    let first = shown(&server, &config, "localhost");
    issue_for_years(&authority, "server", 2000, 2001);
    server.signal(Signal::HUP);
    eventually("a line about it", || {
        server
            .log()
            .contains("the one before it is valid and stays")
    });
    assert_eq!(shown(&server, &authority.client(), "localhost"), first);
}

/// A config with a plain listener first, and one that speaks TLS with `files` second.
fn plain_and_secure(tree: &Tree, tls: &str, files: &[&Files]) -> Launch {
    let entries: String = files.iter().map(|files| files.entry()).collect();
    let root = tree.root();
    let sites = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\ntls = true\n[tls]\n{tls}\n{entries}\
         [[site]]\nroot = \"{}\"\n",
        root.display()
    );
    Launch::run_sites(tree, "", &sites)
}

/// The address that the server's log says is not listened on.
fn closed_address(server: &Server) -> SocketAddr {
    let log = server.log();
    let (_, rest) = log.split_once("not listening on https://").expect("a line");
    let address = rest.split_whitespace().next().expect("an address");
    address.parse().expect("an address")
}

#[test]
fn the_first_certificate_is_had_by_http_and_https_comes_up_by_itself() {
    let tree = tree();
    tree.write(".well-known/acme-challenge/token", b"proof");
    let authority = Authority::new();
    let missing = Files {
        cert: authority.path("late.pem"),
        key: authority.path("late.key"),
    };
    let cores = std::thread::available_parallelism().unwrap().get().min(2);
    let launch = |tls| {
        let launch = plain_and_secure(&tree, tls, &[&missing]);
        launch.arguments(["--cores", &cores.to_string()])
    };
    launch("")
        .output()
        .refusal(1, &["tls.certificates.cert", "late.pem", "no such file"]);
    let server = launch("missing = \"serve-http\"").start();
    let config = tree.base().join("tidegate.toml");
    let output = Launch::with(["check", "--config"])
        .argument(&config)
        .output();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.contains("warning: "), "{output:?}");
    let challenge = server.get("/.well-known/acme-challenge/token");
    assert_eq!(challenge.text(), "proof");
    // Not even plain HTTP is spoken there.
    let closed = closed_address(&server);
    let refused = TcpStream::connect(closed).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    authority.issue("late", &["localhost"]);
    eventually("HTTPS", || TcpStream::connect(closed).is_ok());
    // Every core listens within a moment.
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..16 {
        let mut client = Client::secure(closed, &authority.client());
        assert_eq!(client.get("/file").body, b"content");
    }
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

#[test]
fn a_server_that_waits_for_a_certificate_stops() {
    let tree = tree();
    let authority = Authority::new();
    let missing = Files {
        cert: authority.path("late.pem"),
        key: authority.path("late.key"),
    };
    let server = plain_and_secure(&tree, "missing = \"serve-http\"", &[&missing]).start();
    server.stop();
}

#[test]
fn one_that_is_missing_does_not_keep_the_others_back() {
    let tree = tree();
    let authority = Authority::new();
    let there = authority.issue("there", &["localhost"]);
    let missing = Files {
        cert: authority.path("late.pem"),
        key: authority.path("late.key"),
    };
    let tls = "missing = \"serve-http\"";
    let server = Launch::secure(&tree, "", tls, &[&missing, &there]).start();
    let log = server.log();
    assert!(
        log.contains("ERROR") && log.contains("late.pem: cannot be read"),
        "{log}"
    );
    shown(&server, &authority.client(), "localhost");
}

#[test]
fn authorities_that_cannot_be_used_are_refused_at_their_line() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let fifo = authority.fifo("fifo.pem");
    for (path, reason) in [
        (Path::new("none.pem"), "no such file"),
        (&fifo, "is a pipe and not a regular file"),
    ] {
        let path = path.display();
        let tls = format!("client-auth = \"require\"\nclient-ca = \"{path}\"");
        let output = Launch::secure(&tree, "", &tls, &[&files]).output();
        output.refusal(1, &["tidegate.toml:12: tls.client-ca: ", reason]);
    }
}

#[test]
fn addresses_of_the_command_line_keep_tls_or_say_that_they_drop_it() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let tree = tree();
    let launch = |address| {
        let launch = Launch::secure(&tree, "", "", &[&files]);
        launch.arguments(["--listen", address])
    };
    let output = launch("127.0.0.1:0").output();
    output.refusal(1, &["https://127.0.0.1:0", "http://127.0.0.1:0"]);
    let server = launch("https://127.0.0.1:0").start();
    let mut client = Client::secure(server.address, &authority.client());
    assert_eq!(client.get("/file").body, b"content");
    let server = launch("http://127.0.0.1:0").start();
    assert_eq!(server.get("/file").body, b"content");
    let output = Launch::with(["serve", "--listen", "https://127.0.0.1:0"]).output();
    output.refusal(1, &["https://127.0.0.1:0", "tls.certificates"]);
}

#[test]
fn keys_of_openssl_are_read() {
    let tree = tree();
    if !crate::support::installed("openssl") {
        return;
    }
    let authority = Authority::new();
    for kind in [&["-newkey", "rsa:2048"][..], &["-newkey", "ed25519"]] {
        let files = Files {
            cert: authority.path("own.pem"),
            key: authority.path("own.key"),
        };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=own"])
            .args(kind)
            .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
            .arg(&files.key)
            .arg("-out")
            .arg(&files.cert)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let server = Launch::secure(&tree, "", "", &[&files]).start();
        let port = server.address.port();
        let fetched = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(&files.cert)
            .arg(format!("https://localhost:{port}/file"))
            .output();
        if let Ok(fetched) = fetched {
            assert_eq!(fetched.stdout, b"content", "{kind:?} {fetched:?}");
        }
    }
}
