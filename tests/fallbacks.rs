//! What is sent where nothing stands on disk under the very path: try-files, the page of a single-page
//! application, and error pages.

use crate::support::{Launch, Response, Server, Tree, noise};

const NAVIGATION: &str = "Sec-Fetch-Mode: navigate";

const HTML: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[test]
fn the_first_of_try_files_that_is_there_is_sent() {
    let tree = Tree::new();
    tree.write("about.html", b"about");
    tree.write("both", b"both");
    tree.write("both.html", b"not this one");
    tree.write("docs/index.html", b"docs");
    tree.write("page.html", b"page");
    tree.write("page/index.html", b"index of page");
    tree.write("fixed/fallback.html", b"fallback");
    let site = "try-files = [\"$path\", \"$path.html\", \"$path/\", \"/fixed/fallback.html\"]";
    let server = Launch::run(&tree, "", site).start();
    let mut client = server.connect();
    for (target, body) in [
        ("/about", "about"),
        ("/about?query", "about"),
        ("/about.html", "about"),
        ("/%61bout", "about"),
        ("/both", "both"),
        ("/page", "page"),
        ("/page/", "index of page"),
        ("/docs/", "docs"),
        ("/none", "fallback"),
        ("/none.js", "fallback"),
        ("/deep/none", "fallback"),
    ] {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.text(), body, "{target}");
    }
    let response = client.get("/docs");
    assert_eq!(response.status, 301);
    assert_eq!(response.header("location"), Some("/docs/"));
}

