//! Redirects: those of a site's rules, and that of a directory to its slash.

use std::fs;

use crate::support::{Client, Launch, Server, Tree};

const RULES: &str = r#"
[[site.redirects]]
from = "/old/*"
to = "/new/$1"

[[site.redirects]]
from = "/deep/**"
to = "/shallow/$1"
status = 302

[[site.redirects]]
from = "/away/**"
to = "https://elsewhere.example/x/$1"
status = 303

[[site.redirects]]
from = "/v?/*/**"
to = "/moved/$2/v$1/$3"
status = 307

[[site.redirects]]
from = "/query"
to = "/target?fixed=1"
status = 308

[[site.redirects]]
from = "/price/*"
to = "/%24$10"

[[site.redirects]]
from = "/{cats,dogs}/*.html"
to = "/pets/$1/$2"

[[site.redirects]]
from = "/{en,de}/[0-9]{4}-?{2}/**"
to = "/$3/$1/$2/$4"

[[site.redirects]]
from = "/Shop/{Cart,c}"
ignore-case = true
to = "/basket?from=$1"

[[site.redirects]]
from = "/directory"
to = "/first"

[[site.redirects]]
from = "/directory"
to = "/second"

[[site.redirects]]
from = "/go/**"
to = "/$1"

[[site.redirects]]
from = "/gone**"
to = "/$1"

[[site.redirects]]
from = "/host/**"
to = "https://host.example/$1"
"#;

/// Targets, the status and the location they get, and why.
#[rustfmt::skip] // one row a line
const TABLE: &[(&str, u16, &str, &str)] = &[
    ("/old/a", 301, "/new/a", "a capture"),
    ("/old/", 301, "/new/", "an empty capture"),
    ("/old/a?x=1&y=%20", 301, "/new/a?x=1&y=%20", "the query is kept as it is"),
    ("/old/a?", 301, "/new/a?", "an empty query too"),
    ("/old/two%20words", 301, "/new/two%20words", "a capture is encoded"),
    ("/old/%41%2e%7e", 301, "/new/A.~", "what needs no encoding gets none"),
    ("/old/100%25", 301, "/new/100%25", "a percent sign is encoded"),
    ("/old/a%3Fb%23c", 301, "/new/a%3Fb%23c", "nothing in it becomes a query or a fragment"),
    ("/old/gr%c3%bc%c3%9fe", 301, "/new/gr%C3%BC%C3%9Fe", "bytes beyond ASCII"),
    ("/old/%22%3Cscript%3E", 301, "/new/%22%3Cscript%3E", "nothing in it becomes HTML"),
    ("/old/%0d%0aSet-Cookie:%20a=b", 301, "/new/%0D%0ASet-Cookie:%20a=b", "nothing in it becomes a header"),
    ("/deep/a/b/c", 302, "/shallow/a/b/c", "a capture with slashes"),
    ("/deep/a//b/../c", 302, "/shallow/a/c", "the path is matched as it is looked up"),
    ("/%64eep/a", 302, "/shallow/a", "the path is matched decoded"),
    ("/away/a/b?c", 303, "https://elsewhere.example/x/a/b?c", "another host"),
    ("/v2/docs/a/b", 307, "/moved/docs/v2/a/b", "captures in another order"),
    ("/query", 308, "/target?fixed=1", "a query of its own"),
    ("/query?x=1", 308, "/target?fixed=1", "takes the place of the request's"),
    ("/price/5", 301, "/%2450", "a capture is one digit"),
    ("/cats/tom.html", 301, "/pets/cats/tom", "alternatives capture"),
    ("/dogs/rex.html?a", 301, "/pets/dogs/rex?a", "alternatives capture"),
    ("/de/2024-05/a/b", 301, "/05/de/2024/a/b", "a repetition is one capture"),
    ("/de/2024-%C3%A9%0A/", 301, "/%C3%A9%0A/de/2024/", "characters beyond ASCII and line ends in one"),
    ("/sHOP/CART", 301, "/basket?from=CART", "in either case, by choice"),
    ("/shop/C", 301, "/basket?from=C", "in either case, by choice"),
    ("/directory", 301, "/first", "the first rule that matches, before what is on disk"),
    ("/go/a", 301, "/a", "a capture at the start"),
    ("/host/a", 301, "https://host.example/a", "a capture behind the host"),
];

/// Targets that none of the rules matches.
const OTHERS: [&str; 10] = [
    "/old/a/b",
    "/old",
    "/v/x/y",
    "/cats/tom.htm",
    "/Cats/tom.html",
    "/en/202-05/a",
    "/en/20245-05/a",
    "/en/2024-5/a",
    "/x/old/a",
    "/birds/a.html",
];

