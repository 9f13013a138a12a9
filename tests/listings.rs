//! Listings of directories, as HTML and as JSON.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{
    Client, Launch, Response, SECRET, Server, Tree, eventually, get, is_root, noise, request,
    request_with,
};

const LISTED: &str = "directory-listing = true";

const JSON: &str = "Accept: application/json";

/// Names that mean something to HTML, to JSON, to URLs, to terminals, or to none of them.
const HOSTILE: [&[u8]; 29] = [
    b"<script>alert(1)<script>",
    b"<img src=x onerror=alert(1)>",
    b"\"onmouseover=\"alert(1)",
    b"'single'",
    b"`back`",
    b"a&b.txt",
    b"&lt;entity&gt;.txt",
    b"javascript:alert(1)",
    b"https:evil.example",
    b"a:b",
    b"100%.txt",
    b"%2e%2e",
    b"#fragment",
    b"?query",
    b"a=b;c",
    b" blank first",
    b"blank last ",
    b"new\nline",
    b"carriage\r\nreturn",
    b"tab\tescape\x1b[31m",
    b"back\\slash",
    b"-rf",
    b"~home",
    b"{{braces}}",
    "gr\u{fc}\u{df}e \u{65e5}\u{672c}".as_bytes(),
    "right-to-left \u{202e}txt.exe".as_bytes(),
    b"latin-1 \xfc\xdf",
    b"\xff\xfe\x80",
    b"]]>-->",
];

#[test]
fn every_name_in_a_listing_leads_to_its_file() {
    let tree = Tree::new();
    fs::create_dir(tree.path("dir")).unwrap();
    for name in HOSTILE {
        fs::write(tree.path("dir").join(OsStr::from_bytes(name)), name).unwrap();
    }
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    let html = client.get("/dir/").text().to_owned();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for href in entries_linked(&html) {
        let response = client.get(&resolved("/dir/", href));
        assert_eq!(response.status, 200, "{href}");
        seen.push(response.body);
    }
    seen.sort();
    let mut expected: Vec<_> = HOSTILE.map(<[u8]>::to_vec).into();
    expected.sort();
    assert_eq!(shown(&seen), shown(&expected));
}

#[test]
fn nothing_in_a_name_becomes_html() {
    let tree = Tree::new();
    let directory = tree.path("<b>\"&'").join(OsStr::from_bytes(HOSTILE[0]));
    fs::create_dir_all(&directory).unwrap();
    for name in HOSTILE {
        fs::write(directory.join(OsStr::from_bytes(name)), b"").unwrap();
        fs::create_dir(directory.join(OsStr::from_bytes(&[b"d", name].concat()))).unwrap();
    }
    let server = Launch::run(&tree, "", LISTED).start();
    let response = server.get("/%3Cb%3E%22&'/%3Cscript%3Ealert(1)%3Cscript%3E/");
    assert_eq!(response.status, 200);
    let html = response.text();
    for raw in [
        "<script>alert",
        "<img src=x",
        "<b>",
        "\"onmouseover",
        "&lt;entity&gt;.txt",
        "\u{1b}",
    ] {
        assert!(!html.contains(raw), "{raw} in {html}");
    }
    assert!(html.contains("&amp;lt;entity&amp;gt;.txt"), "{html}");
    for href in hrefs(html) {
        // A colon before any slash ends a scheme; two slashes begin a host.
        let first_segment = href.split('/').next().unwrap_or_default();
        assert!(
            !first_segment.contains(':') && !href.starts_with("//"),
            "{href}"
        );
        let is_clean = href
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>\"'`\\".contains(&byte));
        assert!(is_clean || href.contains("&#"), "{href}");
    }
}

