//! The responses are those of HTTP/1.1.

use crate::support::http2::Http2;
use crate::support::{Authority, Client, Launch, Response, Tree, noise};

/// Fields that speak of a connection of HTTP/1.1, or of the moment.
const OTHERS: [&str; 4] = ["connection", "date", "keep-alive", "transfer-encoding"];

const RULES: &str = r#"
directory-listing = true
error-pages = { 404 = "/404.html" }

[[site.redirects]]
from = "/old"
to = "/new"

[[site.respond]]
match = "/gone"
status = 410

[[site.access]]
match = "/secret/**"
deny = ["0.0.0.0/0"]

[[site.headers]]
match = "/page.html"
set = { X-Extra = "yes", Cache-Control = "max-age=60" }
"#;

fn tree() -> Tree {
    let tree = Tree::new();
    tree.write("page.html", &noise(700, 1));
    tree.write("404.html", b"nothing is here");
    tree.write("large", &noise(300_000, 2));
    tree.write("empty", b"");
    tree.write("secret/x", b"secret");
    tree.write("list/a", b"a");
    tree.write("list/b", b"b");
    tree
}

type Field = (&'static str, &'static str);

const REQUESTS: &[(&str, &str, &[Field])] = &[
    ("GET", "/page.html", &[]),
    ("HEAD", "/page.html", &[]),
    ("HEAD", "/large", &[]),
    ("HEAD", "/none", &[]),
    ("GET", "/large", &[]),
    ("GET", "/empty", &[]),
    ("OPTIONS", "/page.html", &[]),
    ("OPTIONS", "*", &[]),
    ("POST", "/page.html", &[]),
    ("BREW", "/page.html", &[]),
    ("GET", "/none", &[]),
    ("GET", "/gone", &[]),
    ("GET", "/old?q=1", &[]),
    ("GET", "/list", &[]),
    ("GET", "/list/", &[]),
    ("HEAD", "/list/", &[]),
    ("GET", "/secret/x", &[]),
    ("GET", "/%2e%2e/x", &[]),
    ("GET", "/%zz", &[]),
    ("GET", "/page.html", &[("if-none-match", "*")]),
    ("GET", "/page.html", &[("if-match", "\"other\"")]),
    ("GET", "/page.html", &[("range", "bytes=5-9")]),
    ("GET", "/page.html", &[("range", "bytes=900-")]),
    ("GET", "/large", &[("range", "bytes=5-200000")]),
];

/// What does not depend on the protocol.
fn essence(response: &Response) -> (u16, Vec<&(String, String)>, &[u8]) {
    let headers = response.headers.iter();
    let mut headers: Vec<_> = headers
        .filter(|(name, _)| !OTHERS.contains(&name.as_str()))
        .collect();
    headers.sort();
    (response.status, headers, &response.body)
}

/// The same request by HTTP/1.1.
fn by_http1(client: &mut Client, (method, target, fields): &(&str, &str, &[Field])) -> Response {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let fields: Vec<_> = fields.iter().map(String::as_str).collect();
    client.ask(method, target, &fields)
}

#[test]
fn they_are_those_of_http1() {
    let tree = tree();
    let server = Launch::http2(&tree, "", RULES).start();
    let mut one = server.connect();
    let mut two = Http2::connect(server.address);
    // From the disk, and from the cache.
    for round in 0..3 {
        for request in REQUESTS {
            let first = by_http1(&mut one, request);
            if first.closes() {
                one = server.connect();
            }
            let (method, target, fields) = request;
            let second = two.ask(method, target, fields);
            assert_eq!(
                essence(&first),
                essence(&second),
                "{request:?}, round {round}"
            );
            assert!(second.header("date").is_some(), "{request:?}");
        }
    }
}

#[test]
fn several_ranges_come_with_their_heads() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let (mut one, mut two) = (server.connect(), Http2::connect(server.address));
    for (target, ranges) in [
        ("/page.html", "bytes=0-9,20-29,-5"),
        ("/large", "bytes=0-9,100000-250000,-5"),
    ] {
        let first = one.get_with(target, &[&format!("Range: {ranges}")]);
        let second = two.ask("GET", target, &[("range", ranges)]);
        assert_eq!((first.status, second.status), (206, 206));
        let parts = [&first, &second].map(|response| {
            let content_type = response.header("content-type").expect("Content-Type");
            let (_, boundary) = content_type.split_once("boundary=").expect("a boundary");
            let boundary = boundary.trim_matches('"');
            let body = String::from_utf8_lossy(&response.body).into_owned();
            body.replace(boundary, "BOUNDARY")
        });
        assert!(parts[0] == parts[1], "{target}");
        assert_eq!(second.content_length(), second.body.len());
    }
}

#[test]
fn what_is_compressed_alone_is_decompressed() {
    let tree = Tree::new();
    let content = vec![b'x'; 3 << 20];
    tree.write("big", &content);
    let path = tree.path("big");
    let gzip = std::process::Command::new("gzip").arg(&path).status();
    assert!(gzip.expect("gzip").success());
    let server = Launch::http2(&tree, "", "compressed-only = \"decompress\"").start();
    let mut client = Http2::connect(server.address);
    for _ in 0..2 {
        let response = client.get("/big");
        assert_eq!(response.status, 200);
        assert!(response.body == content);
    }
    let response = client.ask("GET", "/big", &[("accept-encoding", "gzip")]);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
}

#[test]
fn requests_may_be_redirected_to_https() {
    let tree = tree();
    let root = tree.root();
    let sites = format!(
        "protocols = [\"h2\", \"http/1.1\"]\nhttps-redirect = 443\n[[site]]\nroot = \"{}\"\n",
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = Http2::connect(server.address);
    let response = client.get("/page.html?q");
    assert_eq!(response.status, 308);
    assert_eq!(
        response.header("location"),
        Some("https://test/page.html?q")
    );
}

#[test]
fn over_tls_they_come_with_hsts() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\nprotocols = [\"h2\", \"http/1.1\"]\n[tls]\nhsts = \"max-age=60\"\n{}\n\
         [[site]]\nroot = \"{}\"\n",
        files.entry(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = Http2::secure(server.address, &authority.client());
    let response = client.get("/page.html");
    assert_eq!(response.status, 200);
    assert!(response.body == noise(700, 1));
    assert_eq!(
        response.header("strict-transport-security"),
        Some("max-age=60")
    );
}