#[test]
fn rules_redirect() {
    let tree = Tree::with("directory/index.html", b"index");
    let server = Launch::run(&tree, "", RULES).start();
    let mut client = server.connect();
    for (target, status, location, why) in TABLE {
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, target, &[]);
            let place = format!("{method} {target} ({why})");
            assert_eq!(response.status, *status, "{place}");
            assert_eq!(response.header("location"), Some(*location), "{place}");
            assert!(!response.has("set-cookie"), "{place}");
            assert!(!response.closes(), "{place}");
        }
    }
    for target in OTHERS {
        let response = client.get(target);
        assert_eq!(response.status, 404, "{target}: {response:?}");
        assert!(!response.has("location"), "{target}");
    }
    assert_eq!(client.get("/directory/").body, b"index");
    server.stop();
}

#[test]
fn no_redirect_leads_to_another_host() {
    let tree = Tree::with("evil.example/index.html", b"index");
    fs::create_dir_all(tree.path("\\evil.example")).unwrap();
    fs::create_dir_all(tree.path(" evil.example")).unwrap();
    let server = Launch::run(&tree, "", RULES).start();
    let mut client = server.connect();
    let hosts = [
        "evil.example",
        "evil.example/",
        "evil.example/..",
        "evil.example/%2e%2e/evil.example",
        "@evil.example",
        ":80@evil.example",
        "https://evil.example",
        "http:%2f%2fevil.example",
        ".evil.example",
    ];
    let slashes = [
        "/", "//", "///", "/\\", "\\/", "/%5c", "/%2f", "/%09/", "/%0a/", "/./", "/../", "/x/..//",
    ];
    for prefix in ["", "/go", "/go/", "/gone", "/old", "/deep", "/host"] {
        for slash in slashes {
            for host in hosts {
                check_location(&mut client, &server, &format!("{prefix}{slash}{host}"));
            }
        }
    }
}

/// Checks that `target` is not redirected, or to this host or the one of the rule `/host/**`.
#[track_caller]
fn check_location(client: &mut Client, server: &Server, target: &str) {
    let response = client.get(target);
    if response.closes() {
        *client = server.connect();
    }
    let is_redirect = (300..400).contains(&response.status);
    assert_eq!(
        response.has("location"),
        is_redirect,
        "{target}: {response:?}"
    );
    let Some(location) = response.header("location") else {
        return;
    };
    let path = location
        .strip_prefix("https://host.example")
        .unwrap_or(location);
    let mut bytes = path.bytes();
    assert_eq!(bytes.next(), Some(b'/'), "{target}: {location}");
    // Browsers read a backslash as a slash, and drop tabs and line ends.
    let second = bytes.next();
    let is_other = path == location && matches!(second, Some(b'/' | b'\\'));
    assert!(!is_other, "{target}: {location}");
    let is_clean = location
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    assert!(is_clean, "{target}: {location}");
}

#[test]
fn a_directory_is_redirected_to_its_slash() {
    let tree = Tree::new();
    for directory in [
        "docs",
        "docs/deep",
        "two words",
        "100%",
        "q?#",
        "grüße",
        "a:b",
    ] {
        tree.write(&format!("{directory}/index.html"), directory.as_bytes());
    }
    tree.write("empty/readme", b"no index here");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (target, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=b&c", "/docs/?a=b&c"),
        ("/docs?", "/docs/?"),
        ("/docs/deep", "/docs/deep/"),
        ("/docs//deep", "/docs/deep/"),
        ("/docs/../docs", "/docs/"),
        ("//docs", "/docs/"),
        ("/%64ocs", "/docs/"),
        ("/two%20words", "/two%20words/"),
        ("/100%25", "/100%25/"),
        ("/q%3F%23", "/q%3F%23/"),
        ("/gr%c3%bc%c3%9fe", "/gr%C3%BC%C3%9Fe/"),
        ("/a:b", "/a:b/"),
        ("http://test/docs?a", "/docs/?a"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, target, &[]);
            assert_eq!(response.status, 301, "{method} {target}");
            assert_eq!(
                response.header("location"),
                Some(location),
                "{method} {target}"
            );
        }
        assert_eq!(client.get(location).status, 200, "{location}");
    }
    // Nothing would be there.
    for target in ["/empty", "/none", "/docs/index.html/"] {
        let response = client.get(target);
        let leads_nowhere = response.status == 404
            || response
                .header("location")
                .is_some_and(|location| client.get(location).status == 404);
        assert!(leads_nowhere, "{target}: {response:?}");
    }
}

/// 307 and 308 are there for them: an interface that has moved (RFC 9110, sections 15.4.8 and 15.4.9).
#[test]
fn other_methods_are_redirected_too() {
    let tree = Tree::new();
    let server = Launch::run(&tree, "", RULES).start();
    let mut client = server.connect();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let response = client.ask(method, "/query", &["Content-Length: 0"]);
        assert_eq!(response.status, 308, "{method}");
        let location = response.header("location");
        assert_eq!(location, Some("/target?fixed=1"), "{method}");
    }
    let response = client.ask("POST", "/none", &["Content-Length: 0"]);
    assert_eq!(response.status, 405);
}