#[test]
fn json_has_every_entry() {
    let tree = Tree::new();
    fs::create_dir(tree.path("dir")).unwrap();
    for name in HOSTILE {
        fs::write(tree.path("dir").join(OsStr::from_bytes(name)), name).unwrap();
    }
    tree.write_at("dir/file.txt", &noise(12_345, 1), 784_111_777);
    fs::create_dir(tree.path("dir/zzz")).unwrap();
    let server = Launch::run(&tree, "", LISTED).start();
    let response = server.get_with("/dir/", &[JSON]);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let entries = entries(&response);
    assert_eq!(entries.len(), HOSTILE.len() + 2);
    for name in HOSTILE
        .into_iter()
        .filter_map(|name| std::str::from_utf8(name).ok())
    {
        assert!(
            entries.iter().any(|entry| entry["name"] == name),
            "{name:?}"
        );
    }
    // Directories come first.
    assert_eq!(entries[0]["name"], "zzz");
    assert_eq!(entries[0]["type"], "directory");
    let file = entries
        .iter()
        .find(|entry| entry["name"] == "file.txt")
        .expect("file.txt");
    assert_eq!(file["type"], "file");
    assert_eq!(file["size"], 12_345);
    assert!(
        file["mtime"].to_string().contains("1994-11-06T08:49:37"),
        "{file}"
    );
}

#[test]
fn accept_decides_between_html_and_json() {
    let tree = Tree::with("dir/file", b"content");
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    for (accept, json) in [
        ("Accept: text/html,application/xhtml+xml,*/*;q=0.8", false),
        ("Accept: */*", false),
        ("X: y", false),
        ("Accept: image/png", false),
        (JSON, true),
        ("Accept: application/json, text/html;q=0.5", true),
        ("Accept: application/json;q=0.5, text/html", false),
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, "/dir/", &[accept]);
            assert_eq!(response.status, 200, "{accept}");
            let expected = if json {
                "application/json"
            } else {
                "text/html; charset=utf-8"
            };
            assert_eq!(
                response.header("content-type"),
                Some(expected),
                "{method} {accept}"
            );
            assert!(
                response.list("vary").contains(&"accept".to_owned()),
                "{response:?}"
            );
        }
    }
}

#[test]
fn a_listing_is_a_page_that_needs_nothing_else() {
    let tree = Tree::with("dir/file.txt", &noise(12_345, 1));
    tree.write("dir/sub/x", b"");
    let server = Launch::run(&tree, "", LISTED).start();
    let response = server.get("/dir/");
    let html = response.text().to_ascii_lowercase();
    for part in [
        "<!doctype html>",
        "<html lang=",
        "viewport",
        "color-scheme",
        "light dark",
        "<time ",
        "<title>",
        "</html>",
        "12345",
        "sub/",
    ] {
        assert!(html.contains(part), "no {part} in {html}");
    }
    for outside in ["src=", "@import", "<link", "url(", "http://", "https://"] {
        assert!(!html.contains(outside), "{outside} in {html}");
    }
    assert!(html.contains("<title>index of /dir/</title>"), "{html}");
    assert!(
        html.contains("<data value=\"12345\">12.1 kib</data>"),
        "{html}"
    );
    let links: Vec<_> = hrefs(&html).collect();
    assert_eq!(links, ["../", "sub/", "file.txt"]);
    let top = server.get("/");
    let links: Vec<_> = hrefs(top.text()).collect();
    assert_eq!(links, ["dir/"]);
}

#[test]
fn directories_above_are_linked_by_their_paths() {
    let tree = Tree::with("a b/c/d/file", b"content");
    let server = Launch::run(&tree, "", LISTED).start();
    let page = server.get("/a%20b/c/d/");
    let links: Vec<_> = hrefs(page.text()).collect();
    assert_eq!(links, ["/a%20b/", "/a%20b/c/", "../", "file"]);
    for link in &links[..2] {
        assert_eq!(server.get(link).status, 200, "{link}");
    }
}

#[test]
fn variants_are_not_listed_beside_their_files() {
    let tree = Tree::with("app.js", b"");
    for name in ["app.js.br", "app.js.gz", "app.js.zst", "data.tar.gz"] {
        tree.write(name, b"");
    }
    let server = Launch::run(&tree, "", LISTED).start();
    assert_eq!(
        names(&server.get_with("/", &[JSON])),
        ["app.js", "data.tar.gz"]
    );
    // What is not sent by negotiation is a file like any other.
    let brotli = "directory-listing = true\nprecompressed = [\"br\"]";
    let server = Launch::run(&tree, "", brotli).start();
    assert_eq!(
        names(&server.get_with("/", &[JSON])),
        ["app.js", "app.js.gz", "app.js.zst", "data.tar.gz"]
    );
}

