//! Rules about who may have which path, and what somebody tries who may not.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Client, Launch, Response, Server, Tree, request_with};

/// The client that the rules name.
const FRIEND: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

const SECRET: &str = "only for those who may";

/// The paths of the rules, each of which is protected in the same way.
const PROTECTED: [(&str, &str); 9] = [
    ("match = \"/db/**\"", ""),
    ("match = \"/{vault,vault/**}\"", ""),
    ("match = \"/dump.sql\"", ""),
    ("match = \"/only.txt.gz\"", ""),
    ("match = \"/dir/index.html\"", ""),
    ("match = \"/page.html\"", ""),
    ("match = \"/list/**\"", "except = [\"/list/open.txt\"]"),
    ("match = \"/UPPER/**\"", "ignore-case = true"),
    ("match = \"/mnt/x\"", ""),
];

/// A section for each of [`PROTECTED`], with `keys`.
fn sections(name: &str, keys: &str) -> String {
    let sections = PROTECTED
        .iter()
        .map(|(paths, more)| format!("[[site.{name}]]\n{paths}\n{more}\n{keys}\n"));
    sections.collect()
}

/// A site in which every protected file holds [`SECRET`].
fn tree() -> Tree {
    let tree = Tree::with("index.html", b"the application");
    let secrets = [
        "db/x",
        "db/x.gz",
        "db/index.html",
        "db/deep/y",
        "vault/index.htm",
        "vault/z",
        "dump.sql",
        "dump.sql.gz",
        "dump.sql.br",
        "dump.sql.gz.br",
        "dir/index.html",
        "dir/index.html.gz",
        "page.html",
        "page.html.gz",
        "list/secret-name",
        "upper/x",
        "mnt/x",
    ];
    for path in secrets {
        tree.write(path, SECRET.as_bytes());
    }
    // In gzip, but not compressed: [`SECRET`] is legible.
    tree.write("only.txt.gz", &stored(SECRET.as_bytes()));
    tree.write("list/open.txt", b"open");
    tree.write("403.html", b"the page for 403");
    tree.write("404.html", b"the page for 404");
    tree
}

/// A gzip file with one stored block (RFC 1951, section 3.2.4; RFC 1952, section 2.2).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let shift = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    let crc = !bytes.iter().fold(u32::MAX, byte);
    let len = u16::try_from(bytes.len()).expect("a short text");
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    file.extend(len.to_le_bytes());
    file.extend((!len).to_le_bytes());
    file.extend(bytes);
    file.extend(crc.to_le_bytes());
    file.extend(u32::from(len).to_le_bytes());
    file
}

/// Sites that look for files in every way there is.
const WAYS: [&str; 9] = [
    "",
    "encoded-slash = \"decode\"",
    "index = [\"index.html\", \"index.htm\"]\ndirectory-listing = true",
    "index = [\"index.htm\"]\ntry-files = [\"$path/\", \"$path\", \"$path.html\", \"$path/index.htm\"]",
    "spa-fallback = \"/page.html\"",
    "try-files = [\"$path\", \"/dump.sql\"]",
    "try-files = [\"$path\", \"/list/\"]\ndirectory-listing = true",
    "hidden-files = true\nprecompressed = [\"gzip\", \"br\"]\ncompressed-only = \"decompress\"",
    "error-pages = { 403 = \"/403.html\", 404 = \"/404.html\" }\nsymlinks = \"follow\"",
];

/// Spellings of protected paths, and paths that lead to protected files.
const SPELLINGS: [&str; 58] = [
    "/db/",
    "/db/x",
    "//db/x",
    "///db///x",
    "/db//x",
    "/db/x/",
    "/db/./x",
    "/./db/x",
    "/db/../db/x",
    "/list/../db/x",
    "/list/../../db/x",
    "/list/%2e%2e/db/x",
    "/list/.%2e/db/x",
    "/list/%2e./db/x",
    "/%64b/x",
    "/%64%62/%78",
    "/db%2Fx",
    "/db%2fx",
    "/db%5Cx",
    "/db\\x",
    "/%2Fdb/x",
    "/list%2F..%2Fdb%2Fx",
    "/list/..%2Fdb/x",
    "/db%00/x",
    "/db/x%00",
    "/db%252Fx",
    "/db;/x",
    "/db/x;a",
    "/db/x?y",
    "/db?/x",
    "http://test/db/x",
    "HTTP://other/db/x",
    "/db/x.gz",
    "/db/deep/y",
    "/db/deep/../x",
    "/db",
    "/vault",
    "/vault/",
    "/vault/z",
    "/dump.sql",
    "/dump.sql.gz",
    "/dump.sql.br",
    "/dump.sql.gz.br",
    "/only.txt",
    "/only.txt.gz",
    "/dir",
    "/dir/",
    "/dir/index.html",
    "/dir/index.html.gz",
    "/page",
    "/page.html",
    "/page.html.gz",
    "/list",
    "/list/",
    "/list/secret-name",
    "/upper/x",
    "/none",
    "/.well-known/acme-challenge/none",
];

