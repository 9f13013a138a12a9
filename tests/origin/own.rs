//! The origin of these tests does as it is told.

use std::thread;
use std::time::Duration;

use crate::support::{Behaviour, Client, Gate, Object, Origin, noise};

const LENGTH: usize = 100_000;
const DATE: &str = "Tue, 01 Sep 2020 00:00:00 GMT";

/// An origin with an object at /a.
fn origin() -> Origin {
    let origin = Origin::start();
    origin.put("/a", Object::noise(LENGTH, 1).last_modified(DATE));
    origin
}

fn connect(origin: &Origin) -> Client {
    Client::connect(origin.address())
}

#[test]
fn it_answers_as_a_store_does() {
    let origin = origin();
    origin.put("/a?v=2", Object::new("second").field("Vary", "Origin"));
    let mut client = connect(&origin);
    let whole = client.get("/a");
    assert_eq!((whole.status, whole.etag()), (200, "\"1\""));
    assert!(whole.body == noise(LENGTH, 1));
    for (fields, status, range) in [
        (&["Range: bytes=5-9"][..], 206, 5..10),
        (&["Range: bytes=99990-200000"], 206, 99_990..LENGTH),
        (&["Range: bytes=99990-"], 206, 99_990..LENGTH),
        (&["Range: bytes=-7"], 206, LENGTH - 7..LENGTH),
        (&["Range: bytes=5-9", "If-Match: \"1\""], 206, 5..10),
        (&["Range: bytes=5-9", "If-Match: \"2\""], 412, 0..0),
        (
            &["If-Unmodified-Since: Mon, 31 Aug 2020 00:00:00 GMT"],
            412,
            0..0,
        ),
        (&["Range: bytes=5-9", "If-Range: \"2\""], 200, 0..LENGTH),
        (&["Range: bytes=100000-"], 416, 0..0),
        (&["If-None-Match: \"2\", W/\"1\""], 304, 0..0),
        (&["If-None-Match: \"2\""], 200, 0..LENGTH),
        (
            &["If-Modified-Since: Tue, 01 Sep 2020 00:00:00 GMT"],
            304,
            0..0,
        ),
        (
            &["If-Modified-Since: Mon, 31 Aug 2020 00:00:00 GMT"],
            200,
            0..LENGTH,
        ),
    ] {
        let response = client.get_with("/a", fields);
        assert_eq!(response.status, status, "{fields:?}");
        assert!(response.body == noise(LENGTH, 1)[range], "{fields:?}");
    }
    let head = client.ask("HEAD", "/a", &[]);
    assert_eq!((head.status, head.content_length()), (200, LENGTH));
    assert_eq!(client.get("/a?v=2").header("vary"), Some("Origin"));
    origin.remove("/a");
    assert_eq!(client.get("/a").status, 404);
    assert_eq!(origin.count("/a"), 17);
    assert_eq!(origin.count("/a?v=2"), 1);
    assert_eq!(origin.slices("/a")[..2], [5..10, 99_990..200_001]);
    assert_eq!(origin.requests()[14].method, "HEAD");
    assert_eq!(origin.requests()[1].field("range"), Some("bytes=5-9"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn it_answers_wrong_as_it_is_told() {
    let origin = origin();
    let part = ["Range: bytes=10-29"];
    let mut client = connect(&origin);
    origin.behave("/a", [Behaviour::ContentRange("bytes 0-19/7").at(10)]);
    let lie = client.get_with("/a", &part);
    assert_eq!(lie.header("content-range"), Some("bytes 0-19/7"));
    origin.behave("/a", [Behaviour::IgnoreRange]);
    assert_eq!(client.get_with("/a", &part).status, 200);
    origin.behave("/a", [Behaviour::Chunked]);
    assert!(client.get("/a").body == noise(LENGTH, 1));
    origin.behave("/a", [Behaviour::s3_error(403, "SignatureDoesNotMatch")]);
    origin.behave_always([Behaviour::Fields(vec![("Age", "7")])]);
    let error = client.get("/a");
    assert_eq!((error.status, error.header("age")), (403, Some("7")));
    assert!(error.text().contains("SignatureDoesNotMatch"));
    origin.behave("/a", [Behaviour::BareUnsatisfied]);
    let beyond = client.get_with("/a", &["Range: bytes=100000-"]);
    assert!(beyond.status == 416 && !beyond.has("content-range"));
    origin.behave("/a", []);
    origin.put_after("/a", 1, Object::new("new").etag("\"2\""));
    assert_eq!(client.get("/a").etag(), "\"1\"");
    assert_eq!(client.get("/a").body, b"new");
}

#[test]
fn it_breaks_off_as_it_is_told() {
    let origin = origin();
    let ended = |behaviour| {
        origin.behave("/a", [behaviour]);
        let mut client = connect(&origin);
        client.send("GET /a HTTP/1.1\r\n\r\n");
        assert_eq!(client.head().content_length(), LENGTH);
        client
    };
    assert!(ended(Behaviour::EndEarly(50_000)).rest() == noise(50_000, 1));
    assert!(ended(Behaviour::Reset(10)).ends_with_reset());
    let mut surplus = ended(Behaviour::Surplus(3));
    assert!(surplus.body(LENGTH) == noise(LENGTH, 1));
    assert_eq!(surplus.body(3), b"+++");
    origin.behave("/a", [Behaviour::Close]);
    let mut client = connect(&origin);
    assert!(client.get("/a").closes());
    client.ends();
    let (address, mut kept) = (origin.address(), connect(&origin));
    origin.behave("/a", []);
    kept.get("/a");
    origin.refuse();
    kept.ends();
    assert!(std::net::TcpStream::connect(address).is_err());
    origin.accept();
    assert_eq!(connect(&origin).get("/a").status, 200);
}

#[test]
fn it_stalls_until_it_is_told_to_go_on() {
    let origin = origin();
    let (head, body) = (Gate::default(), Gate::default());
    origin.behave(
        "/a",
        [
            Behaviour::StallHead(head.clone()),
            Behaviour::StallBody(50_000, body.clone()),
            Behaviour::Trickle(10_000, Duration::from_millis(1)),
        ],
    );
    let mut client = connect(&origin);
    client.send("GET /a HTTP/1.1\r\n\r\n");
    head.reached();
    assert_eq!(connect(&origin).get("/b").status, 404);
    head.open();
    client.head();
    assert!(client.body(50_000) == noise(50_000, 1));
    body.reached();
    thread::scope(|scope| {
        scope.spawn(|| body.open());
        assert!(client.body(50_000) == noise(LENGTH, 1)[50_000..]);
    });
}