#[test]
fn a_listing_is_sorted_as_its_query_says() {
    let tree = Tree::new();
    for (name, bytes, time) in [("a", 3, 20), ("b", 1, 30), ("c", 2, 10)] {
        tree.write_at(&format!("dir/{name}"), &noise(bytes, 1), time);
    }
    tree.write("dir/sub/x", b"");
    let server = Launch::run(&tree, "", LISTED).start();
    for (query, expected) in [
        ("", "abc"),
        ("?sort=name", "abc"),
        ("?sort=-name", "cba"),
        ("?sort=size", "bca"),
        ("?sort=-size", "acb"),
        ("?sort=date", "cab"),
        ("?sort=-date", "bac"),
        ("?sort=x", "abc"),
    ] {
        let target = format!("/dir/{query}");
        let listed = names(&server.get_with(&target, &[JSON]));
        assert_eq!(listed.concat(), format!("sub{expected}"), "{query}");
        let page = server.get(&target);
        let linked: Vec<_> = entries_linked(page.text()).collect();
        assert_eq!(linked.concat(), format!("sub/{expected}"), "{query}");
    }
    let page = server.get("/dir/?sort=size");
    for part in [
        "aria-sort=\"ascending\"><button name=\"sort\" value=\"-size\">",
        "<button name=\"sort\" value=\"name\">",
    ] {
        assert!(page.text().contains(part), "no {part} in {}", page.text());
    }
}

