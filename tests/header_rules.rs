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

const CAPTURES: &str = r#"
directory-listing = true
try-files = ["$path", "$path/", "$path.html", "/fixed/index.html"]
spa-fallback = "/fixed/app.html"
error-pages = { 405 = "/fixed/error.html" }

[[site.headers]]
match = "/{en,de}/**"
ignore-case = true
set = { Surrogate-Key = "lang-$1 page-$2", X-Price = "$$5", X-First = "$1" }

[[site.headers]]
match = "/**/*-[a-f0-9]{8}.*"
set = { X-Hash = "$3", X-First = "$1" }

[[site.headers]]
match = "/fixed/*"
set = { Surrogate-Key = "fixed-$1" }

[[site.redirects]]
from = "/de/old"
to = "/de/new"
"#;

/// Method, target, request fields, status and the fields of the answer; "" for none.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    u16,
    &'static [(&'static str, &'static str)],
);

/// Every kind of answer says what was captured of the path that it is for.
#[test]
#[rustfmt::skip] // one row a line
fn captures_are_in_values_of_every_answer() {
    let tree = Tree::new();
    for path in ["en/a.txt", "de/sub/b.html", "DE/x", "en/app-3f9ac1d2.js", "fixed/index.html", "fixed/app.html", "fixed/error.html"] {
        tree.write(path, b"content");
    }
    tree.write("de/listed/file", b"");
    let rows: &[Row] = &[
        ("GET", "/en/a.txt", &[], 200, &[("surrogate-key", "lang-en page-a.txt"), ("x-price", "$5"), ("x-first", "en")]),
        ("HEAD", "/en/a.txt", &[], 200, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/%65n/./%61.txt?q", &[], 200, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/en/a.txt", &["Range: bytes=1-2"], 206, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/en/a.txt", &["Range: bytes=1-2,4-4"], 206, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/en/a.txt", &["If-None-Match: *"], 304, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/en/a.txt", &["If-Match: \"x\""], 412, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/en/a.txt", &["Range: bytes=100-"], 416, &[("surrogate-key", "lang-en page-a.txt")]),
        ("POST", "/en/a.txt", &[], 405, &[("surrogate-key", "lang-en page-a.txt")]),
        ("OPTIONS", "/en/a.txt", &[], 204, &[("surrogate-key", "lang-en page-a.txt")]),
        ("GET", "/DE/x", &[], 200, &[("surrogate-key", "lang-DE page-x")]),
        ("GET", "/de/sub/b", &[], 200, &[("surrogate-key", "lang-de page-sub/b")]),
        ("GET", "/de/old", &[], 301, &[("surrogate-key", "lang-de page-old"), ("location", "/de/new")]),
        ("GET", "/de/listed", &[], 301, &[("surrogate-key", "lang-de page-listed")]),
        ("GET", "/de/listed/", &[], 200, &[("surrogate-key", "lang-de page-listed/")]),
        // A later rule wins, with its own captures.
        ("GET", "/en/app-3f9ac1d2.js", &[], 200, &[("x-hash", "3f9ac1d2"), ("x-first", "en")]),
        // What is sent in place of something else has the captures of its own path.
        ("GET", "/en/none.js", &[], 200, &[("surrogate-key", "fixed-index.html"), ("x-first", "")]),
        ("GET", "/fr/none", &[], 200, &[("surrogate-key", "fixed-index.html")]),
    ];
    let server = Launch::run(&tree, "", CAPTURES).start();
    let mut client = server.connect();
    for (method, target, fields, status, expected) in rows {
        // Looked up, then from memory.
        for _ in 0..2 {
            let response = client.ask(method, target, fields);
            assert_eq!(response.status, *status, "{method} {target} {fields:?}");
            check(&response, expected, &format!("{method} {target} {fields:?}"));
            if response.closes() {
                client = server.connect();
            }
        }
    }
    server.stop();
}

/// What a client sends is in a value as its escapes: it ends no line, no quoted string and no list.
#[test]
#[rustfmt::skip] // one row a line
fn nothing_of_a_path_gets_raw_into_a_value() {
    let tree = Tree::new();
    tree.write("a\r\nb: c", b"content");
    let rule = "[[site.headers]]\nmatch = \"/**\"\nset = { X-Path = 'key=\"$1\"' }\n\
        [[site.headers]]\nmatch = \"/nothing/**\"\nset = { X-Path = \"$1\" }";
    let rows = [
        ("/a%0d%0ab:%20c", 200, "a%0D%0Ab%3A%20c"),
        ("/%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0abody", 404, "%0D%0ASet-Cookie%3A%20a%3Db%0D%0A%0D%0Abody"),
        ("/%22,%20%3Bb='%5C", 404, "%22%2C%20%3Bb%3D%27%5C"),
        ("/caf%c3%a9%ff%7f%01%09", 404, "caf%C3%A9%FF%7F%01%09"),
        ("/@s%2fpkg/$1$$", 404, "%40s%2Fpkg/%241%24%24"),
        ("/100%25%2530", 404, "100%25%2530"),
    ];
    let server = Launch::run(&tree, "", rule).start();
    let mut client = server.connect();
    for (target, status, captured) in rows {
        let response = client.get(target);
        assert_eq!(response.status, status, "{target}");
        let expected = format!("key=\"{captured}\"");
        check(&response, &[("x-path", &expected), ("set-cookie", ""), ("b", "")], target);
    }
    // A field is left out if its value comes out empty or too long.
    check(&client.get("/nothing/"), &[("x-path", "")], "nothing");
    let long = client.get(&format!("/{}", "%22".repeat(1300)));
    assert_eq!(long.status, 404);
    assert_eq!(long.header("x-path").map(str::len), Some(1300 * 3 + "key=\"\"".len()));
    let longer = client.get(&format!("/{}", "%22".repeat(1400)));
    assert_eq!(longer.status, 404);
    check(&longer, &[("x-path", "")], "a long path");
    server.stop();
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
