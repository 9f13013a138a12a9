//! Config of sites: what is refused, with its place, and that the rest is told and kept.

use std::fs;

use crate::support::{Launch, Tree};

/// Keys of a site, whose first line is 10; the line that is refused, and words of the reason.
#[rustfmt::skip] // one row a line
const TABLE: &[(&str, usize, &[&str])] = &[
    ("names = [\"a b\"]", 10, &["names", "a b"]),
    ("names = [\"*\"]", 10, &["names", "*"]),
    ("names = [\"a.*.org\"]", 10, &["names", "a.*.org"]),
    ("names = [\"https://a.example\"]", 10, &["names"]),
    ("names = [\"*.127.0.0.1\"]", 10, &["names", "*.127.0.0.1"]),
    ("names = \"a.example\"", 10, &["names"]),
    ("directory-listing = \"yes\"", 10, &["directory-listing"]),
    ("directory-listings = true", 10, &["directory-listings", "directory-listing"]),
    ("symlinks = \"sometimes\"", 10, &["symlinks", "beneath", "never", "follow"]),
    ("etag = \"inode\"", 10, &["etag", "mtime", "content"]),
    ("precompressed = [\"lzma\"]", 10, &["precompressed", "lzma", "gzip"]),
    ("precompressed = [\"br\", \"br\"]", 10, &["precompressed", "br"]),
    ("try-files = []", 10, &["try-files"]),
    ("try-files = [\"../x\"]", 10, &["try-files", "../x"]),
    ("try-files = [\"$path\", \"/a/../b\"]", 10, &["try-files", "/a/../b"]),
    ("try-files = [\"$uri\"]", 10, &["try-files", "$uri"]),
    ("spa-fallback = \"index.html\"", 10, &["spa-fallback", "/"]),
    ("spa-fallback = \"/../index.html\"", 10, &["spa-fallback"]),
    ("error-pages = { 200 = \"/x.html\" }", 10, &["error-pages", "200"]),
    ("error-pages = { 4xx = \"/x.html\" }", 10, &["error-pages", "4xx"]),
    ("error-pages = { 404 = \"x.html\" }", 10, &["error-pages"]),
    ("[[site.headers]]\nset = { x = \"y\" }", 10, &["headers", "match"]),
    ("[[site.headers]]\nmatch = \"/[a\"\nset = { x = \"y\" }", 11, &["match", "/[a"]),
    ("[[site.headers]]\nmatch = \"/{a,b\"\nset = { x = \"y\" }", 11, &["match", "/{a,b"]),
    ("[[site.headers]]\nmatch = \"a/*\"\nset = { x = \"y\" }", 11, &["match", "a/*"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { content-length = \"5\" }", 12, &["content-length"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { ETag = \"5\" }", 12, &["etag"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { transfer-encoding = \"chunked\" }", 12, &["transfer-encoding"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { Allow = \"PUT\" }", 12, &["allow"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { Content-Type = \"garbage\" }", 12, &["content-type", "garbage"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { \"a b\" = \"y\" }", 12, &["a b"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { \"x:\" = \"y\" }", 12, &["x:"]),
    ("[[site.headers]]\nmatch = \"/*\"\nset = { x = \"a\\r\\nb: c\" }", 12, &["x"]),
    ("[[site.headers]]\nmatch = \"/*\"\ncache = \"forever\"", 12, &["cache", "forever", "immutable"]),
    ("[[site.headers]]\nmatch = \"/*\"\ncache = \"none\"\nset = { Cache-Control = \"private\" }", 13, &["cache-control"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"/b/$2\"", 12, &["to", "$2"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"/b/$x\"", 12, &["to", "$"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"//evil.example\"", 12, &["to", "//evil.example"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"javascript:alert(1)\"", 12, &["to", "javascript"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"https://$1/\"", 12, &["to", "$1"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"/b\\r\\nx: y\"", 12, &["to"]),
    ("[[site.redirects]]\nfrom = \"/a/*\"\nto = \"/b\"\nstatus = 200", 13, &["status", "200", "301"]),
    ("[[site.redirects]]\nfrom = \"/a/**\"\nto = \"/a/x/$1\"", 12, &["to", "without end"]),
    ("[[site.redirects]]\nfrom = \"/a\"\nto = \"/b%zz\"", 12, &["to", "%zz"]),
    ("[[site.redirects]]\nfrom = \"/a\"\nto = \"https://ex[ample/\"", 12, &["to", "https://ex[ample/"]),
    ("[[site.redirects]]\nfrom = \"/a\"\nto = \"https://a:99999/\"", 12, &["to", "https://a:99999/"]),
    ("[[site.redirects]]\nfrom = \"/a%20b\"\nto = \"/b\"", 11, &["from", "/a%20b", "decoded"]),
    ("[[site.redirects]]\nfrom = \"/a.php?id=*\"\nto = \"/b\"", 11, &["from", "/a.php?id=*", "query"]),
    ("[[site.redirects]]\nfrom = \"/café\"\nto = \"/caf%C3%A9\"", 12, &["to", "without end"]),
    ("[[site.redirects]]\nfrom = \"/**/\"\nto = \"/$1\"", 12, &["to", "without end"]),
    ("[[site.redirects]]\nfrom = \"/a\"\nto = \"/b\"\n[[site.redirects]]\nfrom = \"/b\"\nto = \"/a\"", 12, &["to", "without end", "/b"]),
    ("[[site.redirects]]\nto = \"/b\"", 10, &["from"]),
    ("[[site.redirects]]\nfrom = \"/a\"", 10, &["to"]),
    ("[[site.redirects]]\nfrom = \"/a\"\nto = \"/b\"\nstatuses = 301", 13, &["statuses", "status"]),
    ("[site.cors]\norigins = [\"example.org\"]", 11, &["origins", "example.org"]),
    ("[site.cors]\norigins = [\"https://a.example/\"]", 11, &["origins", "https://a.example/"]),
    ("[site.cors]\norigins = [\"https://a.example:0443\"]", 11, &["origins", "https://a.example:0443"]),
    ("[site.cors]\norigins = [\"https://[0:0::1]\"]", 11, &["origins", "https://[0:0::1]"]),
    ("[site.cors]\norigins = [\"*\", \"https://a.example\"]", 11, &["origins", "*"]),
    ("[site.cors]\norigin = [\"*\"]", 11, &["origin", "origins"]),
    ("[site.cors]\nmax-age = \"soon\"", 11, &["max-age", "soon"]),
];

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let tree = Tree::new();
    for (site, line, words) in TABLE {
        let output = Launch::run(&tree, "", site).output();
        let place = format!("{}:{line}: ", tree.base().join("tidegate.toml").display());
        let mut expected = vec![place.as_str()];
        expected.extend(*words);
        output.refusal(1, &expected);
    }
}

#[test]
fn ranges_have_limits() {
    let tree = Tree::new();
    for value in ["0", "-1", "1025", "\"many\""] {
        let output = Launch::run(&tree, &format!("[limits]\nranges = {value}"), "").output();
        output.refusal(1, &["tidegate.toml:4: ", "limits.ranges"]);
    }
}

#[test]
fn two_sites_of_one_name_are_refused() {
    let tree = Tree::new();
    let root = tree.root();
    let site = |names: &str| {
        format!(
            "[[site]]\nroot = \"{}\"\nnames = [{names}]\n",
            root.display()
        )
    };
    for (first, second, word) in [
        ("", "", "without names"),
        ("\"a.example\"", "\"b.example\", \"a.example\"", "a.example"),
        ("\"a.example\"", "\"A.Example.\"", "a.example"),
        ("\"*.example.org\"", "\"*.example.org\"", "*.example.org"),
    ] {
        let output = Launch::run_sites(&tree, "", &(site(first) + &site(second))).output();
        // Both places are named: the second site starts at line 11.
        output.refusal(1, &["tidegate.toml:1", word]);
        let lines = [8, 9, 10].map(|line| format!("line {line}"));
        let first_place = lines.iter().any(|line| output.stderr.contains(line))
            || output.stderr.matches("tidegate.toml:").count() > 1
            || output.stderr.contains(":10");
        assert!(first_place, "{first:?} {second:?}: {output:?}");
    }
}

#[test]
fn one_address_has_one_spelling() {
    let tree = Tree::new();
    let address = tree.base().join("address");
    fs::create_dir(&address).unwrap();
    fs::write(address.join("a.txt"), "by its address").unwrap();
    let sites = format!(
        "[[site]]\nroot = {:?}\n[[site]]\nnames = [\"[0:0:0:0:0:0:0:1]\"]\nroot = {address:?}\n",
        tree.root()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    for host in ["[::1]", "[0::1]:8080", "[::0:1]"] {
        let response = server.get_with("/a.txt", &[&format!("Host: {host}")]);
        assert_eq!(response.text(), "by its address", "{host}");
    }
}

/// `log = "text/plain"` is the example of the documentation.
#[test]
fn the_charset_is_added_to_types_of_ones_own() {
    let tree = Tree::with("a.log", b"content");
    tree.write("README", b"content");
    let site =
        "mime-types = { log = \"text/plain\" }\ndefault-type = \"text/x-none; charset=latin1\"";
    let server = Launch::run(&tree, "", site).start();
    for (path, expected) in [
        ("/a.log", "text/plain; charset=utf-8"),
        ("/README", "text/x-none; charset=latin1"),
    ] {
        let response = server.get(path);
        assert_eq!(response.header("content-type"), Some(expected), "{path}");
    }
}

#[test]
fn a_site_whose_root_is_missing_is_named() {
    let tree = Tree::new();
    let root = tree.root();
    let sites = format!(
        "[[site]]\nroot = \"{}\"\n[[site]]\nnames = [\"a.example\"]\nroot = \"/nowhere/at/all\"\n",
        root.display()
    );
    let output = Launch::run_sites(&tree, "", &sites).output();
    output.refusal(1, &["/nowhere/at/all", "no such file or directory"]);
}

#[test]
fn check_tells_every_problem_of_a_site() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    let text = format!(
        "[[site]]\nroot = {:?}\nsymlinks = \"x\"\n[[site.headers]]\nmatch = \"/[\"\n\
         [[site.redirects]]\nfrom = \"/a\"\nto = \"/$1\"\n",
        tree.root()
    );
    fs::write(&file, text).unwrap();
    let output = Launch::with(["check", "--config"]).argument(&file).output();
    let place = |line: usize| format!("{}:{line}: ", file.display());
    output.refusal(1, &[&place(3), &place(5), &place(8)]);
}

#[test]
fn the_effective_config_keeps_a_site() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    let text = format!(
        "[limits]\nranges = 7\n\
         [[site]]\nnames = [\"A.example\", \"*.example.org\"]\nroot = {:?}\ndirectory-listing = true\n\
         symlinks = \"never\"\netag = \"content\"\nprecompressed = [\"gzip\"]\ntry-files = [\"$path\", \"/x\"]\n\
         spa-fallback = \"/app.html\"\nerror-pages = {{ 404 = \"/404.html\" }}\n\
         [[site.headers]]\nmatch = \"/assets/**\"\ncache = \"immutable\"\nset = {{ x-a = \"b\" }}\n\
         [[site.redirects]]\nfrom = \"/old/*\"\nto = \"/new/$1\"\nstatus = 308\n\
         [site.cors]\norigins = [\"https://a.example\"]\n",
        tree.root()
    );
    fs::write(&file, text).unwrap();
    let config = || {
        Launch::with(["config", "--config"])
            .argument(&file)
            .output()
            .success()
    };
    let effective = config();
    for part in [
        "ranges = 7",
        "a.example",
        "*.example.org",
        "directory-listing = true",
        "\"never\"",
        "\"gzip\"",
        "\"/x\"",
        "\"/app.html\"",
        "\"/404.html\"",
        "\"/assets/**\"",
        "\"immutable\"",
        "\"/new/$1\"",
        "308",
        "https://a.example",
    ] {
        assert!(effective.contains(part), "no {part} in {effective}");
    }
    fs::write(&file, &effective).unwrap();
    assert_eq!(config(), effective);
}

#[test]
fn a_single_page_application_can_be_served_by_a_flag() {
    let tree = Tree::with("index.html", b"the application");
    let server = Launch::serve(tree.root()).argument("--spa").start();
    let page = server.get_with("/route", &["Sec-Fetch-Mode: navigate"]);
    assert_eq!((page.status, page.text()), (200, "the application"));
    assert_eq!(server.get("/missing.js").status, 404);
}

/// Without files there is nothing but what the rules answer.
#[test]
fn a_site_that_only_redirects_needs_no_root() {
    let tree = Tree::new();
    let sites = "[[site]]\nnames = [\"old.example\"]\nspa-fallback = \"\"\n\
                 [[site.redirects]]\nfrom = \"/docs/**\"\nto = \"https://new.example/$1\"\nstatus = 308\n\
                 [[site.respond]]\nmatch = \"/gone/**\"\nstatus = 410\n";
    let file = tree.base().join("tidegate.toml");
    let server = Launch::run_sites(&tree, "", sites).start();
    for command in ["check", "config", "doctor"] {
        let run = || Launch::with([command, "--config"]).argument(&file).output();
        let text = run().success();
        assert!(!text.contains("root ="), "{command}: {text}");
        if command == "config" {
            fs::write(&file, &text).unwrap();
            assert_eq!(run().success(), text);
        }
    }
    let mut client = server.connect();
    for _ in 0..3 {
        let moved = client.get("/docs/a?b");
        assert_eq!(moved.status, 308);
        assert_eq!(moved.header("location"), Some("https://new.example/a?b"));
        for (target, status) in [("/gone/a", 410), ("/", 404), ("/docs", 404), ("/.git", 404)] {
            for method in ["GET", "HEAD"] {
                assert_eq!(client.ask(method, target, &[]).status, status, "{target}");
            }
        }
        assert_eq!(client.ask("OPTIONS", "/", &[]).status, 204);
        assert_eq!(client.ask("DELETE", "/", &[]).status, 405);
    }
}