#[test]
fn try_files_may_leave_things_out() {
    let tree = Tree::new();
    tree.write("a", b"a");
    tree.write("docs/index.html", b"docs");
    tree.write("always", b"always");
    let server = Launch::run(&tree, "", "try-files = [\"$path\"]").start();
    assert_eq!(server.get("/a").body, b"a");
    // The path itself ends as a directory's does.
    assert_eq!(server.get("/docs/").body, b"docs");
    for target in ["/docs", "/none"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let server = Launch::run(&tree, "", "try-files = [\"/always\"]").start();
    for target in ["/a", "/docs/", "/none", "/"] {
        assert_eq!(server.get(target).body, b"always", "{target}");
    }
}

#[test]
fn try_files_do_not_lead_outside_or_to_hidden_files() {
    let tree = Tree::new();
    tree.write("x/.html", b"hidden");
    tree.write(".env.html", b"hidden");
    tree.link("out.html", "../secret");
    let server = Launch::run(&tree, "", "try-files = [\"$path\", \"$path.html\"]").start();
    for target in ["/x/", "/.env", "/out", "/x/.html", "/../secret"] {
        let response = server.get(target);
        assert!(
            matches!(response.status, 400 | 404),
            "{target}: {response:?}"
        );
    }
}

#[test]
fn a_fallback_page_is_for_navigations() {
    let tree = application();
    let server = Launch::run(&tree, "", "spa-fallback = \"/app.html\"").start();
    let mut client = server.connect();
    #[rustfmt::skip] // one row a line
    let table: [(&str, &[&str], bool, &str); 37] = [
        ("/users/42", &[NAVIGATION], true, "a browser that goes to a page"),
        ("/users/42", &[NAVIGATION, "Accept: */*"], true, "a browser that goes to a page"),
        ("/users/42?tab=1", &[HTML], true, "an older browser"),
        ("/users/42", &["Accept: text/html"], true, "an older browser"),
        ("/users/", &[NAVIGATION], true, "a path with a slash at its end"),
        ("/users/42.html", &[NAVIGATION], true, "a page by its name"),
        ("/v1.2/users", &[NAVIGATION], true, "a dot before the last segment"),
        ("/users/42", &["Sec-Fetch-Mode: cors", HTML], false, "fetch()"),
        ("/users/42", &["Sec-Fetch-Mode: no-cors", HTML], false, "an image or a script"),
        ("/users/42", &["Sec-Fetch-Mode: same-origin"], false, "a worker"),
        ("/users/42", &["Accept: */*"], true, "a link preview, a probe, curl"),
        ("/users/", &["Accept: */*"], true, "a link preview"),
        ("/v1.2/users", &["Accept: */*"], true, "a dot before the last segment"),
        ("/users/jane.doe", &["Accept: */*"], false, "a name with a dot"),
        ("/users/42.html", &["Accept: */*"], false, "a name with a dot"),
        ("/users/42", &["Accept: application/json, text/plain, */*"], false, "axios"),
        ("/users/jane.doe", &[NAVIGATION], true, "a browser says that it navigates"),
        ("/users/jane.doe", &[NAVIGATION, "Sec-Fetch-Dest: document"], true, "as they all say"),
        ("/users/jane.doe", &["Sec-Fetch-Dest: document"], true, "one of the two"),
        ("/users/jane.doe", &[NAVIGATION, "Sec-Fetch-Dest: empty"], true, "by a service worker"),
        ("/users/jane.doe", &[NAVIGATION, "Sec-Fetch-Dest: embed"], false, "an image, maybe"),
        ("/users/jane.doe", &[HTML], false, "a missing file, maybe"),
        ("/pkg/react@18.2.0", &[NAVIGATION], true, "a version"),
        ("/v/1.2.3", &[NAVIGATION], true, "a version"),
        ("/x/.dot", &[NAVIGATION], true, "a name that files do not have here"),
        ("/x/.dot", &["Accept: */*"], false, "a hidden file"),
        ("/.env", &[HTML], false, "a hidden file"),
        ("/users/42", &["Accept: text/*"], false, "no browser"),
        ("/users/42", &["Accept: text/html;q=0, */*"], false, "12.5.1: not acceptable"),
        ("/users/42", &["Accept: application/json"], false, "a client of an API"),
        ("/users/42", &["Accept: image/avif,image/webp,*/*"], false, "an image"),
        ("/users/42", &[], true, "12.5.1: no Accept is any"),
        ("/missing.js", &[NAVIGATION], true, "an address that somebody typed"),
        ("/missing.js", &[HTML], false, "a missing asset"),
        ("/assets/logo.svg", &["Sec-Fetch-Mode: no-cors"], false, "a missing asset"),
        ("/users/missing.css?v=1", &["Accept: */*"], false, "a missing asset"),
        ("/%", &[NAVIGATION], false, "not a path"),
    ];
    for (target, fields, falls_back, why) in table {
        for method in ["GET", "HEAD"] {
            let place = format!("{method} {target} {fields:?} ({why})");
            let response = server.connect().ask(method, target, fields);
            let status = if target == "/%" { 400 } else { 404 };
            assert_eq!(
                response.status,
                if falls_back { 200 } else { status },
                "{place}"
            );
            let is_app = method == "HEAD" || response.body == b"the application";
            assert!(is_app || !falls_back, "{place}");
            if falls_back {
                let content_type = response.header("content-type");
                assert_eq!(content_type, Some("text/html; charset=utf-8"), "{place}");
                let vary = response.list("vary");
                for name in ["accept", "sec-fetch-dest", "sec-fetch-mode"] {
                    assert!(vary.iter().any(|one| one == name), "{place}: {vary:?}");
                }
            }
        }
    }
    // What is there is sent to everyone.
    for fields in [&[NAVIGATION][..], &[HTML], &[]] {
        assert_eq!(client.get_with("/real.js", fields).body, b"a script");
        assert_eq!(client.get_with("/docs/", fields).body, b"docs");
        assert_eq!(client.get_with("/docs", fields).status, 301);
    }
}

#[test]
fn the_same_path_is_a_page_for_one_and_absent_for_another() {
    let tree = application();
    let server = Launch::run(&tree, "", "spa-fallback = \"/app.html\"").start();
    let mut client = server.connect();
    for round in 0..5 {
        let data = client.get_with("/route", &["Accept: application/json"]);
        assert_eq!(data.status, 404, "round {round}");
        let page = client.get_with("/route", &[NAVIGATION]);
        assert_eq!(page.body, b"the application", "round {round}");
    }
}

#[test]
fn a_fallback_page_is_a_file_like_others() {
    let tree = application();
    tree.write("app.html.br", b"compressed");
    let server = Launch::run(&tree, "", "spa-fallback = \"/app.html\"").start();
    let mut client = server.connect();
    let page = client.get_with("/route", &[NAVIGATION]);
    let known = format!("If-None-Match: {}", page.etag());
    assert_eq!(client.get_with("/route", &[NAVIGATION, &known]).status, 304);
    let part = client.get_with("/route", &[NAVIGATION, "Range: bytes=4-6"]);
    assert_eq!((part.status, part.text()), (206, "app"));
    let coded = client.get_with("/route", &[NAVIGATION, "Accept-Encoding: br"]);
    assert_eq!(coded.header("content-encoding"), Some("br"));
    assert_eq!(
        coded.list("vary"),
        [
            "accept",
            "accept-encoding",
            "sec-fetch-dest",
            "sec-fetch-mode"
        ]
    );
}

#[test]
fn a_fallback_page_that_is_missing_is_404() {
    let tree = Tree::with("index.html", b"index");
    let server = Launch::run(&tree, "", "spa-fallback = \"/none.html\"").start();
    assert_eq!(server.get_with("/route", &[NAVIGATION]).status, 404);
    assert_eq!(server.get_with("/", &[NAVIGATION]).body, b"index");
}

#[test]
fn error_pages_are_sent_with_the_status() {
    let tree = Tree::with("errors/404.html", b"nothing here");
    let site = "error-pages = { 404 = \"/errors/404.html\" }";
    let server = Launch::run(&tree, "", site).start();
    let mut client = server.connect();
    // The conditions and ranges of a request are not about the page: RFC 9110, sections 13.2.1 and 14.2.
    for field in [
        "X: y",
        "If-None-Match: *",
        "If-Match: \"x\"",
        "Range: bytes=0-1",
        "Range: bytes=999-",
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, "/none", &[field]);
            assert_eq!(response.status, 404, "{method} {field}");
            is_page(&response, "text/html; charset=utf-8");
            assert_eq!(response.content_length(), 12, "{method} {field}");
            assert!(
                method == "HEAD" || response.body == b"nothing here",
                "{field}"
            );
        }
    }
    assert_eq!(client.get("/errors/404.html").status, 200);
}

