//! Conditional requests (RFC 9110, section 13), of files sent from memory and of spliced ones.

use crate::support::{Client, Launch, Server, Tree, noise, request, request_with};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const DATE_SECONDS: u64 = 784_111_777;

/// Names of files, sent from memory and spliced.
const FILES: [&str; 3] = ["/small.css", "/large.css", "/empty.css"];

/// Fields, the status they lead to, and why. `TAG` stands for the file's own tag, without quotes.
#[rustfmt::skip] // one row a line
const TABLE: &[(&[&str], u16, &str)] = &[
    (&["If-None-Match: \"TAG\""], 304, "13.1.2: the same"),
    (&["If-None-Match: W/\"TAG\""], 304, "13.1.2: weak comparison"),
    (&["If-None-Match: \"other\""], 200, "13.1.2: another"),
    (&["If-None-Match: \"other\", \"TAG\""], 304, "13.1.2: one of a list"),
    (&["If-None-Match: \"oth,er\",,W/\"TAG\" , \"x\""], 304, "8.8.3: a comma within a tag; 5.6.1: empty elements"),
    (&["If-None-Match: \"other\"", "If-None-Match: \"TAG\""], 304, "5.3: two lines are one list"),
    (&["If-None-Match: *"], 304, "13.1.2: any"),
    (&["If-None-Match: TAG"], 200, "8.8.3: no quotes, no tag"),
    (&["If-None-Match: \"TAG"], 200, "8.8.3: a quote without end"),
    (&["If-None-Match:"], 200, "an empty list matches nothing"),
    (&["If-None-Match: \"tag\""], 200, "8.8.3.2: compared byte by byte"),
    (&["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 304, "13.1.3: the same"),
    (&["If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 200, "13.1.3: modified since"),
    (&["If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT"], 304, "13.1.3: a later date is a match too"),
    (&["If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT"], 304, "13.1.3: one far ahead"),
    (&["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"], 304, "5.6.7: the form of RFC 850"),
    (&["If-Modified-Since: Sun Nov  6 08:49:37 1994"], 304, "5.6.7: the form of asctime"),
    (&["If-Modified-Since: 1994-11-06T08:49:37Z"], 200, "13.1.3: no HTTP date"),
    (&["If-Modified-Since: Sun, 06 Nov 1994 08:49:61 GMT"], 200, "13.1.3: no such second"),
    (&["If-Modified-Since: Sun, 31 Feb 1994 08:49:37 GMT"], 200, "13.1.3: no such day"),
    (&["If-Modified-Since: 0"], 200, "13.1.3: no date"),
    (&["If-Modified-Since:"], 200, "13.1.3: no date"),
    (&["If-None-Match: \"other\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 200, "13.1.3: ignored beside If-None-Match"),
    (&["If-None-Match: \"TAG\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 304, "13.1.3: ignored beside If-None-Match"),
    (&["If-Match: \"TAG\""], 200, "13.1.1: the same"),
    (&["If-Match: W/\"TAG\""], 412, "13.1.1: strong comparison"),
    (&["If-Match: \"other\""], 412, "13.1.1: another"),
    (&["If-Match: \"other\", \"TAG\""], 200, "13.1.1: one of a list"),
    (&["If-Match: \"other\"", "If-Match: \"TAG\""], 200, "5.3: two lines are one list"),
    (&["If-Match: *"], 200, "13.1.1: any"),
    (&["If-Match: TAG"], 412, "8.8.3: no quotes, no tag"),
    (&["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 200, "13.1.4: the same"),
    (&["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:38 GMT"], 200, "13.1.4: not modified since"),
    (&["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 412, "13.1.4: modified since"),
    (&["If-Unmodified-Since: yesterday"], 200, "13.1.4: no date"),
    (&["If-Match: \"TAG\"", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 200, "13.1.4: ignored beside If-Match"),
    (&["If-Match: \"TAG\"", "If-None-Match: \"TAG\""], 304, "13.2.2: both are evaluated"),
    (&["If-Match: \"other\"", "If-None-Match: \"TAG\""], 412, "13.2.2: If-Match comes first"),
    (&["If-None-Match: \"TAG\"", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 412, "13.2.2: If-Unmodified-Since comes first"),
    (&["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 304, "13.2.2: both are evaluated"),
    (&["If-None-Match: \"TAG\"", "Range: bytes=0-0"], 304, "13.2.2: before Range"),
    (&["If-Match: \"other\"", "Range: bytes=0-0"], 412, "13.2.2: before Range"),
    (&["If-None-Match: \"TAG\"", "Range: bytes=1000000-"], 304, "13.2.2: before Range, be it satisfiable or not"),
];

#[test]
fn preconditions_decide() {
    let tree = files();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in FILES {
        let tag = tag(&mut client, target);
        for (fields, status, why) in TABLE {
            let fields = filled_in(fields, &tag);
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            for method in ["GET", "HEAD"] {
                let response = client.ask(method, target, &fields);
                let place = format!("{method} {target} {fields:?} ({why})");
                assert_eq!(response.status, *status, "{place}");
            }
        }
    }
    server.stop();
}

#[test]
fn not_modified_says_what_a_cache_has_to_know() {
    let tree = files();
    tree.write_at("small.css.br", b"compressed", DATE_SECONDS);
    let rule = "[[site.headers]]\nmatch = \"/**\"\n\
                set = { cache-control = \"max-age=60\", expires = \"0\", content-location = \"/x\" }";
    let server = Launch::run(&tree, "", rule).start();
    let mut client = server.connect();
    let full = client.get("/small.css");
    let condition = format!("If-None-Match: {}", full.etag());
    for method in ["GET", "HEAD"] {
        let response = client.ask(method, "/small.css", &[&condition]);
        assert_eq!(response.status, 304, "{method}");
        // RFC 9110, section 15.4.5: what a 200 would have had of these.
        for name in [
            "etag",
            "cache-control",
            "expires",
            "content-location",
            "vary",
        ] {
            assert!(full.has(name), "{name} in {full:?}");
            assert_eq!(response.list(name), full.list(name), "{name}");
        }
        assert!(response.has("date"), "{response:?}");
        // Nothing that describes a body; RFC 9110, section 8.6: or exactly the length of a 200.
        for name in [
            "content-type",
            "content-encoding",
            "content-range",
            "transfer-encoding",
        ] {
            assert!(!response.has(name), "{name} in {response:?}");
        }
        let length = response.header("content-length");
        assert!(length.is_none() || length == full.header("content-length"));
    }
    assert_eq!(client.get("/small.css").body, full.body);
}

#[test]
fn a_failed_precondition_sends_nothing_of_the_file() {
    let tree = files();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in FILES {
        let response = client.get_with(target, &["If-Match: \"other\""]);
        assert_eq!(response.status, 412, "{target}");
        assert!(response.has("date"), "{target}");
        let page = response.text();
        assert!(
            page.contains("<h1>412 Precondition Failed</h1>"),
            "{target}: {page}"
        );
        assert!(page.len() < 600, "{target}: {page}");
        assert!(!response.has("content-range"), "{target}: {response:?}");
    }
}

#[test]
fn preconditions_do_not_hide_other_answers() {
    let tree = files();
    tree.write("directory/index.html", b"index");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    // RFC 9110, section 13.2.1: ignored where the answer without them is neither 2xx nor 412.
    let conditions = [
        "If-Match: \"other\"",
        "If-Match: *",
        "If-None-Match: *",
        "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    ];
    for condition in conditions {
        for (method, target, status) in [
            ("GET", "/none", 404),
            ("GET", "/directory", 301),
            ("POST", "/small.css", 405),
        ] {
            let response = client.ask(method, target, &[condition]);
            assert_eq!(response.status, status, "{method} {target} {condition}");
        }
    }
}

#[test]
fn conditional_requests_may_be_pipelined() {
    let tree = files();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    let conditions: Vec<_> = FILES
        .map(|target| format!("\"{}\"", tag(&mut client, target)))
        .into();
    let mut requests = String::new();
    for _ in 0..50 {
        for (target, tag) in FILES.iter().zip(&conditions) {
            requests += &request_with("GET", target, &[&format!("If-None-Match: {tag}")]);
            requests += &request("GET", target);
            requests += &request_with("GET", target, &["If-Match: \"other\""]);
        }
    }
    client.send(requests);
    for _ in 0..50 {
        for target in FILES {
            let statuses = [(); 3].map(|()| client.response().status);
            assert_eq!(statuses, [304, 200, 412], "{target}");
        }
    }
}

#[test]
fn a_date_before_1970_or_far_ahead_does_no_harm() {
    use std::time::{Duration, SystemTime};
    let tree = files();
    let epoch = SystemTime::UNIX_EPOCH;
    tree.modified("small.css", epoch - Duration::from_hours(24));
    // Behind the last year that an HTTP date can tell.
    tree.modified("large.css", epoch + Duration::from_hours(24 * 366 * 8030));
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in ["/small.css", "/large.css"] {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{target}");
        // RFC 9110, section 8.8.2.1: never later than Date.
        let modified = response.header("last-modified");
        assert!(modified.is_none(), "{target}: {modified:?}");
        for condition in ["If-Modified-Since: ", "If-Unmodified-Since: "] {
            let field = format!("{condition}{DATE}");
            assert_eq!(client.get_with(target, &[&field]).status, 200, "{target}");
        }
    }
}

/// The tree with [`FILES`], all last modified at [`DATE`].
fn files() -> Tree {
    let tree = Tree::new();
    tree.write_at("small.css", &noise(1000, 1), DATE_SECONDS);
    tree.write_at("large.css", &noise(100_000, 2), DATE_SECONDS);
    tree.write_at("empty.css", b"", DATE_SECONDS);
    tree
}

/// The tag of `target` without its quotes.
fn tag(client: &mut Client, target: &str) -> String {
    let response = client.get(target);
    assert_eq!(response.header("last-modified"), Some(DATE), "{target}");
    response.etag().trim_matches('"').to_owned()
}

fn filled_in(fields: &[&str], tag: &str) -> Vec<String> {
    fields
        .iter()
        .map(|field| field.replace("TAG", tag))
        .collect()
}
