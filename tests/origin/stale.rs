//! Stale objects: while they are validated, and while the origin fails (RFC 5861).

use super::{IMPATIENT, Mirror, PATIENT, SLICE, at, cache_status, fresh, stale, whole};
use crate::support::{Behaviour, Gate, Object, Server, eventually, noise};

const LENGTH: usize = 3 * SLICE;

/// A server that has stored a stale /a.
fn stored(object: Object, site: &str) -> (Mirror, Server) {
    let mirror = Mirror::with("/a", object);
    let server = mirror.launch(IMPATIENT, site).start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    mirror.origin.forget();
    (mirror, server)
}

#[test]
fn a_stale_object_is_validated_and_not_fetched() {
    let (mirror, server) = stored(stale(LENGTH, 1, "x"), "");
    for count in 1..4 {
        let response = server.get("/a");
        assert!(response.body == noise(LENGTH, 1));
        super::assert_forwarded(&response, "stale");
        let asked = mirror.asked("/a");
        assert_eq!(asked.len(), count);
        assert!(
            asked
                .iter()
                .all(|request| request.field("if-none-match") == Some("\"1\""))
        );
    }
}

#[test]
fn a_date_validates_what_has_no_tag() {
    let date = "Tue, 01 Sep 2020 00:00:00 GMT";
    let object = Object::new(noise(LENGTH, 1)).last_modified(date);
    let (mirror, server) = stored(object.field("Cache-Control", "no-cache"), "");
    assert!(server.get("/a").body == noise(LENGTH, 1));
    let asked = mirror.asked("/a");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].field("if-modified-since"), Some(date));
}

#[test]
fn a_validation_makes_it_fresh() {
    let (mirror, server) = stored(stale(LENGTH, 1, "x"), "");
    mirror.put("/a", fresh(LENGTH, 1));
    for _ in 0..3 {
        assert!(server.get("/a").body == noise(LENGTH, 1));
    }
    assert_eq!(mirror.count("/a"), 1);
    super::assert_hit(&server.get("/a"));
}

#[test]
fn it_is_sent_at_once_and_validated_once_behind_that() {
    let keys = PATIENT;
    for (directives, site) in [
        ("stale-while-revalidate=3600", ""),
        (
            "x",
            "[[site.cache]]\nmatch = \"/**\"\nstale-while-revalidate = \"1h\"\n",
        ),
    ] {
        let mirror = Mirror::with("/a", stale(LENGTH, 1, directives));
        let server = mirror.launch(keys, site).start();
        server.get("/a");
        mirror.origin.forget();
        let gate = Gate::default();
        mirror.behave("/a", [Behaviour::StallHead(gate.clone())]);
        for _ in 0..5 {
            let response = server.get("/a");
            assert!(response.body == noise(LENGTH, 1));
            assert!(!cache_status(&response).contains(&"fwd=uri-miss"));
        }
        gate.reached();
        let asked = mirror.asked("/a");
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].field("if-none-match"), Some("\"1\""));
        mirror.put("/a", fresh(LENGTH, 1));
        gate.open();
        eventually("validated", || {
            cache_status(&server.get("/a")).contains(&"hit")
        });
        let asked = mirror.asked("/a");
        assert!(
            asked
                .iter()
                .all(|request| request.field("if-none-match").is_some())
        );
    }
}

#[test]
fn a_new_version_comes_behind_the_stale_one() {
    let (mirror, server) = stored(stale(LENGTH, 1, "stale-while-revalidate=3600"), "");
    mirror.put("/a", fresh(LENGTH + 5, 2));
    assert!(server.get("/a").body == noise(LENGTH, 1));
    eventually("the new version", || {
        let response = server.get("/a");
        let seed = if response.etag() == "\"2\"" { 2 } else { 1 };
        let length = if seed == 2 { LENGTH + 5 } else { LENGTH };
        assert!(response.body == noise(length, seed));
        seed == 2
    });
}

/// Lets the origin fail in each way.
fn fail(mirror: &Mirror, mut check: impl FnMut(&str)) {
    for status in [500, 503] {
        mirror.behave("/a", [Behaviour::status(status)]);
        check(&format!("{status}"));
    }
    let gate = Gate::default();
    mirror.behave("/a", [Behaviour::StallHead(gate.clone())]);
    check("no answer");
    gate.open();
    mirror.behave("/a", []);
    mirror.origin.refuse();
    check("no connection");
    mirror.origin.accept();
}

#[test]
fn it_is_sent_while_the_origin_fails() {
    for (directives, site) in [
        ("stale-if-error=3600", ""),
        (
            "x",
            "[[site.cache]]\nmatch = \"/**\"\nstale-if-error = \"1h\"\n",
        ),
    ] {
        let (mirror, server) = stored(stale(LENGTH, 1, directives), site);
        fail(&mirror, |how| {
            // The second is made of what the first left in memory.
            for _ in 0..2 {
                let response = server.get("/a");
                assert!(response.body == noise(LENGTH, 1), "{how}");
                assert_eq!(cache_status(&response), ["hit", "detail=stale"], "{how}");
            }
        });
        mirror.put("/a", fresh(LENGTH, 2));
        eventually("the new version", || {
            whole(&server, "/a") == Some(noise(LENGTH, 2))
        });
    }
}

#[test]
fn it_is_not_sent_if_the_origin_forbids_that() {
    for directives in [
        "x",
        "stale-if-error=0",
        "must-revalidate, stale-if-error=3600",
    ] {
        let (mirror, server) = stored(stale(LENGTH, 1, directives), "");
        fail(&mirror, |how| {
            let status = server.get("/a").status;
            assert!(
                (502..=504).contains(&status),
                "{directives}: {how}: {status}"
            );
        });
    }
}

#[test]
fn an_object_that_is_gone_is_no_error() {
    let (mirror, server) = stored(stale(LENGTH, 1, "stale-if-error=3600"), "");
    mirror.origin.remove(&at("/a"));
    for _ in 0..2 {
        assert_eq!(server.get("/a").status, 404);
    }
    assert_eq!(mirror.count("/a"), 1);
}
