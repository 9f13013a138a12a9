//! What is stored is served as a file is, without another request.

use super::{Mirror, PATIENT, SLICE, assert_forwarded, assert_hit, cache_status, fresh};
use crate::support::{Behaviour, Object, get, noise};

const DATE: &str = "Tue, 01 Sep 2020 00:00:00 GMT";

#[test]
fn an_object_comes_from_the_origin_once() {
    for length in [
        1,
        1000,
        SLICE - 1,
        SLICE,
        SLICE + 1,
        3 * SLICE,
        5 * SLICE + 7,
    ] {
        let mirror = Mirror::with("/a", fresh(length, 1));
        let server = mirror.start();
        let first = server.get("/a");
        assert_eq!((first.status, first.etag()), (200, "\"1\""), "{length}");
        assert!(first.body == noise(length, 1), "{length}");
        assert_forwarded(&first, "uri-miss");
        assert!(cache_status(&first).contains(&"stored"), "{length}");
        let slices: Vec<_> = (0..length.div_ceil(SLICE) as u64).collect();
        for _ in 0..3 {
            let again = server.get("/a");
            assert!(again.body == noise(length, 1), "{length}");
            assert_eq!(again.etag(), "\"1\"");
            assert_hit(&again);
        }
        assert_eq!(mirror.slices("/a"), slices, "{length}");
    }
}

#[test]
fn responses_on_one_connection_follow_each_other() {
    let mirror = Mirror::with("/a", fresh(3 * SLICE, 1));
    mirror.put("/b", fresh(10, 2));
    let server = mirror.start();
    let mut client = server.connect();
    for _ in 0..2 {
        client.send([get("/a"), get("/b"), get("/none"), get("/a")].concat());
        assert!(client.response().body == noise(3 * SLICE, 1));
        assert_eq!(client.response().body, noise(10, 2));
        assert_eq!(client.response().status, 404);
        assert!(client.response().body == noise(3 * SLICE, 1));
    }
    // The origin's connections are used again, too.
    assert!(mirror.origin.connections() < mirror.origin.requests().len() as u64);
}

