//! Precompressed variants beside a file (RFC 9110, sections 8.4 and 12.5.3).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Client, Launch, Response, Server, Tree, content_range, noise};

/// What stands on disk for each coding, "" for none; the bytes need not be compressed really.
const CODINGS: [(&str, &str, u64); 4] = [
    ("", "", 1),
    ("br", ".br", 2),
    ("zstd", ".zst", 3),
    ("gzip", ".gz", 4),
];

/// Bytes of every variant of `small.js`, sent from memory, and `large.js`, spliced.
const SIZES: [(&str, usize); 2] = [("small.js", 1000), ("large.js", 100_000)];

/// Accept-Encoding, the coding that is sent where all are there, and why.
#[rustfmt::skip] // one row a line
const TABLE: &[(&[&str], &str, &str)] = &[
    (&[], "", "12.5.3: no field"),
    (&[""], "", "12.5.3: an empty field asks for none"),
    (&["br"], "br", "12.5.3: named"),
    (&["zstd"], "zstd", "12.5.3: named"),
    (&["gzip"], "gzip", "12.5.3: named"),
    (&["x-gzip"], "gzip", "8.4.1.3: the same as gzip"),
    (&["BR"], "br", "8.4.1: codings have no case"),
    (&["gzip, deflate, br, zstd"], "br", "what browsers send: the server's order decides"),
    (&["gzip,zstd"], "zstd", "the server's order decides"),
    (&["gzip", "br"], "br", "5.3: two lines are one list"),
    (&["br;q=0.5, gzip"], "gzip", "12.4.2: the higher quality"),
    (&["br;q=0.5,gzip;q=0.7,zstd;q=0.6"], "gzip", "12.4.2: the highest quality"),
    (&["br ; q=0.5 , gzip ; Q=0.501"], "gzip", "12.4.2: blanks, and a parameter without case"),
    (&["br;q=0"], "", "12.4.2: not acceptable"),
    (&["br;q=0.000, gzip;q=0.001"], "gzip", "12.4.2: three decimals"),
    (&["*"], "br", "12.5.3: any"),
    (&["*;q=0"], "", "12.5.3: nothing, and still the file is better than an error"),
    (&["br;q=0, *"], "zstd", "12.5.3: any but this"),
    (&["*, br;q=0, zstd;q=0"], "gzip", "12.5.3: any but these"),
    (&["identity"], "", "12.5.3: none"),
    (&["identity;q=0"], "", "12.5.3: the file is better than an error"),
    (&["identity;q=0, gzip"], "gzip", "12.5.3: anything but the file as it is"),
    (&["identity;q=0, *;q=0.1"], "br", "12.5.3: anything but the file as it is"),
    (&["gzip;q=0.5, identity"], "", "12.4.2: the file as it is is better liked"),
    (&["gzip, identity;q=0.5"], "gzip", "12.4.2: the coding is better liked"),
    (&["deflate, compress, dcb"], "", "12.5.3: nothing that is there"),
    (&["br;q=2, gzip"], "gzip", "12.4.2: a malformed quality counts for nothing"),
    (&["br;q=, zstd;q=x, gzip"], "gzip", "12.4.2: a malformed quality counts for nothing"),
    (&["brotli, gzip2"], "", "8.4.1: other names"),
    (&[",,;q=1, ,br,"], "br", "5.6.1: empty elements"),
];

#[test]
fn accept_encoding_chooses() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        for (lines, coding, why) in TABLE {
            let fields: Vec<_> = lines
                .iter()
                .map(|line| format!("Accept-Encoding: {line}"))
                .collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let response = client.get_with(&format!("/{name}"), &fields);
            let place = format!("{name} {lines:?} ({why})");
            assert_eq!(response.status, 200, "{place}");
            check(&response, coding, size, &place);
            let head = client.ask("HEAD", &format!("/{name}"), &fields);
            assert_eq!(head.steady_headers(), response.steady_headers(), "{place}");
        }
    }
    server.stop();
}

#[test]
fn each_variant_has_a_tag_of_its_own() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, _) in SIZES {
        let target = format!("/{name}");
        let mut tags: Vec<_> = CODINGS
            .map(|(coding, ..)| {
                let accept = accept(coding);
                client.get_with(&target, &[&accept]).etag().to_owned()
            })
            .into();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), CODINGS.len(), "{name}: {tags:?}");
    }
}

