//! Every kind of file, byte for byte, and what its head says.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{
    Client, Launch, Server, Strace, Tree, eventually, get, installed, noise, request,
};

/// Sizes around every boundary that a file's way to the socket changes at: nothing, one byte, the largest
/// body sent from memory, a pipe's page, a pipe, and several pipes.
const SIZES: [usize; 16] = [
    0,
    1,
    4095,
    4096,
    4097,
    16 * 1024 - 1,
    16 * 1024,
    16 * 1024 + 1,
    64 * 1024 - 1,
    64 * 1024,
    64 * 1024 + 1,
    256 * 1024 - 1,
    256 * 1024,
    256 * 1024 + 1,
    3 * 256 * 1024 + 1,
    5 * 1024 * 1024,
];

/// Names on disk and the targets that ask for them.
const NAMES: [(&str, &str); 9] = [
    ("two words.txt", "/two%20words.txt"),
    ("100%.txt", "/100%25.txt"),
    ("a%20b.txt", "/a%2520b.txt"),
    ("grüße.txt", "/gr%C3%BC%c3%9fe.txt"),
    ("日本/語.txt", "/%E6%97%A5%E6%9C%AC/%E8%AA%9E.txt"),
    ("plus+sign.txt", "/plus+sign.txt"),
    ("what?.txt", "/what%3F.txt"),
    ("number#1.txt", "/number%231.txt"),
    ("two..dots/x..", "/two..dots/x..?query=../../x"),
];

#[test]
fn every_size_is_served_to_the_byte() {
    let tree = Tree::new();
    for size in SIZES {
        tree.write(&format!("{size}.bin"), &noise(size, size as u64));
    }
    let server = Server::serve(&tree);
    // Twice on one connection: the second time from whatever the first one left in caches and pipes.
    let mut client = server.connect();
    for size in SIZES.into_iter().chain(SIZES) {
        let response = client.get(&format!("/{size}.bin"));
        assert_eq!(response.status, 200, "{size}");
        assert!(response.body == noise(size, size as u64), "{size}");
    }
    server.stop();
}

#[test]
fn every_name_is_found() {
    let tree = Tree::new();
    for (name, _) in NAMES {
        tree.write(name, name.as_bytes());
    }
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, target) in NAMES {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.body, name.as_bytes());
    }
}

#[test]
fn curl_gets_every_file() {
    if !installed("curl") {
        return;
    }
    let tree = Tree::new();
    for size in SIZES {
        tree.write(&format!("{size}.bin"), &noise(size, size as u64));
    }
    for (name, _) in NAMES {
        tree.write(name, name.as_bytes());
    }
    let server = Server::serve(&tree);
    for size in SIZES {
        let got = curl(&server, &format!("/{size}.bin"));
        assert!(got == noise(size, size as u64), "{size}");
    }
    for (name, target) in NAMES {
        assert_eq!(curl(&server, target), name.as_bytes(), "{name}");
    }
}

#[test]
fn a_sparse_file_of_300_mib_is_served_to_the_byte() {
    const LENGTH: u64 = 300 * 1024 * 1024;
    let tree = Tree::with("sparse", b"");
    let file = File::options()
        .write(true)
        .open(tree.path("sparse"))
        .unwrap();
    file.set_len(LENGTH).unwrap();
    for (seed, offset) in [0, 1 << 20, 123_456_789, LENGTH - 70_000]
        .into_iter()
        .enumerate()
    {
        file.write_all_at(&noise(70_000, seed as u64), offset)
            .unwrap();
    }
    let server = Server::serve(&tree);
    let mut client = server.connect();
    client.send(get("/sparse"));
    let head = client.head();
    assert_eq!(head.content_length() as u64, LENGTH);
    same_as_file(&mut client, &tree, "sparse");
    // The connection is still in step.
    assert_eq!(client.get("/").status, 404);
}

#[test]
fn no_byte_of_a_large_file_passes_through_the_process() {
    const LENGTH: usize = 100 * 1024 * 1024;
    // One-byte looks at what is in the page cache, the head, and what wakes threads.
    const COPIED_MAX: usize = 64 * 1024;
    if !installed("strace") {
        return;
    }
    let piece = noise(LENGTH / 100, 1);
    let tree = Tree::with("large", &piece.repeat(100));
    let server = Server::serve(&tree);
    let Some(strace) = Strace::attach(&server, &tree) else {
        return;
    };
    let mut client = server.connect();
    client.send(get("/large"));
    assert_eq!(client.head().content_length(), LENGTH);
    for _ in 0..100 {
        assert!(client.body(piece.len()) == piece);
    }
    let moved = strace.stop(server);
    assert!(moved.spliced >= LENGTH, "{moved:?}");
    assert!(moved.copied < COPIED_MAX, "{moved:?}");
}

