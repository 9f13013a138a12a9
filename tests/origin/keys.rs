//! What of a request names an object, and what it can never name.

use super::{Mirror, PATIENT, at, fresh};
use crate::support::{Object, Server, noise, request};

/// The targets that the origin was asked for, and the body for each of `targets`.
fn ask(mirror: &Mirror, server: &Server, targets: &[&str]) -> Vec<String> {
    for target in targets {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
    let requests = mirror.origin.requests().into_iter();
    requests.map(|request| request.target).collect()
}

#[test]
fn the_query_is_in_the_key_as_the_site_says() {
    let targets = [
        "/a",
        "/a?v=1&u=1",
        "/a?u=2&v=1",
        "/a?v=1&u=1",
        "/a?u=2",
        "/a?v=2",
    ];
    for (key, expected) in [
        (
            "\"query\"",
            &["/a", "/a?v=1&u=1", "/a?u=2&v=1", "/a?u=2", "/a?v=2"][..],
        ),
        ("\"path\"", &["/a"]),
        ("[\"v\"]", &["/a", "/a?v=1", "/a?v=2"]),
    ] {
        let mirror = Mirror::with("/a", fresh(100, 1));
        let server = mirror
            .launch(PATIENT, &format!("cache-key = {key}"))
            .start();
        let expected: Vec<_> = expected.iter().map(|target| at(target)).collect();
        for _ in 0..2 {
            assert_eq!(ask(&mirror, &server, &targets), expected, "{key}");
        }
    }
}

#[test]
fn versions_by_query_are_different_objects() {
    let mirror = Mirror::with("/a?v=1", fresh(100, 1));
    mirror.put("/a?v=2", fresh(100, 2));
    let server = mirror.start();
    for _ in 0..2 {
        for seed in [1, 2] {
            assert_eq!(server.get(&format!("/a?v={seed}")).body, noise(100, seed));
        }
    }
    assert_eq!(mirror.origin.requests().len(), 2);
}

#[test]
fn names_are_encoded_one_way() {
    let mirror = Mirror::with("/a%20b/%C3%A4", fresh(100, 1));
    let server = mirror.start();
    for target in ["/a%20b/%C3%A4", "/%61%20b/%c3%a4"] {
        assert_eq!(server.get(target).body, noise(100, 1), "{target}");
    }
    assert_eq!(mirror.origin.requests().len(), 1);
}

#[test]
fn no_path_leaves_the_prefix() {
    let secret = || Object::new("secret").field("Cache-Control", "max-age=3600");
    let mirror = Mirror::new();
    for path in [
        "/secret",
        "/other/secret",
        "/bucket-2/secret",
        "//other/secret",
    ] {
        mirror.origin.put(path, secret());
    }
    let server = mirror.start();
    for target in [
        "//secret",
        "//other/secret",
        "///other/secret",
        "/../secret",
        "/../other/secret",
        "/a/../../other/secret",
        "/a//../../other/secret",
        "/%2e%2e/other/secret",
        "/.%2E/other/secret",
        "/..%2fother/secret",
        "/%2F..%2Fother%2Fsecret",
        "/a%2F..%2F..%2Fother/secret",
        "/..%5Cother%5Csecret",
        "/%252e%252e/other/secret",
        "/..;/other/secret",
        "-2/secret",
        "/%00/../other/secret",
        "http://other.test/../other/secret",
        "/@127.0.0.1/secret",
        "/?/../../other/secret",
        "/a%0D%0AX-Injected:%20y",
        "/a?b%0D%0AX-Injected:%20y",
    ] {
        let mut client = server.connect();
        client.send(request("GET", target));
        let response = client.response();
        assert_ne!(response.status, 200, "{target}");
        assert_ne!(response.body, b"secret", "{target}");
    }
    for request in mirror.origin.requests() {
        assert!(request.target.starts_with("/bucket/"), "{request:?}");
        let path = request
            .target
            .split('?')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let decoded = path
            .replace("%2e", ".")
            .replace("%2f", "/")
            .replace("%5c", "/");
        assert!(decoded.split('/').all(|part| part != ".."), "{request:?}");
        assert_eq!(request.field("x-injected"), None, "{request:?}");
    }
}
