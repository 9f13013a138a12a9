//! Rules that answer paths with a status: what nobody may have, what is gone, maintenance, health
//! checks.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Launch, Response, Server, Tree};

const DENY: &str = r#"
[[site.respond]]
match = "/db/**"
status = 403

[[site.respond]]
match = "/{vault,vault/**}"
status = 404

[[site.respond]]
match = "/dump.sql*"
status = 403

[[site.respond]]
match = "**/*.html"
except = ["/index.html", "/open/**"]
status = 410
"#;

const SECRET: &str = "nobody may have this";

/// A site in which every file that the rules deny holds [`SECRET`], and so do its variants.
fn denied() -> Tree {
    let tree = Tree::with("index.html", b"the application");
    let secrets = [
        "db/x",
        "db/x.gz",
        "db/index.html",
        "db/index.htm",
        "db/deep/y",
        "vault/index.htm",
        "vault/z",
        "dump.sql",
        "dump.sql.gz",
        "dump.sql.br",
        "page.html",
        "page.html.gz",
    ];
    for path in secrets {
        tree.write(path, SECRET.as_bytes());
    }
    tree.write("open/page.html", b"a page");
    tree
}

/// Sites that look for files in every way there is.
const WAYS: [&str; 6] = [
    "",
    "encoded-slash = \"decode\"",
    "index = [\"index.html\", \"index.htm\"]\ndirectory-listing = true",
    "index = [\"index.htm\"]\ntry-files = [\"$path/\", \"$path\", \"$path.html\", \"$path/index.htm\"]",
    "spa-fallback = \"/index.html\"",
    "symlinks = \"follow\"\nhidden-files = true\nprecompressed = [\"gzip\", \"br\"]",
];

/// Spellings of the paths that are denied.
const SPELLINGS: [&str; 38] = [
    "/db/",
    "/db/x",
    "//db/x",
    "/db//x",
    "/db/x/",
    "/db/./x",
    "/./db/x",
    "/db/../db/x",
    "/open/../db/x",
    "/open/../../db/x",
    "/open/%2e%2e/db/x",
    "/open/.%2e/db/x",
    "/%64b/x",
    "/db%2Fx",
    "/db%2fx",
    "/db%5Cx",
    "/db\\x",
    "/%2Fdb/x",
    "/open%2F..%2Fdb%2Fx",
    "/open/..%2Fdb/x",
    "/db%00/x",
    "/db/x%00",
    "/db%252Fx",
    "/db;/x",
    "/db/x?y",
    "/db?/x",
    "http://test/db/x",
    "/db/x.gz",
    "/db/deep/y",
    "/db/deep/../x",
    "/db",
    "/vault",
    "/vault/",
    "/vault/z",
    "/DB/x",
    "/dump.sql",
    "/dump.sql.gz",
    "/page",
];

#[test]
fn no_spelling_gets_past_a_rule() {
    let tree = denied();
    for way in WAYS {
        let server = Launch::run(&tree, "", &format!("{way}\n{DENY}")).start();
        for target in SPELLINGS.iter().chain(&["/page.html", "/dump.sql.br"]) {
            for accepted in ["Accept-Encoding: identity", "Accept-Encoding: gzip, br"] {
                check_denied(&server, way, target, accepted);
            }
        }
        assert_eq!(server.get("/open/page.html").text(), "a page", "{way}");
        assert_eq!(server.get("/index.html").status, 200, "{way}");
        server.stop();
    }
}

/// Twice, so that what the first left in memory is seen.
#[track_caller]
fn check_denied(server: &Server, way: &str, target: &str, accepted: &str) {
    for _ in 0..2 {
        let fields = [
            accepted,
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
        ];
        let response = server.get_with(target, &fields);
        let text = String::from_utf8_lossy(&response.body);
        assert!(!text.contains(SECRET), "{way:?} {target}: {response:?}");
        assert!(!response.has("location"), "{way:?} {target}: {response:?}");
        assert!(
            !response.has("etag") || text == "the application",
            "{target}"
        );
    }
}