#[test]
fn every_error_has_its_page() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::with("file", b"content");
    tree.write("private", b"private");
    let private = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(tree.path("private"), private).unwrap();
    let pages = [400, 403, 404, 405, 501].map(|status| {
        tree.write(&format!("errors/{status}.html"), &noise(30_000, status));
        format!("{status} = \"/errors/{status}.html\"")
    });
    let site = format!("error-pages = {{ {} }}", pages.join(", "));
    let server = Launch::run(&tree, "", &site).unprivileged(&tree).start();
    let mut client = server.connect();
    // Twice: the second time from what is kept.
    for _ in 0..2 {
        for (method, target, status) in [
            ("GET", "/%zz", 400),
            ("GET", "/private", 403),
            ("GET", "/none", 404),
            ("POST", "/file", 405),
            ("BREW", "/file", 501),
        ] {
            let response = client.ask(method, target, &[]);
            assert_eq!(response.status, status, "{method} {target}");
            assert!(
                response.body == noise(30_000, u64::from(status)),
                "{status}"
            );
            assert_eq!(
                response.header("content-type"),
                Some("text/html; charset=utf-8")
            );
            assert!(
                !response.has("etag") && !response.has("accept-ranges"),
                "{status}"
            );
            // RFC 9110, section 15.5.6: asked for by the status.
            assert_eq!(response.has("allow"), status == 405, "{status}");
        }
    }
    assert_eq!(client.get("/file").body, b"content");
}

#[test]
fn a_large_error_page_is_sent_to_the_byte() {
    let tree = Tree::with("404.html", &noise(100_000, 2));
    let server = Launch::run(&tree, "", "error-pages = { 404 = \"/404.html\" }").start();
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.get("/none");
        assert_eq!(response.status, 404);
        assert!(response.body == noise(100_000, 2));
    }
}

#[test]
fn an_error_page_that_is_missing_is_the_plain_answer() {
    let tree = Tree::with("real", b"content");
    let server = Launch::run(&tree, "", "error-pages = { 404 = \"/404.html\" }").start();
    let response = server.get("/none");
    assert_eq!(response.status, 404);
    assert!(!response.body.is_empty());
    assert_eq!(server.get("/404.html").status, 404);
}

#[test]
fn a_directory_without_index_may_fall_back() {
    let tree = application();
    tree.write("users/readme.txt", b"no index here");
    let server: Server = Launch::run(&tree, "", "spa-fallback = \"/app.html\"").start();
    let response = server.get_with("/users/", &[NAVIGATION]);
    assert_eq!((response.status, response.text()), (200, "the application"));
}

/// Checks that nothing says that the page is what was asked for.
#[track_caller]
fn is_page(response: &Response, content_type: &str) {
    assert_eq!(response.header("content-type"), Some(content_type));
    for name in [
        "etag",
        "last-modified",
        "accept-ranges",
        "content-range",
        "location",
    ] {
        assert!(!response.has(name), "{name} in {response:?}");
    }
}

fn application() -> Tree {
    let tree = Tree::with("app.html", b"the application");
    tree.write("real.js", b"a script");
    tree.write("docs/index.html", b"docs");
    tree
}

