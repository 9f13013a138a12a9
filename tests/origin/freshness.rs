//! What may be stored, and for how long (RFC 9111).

use std::time::{Duration, SystemTime};

use super::{Mirror, PATIENT, assert_hit, cache_status};
use crate::support::{Behaviour, Object};

/// What becomes of a second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// The origin hears nothing of it.
    Hit,
    /// It validates what is stored.
    Validated,
    /// Nothing was stored.
    Fetched,
}

/// An object with these fields.
fn object(fields: &[(&str, &str)]) -> Object {
    let object = Object::new("content").etag("\"1\"");
    fields
        .iter()
        .fold(object, |object, (name, value)| object.field(name, value))
}

/// Asks twice for an object with these fields, with `site` in the site.
#[track_caller]
fn check(site: &str, rows: &[(&[(&str, &str)], Second)]) {
    let mirror = Mirror::new();
    let server = mirror.launch(PATIENT, site).start();
    for (number, (fields, expected)) in rows.iter().enumerate() {
        let target = format!("/{number}");
        mirror.put(&target, object(fields));
        let first = server.get(&target);
        assert_eq!(first.body, b"content", "{fields:?}");
        let is_stored = cache_status(&first).contains(&"stored");
        assert_eq!(is_stored, *expected != Second::Fetched, "{fields:?}");
        let second = server.get(&target);
        assert_eq!(second.body, b"content", "{fields:?}");
        let seen = match &mirror.asked(&target)[1..] {
            [] => Second::Hit,
            [request] if request.field("if-none-match") == Some("\"1\"") => Second::Validated,
            _ => Second::Fetched,
        };
        assert_eq!(seen, *expected, "{fields:?}");
    }
}

fn date(seconds: i64) -> String {
    let time = SystemTime::now() - Duration::from_hours(24);
    httpdate::fmt_http_date(time + Duration::from_secs((24 * 3600 + seconds) as u64))
}

#[test]
fn the_origin_says_for_how_long() {
    use Second::{Fetched, Hit, Validated};
    let (future, past) = (date(3600), date(-3600));
    check(
        "",
        &[
            (&[("Cache-Control", "max-age=3600")], Hit),
            (&[("Cache-Control", "public, MAX-AGE=3600")], Hit),
            (&[("Cache-Control", "max-age=0, s-maxage=3600")], Hit),
            (&[("Cache-Control", "max-age=3600, s-maxage=0")], Validated),
            (&[("Cache-Control", "max-age=0")], Validated),
            (&[("Cache-Control", "no-cache")], Validated),
            (&[("Cache-Control", "max-age=3600, no-cache")], Validated),
            (
                &[("Cache-Control", "max-age=3600"), ("Age", "3600")],
                Validated,
            ),
            (&[("Cache-Control", "max-age=3600"), ("Age", "100")], Hit),
            (
                &[("Cache-Control", "max-age=1000"), ("Date", &past)],
                Validated,
            ),
            (&[("Expires", &future)], Hit),
            (&[("Expires", &past)], Validated),
            (&[("Expires", "0")], Validated),
            (
                &[("Expires", &future), ("Cache-Control", "max-age=0")],
                Validated,
            ),
            (&[("Last-Modified", "Tue, 01 Sep 2020 00:00:00 GMT")], Hit),
            (&[("Cache-Control", "no-store")], Fetched),
            (&[("Cache-Control", "max-age=3600, private")], Fetched),
            (
                &[("Cache-Control", "max-age=3600"), ("Vary", "Cookie")],
                Fetched,
            ),
            (&[("Cache-Control", "max-age=3600"), ("Vary", "*")], Fetched),
            (
                &[
                    ("Cache-Control", "max-age=3600"),
                    ("Vary", "Accept-Encoding, User-Agent"),
                ],
                Fetched,
            ),
            (
                &[
                    ("Cache-Control", "max-age=3600"),
                    ("Vary", "accept-encoding"),
                ],
                Hit,
            ),
        ],
    );
}

#[test]
fn the_site_says_for_how_long() {
    use Second::{Fetched, Hit, Validated};
    let rule = |ttl: &str| format!("[[site.cache]]\nmatch = \"/**\"\nttl = \"{ttl}\"\n");
    let (later, never) = (
        ("Cache-Control", "max-age=3600"),
        ("Cache-Control", "max-age=0"),
    );
    let cookie = ("Vary", "Cookie");
    check(
        &rule("1h"),
        &[(&[], Hit), (&[never], Hit), (&[never, cookie], Fetched)],
    );
    check(&rule("0s"), &[(&[], Validated), (&[later], Validated)]);
    check(&rule("off"), &[(&[], Fetched), (&[later], Fetched)]);
    let other = "[[site.cache]]\nmatch = \"/other/**\"\nttl = \"off\"\n";
    check(other, &[(&[later], Hit), (&[never], Validated)]);
}

#[test]
fn ages_add_up() {
    let mirror = Mirror::with(
        "/a",
        object(&[("Cache-Control", "max-age=3600"), ("Age", "100")]),
    );
    mirror.put(
        "/b",
        object(&[("Cache-Control", "max-age=3600"), ("Date", &date(-200))]),
    );
    mirror.put("/c", object(&[("Cache-Control", "max-age=3600")]));
    let server = mirror.start();
    for (target, least) in [("/a", 100), ("/b", 200), ("/c", 0)] {
        server.get(target);
        let response = server.get(target);
        assert_hit(&response);
        let age: u64 = response
            .header("age")
            .expect("Age")
            .parse()
            .expect("a number");
        assert!((least..3600).contains(&age), "{target}: {age}");
    }
}

#[test]
fn late_fields_of_every_response_count() {
    let mirror = Mirror::with("/a", object(&[]));
    mirror
        .origin
        .behave_always([Behaviour::Fields(vec![("Cache-Control", "max-age=3600")])]);
    let server = mirror.start();
    server.get("/a");
    assert_hit(&server.get("/a"));
}
