//! No body is made of two versions, or of what the origin did not mean.

use super::{IMPATIENT, Mirror, SLICE, at, fresh, whole};
use crate::support::{Behaviour, Object, eventually, noise};

const LENGTH: usize = 4 * SLICE;

/// Other versions of [`fresh`]`(LENGTH, 1)`.
fn others() -> [Object; 4] {
    [
        fresh(LENGTH, 2),
        fresh(LENGTH + 5, 2),
        fresh(SLICE - 9, 2),
        // With the entity tag alone.
        Object::new(noise(LENGTH, 1))
            .etag("\"2\"")
            .field("Cache-Control", "max-age=36000"),
    ]
}

#[test]
fn a_change_between_slices_ends_the_response() {
    for (number, other) in others().into_iter().enumerate() {
        for requests in 1..4 {
            let mirror = Mirror::with("/a", fresh(LENGTH, 1));
            let server = mirror.start();
            mirror.origin.put_after(&at("/a"), requests, other.clone());
            let first = whole(&server, "/a");
            assert!(first.is_none(), "version {number} after {requests}");
            let next = whole(&server, "/a");
            assert!(
                next.as_ref() == Some(&other.body),
                "version {number} after {requests}"
            );
        }
    }
}

#[test]
fn a_change_without_a_tag_is_seen_by_date_or_length() {
    let version = |seed, date| {
        let object = Object::new(noise(LENGTH, seed)).last_modified(date);
        object.field("Cache-Control", "max-age=36000")
    };
    let mirror = Mirror::with("/a", version(1, "Tue, 01 Sep 2020 00:00:00 GMT"));
    let server = mirror.start();
    let other = version(2, "Wed, 02 Sep 2020 00:00:00 GMT");
    mirror.origin.put_after(&at("/a"), 2, other);
    assert_eq!(whole(&server, "/a"), None);
    assert!(whole(&server, "/a") == Some(noise(LENGTH, 2)));
}

#[test]
fn an_object_that_is_gone_between_slices_ends_the_response() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let server = mirror.start();
    let part = server.get_with("/a", &["Range: bytes=0-9"]);
    assert_eq!(part.status, 206);
    mirror.origin.remove(&at("/a"));
    assert_eq!(whole(&server, "/a"), None);
    assert_eq!(server.get("/a").status, 404);
}

#[test]
fn a_stored_object_changes_when_its_time_is_over() {
    let mirror = Mirror::with("/a", super::stale(LENGTH, 1, ""));
    let server = mirror.start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    mirror.put("/a", fresh(LENGTH - 7, 2));
    let next = server.get("/a");
    assert_eq!(next.etag(), "\"2\"");
    assert!(next.body == noise(LENGTH - 7, 2));
    super::assert_forwarded(&next, "stale");
}

#[test]
fn a_lie_is_no_body() {
    let second = SLICE as u64;
    for behaviour in [
        Behaviour::ContentRange("bytes 0-65535/999999").at(0),
        Behaviour::ContentRange("bytes 0-65535/*").at(0),
        Behaviour::ContentRange("bytes 1-65536/262144").at(0),
        Behaviour::ContentRange("bytes 0-9/262144").at(0),
        Behaviour::ContentRange("bytes 0-65535/65536").at(0),
        Behaviour::ContentRange("nonsense").at(0),
        Behaviour::ContentRange("bytes 65536-131071/262145").at(second),
        Behaviour::ContentRange("bytes 0-65535/262144").at(second),
        Behaviour::ContentRange("bytes 65536-131070/262144").at(second),
        Behaviour::IgnoreRange.at(0),
        Behaviour::IgnoreRange.at(second),
        Behaviour::Chunked.at(second),
        Behaviour::Surplus(10).at(0),
        Behaviour::Surplus(SLICE).at(second),
        Behaviour::EndEarly(0).at(0),
        Behaviour::Reset(0).at(second),
        Behaviour::Fields(vec![("Content-Encoding", "gzip")]).at(second),
        Behaviour::Fields(vec![("Content-Length", "7")]),
        Behaviour::Fields(vec![("Transfer-Encoding", "chunked")]),
        Behaviour::status(206),
        Behaviour::status(304),
        Behaviour::status(416),
        Behaviour::status(412),
        Behaviour::Answer(206, vec![], "without a range"),
        Behaviour::Answer(412, vec![], "").at(second),
    ] {
        let mirror = Mirror::with("/a", fresh(LENGTH, 1));
        let server = mirror.launch(IMPATIENT, "").start();
        mirror.behave("/a", [behaviour.clone()]);
        for _ in 0..3 {
            if let Some(body) = whole(&server, "/a") {
                // An origin that means another length by it has said so.
                let is_shorter = format!("{behaviour:?}").contains("/65536\"");
                let length = if is_shorter { SLICE } else { LENGTH };
                assert!(body == noise(LENGTH, 1)[..length], "{behaviour:?}");
            }
        }
        mirror.behave("/a", []);
        if format!("{behaviour:?}").contains("/65536\"") {
            continue;
        }
        eventually("the truth", || {
            whole(&server, "/a") == Some(noise(LENGTH, 1))
        });
    }
}
