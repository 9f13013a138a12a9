//! Methods other than GET and HEAD, expectations, and what other origins may do (CORS).

use crate::support::{Launch, Response, Server, Tree, noise};

const ORIGIN: &str = "Origin: https://a.example";

const PREFLIGHT: [&str; 3] = [
    ORIGIN,
    "Access-Control-Request-Method: GET",
    "Access-Control-Request-Headers: range, x-own",
];

#[test]
fn options_tells_what_is_allowed() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in ["/file", "/", "*", "http://test/file", "/none"] {
        let response = client.ask("OPTIONS", target, &[]);
        // RFC 9110, section 9.3.7.
        assert_eq!(response.status, 204, "{target}");
        assert_eq!(
            response.list("allow"),
            ["get", "head", "options"],
            "{target}"
        );
        // RFC 9110, section 8.6.
        assert!(!response.has("content-length"), "{target}");
        assert!(response.has("date") && !response.closes(), "{target}");
    }
    let with_body = client.ask("OPTIONS", "/file", &["Content-Length: 0"]);
    assert_eq!(with_body.status, 204);
    assert_eq!(client.get("/file").body, b"content");
}

#[test]
fn methods_that_change_something_are_405_and_unknown_ones_501() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    #[rustfmt::skip] // one row a line
    let table = [
        ("POST", 405), ("PUT", 405), ("DELETE", 405), ("PATCH", 405), ("TRACE", 405),
        ("BREW", 501), ("get", 501), ("Get", 501), ("GETT", 501), ("PROPFIND", 501),
    ];
    for (method, status) in table {
        for target in ["/file", "/none", "/"] {
            let response = client.ask(method, target, &[]);
            assert_eq!(response.status, status, "{method} {target}");
            if status == 405 {
                // RFC 9110, section 15.5.6.
                assert_eq!(
                    response.list("allow"),
                    ["get", "head", "options"],
                    "{method}"
                );
            }
            assert!(!response.closes(), "{method} {target}");
        }
    }
    assert_eq!(client.get("/file").body, b"content");
}

#[test]
fn trace_does_not_repeat_the_request() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let response = server.connect().ask("TRACE", "/file", &["Cookie: sesame"]);
    assert!(!response.text().contains("sesame"), "{response:?}");
}

#[test]
fn expectations_are_met_or_refused() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    #[rustfmt::skip] // one row a line
    let table: [(&str, &[&str], u16, &str); 7] = [
        ("GET", &["Expect: 100-continue"], 200, "10.1.1: without a body there is nothing to wait for"),
        ("GET", &["Expect: 100-Continue", "Content-Length: 5"], 200, "10.1.1: the final status at once"),
        ("POST", &["Expect: 100-continue", "Content-Length: 5"], 405, "10.1.1: the final status at once"),
        ("PUT", &["Expect: 100-continue", "Transfer-Encoding: chunked"], 405, "10.1.1: the final status at once"),
        ("GET", &["Expect: something-else"], 417, "10.1.1: it cannot be met"),
        ("POST", &["Expect: 100-continue, other", "Content-Length: 5"], 417, "10.1.1: one of them cannot be met"),
        ("GET", &["Expect: 200-ok"], 417, "10.1.1: it cannot be met"),
    ];
    for (method, fields, status, why) in table {
        let mut client = server.connect();
        let response = client.ask(method, "/file", fields);
        assert_eq!(response.status, status, "{method} {fields:?} ({why})");
        if response.closes() {
            client.finish_sending();
            client.ends();
        } else {
            assert_eq!(client.get("/file").body, b"content", "{why}");
        }
    }
    // RFC 9110, section 10.1.1: HTTP/1.0 has no expectations.
    let mut client = server.connect();
    client.send("GET /file HTTP/1.0\r\nExpect: something-else\r\n\r\n");
    assert_eq!(client.response().body, b"content");
}

#[test]
fn without_origins_nothing_is_said_to_others() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for method in ["GET", "OPTIONS"] {
        let response = client.ask(method, "/file", &PREFLIGHT);
        is_silent(&response);
        assert!(!response.has("vary"), "{response:?}");
    }
}

#[test]
fn listed_origins_may_read() {
    let tree = files();
    let site = "error-pages = { 404 = \"/404.html\" }\n[site.cors]\norigins = [\"https://a.example\", \"http://b.example:81\"]";
    let server = Launch::run(&tree, "", site).start();
    let mut client = server.connect();
    for (target, fields, status) in answers(client.get("/small").etag()) {
        for (origin, admitted) in [
            ("https://a.example", true),
            ("http://b.example:81", true),
            ("http://a.example", false),
            ("https://a.example.evil", false),
            ("https://a.example:8443", false),
            ("null", false),
            ("", false),
        ] {
            let mut fields = fields.clone();
            fields.push(format!("Origin: {origin}"));
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let response = client.get_with(target, &fields);
            let place = format!("{target} {fields:?}");
            assert_eq!(response.status, status, "{place}");
            assert!(
                response.list("vary").contains(&"origin".to_owned()),
                "{place}"
            );
            if admitted {
                assert_eq!(
                    response.header("access-control-allow-origin"),
                    Some(origin),
                    "{place}"
                );
                let exposed = response.list("access-control-expose-headers");
                assert!(
                    exposed.contains(&"content-range".to_owned()),
                    "{place}: {exposed:?}"
                );
            } else {
                is_silent(&response);
            }
        }
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let response = client.get_with(target, &fields);
        is_silent(&response);
        assert!(
            response.list("vary").contains(&"origin".to_owned()),
            "{target}"
        );
    }
}