#[test]
fn the_first_rule_that_matches_answers() {
    let tree = denied();
    let server = Launch::run(&tree, "", DENY).start();
    let table = [
        ("/db/", 403),
        ("/db/x", 403),
        ("/db/none", 403),
        ("/db/index.html", 403),
        ("/db", 404),
        ("/vault", 404),
        ("/vault/z", 404),
        ("/none/of/these.html", 410),
        ("/page.html", 410),
        ("/index.html", 200),
        ("/", 200),
        ("/open/", 404),
        ("/open/none.html", 404),
        ("/dump.sqlite", 403),
        ("/dump", 404),
        ("/db%2Fx", 404),
        ("/db%00", 400),
    ];
    for (target, status) in table {
        for method in ["GET", "HEAD"] {
            let response = server.connect().ask(method, target, &[]);
            assert_eq!(response.status, status, "{method} {target}: {response:?}");
        }
    }
    let post = |target| {
        let fields = ["Content-Length: 3"];
        let mut client = server.connect();
        let response = client.ask("POST", target, &fields);
        assert!(!response.closes(), "{response:?}");
        client.send("a=b");
        assert_eq!(client.get("/").status, 200);
        response.status
    };
    assert_eq!((post("/db/x"), post("/index.html")), (403, 405));
    let options = server.connect().ask("OPTIONS", "/db/x", &[]);
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    assert_eq!(server.connect().ask("BREW", "/db/x", &[]).status, 501);
}

#[test]
fn another_name_of_a_file_is_another_path() {
    let tree = denied();
    symlink("db", tree.path("link")).unwrap();
    let server = Launch::run(&tree, "", DENY).start();
    assert_eq!(server.get("/link/x").text(), SECRET);
    assert_eq!(server.get("/link/index.html").status, 410);
}

#[test]
fn a_rule_may_be_for_either_case() {
    let rule = r#"
[[site.respond]]
match = "/db/**"
except = ["/db/Open"]
ignore-case = true
status = 403
"#;
    let tree = Tree::with("DB/x", b"shown on file systems that take this for db");
    tree.write("db/x", SECRET.as_bytes());
    tree.write("dB/oPEN", b"open");
    let server = Launch::run(&tree, "", rule).start();
    for target in ["/db/x", "/DB/x", "/Db/X", "/%44b/x", "/x/../dB/x"] {
        assert_eq!(server.get(target).status, 403, "{target}");
    }
    assert_eq!(server.get("/dB/oPEN").text(), "open");
}

const MAINTENANCE: &str = r#"
error-pages = { 404 = "/404.html", 503 = "/busy.html", 429 = "/busy.html" }

[[site.respond]]
match = "/slow"
status = 429

[[site.respond]]
match = "/slower"
status = 429
retry-after = "1h"

[[site.respond]]
match = "/plain"
status = 451

[[site.respond]]
match = "/busy"
status = 503

[[site.respond]]
match = "/paged"
status = 503
page = "/none.html"

[[site.respond]]
match = "/**"
except = ["/maintenance/**", "/.well-known/acme-challenge/**"]
status = 503
retry-after = "10m"
page = "/maintenance/index.html"

[[site.redirects]]
from = "/old"
to = "/new"

[[site.headers]]
match = "/**"
set = { X-A = "b", Cache-Control = "max-age=9", Content-Type = "text/x-other" }
"#;

fn maintained() -> (Tree, Server) {
    let tree = Tree::with("index.html", b"the site");
    tree.write("404.html", b"not found");
    tree.write("busy.html", b"busy");
    tree.write("maintenance/index.html", b"back soon");
    tree.write("maintenance/index.html.gz", b"coded");
    tree.write("maintenance/logo.svg", b"<svg/>");
    tree.write(".well-known/acme-challenge/token", b"challenge");
    let server = Launch::run(&tree, "", MAINTENANCE).start();
    (tree, server)
}

/// The page of a maintenance, which is no representation of what was asked for.
#[track_caller]
fn check_maintenance(response: &Response, body: &str) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("retry-after"), Some("600"));
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(response.header("vary"), Some("Accept-Encoding"));
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(response.content_length(), body.len().max("back soon".len()));
    assert_eq!(response.text(), body);
    for name in [
        "etag",
        "last-modified",
        "accept-ranges",
        "cache-control",
        "location",
    ] {
        assert!(!response.has(name), "{name}: {response:?}");
    }
}