/// `/npm/@s%2fpkg` of npm, `/repo/owner%2Fname` of applications.
#[test]
fn an_encoded_slash_is_a_part_of_a_name() {
    let tree = application();
    tree.write("a/b.txt", b"a file");
    tree.write("private/key", b"secret");
    tree.write("fixed.json", b"fixed");
    let rules = "spa-fallback = \"/app.html\"\n\
                 [[site.redirects]]\nfrom = \"/npm/*\"\nto = \"/packages/$1\"\nstatus = 302\n\
                 [[site.headers]]\nmatch = \"/a/**\"\nset = { X-Rule = \"a\" }";
    let server = Launch::run(&tree, "", rules).start();
    for (target, location) in [
        ("/npm/@s%2fpkg", "/packages/@s%2Fpkg"),
        ("/npm/@s%2Fpkg?q", "/packages/@s%2Fpkg?q"),
        ("/npm/%2F%2Fevil.example", "/packages/%2F%2Fevil.example"),
    ] {
        let response = server.get(target);
        assert_eq!(response.status, 302, "{target}");
        assert_eq!(response.header("location"), Some(location), "{target}");
    }
    for target in ["/repo/owner%2Fname", "/a%2Fb.txt", "/..%2F..%2Fsecret"] {
        let response = server.get_with(target, &[NAVIGATION]);
        assert_eq!(response.body, b"the application", "{target}");
        assert!(!response.has("x-rule"), "{target}");
    }
    for target in [
        "/a%2fb.txt",
        "/a%2F",
        "/private%2Fkey",
        "/%2e%2e%2fsecret",
        "/%2Fa/b.txt",
    ] {
        let response = server.get_with(target, &["Accept: image/png"]);
        assert_eq!(response.status, 404, "{target}");
    }
    let site = "try-files = [\"$path\", \"/fixed.json\"]";
    let server = Launch::run(&tree, "", site).start();
    assert_eq!(server.get("/-/v1%2Fsearch").body, b"fixed");
}

#[test]
fn an_encoded_slash_may_be_a_slash() {
    let tree = application();
    tree.write("a/b.txt", b"a file");
    tree.write("a/.hidden", b"hidden");
    tree.write("npm/@s/pkg", b"a package");
    let rules = "encoded-slash = \"decode\"\n\
                 [[site.redirects]]\nfrom = \"/old/*/*\"\nto = \"/new/$2\"\n\
                 [[site.headers]]\nmatch = \"/a/**\"\nset = { X-Rule = \"a\" }";
    let server = Launch::run(&tree, "", rules).start();
    for target in [
        "/a%2fb.txt",
        "/a%2Fb.txt",
        "/%2Fa%2F%2Fb.txt",
        "/x%2F..%2fa/b.txt",
    ] {
        let response = server.get(target);
        assert_eq!(response.body, b"a file", "{target}");
        assert_eq!(response.header("x-rule"), Some("a"), "{target}");
    }
    assert_eq!(server.get("/npm/@s%2fpkg").body, b"a package");
    assert_eq!(
        server.get("/old%2Fa%2Fb").header("location"),
        Some("/new/b")
    );
    for (target, status) in [
        ("/a%2F.hidden", 404),
        ("/a%252Fb.txt", 404),
        ("/..%2Fsecret", 400),
        ("/a%2F..%2F..%2Fsecret", 400),
        ("/a/%2e%2e%2f%2e%2e/secret", 400),
    ] {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

#[test]
fn an_error_is_a_page_that_a_person_can_read() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    let mut client = server.connect();
    let missing = client.get("/no/<b>such</b>?page");
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = missing.text().to_owned();
    assert!(page.contains("<h1>404 Not Found</h1>"), "{page}");
    assert!(
        page.contains("<p>There is nothing at this address.</p>"),
        "{page}"
    );
    assert!(page.contains("content=\"light dark\""), "{page}");
    for secret in ["such", "script", "tidegate", env!("CARGO_PKG_VERSION")] {
        assert!(!page.contains(secret), "{page}");
    }
    let head = client.ask("HEAD", "/no/<b>such</b>?page", &[]);
    assert_eq!(head.content_length(), page.len());
    assert_eq!(head.steady_headers(), missing.steady_headers());

    let refused = client.ask("DELETE", "/file", &[]);
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    assert!(refused.text().contains("<h1>405 Method Not Allowed</h1>"));
    let unsatisfied = client.get_with("/file", &["Range: bytes=70-"]);
    assert!(
        unsatisfied
            .text()
            .contains("<h1>416 Range Not Satisfiable</h1>")
    );
    client.send("GET / HTTP/1.1\r\n\r\n");
    let bad = client.response();
    assert!(bad.text().contains("<h1>400 Bad Request</h1>"));
}