#[test]
fn head_is_get_without_the_body() {
    let tree = Tree::new();
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
        tree.write(&format!("{size}.css"), &noise(size, 1));
    }
    tree.write("index.html", b"<!doctype html>");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in [
        "/0.css",
        "/1.css",
        "/16384.css",
        "/16385.css",
        "/1048576.css",
        "/",
        "/none",
    ] {
        let full = client.get(target);
        client.send(request("HEAD", target));
        let head = client.head();
        assert_eq!(head.status, full.status, "{target}");
        assert_eq!(head.steady_headers(), full.steady_headers(), "{target}");
    }
}

#[test]
fn the_type_follows_the_extension() {
    let tree = Tree::new();
    let types = [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("A.TXT", "text/plain; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.json", "application/json"),
        ("a.unheard-of", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ];
    for (name, _) in types {
        tree.write(name, b"content");
    }
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, expected) in types {
        let response = client.get(&format!("/{name}"));
        assert_eq!(response.header("content-type"), Some(expected), "{name}");
    }
}

#[test]
fn a_site_has_types_of_its_own() {
    let tree = Tree::new();
    for name in ["a.txt", "a.html", "a.tide", "none"] {
        tree.write(name, b"content");
    }
    let site = "charset = \"iso-8859-1\"\ndefault-type = \"application/x-none\"\n\
                mime-types = { \"tide\" = \"application/x-tide\", \"txt\" = \"text/x-own\" }";
    let server = Launch::run(&tree, "", site).start();
    let mut client = server.connect();
    for (name, expected) in [
        ("a.txt", "text/x-own; charset=iso-8859-1"),
        ("a.html", "text/html; charset=iso-8859-1"),
        ("a.tide", "application/x-tide"),
        ("none", "application/x-none"),
    ] {
        let response = client.get(&format!("/{name}"));
        assert_eq!(response.header("content-type"), Some(expected), "{name}");
    }
}

