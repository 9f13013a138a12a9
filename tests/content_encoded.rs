//! Files that are sent with the coding that their names end in: `content-encoded`, as players of
//! Unity ask for theirs.

use std::fs;
use std::process::Command;

use crate::support::{Launch, Response, Tree, get, installed, noise, request};

const SITE: &str = "content-encoded = [\"/Build/**\", \"/*.svgz\"]";

/// A path, its coding, its type with that and without.
#[rustfmt::skip] // one row a line
const FILES: [(&str, &str, &str, &str); 6] = [
    ("/Build/X.framework.js.gz", "gzip", "text/javascript; charset=utf-8", "application/gzip"),
    ("/Build/X.wasm.br", "br", "application/wasm", "application/octet-stream"),
    ("/Build/X.data.zst", "zstd", "application/octet-stream", "application/zstd"),
    ("/Build/deep/X.symbols.json.gz", "gzip", "application/json", "application/gzip"),
    ("/Build/X.wasm.gz", "gzip", "application/wasm", "application/gzip"),
    ("/a.svgz", "gzip", "image/svg+xml", "image/svg+xml"),
];

/// Bytes of a file in memory, and of one that is spliced. They need not be compressed really.
const SIZES: [usize; 2] = [1000, 100_000];

fn tree(size: usize) -> Tree {
    let tree = Tree::new();
    for (path, ..) in FILES {
        tree.write(&path[1..], &noise(size, 1));
    }
    tree
}

#[test]
fn it_is_sent_with_its_coding_to_who_takes_that() {
    for size in SIZES {
        let tree = tree(size);
        let server = Launch::run(&tree, "", SITE).start();
        let mut client = server.connect();
        for (path, coding, coded_type, plain_type) in FILES {
            let mut tags = Vec::new();
            for accept in [
                "",
                "identity",
                "deflate",
                coding,
                "*",
                "gzip, deflate, br, zstd",
            ] {
                let is_coded = !["", "identity", "deflate"].contains(&accept);
                let accept = format!("Accept-Encoding: {accept}");
                let place = format!("{path} {size} {accept}");
                let response = client.get_with(path, &[&accept]);
                assert_eq!(response.status, 200, "{place}");
                let told = is_coded.then_some(coding);
                assert_eq!(response.header("content-encoding"), told, "{place}");
                let media_type = if is_coded { coded_type } else { plain_type };
                assert_eq!(response.header("content-type"), Some(media_type), "{place}");
                check(&response, &noise(size, 1), &place);
                let head = client.ask("HEAD", path, &[&accept]);
                assert_eq!(head.steady_headers(), response.steady_headers(), "{place}");
                let known = format!("If-None-Match: {}", response.etag());
                assert_eq!(
                    client.get_with(path, &[&accept, &known]).status,
                    304,
                    "{place}"
                );
                tags.push(response.etag().to_owned());
                let part = client.get_with(path, &[&accept, "Range: bytes=5-600"]);
                assert_eq!(part.header("content-encoding"), told, "{place}");
                assert_eq!(part.status, 206, "{place}");
                assert!(part.body == noise(size, 1)[5..601], "{place}");
            }
            tags.sort();
            tags.dedup();
            assert_eq!(tags.len(), 2, "{path}: RFC 9110, 8.8.3.3");
        }
        server.stop();
    }
}

#[test]
fn elsewhere_and_by_default_it_is_a_file_like_any_other() {
    let tree = tree(1000);
    tree.write("other/X.wasm.gz", &noise(1000, 1));
    tree.write_at("Build/X.wasm", b"plain", 1_000_000_000);
    for (site, paths) in [
        ("", &FILES.map(|(path, ..)| path)[..]),
        (SITE, &["/other/X.wasm.gz"]),
    ] {
        let server = Launch::run(&tree, "", site).start();
        for path in paths {
            let response = server.get_with(path, &["Accept-Encoding: br, zstd, gzip"]);
            assert_eq!(response.status, 200, "{path}");
            assert!(!response.has("content-encoding"), "{path}: {response:?}");
            assert!(!response.has("vary"), "{path}: {response:?}");
        }
        // The glob is for names with a coding; a file without one has its variants.
        let response = server.get_with("/Build/X.wasm", &["Accept-Encoding: gzip"]);
        assert_eq!(response.header("content-encoding"), Some("gzip"), "{site}");
    }
}

/// The same file by both names, where no plain one is there.
#[test]
fn it_goes_together_with_compressed_only() {
    let tree = tree(1000);
    let site = format!("{SITE}\ncompressed-only = \"refuse\"");
    let server = Launch::run(&tree, "", &site).start();
    let gzip = ["Accept-Encoding: gzip"];
    for path in ["/Build/X.framework.js", "/Build/X.framework.js.gz"] {
        let response = server.get_with(path, &gzip);
        assert_eq!(response.header("content-encoding"), Some("gzip"), "{path}");
        let script = Some("text/javascript; charset=utf-8");
        assert_eq!(response.header("content-type"), script, "{path}");
    }
    assert_eq!(server.get("/Build/X.framework.js").status, 406);
    assert_eq!(server.get("/Build/X.framework.js.gz").status, 200);
}

#[test]
fn requests_follow_each_other() {
    let tree = tree(100_000);
    let server = Launch::run(&tree, "", SITE).start();
    let mut client = server.connect();
    let path = "/Build/X.wasm.gz";
    client.send([get(path), request("HEAD", path), get(path)].concat());
    assert!(client.response().body == noise(100_000, 1));
    assert_eq!(client.head().content_length(), 100_000);
    assert!(client.response().body == noise(100_000, 1));
}

#[test]
fn curl_decompresses_it() {
    if !installed("curl") {
        return;
    }
    let tree = Tree::new();
    let script = b"console.log(1);\n".repeat(100);
    tree.write("Build/X.js", &script);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("compress")
        .arg(tree.root())
        .args(["--codings", "gzip"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let gzip = fs::read(tree.path("Build/X.js.gz")).unwrap();
    let server = Launch::run(&tree, "", SITE).start();
    for (arguments, expected) in [(&["--compressed"][..], &script), (&[], &gzip)] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .args(arguments)
            .arg(format!("http://{}/Build/X.js.gz", server.address))
            .output()
            .expect("curl");
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout == *expected, "{arguments:?}");
    }
}

#[track_caller]
fn check(response: &Response, content: &[u8], place: &str) {
    assert_eq!(response.list("vary"), ["accept-encoding"], "{place}");
    assert_eq!(response.header("accept-ranges"), Some("bytes"), "{place}");
    assert!(response.body == content, "{place}");
}