#[test]
fn listings_are_for_directories_without_index_where_they_are_wanted() {
    let tree = Tree::with("indexed/index.html", b"index");
    tree.write("plain/file", b"content");
    fs::create_dir(tree.path("empty")).unwrap();
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    assert_eq!(client.get("/indexed/").body, b"index");
    assert_eq!(client.get_with("/indexed/", &[JSON]).body, b"index");
    assert_eq!(client.get("/plain").header("location"), Some("/plain/"));
    assert_eq!(client.get("/plain?x").header("location"), Some("/plain/?x"));
    assert_eq!(client.get("/plain/?sort=x").status, 200);
    assert_eq!(
        entries(&client.get_with("/empty/", &[JSON])),
        Vec::<Value>::new()
    );
    assert_eq!(client.get("/none/").status, 404);
    assert_eq!(client.get("/plain/file/").status, 404);
    let server = Server::serve(&tree);
    for target in ["/plain/", "/plain", "/empty/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let server = Launch::serve(tree.root())
        .argument("--directory-listing")
        .start();
    assert_eq!(names(&server.get_with("/plain/", &[JSON])), ["file"]);
}

#[test]
fn hidden_files_and_what_cannot_be_served_are_left_out() {
    let tree = Tree::with("file", b"content");
    tree.write(".hidden", b"hidden");
    tree.write(".directory/file", b"hidden");
    tree.link("inside", "file");
    tree.link("outside", "../secret");
    let server = Launch::run(&tree, "", LISTED).start();
    let response = server.get_with("/", &[JSON]);
    let listed = names(&response);
    assert!(listed.contains(&"file".to_owned()), "{listed:?}");
    assert!(
        !listed.iter().any(|name| name.starts_with('.')),
        "{listed:?}"
    );
    // Not even how long it is.
    let secret = SECRET.len();
    let leaks = entries(&response)
        .iter()
        .any(|entry| entry["size"] == secret);
    assert!(!leaks, "{}", response.text());
    assert!(!server.get("/").text().contains(".hidden"));
    let open = Launch::run(&tree, "", "directory-listing = true\nhidden-files = true").start();
    let listed = names(&open.get_with("/", &[JSON]));
    for name in [".hidden", ".directory"] {
        assert!(listed.contains(&name.to_owned()), "{listed:?}");
    }
}

#[test]
fn entries_are_sorted() {
    let tree = Tree::new();
    for name in ["b", "A", "c", "a10", "a9", "D"] {
        tree.write(name, b"");
    }
    for name in ["y", "Z", "x"] {
        fs::create_dir(tree.path(name)).unwrap();
    }
    let server = Launch::run(&tree, "", LISTED).start();
    let listed = names(&server.get_with("/", &[JSON]));
    assert_eq!(listed, ["x", "y", "Z", "A", "a9", "a10", "b", "c", "D"]);
    let page = server.get("/");
    let linked: Vec<_> = hrefs(page.text()).map(|href| resolved("/", href)).collect();
    assert_eq!(
        linked,
        ["/x/", "/y/", "/Z/", "/A", "/a9", "/a10", "/b", "/c", "/D"]
    );
}

#[test]
fn a_listing_shows_what_changed() {
    let tree = Tree::with("dir/one", b"");
    let server = Launch::run(&tree, "", LISTED).start();
    let listed = || names(&server.get_with("/dir/", &[JSON]));
    assert_eq!(listed(), ["one"]);
    tree.write("dir/two", b"");
    eventually("a new entry", || listed() == ["one", "two"]);
    fs::remove_file(tree.path("dir/one")).unwrap();
    eventually("no old entry", || listed() == ["two"]);
}

#[test]
fn a_directory_is_read_once_in_the_time_that_it_is_trusted() {
    let tree = Tree::with("dir/one", b"");
    let server = Launch::run(&tree, "[cache]\nvalid = \"24h\"", LISTED).start();
    // All on one connection, so on one core.
    let mut client = server.connect();
    assert_eq!(names(&client.get_with("/dir/", &[JSON])), ["one"]);
    tree.write("dir/two", b"");
    for _ in 0..3 {
        assert_eq!(names(&client.get_with("/dir/", &[JSON])), ["one"]);
        let page = client.get("/dir/");
        assert!(hrefs(page.text()).all(|href| href != "two"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_403() {
    let tree = Tree::with("closed/file", b"content");
    tree.write("no-search/file", b"content");
    tree.write("search-only/file", b"content");
    let modes = [
        ("closed", 0o000),
        ("no-search", 0o644),
        ("search-only", 0o711),
    ];
    let set = |open: bool| {
        for (name, mode) in modes {
            let mode = if open { 0o755 } else { mode };
            fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(false);
    if !is_root() {
        // The owner's permissions are the first digit.
        fs::set_permissions(tree.path("search-only"), fs::Permissions::from_mode(0o100)).unwrap();
    }
    let server = Launch::run(&tree, "", LISTED).unprivileged(&tree).start();
    let mut client = server.connect();
    for (target, status) in [
        ("/closed/", 403),
        ("/closed/file", 403),
        ("/search-only/", 403),
        ("/search-only/file", 200),
        ("/no-search/file", 403),
    ] {
        assert_eq!(client.get(target).status, status, "{target}");
        assert_eq!(client.get_with(target, &[JSON]).status, status, "{target}");
    }
    // What is in it can be named, at most.
    assert!(matches!(client.get("/no-search/").status, 200 | 403));
    assert_eq!(client.get_with("/", &[JSON]).status, 200);
    set(true);
}

#[test]
fn head_of_a_listing_has_no_body() {
    let tree = Tree::with("dir/file", b"content");
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    for fields in [&[][..], &[JSON]] {
        let full = client.get_with("/dir/", fields);
        let head = client.ask("HEAD", "/dir/", fields);
        assert_eq!(head.status, 200);
        assert_eq!(head.steady_headers(), full.steady_headers());
    }
    assert_eq!(client.get("/dir/file").body, b"content");
}

#[test]
fn a_listing_may_be_asked_for_with_conditions_and_ranges() {
    let tree = Tree::with("dir/file", b"content");
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    let full = client.get("/dir/");
    // It has no validators to compare with, and no ranges.
    for field in [
        "Range: bytes=0-5",
        "If-None-Match: \"x\"",
        "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let response = client.get_with("/dir/", &[field]);
        assert_eq!(response.status, 200, "{field}");
        assert!(response.body == full.body, "{field}");
    }
}

#[test]
fn http_1_0_gets_a_listing_up_to_the_end_of_the_connection() {
    let tree = Tree::new();
    tree.fill("dir", (0..3000).map(|number| number.to_string()));
    let server = Launch::run(&tree, "", LISTED).start();
    let chunked = server.get("/dir/");
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert!(!chunked.has("content-length"));
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET /dir/ HTTP/1.0\r\n{fields}\r\n"));
        let head = client.head();
        // RFC 9112, section 6.1.
        assert!(!head.has("transfer-encoding"), "{head:?}");
        assert!(!head.has("content-length"), "{head:?}");
        assert!(head.closes() || !head.has("connection"), "{head:?}");
        assert!(client.rest() == chunked.body);
    }
}

#[test]
fn listings_may_be_pipelined() {
    let tree = Tree::new();
    tree.fill("dir", (0..2000).map(|number| number.to_string()));
    let server = Launch::run(&tree, "", LISTED).start();
    let mut client = server.connect();
    let html = client.get("/dir/").body;
    let json = client.get_with("/dir/", &[JSON]).body;
    let round = get("/dir/")
        + &request("HEAD", "/dir/")
        + &request_with("GET", "/dir/", &[JSON])
        + &get("/dir/7")
        + &get("/none");
    client.send(round.repeat(10));
    for _ in 0..10 {
        assert!(client.response().body == html);
        assert_eq!(client.head().status, 200);
        assert!(client.response().body == json);
        assert_eq!(client.response().body, b"");
        assert_eq!(client.response().status, 404);
    }
}

#[test]
fn a_directory_of_more_than_100_000_files_is_bounded_and_streamed() {
    const FILES: usize = 100_500;
    const LISTED_MAX: usize = 100_000;
    /// Slow clients at the same time.
    const CLIENTS: usize = 3;
    /// All of these listings rendered would be more.
    const GROWTH_MAX_KIB: u64 = 64 * 1024;
    let tree = Tree::new();
    tree.fill("dir", (0..FILES).map(long_name));
    tree.write("small", b"small");
    // On a busy machine it takes a while to read them.
    let server = Launch::run(&tree, "[timeouts]\nlookup = \"1m\"", LISTED).start();
    let before = server.memory_peak_kib();
    let mut clients = [(); CLIENTS].map(|()| server.connect());
    for client in &mut clients {
        client.send(get("/dir/") + &get("/small"));
    }
    for client in &mut clients {
        assert_eq!(client.head().header("transfer-encoding"), Some("chunked"));
        // Only readers of this directory wait.
        assert_eq!(server.get("/small").body, b"small");
    }
    let grown = server.memory_peak_kib() - before;
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    for client in &mut clients {
        let html = client.chunked_body();
        let html = String::from_utf8(html).expect("a page in UTF-8");
        let count = hrefs(&html).filter(|href| href.contains("length")).count();
        assert_eq!(count, LISTED_MAX);
        assert!(html.contains("100000"), "it does not say where it ends");
        assert_eq!(client.response().body, b"small");
    }
    let json = server.get_with("/dir/", &[JSON]);
    assert_eq!(json.status, 200);
    let count = json.text().matches("{\"name\":").count();
    assert!(count >= LISTED_MAX, "{count}");
    let grown = server.memory_peak_kib() - before;
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    server.stop();
}

#[test]
fn clients_that_leave_in_the_middle_of_a_listing_do_no_harm() {
    let tree = Tree::new();
    tree.fill("dir", (0..20_000).map(long_name));
    let server = Launch::run(&tree, "", LISTED).start();
    let idle = server.sockets();
    for length in [0, 1, 1000, 100_000] {
        let mut client = Client::connect_narrow(server.address);
        client.send(get("/dir/"));
        client.head();
        client.body(length);
        client.reset();
    }
    server.wait_for_sockets(idle);
    assert_eq!(names(&server.get_with("/dir/", &[JSON])).len(), 20_000);
}

fn long_name(number: usize) -> String {
    format!("{number:06} is a name of some length")
}

/// Names to be read in a message.
fn shown(names: &[Vec<u8>]) -> Vec<String> {
    let escaped = |name: &Vec<u8>| name.escape_ascii().to_string();
    names.iter().map(escaped).collect()
}

/// The targets of the links in `html`, as they are written there.
fn hrefs(html: &str) -> impl Iterator<Item = &str> {
    let links = html.split("href=\"").skip(1);
    links.filter_map(|rest| rest.split('"').next())
}

/// The links to entries, but not those to directories above.
fn entries_linked(html: &str) -> impl Iterator<Item = &str> {
    hrefs(html).filter(|href| !href.starts_with('/') && *href != "../")
}

/// Where a link to an entry of the directory `base` leads to.
fn resolved(base: &str, href: &str) -> String {
    format!("{base}{href}")
}

#[track_caller]
fn entries(response: &Response) -> Vec<Value> {
    let parsed: Value = serde_json::from_slice(&response.body).expect("JSON");
    match parsed {
        Value::Array(entries) => entries,
        other => panic!("not an array: {other}"),
    }
}

#[track_caller]
fn names(response: &Response) -> Vec<String> {
    let name = |entry: &Value| entry["name"].as_str().expect("a name").to_owned();
    entries(response).iter().map(name).collect()
}