#[test]
fn a_head_tells_the_time_of_change_and_of_day() {
    let tree = Tree::with("a.txt", b"content");
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let file = File::options()
        .write(true)
        .open(tree.path("a.txt"))
        .unwrap();
    file.set_modified(changed).unwrap();
    let server = Server::serve(&tree);
    let response = server.get("/a.txt");
    let last_modified = response.header("last-modified");
    assert_eq!(last_modified, Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let date = response.header("date").expect("Date");
    let date = httpdate::parse_http_date(date).expect("a date as HTTP has it");
    let hour = Duration::from_hours(1);
    assert!(date > SystemTime::now() - hour && date < SystemTime::now() + hour);
    assert!(server.get("/none").header("date").is_some());
}

#[test]
fn an_etag_lasts_as_long_as_the_content() {
    let tree = Tree::with("a.txt", b"content");
    let server = Server::serve(&tree);
    let etag = |target| {
        let response = server.get(target);
        let etag = response.header("etag").expect("ETag").to_owned();
        assert!(
            etag.trim_start_matches("W/").starts_with('"') && etag.ends_with('"'),
            "{etag}"
        );
        etag
    };
    let first = etag("/a.txt");
    assert_eq!(etag("/a.txt"), first);
    tree.write("a.txt", b"changed");
    let moved = SystemTime::now() + Duration::from_secs(5);
    let file = File::options()
        .write(true)
        .open(tree.path("a.txt"))
        .unwrap();
    file.set_modified(moved).unwrap();
    // A file that was looked up stays trusted for a while.
    eventually("another ETag", || etag("/a.txt") != first);
}

#[test]
fn a_directory_is_its_index() {
    let tree = Tree::new();
    tree.write("index.html", b"top");
    tree.write("nested/index.html", b"nested");
    tree.write("empty/readme.txt", b"no index here");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (target, body) in [
        ("/", "top"),
        ("/nested/", "nested"),
        ("/nested/../", "top"),
        ("/?a=b", "top"),
    ] {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.body, body.as_bytes(), "{target}");
        let content_type = response.header("content-type");
        assert_eq!(content_type, Some("text/html; charset=utf-8"), "{target}");
    }
    for target in ["/empty/", "/none/", "/index.html/"] {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
}

#[test]
fn the_index_can_have_other_names() {
    let tree = Tree::new();
    tree.write("index.html", b"not this one");
    tree.write("main.txt", b"second choice");
    tree.write("nested/start.htm", b"first choice");
    tree.write("nested/main.txt", b"second choice");
    let site = "index = [\"start.htm\", \"main.txt\"]";
    let server = Launch::run(&tree, "", site).start();
    assert_eq!(server.get("/").body, b"second choice");
    assert_eq!(server.get("/nested/").body, b"first choice");
}

#[test]
fn hidden_files_are_shown_only_on_demand() {
    let tree = Tree::new();
    for name in [".env", ".git/config", "nested/.htpasswd"] {
        tree.write(name, b"hidden");
    }
    let server = Server::serve(&tree);
    for target in [
        "/.env",
        "/.git/config",
        "/nested/.htpasswd",
        "/%2eenv",
        "/.git/",
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let open = Launch::run(&tree, "", "hidden-files = true").start();
    for target in ["/.env", "/.git/config", "/nested/.htpasswd"] {
        assert_eq!(open.get(target).body, b"hidden", "{target}");
    }
}

#[test]
fn some_hidden_files_are_shown() {
    let tree = Tree::new();
    for name in [
        ".treeinfo",
        "a/.zgroup",
        ".zarr/0",
        ".zarr/.git",
        ".env",
        ".git/.zgroup",
        ".treeinfo2",
        ".well-known/a",
    ] {
        tree.write(name, b"hidden");
    }
    let site = "hidden-files = [\".treeinfo\", \".z*\"]\ndirectory-listing = true";
    let server = Launch::run(&tree, "", site).start();
    for target in [
        "/.treeinfo",
        "/a/.zgroup",
        "/.zarr/0",
        "/%2ezarr/0",
        "/.well-known/a",
    ] {
        assert_eq!(server.get(target).body, b"hidden", "{target}");
    }
    for target in [
        "/.env",
        "/.git/.zgroup",
        "/.treeinfo2",
        "/.zarr/.git",
        "/.git/",
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let listing = server.get("/").text().to_owned();
    assert!(
        listing.contains(".treeinfo\"") && listing.contains(".zarr/\""),
        "{listing}"
    );
    assert!(
        !listing.contains(".env") && !listing.contains(".treeinfo2"),
        "{listing}"
    );
}

#[test]
fn only_regular_files_are_served() {
    let tree = Tree::with("regular", b"content");
    let mode = Mode::RUSR | Mode::WUSR | Mode::ROTH;
    mknodat(CWD, tree.path("fifo"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    tree.link("zero", "/dev/zero");
    tree.link("pipe", "fifo");
    tree.link("loop", "loop");
    tree.link("dangling", "nothing");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in [
        "/fifo",
        "/socket",
        "/zero",
        "/pipe",
        "/loop",
        "/dangling",
        "/regular/",
    ] {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
    assert_eq!(client.get("/regular").body, b"content");
}

#[test]
fn links_stay_beneath_the_root() {
    let tree = Tree::with("nested/file", b"inside");
    tree.link("link", "nested/file");
    tree.link("nested/up", "../link");
    tree.link("directory", "nested");
    tree.link("out", "../secret");
    tree.link("out-directory", "..");
    tree.link("absolute", "/etc/passwd");
    let server = Server::serve(&tree);
    for target in ["/link", "/nested/up", "/directory/file"] {
        let response = server.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.body, b"inside", "{target}");
    }
    for target in [
        "/out",
        "/out-directory/secret",
        "/out-directory/",
        "/absolute",
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::with("private", b"not for everyone");
    tree.write("public", b"for everyone");
    fs::set_permissions(tree.path("private"), fs::Permissions::from_mode(0o000)).unwrap();
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    let mut client = server.connect();
    let refused = client.get("/private");
    assert!(matches!(refused.status, 403 | 404), "{refused:?}");
    assert_eq!(client.get("/public").body, b"for everyone");
}

/// Downloads `target` with curl.
fn curl(server: &Server, target: &str) -> Vec<u8> {
    let url = format!("http://{}{target}", server.address);
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--path-as-is",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ])
        .arg(url)
        .output()
        .expect("curl");
    assert!(output.status.success(), "{target}: {output:?}");
    output.stdout
}

/// Reads from `client` as many bytes as the file `name` has, and compares them with it.
fn same_as_file(client: &mut Client, tree: &Tree, name: &str) {
    let mut file = File::open(tree.path(name)).unwrap();
    let mut expected = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = file.read(&mut expected).unwrap();
        if count == 0 {
            return;
        }
        assert!(client.body(count) == expected[..count], "from {at} on");
        at += count;
    }
}
