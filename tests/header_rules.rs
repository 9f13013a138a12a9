//! Header fields that a site's rules set.

use crate::support::{Launch, Response, Server, Tree, noise};

const RULES: &str = r#"
directory-listing = true

[[site.headers]]
match = "/**"
set = { X-All = "1", cache-control = "max-age=60", expires = "0", x-frame-options = "DENY" }

[[site.headers]]
match = "/assets/**"
cache = "immutable"
set = { x-area = "assets" }

[[site.headers]]
match = "/assets/*.{css,js}"
set = { x-all = "2", X-Script = "yes" }

[[site.headers]]
match = "/assets/plain.js"
set = { x-script = "", X-FRAME-OPTIONS = "" }

[[site.headers]]
match = "/fresh/*"
cache = "revalidate"

[[site.headers]]
match = "/never/?.txt"
cache = "none"

[[site.headers]]
match = "/**/[a-c]/two words.txt"
set = { x-words = "two  words", vary = "Cookie" }

[[site.headers]]
match = "/listed/"
set = { x-listed = "yes" }

[[site.redirects]]
from = "/assets/old/*"
to = "/assets/$1"
status = 302
"#;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Targets, and what they have of some fields; "" for none.
#[rustfmt::skip] // one row a line
const TABLE: &[(&str, &[(&str, &str)])] = &[
    ("/", &[("x-all", "1"), ("cache-control", "max-age=60"), ("x-area", ""), ("x-frame-options", "DENY")]),
    ("/index.html", &[("x-all", "1"), ("cache-control", "max-age=60"), ("expires", "0")]),
    ("/assets/a.css", &[("x-all", "2"), ("cache-control", IMMUTABLE), ("x-script", "yes"), ("x-area", "assets")]),
    ("/assets/%61.%63ss", &[("x-all", "2"), ("x-script", "yes")]),
    ("/assets/../assets/./a.css?x=y", &[("x-all", "2"), ("x-script", "yes")]),
    ("/assets/plain.js", &[("x-all", "2"), ("x-script", ""), ("x-frame-options", "")]),
    ("/assets/deep/b.js", &[("x-all", "1"), ("cache-control", IMMUTABLE), ("x-script", ""), ("x-area", "assets")]),
    ("/assets/image.png", &[("x-all", "1"), ("cache-control", IMMUTABLE), ("x-script", "")]),
    ("/fresh/a.txt", &[("x-all", "1"), ("cache-control", "no-cache")]),
    ("/fresh/deep/a.txt", &[("cache-control", "max-age=60")]),
    ("/never/a.txt", &[("cache-control", "no-store")]),
    ("/never/ab.txt", &[("cache-control", "max-age=60")]),
    ("/x/y/b/two%20words.txt", &[("x-words", "two  words"), ("x-all", "1")]),
    ("/b/two%20words.txt", &[("x-words", "two  words")]),
    ("/x/d/two%20words.txt", &[("x-words", ""), ("x-all", "1")]),
];

#[test]
fn all_rules_that_match_apply_and_later_ones_win() {
    let tree = files();
    let server = Launch::run(&tree, "", RULES).start();
    let mut client = server.connect();
    for (target, fields) in TABLE {
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, target, &[]);
            assert_eq!(response.status, 200, "{method} {target}");
            check(&response, fields, &format!("{method} {target}"));
        }
        let parts = client.get_with(target, &["Range: bytes=0-0"]);
        assert_eq!(parts.status, 206, "{target}");
        check(&parts, fields, &format!("a part of {target}"));
        let known = client.get_with(target, &["If-None-Match: *"]);
        assert_eq!(known.status, 304, "{target}");
        check(&known, fields, &format!("304 for {target}"));
    }
    server.stop();
}

