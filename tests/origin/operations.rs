//! What operators see of origins: metrics, logs, readiness, health and `tidegate doctor`.

#![expect(clippy::float_cmp, reason = "counters are whole")]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Mirror, PATIENT, PREFIX, SLICE, entry, fresh, stale, whole};
use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::{
    Authority, Behaviour, Client, Files, Launch, Origin, Server, Tree, eventually, free_address,
    noise,
};

/// The site of `entry`, with an admin listener.
fn site(mirror: &Mirror, entry: &str) -> Launch {
    mirror.launch_with(LISTEN, &format!("[[site]]\norigin = {entry}\n"))
}

/// What `/readyz` says.
#[track_caller]
fn readiness(server: &Server) -> String {
    let response = Client::connect(admin(server)).get("/readyz");
    assert_eq!(response.status, 200);
    response.text().to_owned()
}

#[test]
fn metrics_count_what_came_from_the_cache_and_from_the_origin() {
    let mirror = Mirror::with("/a", fresh(3 * SLICE, 1));
    mirror.put("/stale", stale(100, 2, "x"));
    mirror.put("/private", fresh(100, 3).field("Cache-Control", "no-store"));
    let server = site(&mirror, &mirror.entry(PATIENT)).start();
    let address = admin(&server);
    for target in ["/a", "/a", "/a", "/stale", "/stale", "/private"] {
        assert_eq!(server.get(target).status, 200);
    }
    assert_eq!(server.get("/none").status, 404);
    let responses = |scrape: &Scrape, state: &str| {
        scrape.value(&format!(
            "tidegate_origin_responses_total{{state=\"{state}\"}}"
        ))
    };
    let scrape = Scrape::of(address);
    for (state, count) in [
        ("hit", 2.0),
        ("miss", 2.0),
        ("revalidated", 1.0),
        ("pass", 1.0),
        ("stale", 0.0),
        ("collapsed", 0.0),
    ] {
        assert_eq!(responses(&scrape, state), count, "{state}");
    }
    let url = format!("http://{}{PREFIX}", mirror.origin.address());
    let of_origin = |name: &str| format!("tidegate_origin_{name}{{origin=\"{url}\"}}");
    assert_eq!(scrape.value(&of_origin("up")), 1.0);
    let asked = mirror.origin.requests().len() as f64;
    assert_eq!(scrape.value(&of_origin("requests_total")), asked);
    let bytes = (3 * SLICE + 200) as f64;
    assert_eq!(scrape.value(&of_origin("body_bytes_total")), bytes);
    let heads = of_origin("time_to_head_seconds_count");
    assert_eq!(scrape.value(&heads), asked);
    eventually("the end of the fills", || {
        let scrape = Scrape::of(address);
        scrape.value("tidegate_origin_cache_fills_under_way") == 0.0
    });
    let scrape = Scrape::of(address);
    let filled = scrape.value("tidegate_origin_cache_filled_bytes_total");
    assert_eq!(filled, (3 * SLICE + 100) as f64);
    assert_eq!(scrape.value("tidegate_origin_cache_fills_total"), 4.0);
    assert_eq!(
        scrape.value("tidegate_origin_cache_fill_failures_total"),
        0.0
    );
    assert_eq!(
        scrape.value("tidegate_origin_cache_size_bytes"),
        (1_u64 << 30) as f64
    );
    assert!(scrape.value("tidegate_origin_cache_used_bytes") > filled);
    // Four slices and two records.
    assert_eq!(scrape.value("tidegate_origin_cache_blobs"), 6.0);
    assert_eq!(scrape.value("tidegate_origin_cache_reserved_bytes"), 0.0);
    assert!(scrape.value("tidegate_origin_cache_records_memory_bytes") > 0.0);
    assert!(scrape.value("tidegate_origin_cache_index_memory_bytes") > 0.0);
}

#[test]
fn a_server_without_origins_has_no_metrics_of_them() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let metrics = Client::connect(admin(&server)).get("/metrics");
    assert!(!metrics.text().contains("tidegate_origin"));
    assert_eq!(readiness(&server), "200 OK\n");
}

