//! Cold and stored slices over TLS and over HTTP/2.

use super::{Mirror, PATIENT, SLICE, assert_hit, fresh};
use crate::support::http2::Http2;
use crate::support::{Authority, Behaviour, Client, Gate, Server, noise};

const LENGTH: usize = 40 * SLICE + 1234;

/// A mirror with a large object at /a and at /b, of which some slices are stored, and a server of
/// it that speaks TLS if there is an authority.
fn start(authority: Option<&Authority>) -> (Mirror, Server) {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    mirror.put("/b", fresh(LENGTH, 2));
    let tls = authority.map_or(String::new(), |authority| {
        let files = authority.issue("server", &["localhost"]);
        format!(
            "tls = true\nprotocols = [\"h2\", \"http/1.1\"]\n{}",
            files.entry()
        )
    });
    let plain = if tls.is_empty() {
        "protocols = [\"h2\", \"http/1.1\"]"
    } else {
        ""
    };
    let origin = mirror.entry(PATIENT);
    let sites = format!("{plain}{tls}\n[[site]]\norigin = {origin}\n");
    let server = mirror.launch_sites(&sites).start();
    (mirror, server)
}

fn check_http2(mut client: Http2) {
    for range in ["bytes=200000-300000", "bytes=-70000"] {
        let part = client.ask("GET", "/b", &[("range", range)]);
        assert_eq!(part.status, 206, "{range}");
    }
    for _ in 0..2 {
        for (target, seed) in [("/a", 1), ("/b", 2)] {
            let response = client.get(target);
            assert_eq!(response.status, 200);
            assert!(response.body == noise(LENGTH, seed), "{target}");
        }
    }
    assert_hit(&client.get("/a"));
    assert_eq!(client.get("/none").status, 404);
}

#[test]
fn http2_without_tls() {
    let (_mirror, server) = start(None);
    check_http2(Http2::connect(server.address));
}

#[test]
fn http2_over_tls() {
    let authority = Authority::new();
    let (_mirror, server) = start(Some(&authority));
    check_http2(Http2::secure(server.address, &authority.client()));
}

#[test]
fn http1_over_tls() {
    let authority = Authority::new();
    let (_mirror, server) = start(Some(&authority));
    let mut client = Client::secure(server.address, &authority.client());
    for _ in 0..2 {
        assert!(client.get("/a").body == noise(LENGTH, 1));
        let part = client.get_with("/b", &["Range: bytes=65000-200000"]);
        assert!(part.body == noise(LENGTH, 2)[65_000..200_001]);
    }
    assert_hit(&client.get("/a"));
}

#[test]
fn streams_of_cold_objects_do_not_wait_for_each_other() {
    let (mirror, server) = start(None);
    let gate = Gate::default();
    mirror.behave(
        "/a",
        [Behaviour::StallBody(1000, gate.clone()).at(3 * SLICE as u64)],
    );
    let mut client = Http2::connect(server.address);
    let streams: Vec<_> = (0..3).map(|_| client.request("GET", "/a", &[])).collect();
    let other = client.request("GET", "/b", &[]);
    assert!(client.response(other).body == noise(LENGTH, 2));
    gate.reached();
    gate.open();
    for stream in streams {
        assert!(client.response(stream).body == noise(LENGTH, 1));
    }
}

#[test]
fn a_change_resets_the_stream_and_not_the_connection() {
    let (mirror, server) = start(None);
    let mut client = Http2::connect(server.address);
    let part = client.ask("GET", "/a", &[("range", "bytes=0-9")]);
    assert_eq!(part.status, 206);
    mirror.put("/a", fresh(LENGTH, 3));
    let stream = client.request("GET", "/a", &[]);
    assert!(client.response_or_reset(stream).is_err());
    assert!(client.get("/a").body == noise(LENGTH, 3));
}

#[test]
fn a_client_that_leaves_ends_nothing_for_others() {
    let (_mirror, server) = start(None);
    let mut client = Http2::connect(server.address);
    let leaving = client.request("GET", "/a", &[]);
    let staying = client.request("GET", "/a", &[]);
    client.head(leaving);
    client.reset(leaving, crate::support::http2::code::CANCEL);
    assert!(client.response(staying).body == noise(LENGTH, 1));
}