#[test]
fn errors_have_the_rules_fields_but_are_not_to_be_kept() {
    let tree = files();
    let server = Launch::run(&tree, "", RULES).start();
    let mut client = server.connect();
    for (method, target, fields, status) in [
        ("GET", "/assets/none.css", &[][..], 404),
        ("GET", "/assets/a.css", &["If-Match: \"other\""], 412),
        ("GET", "/assets/a.css", &["Range: bytes=999999-"], 416),
        ("POST", "/assets/a.css", &[], 405),
    ] {
        let response = client.ask(method, target, fields);
        assert_eq!(response.status, status, "{method} {target}");
        let expected = [
            ("x-all", "2"),
            ("x-area", "assets"),
            ("cache-control", ""),
            ("expires", ""),
        ];
        check(
            &response,
            &expected,
            &format!("{status} for {method} {target}"),
        );
    }
}

/// But for what is immutable: that is meant for the files.
#[test]
fn redirects_and_listings_have_the_rules_fields() {
    let tree = files();
    let server = Launch::run(&tree, "", RULES).start();
    for (target, status, fields) in [
        (
            "/assets/old/a.css",
            302,
            [("x-all", "1"), ("cache-control", "")],
        ),
        (
            "/assets",
            301,
            [("x-all", "1"), ("cache-control", "max-age=60")],
        ),
        (
            "/listed/",
            200,
            [("x-listed", "yes"), ("cache-control", "max-age=60")],
        ),
    ] {
        let response = server.get(target);
        assert_eq!(response.status, status, "{target}");
        check(&response, &fields, target);
    }
}

/// A page in place of a missing script is not the script, and must not be kept for ever like it.
#[test]
fn a_fixed_item_of_try_files_has_the_fields_of_its_own_path() {
    let tree = Tree::new();
    tree.write("index.html", b"page");
    let rules = r#"
try-files = ["$path", "/index.html"]

[[site.headers]]
match = "/assets/**"
cache = "immutable"
"#;
    let server = Launch::run(&tree, "", rules).start();
    let response = server.get("/assets/missing.js");
    assert_eq!((response.status, response.text()), (200, "page"));
    assert_eq!(response.header("cache-control"), None);
}

#[test]
fn a_vary_of_a_rule_does_not_hide_that_of_the_variants() {
    let tree = files();
    tree.write("b/two words.txt.br", b"compressed");
    let server = Launch::run(&tree, "", RULES).start();
    let target = "/b/two%20words.txt";
    for fields in [&[][..], &["Accept-Encoding: br"], &["If-None-Match: *"]] {
        let response = server.get_with(target, fields);
        let vary = response.list("vary");
        assert_eq!(vary, ["accept-encoding", "cookie"], "{fields:?}");
    }
}

#[test]
fn a_rule_may_set_the_type() {
    let tree = files();
    let rule = "[[site.headers]]\nmatch = \"/**/*.css\"\nset = { content-type = \"text/x-own\" }";
    let server: Server = Launch::run(&tree, "", rule).start();
    let css = server.get("/assets/a.css");
    assert_eq!(css.header("content-type"), Some("text/x-own"));
    let many = server.get_with("/assets/a.css", &["Range: bytes=0-0,2-2"]);
    for part in many.parts() {
        assert_eq!(part.content_type, "text/x-own");
    }
    let missing = server.get("/assets/none.css");
    assert_ne!(missing.header("content-type"), Some("text/x-own"));
}

/// A file for every target of [`TABLE`].
fn files() -> Tree {
    let tree = Tree::new();
    for path in [
        "index.html",
        "assets/a.css",
        "assets/plain.js",
        "assets/deep/b.js",
        "fresh/a.txt",
        "fresh/deep/a.txt",
        "never/a.txt",
        "never/ab.txt",
        "x/y/b/two words.txt",
        "b/two words.txt",
        "x/d/two words.txt",
        "listed/file",
    ] {
        tree.write(path, b"content");
    }
    tree.write("assets/image.png", &noise(100_000, 1));
    tree
}

#[track_caller]
fn check(response: &Response, fields: &[(&str, &str)], place: &str) {
    for (name, value) in fields {
        let got = response.header(name).unwrap_or("");
        assert_eq!(got, *value, "{name} of {place}");
    }
}