#[test]
fn a_site_in_maintenance_has_a_page() {
    let (_tree, server) = maintained();
    for target in [
        "/",
        "/index.html",
        "/none",
        "/old",
        "/404.html",
        "/busy.html",
    ] {
        check_maintenance(&server.get(target), "back soon");
        check_maintenance(&server.connect().ask("HEAD", target, &[]), "");
        for field in ["Range: bytes=0-1", "If-None-Match: *", "If-Match: \"x\""] {
            check_maintenance(&server.get_with(target, &[field]), "back soon");
        }
        let coded = server.get_with(target, &["Accept-Encoding: gzip"]);
        assert_eq!((coded.status, coded.text()), (503, "coded"), "{target}");
        assert_eq!(coded.header("content-encoding"), Some("gzip"), "{target}");
    }
    assert_eq!(server.get("/maintenance/logo.svg").text(), "<svg/>");
    assert_eq!(server.get("/maintenance/").text(), "back soon");
    assert_eq!(server.get("/maintenance/none").text(), "not found");
    assert_eq!(
        server.get("/.well-known/acme-challenge/token").text(),
        "challenge"
    );
}

#[test]
fn a_page_is_the_rules_or_the_sites_or_none() {
    let (_tree, server) = maintained();
    let table = [
        ("/slow", 429, None, "busy"),
        ("/slower", 429, Some("3600"), "busy"),
        (
            "/plain",
            451,
            None,
            "<h1>451 Unavailable For Legal Reasons</h1>",
        ),
        ("/busy", 503, Some("10"), "busy"),
        (
            "/paged",
            503,
            Some("10"),
            "<h1>503 Service Unavailable</h1>",
        ),
    ];
    for (target, status, retry_after, body) in table {
        let response = server.get(target);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(response.header("retry-after"), retry_after, "{target}");
        assert!(response.text().contains(body), "{target}: {response:?}");
        assert_eq!(response.header("x-a"), Some("b"), "{target}");
        assert!(!response.has("cache-control"), "{target}: {response:?}");
    }
}

#[test]
fn a_page_that_changes_shows() {
    let (tree, server) = maintained();
    assert_eq!(server.get("/").text(), "back soon");
    fs::remove_file(tree.path("maintenance/index.html.gz")).unwrap();
    fs::write(tree.path("maintenance/index.html"), "back later").unwrap();
    crate::support::eventually("the new page", || server.get("/").text() == "back later");
    fs::remove_file(tree.path("maintenance/index.html")).unwrap();
    crate::support::eventually("no page", || {
        let response = server.get("/");
        response.status == 503 && response.text().contains("<h1>503 ")
    });
}

#[test]
fn health_checks_are_answered() {
    let rules = r#"
[[site.respond]]
match = "/healthz"
status = 200

[[site.respond]]
match = "/ping"
status = 204

[[site.respond]]
match = "/version"
status = 200
page = "/version.txt"
"#;
    let tree = Tree::with("version.txt", b"7\n");
    let server = Launch::run(&tree, "", rules).start();
    let mut client = server.connect();
    for (target, status, body) in [
        ("/healthz", 200, "<h1>200 OK</h1>"),
        ("/version", 200, "7\n"),
    ] {
        let response = client.get(target);
        assert_eq!(response.status, status);
        assert!(response.text().contains(body), "{target}: {response:?}");
        // What is up now may be down a moment later.
        assert_eq!(
            response.header("cache-control"),
            Some("no-cache"),
            "{target}"
        );
        assert!(!response.has("etag"), "{target}");
    }
    for method in ["GET", "HEAD"] {
        let response = client.ask(method, "/ping", &[]);
        assert_eq!((response.status, response.body.len()), (204, 0), "{method}");
        // RFC 9110, section 8.6.
        assert!(!response.has("content-length"), "{response:?}");
        assert!(!response.has("content-type"), "{response:?}");
    }
    assert_eq!(client.get("/version.txt").text(), "7\n");
}
