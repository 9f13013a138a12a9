//! An origin that fails, and what clients are told.

use super::{IMPATIENT, Mirror, PATIENT, SLICE, fresh, whole};
use crate::support::{Behaviour, Gate, eventually, noise};

fn mirror() -> Mirror {
    Mirror::with("/a", fresh(2 * SLICE, 1))
}

#[test]
fn failures_have_statuses_of_a_gateway_and_are_not_remembered() {
    let busy = |status| Behaviour::Answer(status, vec![("Retry-After", "7")], "busy");
    let gate = Gate::default();
    for (behaviour, status, retry_after) in [
        // The first: the gate is opened after it.
        (Behaviour::StallHead(gate.clone()), 504, Some("5")),
        (Behaviour::status(500), 502, Some("5")),
        (Behaviour::status(502), 502, Some("5")),
        (Behaviour::status(400), 502, Some("5")),
        (Behaviour::status(401), 502, Some("5")),
        (Behaviour::status(204), 502, Some("5")),
        (busy(503), 503, Some("7")),
        (busy(429), 503, Some("7")),
    ] {
        let mirror = mirror();
        let server = mirror.launch(IMPATIENT, "").start();
        mirror.behave("/a", [behaviour.clone()]);
        for _ in 0..2 {
            let response = server.get("/a");
            assert_eq!(response.status, status, "{behaviour:?}");
            assert_eq!(response.header("retry-after"), retry_after, "{behaviour:?}");
            assert!(!response.has("etag"), "{behaviour:?}");
        }
        gate.open();
        mirror.behave("/a", []);
        assert!(
            whole(&server, "/a") == Some(noise(2 * SLICE, 1)),
            "{behaviour:?}"
        );
    }
}

#[test]
fn a_single_failure_is_not_seen() {
    let mirror = mirror();
    let server = mirror.start();
    // Connections that the origin closes between two requests.
    for number in 0..5 {
        mirror.put(&format!("/{number}"), fresh(10, number));
        mirror.origin.refuse();
        mirror.origin.accept();
        assert_eq!(server.get(&format!("/{number}")).body, noise(10, number));
    }
}

#[test]
fn an_origin_that_refuses_connections_is_asked_again() {
    let mirror = mirror();
    let server = mirror.start();
    mirror.put("/hot", fresh(100, 2));
    server.get("/hot");
    mirror.origin.refuse();
    for _ in 0..5 {
        assert_eq!(server.get("/a").status, 502);
        assert_eq!(server.get("/hot").status, 200);
    }
    mirror.origin.accept();
    eventually("the object", || {
        whole(&server, "/a") == Some(noise(2 * SLICE, 1))
    });
}

#[test]
fn what_breaks_http_is_a_bad_gateway() {
    for fields in [
        vec![("Content-Length", "x")],
        vec![("Bad name", "x")],
        vec![("Content-Range", "bytes 0-1/2")],
    ] {
        let mirror = mirror();
        let server = mirror.start();
        mirror.behave("/a", [Behaviour::Fields(fields.clone())]);
        let body = whole(&server, "/a");
        assert!(
            body.is_none_or(|body| body == noise(2 * SLICE, 1)),
            "{fields:?}"
        );
    }
}

#[test]
fn what_the_origin_lacks_or_forbids_is_remembered() {
    let mirror = mirror();
    mirror.behave("/forbidden", [Behaviour::s3_error(403, "AccessDenied")]);
    mirror.behave("/gone", [Behaviour::status(410)]);
    let server = mirror.start();
    for (target, statuses) in [
        ("/none", &[404][..]),
        ("/forbidden", &[403, 404]),
        ("/gone", &[404, 410]),
    ] {
        for _ in 0..3 {
            let response = server.get(target);
            assert!(
                statuses.contains(&response.status),
                "{target}: {response:?}"
            );
            assert!(!response.body.starts_with(b"<Error>"), "{target}");
        }
        assert_eq!(mirror.count(target), 1, "{target}");
    }
}

#[test]
fn what_was_lacking_comes_after_a_while() {
    let mirror = mirror();
    let keys = PATIENT.replace("1h", "1s");
    let server = mirror.launch(&keys, "").start();
    assert_eq!(server.get("/later").status, 404);
    mirror.put("/later", fresh(10, 3));
    eventually("the object", || server.get("/later").status == 200);
    server.stop();
    let server = mirror.launch(&PATIENT.replace("1h", "0s"), "").start();
    mirror.origin.forget();
    for _ in 0..3 {
        assert_eq!(server.get("/none").status, 404);
    }
    assert_eq!(mirror.count("/none"), 3);
}