#[test]
fn an_empty_object_is_one() {
    for behaviours in [
        vec![],
        vec![Behaviour::BareUnsatisfied],
        vec![Behaviour::IgnoreRange],
    ] {
        let mirror = Mirror::with("/a", fresh(0, 1));
        mirror.behave("/a", behaviours);
        let server = mirror.start();
        for _ in 0..2 {
            let response = server.get("/a");
            assert_eq!((response.status, response.content_length()), (200, 0));
        }
        assert_hit(&server.get("/a"));
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let mirror = Mirror::with("/a", fresh(3 * SLICE, 1));
    let server = mirror.start();
    let mut client = server.connect();
    let cold = client.ask("HEAD", "/a", &[]);
    assert_eq!((cold.status, cold.content_length()), (200, 3 * SLICE));
    assert!(client.get("/a").body == noise(3 * SLICE, 1));
    let count = mirror.count("/a");
    let hot = client.ask("HEAD", "/a", &[]);
    assert_eq!((hot.content_length(), hot.etag()), (3 * SLICE, "\"1\""));
    assert_hit(&hot);
    assert_eq!(mirror.count("/a"), count);
    assert_eq!(client.ask("HEAD", "/none", &[]).status, 404);
}

#[test]
fn conditions_are_checked_here() {
    let mirror = Mirror::with("/a", fresh(2 * SLICE, 1).last_modified(DATE));
    let server = mirror.start();
    let mut client = server.connect();
    // The condition of a client is not that of the cache.
    assert_eq!(client.get_with("/a", &["If-None-Match: \"1\""]).status, 304);
    assert!(client.get("/a").body == noise(2 * SLICE, 1));
    let count = mirror.count("/a");
    let same = format!("If-Modified-Since: {DATE}");
    for (field, status) in [
        ("If-None-Match: W/\"1\"", 304),
        ("If-None-Match: \"2\"", 200),
        (&same, 304),
        ("If-Modified-Since: Mon, 31 Aug 2020 00:00:00 GMT", 200),
        ("If-Match: \"1\"", 200),
        ("If-Match: \"2\"", 412),
        ("If-Unmodified-Since: Mon, 31 Aug 2020 00:00:00 GMT", 412),
    ] {
        assert_eq!(client.get_with("/a", &[field]).status, status, "{field}");
    }
    assert_eq!(mirror.count("/a"), count);
    let asked = mirror.asked("/a");
    assert!(
        asked
            .iter()
            .all(|request| request.field("if-none-match").is_none())
    );
}

#[test]
fn fields_of_objects_go_on_and_those_of_connections_do_not() {
    let object = fresh(100, 1)
        .last_modified(DATE)
        .field("Content-Type", "text/x-own")
        .field("Content-Disposition", "attachment")
        .field("Set-Cookie", "a=b")
        .field("Keep-Alive", "timeout=7")
        .field("Surrogate-Key", "tag");
    let mirror = Mirror::with("/a.css", object);
    let server = mirror.start();
    for _ in 0..2 {
        let response = server.get("/a.css");
        assert_eq!(response.header("content-type"), Some("text/x-own"));
        assert_eq!(response.header("content-disposition"), Some("attachment"));
        assert_eq!(response.header("last-modified"), Some(DATE));
        assert_eq!(response.header("cache-control"), Some("max-age=36000"));
        assert!(!response.has("set-cookie") && !response.has("keep-alive"));
    }
}

#[test]
fn what_clients_send_stays_here() {
    let mirror = Mirror::with("/a", fresh(100, 1));
    let server = mirror.start();
    let fields = [
        "Cookie: a=b",
        "Authorization: Basic YTpi",
        "Accept-Encoding: gzip",
    ];
    assert_eq!(server.get_with("/a", &fields).status, 200);
    let asked = &mirror.asked("/a")[0];
    for name in ["cookie", "authorization"] {
        assert_eq!(asked.field(name), None, "{name}");
    }
    assert_eq!(
        asked.field("host"),
        Some(&*mirror.origin.address().to_string())
    );
    assert_ne!(asked.field("accept-encoding"), Some("gzip"));
    assert_eq!(server.connect().ask("POST", "/a", &[]).status, 405);
    assert_eq!(mirror.count("/a"), 1);
}

#[test]
fn an_object_without_validators_or_without_a_length_is_served() {
    let bare = || Object::new(noise(3 * SLICE, 1)).field("Cache-Control", "max-age=36000");
    let mirror = Mirror::with("/bare", bare());
    mirror.put("/chunked", bare());
    mirror.behave("/chunked", [Behaviour::Chunked]);
    mirror.put("/without-ranges", bare());
    mirror.behave(
        "/without-ranges",
        [Behaviour::IgnoreRange, Behaviour::Close],
    );
    let server = mirror.start();
    for target in ["/bare", "/chunked", "/without-ranges"] {
        for _ in 0..2 {
            assert!(server.get(target).body == noise(3 * SLICE, 1), "{target}");
        }
        let part = server.get_with(target, &["Range: bytes=100000-150000"]);
        assert!(
            part.body == noise(3 * SLICE, 1)[100_000..150_001],
            "{target}"
        );
    }
    assert_eq!(mirror.count("/chunked"), 1);
    assert_eq!(mirror.count("/without-ranges"), 1);
}

#[test]
fn a_redirect_is_passed_on() {
    let mirror = Mirror::new();
    let location = ("Location", "https://elsewhere.test/a?b");
    mirror.behave("/a", [Behaviour::Answer(301, vec![location], "")]);
    let response = mirror.launch(PATIENT, "").start().get("/a");
    assert_eq!(
        (response.status, response.header("location")),
        (301, Some(location.1))
    );
}