#[test]
fn an_origin_that_refuses_connections_is_told_of_once() {
    let mirror = Mirror::with("/a", fresh(100, 1));
    let server = site(&mirror, &mirror.entry(PATIENT)).start();
    let address = admin(&server);
    mirror.origin.refuse();
    let url = format!("http://{}{PREFIX}", mirror.origin.address());
    for number in 0..5 {
        assert_eq!(server.get(&format!("/none-{number}")).status, 502);
    }
    server.logs("the origin is down");
    server.logs("cannot connect: Connection refused");
    assert_eq!(
        readiness(&server),
        format!("200 OK\norigin {url} is down\n")
    );
    let scrape = Scrape::of(address);
    let up = format!("tidegate_origin_up{{origin=\"{url}\"}}");
    assert_eq!(scrape.value(&up), 0.0);
    let failures = |kind: &str| {
        let name = "tidegate_origin_failures_total";
        scrape.value(&format!("{name}{{origin=\"{url}\",kind=\"{kind}\"}}"))
    };
    assert!(failures("connect") >= 5.0);
    assert_eq!(failures("timeout"), 0.0);
    let lines = server.log().matches("Connection refused").count();
    assert!(lines < 10, "{lines} lines of 10 requests: {}", server.log());
    mirror.origin.accept();
    eventually("an object", || whole(&server, "/a") == Some(noise(100, 1)));
    server.logs("the origin is up again");
    assert_eq!(readiness(&server), "200 OK\n");
    let log = server.log();
    assert_eq!(log.matches("the origin is down").count(), 1, "{log}");
    assert_eq!(log.matches("the origin is up again").count(), 1, "{log}");
}

#[test]
fn wrong_credentials_are_told_of_in_plain_words() {
    for (code, words) in [
        ("SignatureDoesNotMatch", "the secret access key is wrong"),
        ("RequestTimeTooSkewed", "the clock of this host is off"),
    ] {
        let mirror = Mirror::with("/a", fresh(100, 1));
        let keys = format!("credentials = \"none\", {PATIENT}");
        let server = site(&mirror, &entry("s3", &mirror.origin, &keys)).start();
        mirror
            .origin
            .behave_always([Behaviour::s3_error(403, code)]);
        for number in 0..20 {
            assert_eq!(server.get(&format!("/{number}")).status, 502);
        }
        server.logs(words);
        let lines = server.log().matches(words).count();
        assert!(lines < 20, "{lines} lines: {}", server.log());
        let url = format!("http://{}{PREFIX}", mirror.origin.address());
        let name = "tidegate_origin_failures_total";
        let refused = format!("{name}{{origin=\"{url}\",kind=\"refused\"}}");
        assert!(Scrape::of(admin(&server)).value(&refused) >= 20.0);
    }
}

#[test]
fn a_line_of_the_access_log_has_the_cache_status_of_objects_alone() {
    let mirror = Mirror::with("/a", fresh(100, 1));
    mirror.tree.write("local", b"local");
    let log = mirror.tree.base().join("access.log");
    let more = format!("[access-log]\npath = '{}'\nformat = 'json'", log.display());
    let root = mirror.tree.root();
    let sites = format!(
        "[[site]]\nroot = '{}'\norigin = {}\n",
        root.display(),
        mirror.entry(PATIENT)
    );
    let server = mirror.launch_with(&more, &sites).start();
    for target in ["/a", "/a", "/local", "/none"] {
        server.get(target);
    }
    let mut lines = Vec::new();
    eventually("four lines", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        lines = text.lines().map(str::to_owned).collect();
        lines.len() == 4
    });
    let statuses = lines.iter().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        let status = line.get("cache_status");
        status.and_then(|status| status.as_str().map(str::to_owned))
    });
    let expected = [Some("miss"), Some("hit"), None, None];
    let expected = expected.map(|status| status.map(str::to_owned));
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
}

#[test]
fn a_health_check_brings_the_first_origin_back() {
    let mirror = Mirror::with("/health", fresh(1, 1));
    let second = Origin::start();
    for number in 0..3 {
        second.put(&format!("{PREFIX}/{number}"), fresh(10, number));
    }
    let first = mirror.entry(&format!("health = \"/health\", {PATIENT}"));
    let entries = [first, entry("http", &second, PATIENT)];
    let server = site(&mirror, &format!("[{}]", entries.join(", "))).start();
    mirror.origin.refuse();
    for number in 0..3 {
        let response = server.get(&format!("/{number}"));
        assert_eq!(response.body, noise(10, number));
    }
    assert!(readiness(&server).contains(" is down\n"));
    // A status that is none of health.
    mirror.behave("/health", [Behaviour::status(503)]);
    mirror.origin.accept();
    eventually("a health check", || mirror.count("/health") > 0);
    assert!(readiness(&server).contains(" is down\n"));
    mirror.behave("/health", []);
    eventually("the first origin is up", || {
        readiness(&server) == "200 OK\n"
    });
    let asked = mirror.asked("/health");
    assert!(
        asked.iter().all(|request| request.method == "HEAD"),
        "{asked:?}"
    );
    server.logs("the origin is up again");
    mirror.put("/again", fresh(10, 9));
    assert_eq!(server.get("/again").body, noise(10, 9));
    assert_eq!(mirror.count("/again"), 1);
}