/// Fields of a request that change what is sent.
const FIELDS: [&[&str]; 6] = [
    &["Accept-Encoding: identity"],
    &[
        "Accept-Encoding: gzip, br",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ],
    &["Accept: application/json", "Accept-Encoding: identity"],
    &["Range: bytes=0-3", "Accept-Encoding: identity"],
    &["If-Match: \"none\"", "Accept-Encoding: identity"],
    &["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"],
];

/// Checks that nobody gets [`SECRET`] who sends `more` with a request, and that nothing tells
/// whether a file is there, after `warm` has the server keep it in memory.
#[track_caller]
fn nothing_gets_past(server: &Server, way: &str, from: [u8; 4], more: &[&str], warm: &mut Client) {
    let mut client = Client::connect_from(from, server.address);
    for target in SPELLINGS {
        for fields in FIELDS {
            // Decompressed and compressed ones are no text.
            let response = warm.get_with(target, fields);
            assert!(response.status < 500, "{way:?} {target}: {response:?}");
            let all = [fields, more].concat();
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                check_refused(way, target, &client.ask(method, target, &all));
            }
        }
    }
    client.finish_sending();
}

#[track_caller]
fn check_refused(way: &str, target: &str, response: &Response) {
    let text = String::from_utf8_lossy(&response.body);
    let is_secret = text.contains(SECRET) || text.contains("secret-name");
    assert!(!is_secret, "{way:?} {target}: {response:?}");
    // Its index alone is protected.
    let redirects = response.header("location").filter(|to| *to != "/dir/");
    assert!(redirects.is_none(), "{way:?} {target}: {response:?}");
    // No validators of a secret, no length of one.
    let is_file = ["etag", "last-modified", "content-range"]
        .iter()
        .any(|name| response.has(name));
    let is_open = ["the application", "open"].contains(&&*text) || response.status == 304;
    assert!(!is_file || is_open, "{way:?} {target}: {response:?}");
    assert_ne!(response.status, 304, "{way:?} {target}: {response:?}");
    assert_ne!(response.status, 412, "{way:?} {target}: {response:?}");
}

#[test]
fn no_spelling_gets_past_an_access_rule() {
    for way in WAYS {
        let tree = tree();
        let mount = tree.base().join("mounted");
        fs::create_dir(&mount).unwrap();
        fs::write(mount.join("x"), SECRET).unwrap();
        let rules = sections("access", "allow = [\"127.0.0.1\"]");
        let mount = format!(
            "[[site.mount]]\nat = \"/mnt\"\nroot = \"{}\"\n",
            mount.display()
        );
        let server = Launch::run(&tree, "", &format!("{way}\n{mount}{rules}")).start();
        let mut friend = Client::connect_from(FRIEND, server.address);
        assert_eq!(friend.get("/db/x").text(), SECRET, "{way}");
        assert_eq!(friend.get("/mnt/x").text(), SECRET, "{way}");
        assert_eq!(friend.get("/upper/x").text(), SECRET, "{way}");
        nothing_gets_past(&server, way, STRANGER, &[], &mut friend);
        let mut stranger = Client::connect_from(STRANGER, server.address);
        assert_eq!(stranger.get("/mnt/x").status, 403, "{way}");
        assert_eq!(
            stranger.get("/index.html").text(),
            "the application",
            "{way}"
        );
        assert_eq!(stranger.get("/list/open.txt").text(), "open", "{way}");
        server.stop();
    }
}

/// A server with one rule for /a/**, and what `site` adds.
fn with_rule(tree: &Tree, keys: &str, site: &str) -> Server {
    let rule = format!("{site}\n[[site.access]]\nmatch = \"/a/**\"\n{keys}");
    Launch::run(tree, "", &rule).start()
}