#[test]
fn preconditions_are_those_of_the_variant() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        let target = format!("/{name}");
        let tags = CODINGS.map(|(coding, ..)| {
            client
                .get_with(&target, &[&accept(coding)])
                .etag()
                .to_owned()
        });
        for (accepted, (coding, ..)) in CODINGS.iter().enumerate() {
            for (known, tag) in tags.iter().enumerate() {
                let is_same = accepted == known;
                let place = format!("{name}: {coding:?} with {tag}");
                let fields = [accept(coding), format!("If-None-Match: {tag}")];
                let response = client.get_with(&target, &fields.each_ref().map(String::as_str));
                assert_eq!(response.status, if is_same { 304 } else { 200 }, "{place}");
                assert_eq!(response.list("vary"), ["accept-encoding"], "{place}");
                assert_eq!(response.etag(), tags[accepted], "{place}");
                if !is_same {
                    check(&response, coding, size, &place);
                }
                let fields = [accept(coding), format!("If-Match: {tag}")];
                let response = client.get_with(&target, &fields.each_ref().map(String::as_str));
                assert_eq!(response.status, if is_same { 200 } else { 412 }, "{place}");
            }
        }
    }
}

#[test]
fn ranges_are_those_of_the_variant() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        let target = format!("/{name}");
        for (coding, _, seed) in CODINGS {
            let content = noise(size + seed as usize, seed);
            let place = format!("{name}: {coding:?}");
            let one = client.get_with(&target, &[&accept(coding), "Range: bytes=5-600"]);
            assert_eq!(one.status, 206, "{place}");
            assert_eq!(
                one.header("content-encoding").unwrap_or(""),
                coding,
                "{place}"
            );
            let (range, length) = content_range(one.header("content-range").unwrap());
            assert_eq!((range, length as usize), (5..601, content.len()), "{place}");
            assert!(one.body == content[5..601], "{place}");
            let many = client.get_with(&target, &[&accept(coding), "Range: bytes=0-9,-9"]);
            // RFC 9110, 15.3.7.2: it is the parts that are coded.
            assert_eq!(many.header("content-encoding"), None, "{place}");
            let bodies: Vec<_> = many.parts().into_iter().map(|part| part.body).collect();
            assert_eq!(
                bodies,
                [&content[..10], &content[content.len() - 9..]],
                "{place}"
            );
            let behind = format!("Range: bytes={}-", content.len());
            let none = client.get_with(&target, &[&accept(coding), &behind]);
            assert_eq!(none.status, 416, "{place}");
            let told = format!("bytes */{}", content.len());
            assert_eq!(none.header("content-range"), Some(told.as_str()), "{place}");
        }
    }
}

#[test]
fn a_part_of_one_variant_is_not_joined_to_another() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        let target = format!("/{name}");
        let plain = client.get(&target).etag().to_owned();
        let condition = format!("If-Range: {plain}");
        let fields = ["Accept-Encoding: br", "Range: bytes=5-9", &condition];
        let response = client.get_with(&target, &fields);
        assert_eq!(response.status, 200, "{name}");
        check(&response, "br", size, name);
    }
}

#[test]
fn a_variant_older_than_its_file_is_not_used() {
    let tree = variants();
    let now = SystemTime::now();
    for (name, _) in SIZES {
        tree.modified(name, now);
        tree.modified(&format!("{name}.br"), now - Duration::from_secs(10));
        tree.modified(&format!("{name}.zst"), now - Duration::from_micros(1));
        tree.modified(&format!("{name}.gz"), now);
    }
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        for (accepted, coding) in [("br", ""), ("zstd", ""), ("br, zstd, gzip", "gzip")] {
            let accept = accept(accepted);
            let response = client.get_with(&format!("/{name}"), &[&accept]);
            check(&response, coding, size, &format!("{name} {accepted}"));
        }
    }
}