#[test]
fn any_origin_may_read_where_all_may() {
    let tree = files();
    let server = Launch::run(&tree, "", "[site.cors]\norigins = [\"*\"]").start();
    let mut client = server.connect();
    for (target, mut fields, status) in answers(client.get("/small").etag()) {
        fields.push("Origin: https://anyone.example".to_owned());
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let response = client.get_with(target, &fields);
        assert_eq!(response.status, status, "{target} {fields:?}");
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("*"),
            "{target}"
        );
        assert!(
            !response.has("access-control-allow-credentials"),
            "{target}"
        );
        assert!(
            !response.list("vary").contains(&"origin".to_owned()),
            "{target}"
        );
    }
}

#[test]
fn a_preflight_is_answered() {
    let tree = files();
    let site = "[site.cors]\norigins = [\"https://a.example\"]\nmax-age = \"10m\"";
    let server = Launch::run(&tree, "", site).start();
    let mut client = server.connect();
    for target in ["/small", "/none", "/directory"] {
        let response = client.ask("OPTIONS", target, &PREFLIGHT);
        assert_eq!(response.status, 204, "{target}");
        let origin = response.header("access-control-allow-origin");
        assert_eq!(origin, Some("https://a.example"), "{target}");
        let methods = response.list("access-control-allow-methods");
        assert!(
            ["get", "head"]
                .iter()
                .all(|method| methods.contains(&(*method).to_owned()))
        );
        assert_eq!(
            response.list("access-control-allow-headers"),
            ["range", "x-own"]
        );
        assert_eq!(
            response.header("access-control-max-age"),
            Some("600"),
            "{target}"
        );
        assert!(
            response.list("vary").contains(&"origin".to_owned()),
            "{target}"
        );
    }
    let stranger = ["Origin: https://c.example", PREFLIGHT[1], PREFLIGHT[2]];
    let response = client.ask("OPTIONS", "/small", &stranger);
    assert_eq!(response.status, 204);
    is_silent(&response);
    assert!(response.list("vary").contains(&"origin".to_owned()));
    // No line of it is made of what the client says unless that is a list of names.
    let odd = [
        ORIGIN,
        PREFLIGHT[1],
        "Access-Control-Request-Headers: a b, <c>",
    ];
    let response = client.ask("OPTIONS", "/small", &odd);
    assert!(
        !response.has("access-control-allow-headers"),
        "{response:?}"
    );
}

#[test]
fn sites_differ_in_whom_they_let_in() {
    let tree = Tree::with("file", b"content");
    let root = tree.root();
    let root = root.display();
    let sites = format!(
        "[[site]]\nnames = [\"open\"]\nroot = \"{root}\"\n[site.cors]\norigins = [\"*\"]\n\
         [[site]]\nnames = [\"closed\"]\nroot = \"{root}\"\n"
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = server.connect();
    for (host, origin) in [("Host: open", Some("*")), ("Host: closed", None)] {
        for method in ["GET", "OPTIONS"] {
            let response = client.ask(method, "/file", &[host, ORIGIN]);
            let got = response.header("access-control-allow-origin");
            assert_eq!(got, origin, "{method} {host}");
        }
    }
}

/// Targets of [`files`], fields to ask for them with, and the status that leads to: every kind of answer.
fn answers(tag: &str) -> Vec<(&'static str, Vec<String>, u16)> {
    vec![
        ("/small", vec![], 200),
        ("/large", vec![], 200),
        ("/small", vec!["Range: bytes=0-1".to_owned()], 206),
        ("/large", vec!["Range: bytes=0-1,5-6".to_owned()], 206),
        ("/small", vec![format!("If-None-Match: {tag}")], 304),
        ("/directory", vec![], 301),
        ("/none", vec![], 404),
        ("/small", vec!["If-Match: \"other\"".to_owned()], 412),
        ("/small", vec!["Range: bytes=9999-".to_owned()], 416),
    ]
}

fn files() -> Tree {
    let tree = Tree::with("directory/index.html", b"index");
    tree.write("small", &noise(1000, 1));
    tree.write("large", &noise(100_000, 2));
    tree.write("404.html", b"nothing here");
    tree
}

#[track_caller]
fn is_silent(response: &Response) {
    let told = response
        .headers
        .iter()
        .find(|(name, _)| name.starts_with("access-control-"));
    assert!(told.is_none(), "{response:?}");
}