#[test]
fn a_refused_client_gets_403_with_the_page_of_the_site() {
    let tree = tree();
    tree.write("a/x", b"x");
    let pages = "error-pages = { 403 = \"/403.html\" }";
    let server = with_rule(&tree, "deny = [\"127.0.0.2\"]", pages);
    let mut stranger = Client::connect_from(STRANGER, server.address);
    for target in ["/a/x", "/a/none", "/a/"] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let fields = ["If-None-Match: *", "Content-Length: 0"];
            let response = stranger.ask(method, target, &fields);
            assert_eq!(response.status, 403, "{method} {target}: {response:?}");
            let expected = if method == "HEAD" {
                ""
            } else {
                "the page for 403"
            };
            assert_eq!(response.text(), expected, "{method} {target}");
        }
    }
    // What cannot be decoded has no path that a rule could be for.
    assert_eq!(stranger.get("/a/%zz").status, 400);
    assert_eq!(stranger.ask("OPTIONS", "*", &[]).status, 204);
    let mut friend = Client::connect_from(FRIEND, server.address);
    assert_eq!(friend.get("/a/x").text(), "x");
    assert_eq!(friend.get("/a/none").status, 404);
    assert_eq!(friend.ask("OPTIONS", "/a/x", &[]).status, 204);
    let plain = with_rule(&tree, "deny = [\"127.0.0.2\"]", "");
    let mut stranger = Client::connect_from(STRANGER, plain.address);
    assert!(
        stranger
            .get("/a/x")
            .text()
            .contains("<h1>403 Forbidden</h1>")
    );
}

#[test]
fn requests_behind_each_other_are_told_apart() {
    let tree = tree();
    tree.write("a/x", b"x");
    let server = with_rule(&tree, "allow = [\"127.0.0.1\"]", "");
    let all: String = ["/", "/a/x", "/", "/a/x", "/403.html"]
        .map(|target| request_with("GET", target, &[]))
        .concat();
    for (ip, status) in [(FRIEND, 200), (STRANGER, 403), (FRIEND, 200)] {
        let mut client = Client::connect_from(ip, server.address);
        client.send(&all);
        let statuses: Vec<_> = (0..5).map(|_| client.response().status).collect();
        assert_eq!(statuses, [200, status, 200, status, 200]);
    }
}

#[test]
fn rules_hold_before_those_that_answer_and_redirect() {
    let tree = tree();
    let more = "[[site.redirects]]\nfrom = \"/a/old\"\nto = \"/a/new\"\n\
                [[site.respond]]\nmatch = \"/a/gone\"\nstatus = 410\n";
    let server = with_rule(&tree, "deny = [\"127.0.0.2\"]", more);
    for (target, friendly) in [("/a/old", 301), ("/a/gone", 410)] {
        let mut stranger = Client::connect_from(STRANGER, server.address);
        let refused = stranger.get(target);
        assert_eq!((refused.status, refused.header("location")), (403, None));
        assert_eq!(server.get(target).status, friendly, "{target}");
    }
}

#[test]
fn challenges_of_a_certificate_authority_are_reachable() {
    let tree = tree();
    tree.write(".well-known/acme-challenge/token", b"a token");
    tree.write(".well-known/other", b"other");
    tree.link(".well-known/acme-challenge/dir", "../../db");
    let rules = "spa-fallback = \"/page.html\"\n[[site.access]]\nmatch = \"/**\"\ndeny = [\"all\"]";
    let server = Launch::run(&tree, "", rules).start();
    let navigate = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    let rows = [
        ("/.well-known/acme-challenge/token", 200),
        ("/.well-known/acme-challenge/none", 403),
        ("/.well-known/acme-challenge/../other", 403),
        ("/.well-known/acme-challenge/..%2Fother", 403),
        ("/.well-known/acme-challenge", 403),
        ("/.well-known/other", 403),
        ("/", 403),
    ];
    for (target, status) in rows {
        assert_eq!(
            server.connect().get_with(target, &navigate).status,
            status,
            "{target}"
        );
    }
}

#[test]
fn another_name_of_a_file_is_another_path() {
    let tree = tree();
    symlink("db", tree.path("link")).unwrap();
    let server = Launch::run(&tree, "", &sections("access", "deny = [\"all\"]")).start();
    assert_eq!(server.get("/link/x").text(), SECRET);
    assert_eq!(server.get("/db/x").status, 403);
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
    let tree = tree();
    let listen = "[[listen]]\naddress = \"[::]:0\"\n";
    for (clients, status) in [
        ("127.0.0.0/8", 200),
        ("::ffff:127.0.0.1", 200),
        ("::/0", 403),
    ] {
        let rule = format!("[[site.access]]\nmatch = \"/**\"\nallow = [\"{clients}\"]");
        let server = Launch::run(&tree, listen, &rule).start();
        let port = server.address.port();
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        assert_eq!(client.get("/").status, status, "{clients}");
    }
}