#[test]
fn nothing_but_a_regular_file_beneath_the_root_is_a_variant() {
    let tree = Tree::new();
    let names = ["directory", "fifo", "dangling", "outside", "absolute"];
    for name in names {
        tree.write_at(name, name.as_bytes(), 1_000_000_000);
    }
    fs::create_dir(tree.path("directory.br")).unwrap();
    mknodat(
        CWD,
        tree.path("fifo.br"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    tree.link("dangling.br", "nothing");
    tree.link("outside.br", "../secret");
    tree.link("absolute.br", "/etc/passwd");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for name in names {
        let response = client.get_with(&format!("/{name}"), &["Accept-Encoding: br"]);
        assert_eq!(response.status, 200, "{name}");
        assert!(!response.has("content-encoding"), "{name}: {response:?}");
        assert_eq!(response.body, name.as_bytes());
    }
}

#[test]
fn a_variant_that_may_not_be_read_is_not_used() {
    let tree = variants();
    for extension in ["br", "zst"] {
        for (name, _) in SIZES {
            let path = tree.path(&format!("{name}.{extension}"));
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
    }
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    for (name, size) in SIZES {
        for (accepted, coding) in [("br", ""), ("br, zstd, gzip", "gzip")] {
            let response = server.get_with(&format!("/{name}"), &[&accept(accepted)]);
            assert_eq!(response.status, 200, "{name} {accepted}");
            check(&response, coding, size, &format!("{name} {accepted}"));
        }
    }
}

#[test]
fn a_file_without_variants_does_not_vary() {
    let tree = Tree::with("file.js", b"content");
    let server = Server::serve(&tree);
    for accepted in ["", "br, gzip", "*"] {
        let response = server.get_with("/file.js", &[&accept(accepted)]);
        assert_eq!(response.body, b"content");
        assert!(!response.has("vary"), "{response:?}");
        assert!(!response.has("content-encoding"), "{response:?}");
    }
}

#[test]
fn a_variant_without_its_file_is_nothing() {
    let tree = Tree::with("only.js.br", b"compressed");
    let server = Server::serve(&tree);
    assert_eq!(
        server.get_with("/only.js", &["Accept-Encoding: br"]).status,
        404
    );
}

#[test]
fn a_variant_asked_for_by_name_is_a_file() {
    let tree = variants();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for (name, size) in SIZES {
        for (_, extension, seed) in CODINGS {
            let target = format!("/{name}{extension}");
            let response = client.get_with(&target, &["Accept-Encoding: identity"]);
            assert!(!response.has("content-encoding"), "{target}: {response:?}");
            assert!(
                response.body == noise(size + seed as usize, seed),
                "{target}"
            );
        }
    }
}

#[test]
fn an_index_has_variants() {
    let tree = Tree::new();
    tree.write("docs/index.html", b"plain");
    tree.write("docs/index.html.gz", b"compressed");
    let server = Server::serve(&tree);
    let response = server.get_with("/docs/", &["Accept-Encoding: gzip"]);
    assert_eq!(response.body, b"compressed");
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(server.get("/docs/").body, b"plain");
}

#[test]
fn the_order_of_the_codings_can_be_set() {
    let tree = variants();
    for (site, accepted, coding) in [
        (
            "precompressed = [\"gzip\", \"zstd\", \"br\"]",
            "br, zstd, gzip",
            "gzip",
        ),
        (
            "precompressed = [\"gzip\", \"zstd\", \"br\"]",
            "br, zstd;q=0.9",
            "br",
        ),
        ("precompressed = [\"zstd\"]", "br, gzip, zstd", "zstd"),
        ("precompressed = [\"zstd\"]", "br, gzip", ""),
    ] {
        let server = Launch::run(&tree, "", site).start();
        let response = server.get_with("/small.js", &[&accept(accepted)]);
        check(&response, coding, 1000, &format!("{site} {accepted}"));
    }
    let server = Launch::run(&tree, "", "precompressed = []").start();
    let response = server.get_with("/small.js", &[&accept("br, zstd, gzip")]);
    assert!(
        !response.has("vary") && !response.has("content-encoding"),
        "{response:?}"
    );
    assert!(response.body == noise(1001, 1));
}

#[test]
fn variants_are_found_whatever_was_asked_for_first() {
    let tree = variants();
    for first in ["", "br", "gzip", "identity;q=0", "nonsense"] {
        let server = Server::serve(&tree);
        let mut client = server.connect();
        client.get_with("/small.js", &[&accept(first)]);
        for (coding, ..) in CODINGS.into_iter().chain(CODINGS) {
            let response = get_coded(&mut client, coding);
            check(
                &response,
                coding,
                1000,
                &format!("{first:?}, then {coding:?}"),
            );
        }
    }
}

fn get_coded(client: &mut Client, coding: &str) -> Response {
    client.get_with("/small.js", &[&accept(coding)])
}

/// The tree with the files of [`SIZES`] in all [`CODINGS`]. A variant's length tells it apart, too.
fn variants() -> Tree {
    let tree = Tree::new();
    for (name, size) in SIZES {
        for (_, extension, seed) in CODINGS {
            tree.write(
                &format!("{name}{extension}"),
                &noise(size + seed as usize, seed),
            );
        }
    }
    tree
}

fn accept(codings: &str) -> String {
    format!("Accept-Encoding: {codings}")
}

/// Checks that `response` is the variant with `coding` of the file of about `size` bytes.
#[track_caller]
fn check(response: &Response, coding: &str, size: usize, place: &str) {
    assert_eq!(
        response.header("content-encoding").unwrap_or(""),
        coding,
        "{place}"
    );
    assert_eq!(
        response.header("content-type"),
        Some("text/javascript; charset=utf-8"),
        "{place}"
    );
    assert_eq!(response.list("vary"), ["accept-encoding"], "{place}");
    let (_, _, seed) = CODINGS
        .into_iter()
        .find(|(name, ..)| *name == coding)
        .expect("a coding");
    assert!(
        response.body == noise(size + seed as usize, seed),
        "{place}"
    );
}