/// What `tidegate doctor` says of the origin `entry`: its lines about origins and their cache.
#[track_caller]
fn doctor(mirror: &Mirror, entry: &str) -> (Option<i32>, String) {
    let file = mirror.tree.base().join("doctor.toml");
    let text = format!(
        "[server]\ncores = 1\n[[listen]]\naddress = '127.0.0.1:0'\n\
         [cache.disk]\npath = '{}'\nsize = '1g'\n[[site]]\norigin = {entry}\n",
        mirror.cache().display()
    );
    fs::write(&file, text).expect("a file");
    let output = Launch::with(["doctor"]).argument(&file).output();
    let lines = output.stdout.lines();
    let is_ours = |line: &&str| line[6..].starts_with("origin ") || line[6..].starts_with("cache ");
    let lines: Vec<_> = lines.filter(is_ours).collect();
    (output.status.code(), lines.join("\n"))
}

#[test]
fn the_doctor_asks_the_origin_and_looks_at_the_disk() {
    let mirror = Mirror::new();
    let (status, text) = doctor(&mirror, &mirror.entry(PATIENT));
    assert_eq!(status, Some(0), "{text}");
    let url = format!("http://{}{PREFIX}", mirror.origin.address());
    assert!(
        text.contains(&format!("good  origin       {url} answers, with 404")),
        "{text}"
    );
    assert!(text.contains("cache disk"), "{text}");
    assert!(text.contains("takes writes"), "{text}");
    assert!(text.contains("O_TMPFILE"), "{text}");
    assert!(!mirror.cache().exists(), "nothing is left");
    let asked = mirror.origin.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].field("range"), Some("bytes=0-0"));

    let server = mirror.start();
    let (status, text) = doctor(&mirror, &mirror.entry(PATIENT));
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    server.stop();

    mirror
        .origin
        .behave_always([Behaviour::s3_error(403, "SignatureDoesNotMatch")]);
    let keys = format!("credentials = \"none\", {PATIENT}");
    let (_, text) = doctor(&mirror, &entry("s3", &mirror.origin, &keys));
    assert!(text.contains("fair  origin "), "{text}");
    assert!(text.contains("the secret access key is wrong"), "{text}");
}

#[test]
fn the_doctor_says_why_an_origin_does_not_answer() {
    let mirror = Mirror::new();
    let dead = free_address();
    let entry = format!("{{ http = 'http://{dead}' }}");
    let (status, text) = doctor(&mirror, &entry);
    assert_eq!(status, Some(0), "the server would start: {text}");
    assert!(text.contains("fair  origin "), "{text}");
    assert!(
        text.contains("cannot connect: Connection refused"),
        "{text}"
    );

    let (_, text) = doctor(&mirror, "{ http = 'http://none.invalid' }");
    assert!(text.contains("DNS has no address"), "{text}");

    // It never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let (_, text) = doctor(&mirror, &format!("{{ http = 'http://{address}' }}"));
    assert!(text.contains("did not come in time"), "{text}");

    let (status, text) = doctor(&mirror, "{ http = 'https://a.test', ca = 'none.pem' }");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("cannot read the authorities"), "{text}");
}

/// A server's settings with this certificate.
fn tls(files: &Files) -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth();
    let config = builder.with_single_cert(vec![chain], key);
    Arc::new(config.expect("a certificate for the key"))
}

#[test]
fn the_doctor_names_a_certificate_that_is_not_trusted() {
    let mirror = Mirror::new();
    let (own, other) = (Authority::new(), Authority::new());
    let config = tls(&own.issue("origin", &["localhost"]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let session = ServerConnection::new(config.clone()).expect("a session");
            let _ = StreamOwned::new(session, stream).read(&mut [0; 1]);
        }
    });
    let ask = |host: &str, authority: &Authority| {
        let ca = authority.file();
        let url = format!("https://{host}:{port}");
        let entry = format!("{{ http = '{url}', ca = '{}' }}", ca.display());
        doctor(&mirror, &entry).1
    };
    let text = ask("localhost", &other);
    assert!(text.contains("its certificate is not trusted"), "{text}");
    let text = ask("127.0.0.1", &own);
    assert!(
        text.contains("its certificate is for another name"),
        "{text}"
    );
}
