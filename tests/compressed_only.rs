//! Files of which only precompressed variants are there: `compressed-only` (RFC 9110, sections 8.4
//! and 12.5.3).

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::support::{
    Authority, Client, Ending, Launch, Response, Server, Tree, WATCHDOG, get, installed, noise,
    request_with,
};

const DECOMPRESS: &str = "compressed-only = \"decompress\"\n";
const REFUSE: &str = "compressed-only = \"refuse\"\n";

/// Accept-Encoding, and what the name ends in.
const CODINGS: [(&str, &str); 3] = [("br", "br"), ("zstd", "zst"), ("gzip", "gz")];

/// Bytes that are decompressed in memory, and as they are sent. What they are is in the name.
const SIZES: [(&str, usize); 2] = [("small.js", 2000), ("large.js", 400_000)];

/// Something that compresses well.
fn text(bytes: usize) -> Vec<u8> {
    let lines = (0_u32..).map(|n| format!("{n:x}: {:x}\n", n.wrapping_mul(2_654_435_761)));
    lines.flat_map(String::into_bytes).take(bytes).collect()
}

/// `content`, encoded as files with `extension` are.
fn compressed(extension: &str, content: &[u8]) -> Vec<u8> {
    let tree = Tree::with("a.txt", content);
    let (coding, _) = CODINGS.iter().find(|(_, end)| *end == extension).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("compress")
        .arg(tree.root())
        .args(["--level", "fast", "--codings", coding])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read(tree.path(&format!("a.txt.{extension}"))).unwrap()
}

/// Files of [`SIZES`] in one coding each: `br/small.js.br`.
fn tree() -> Tree {
    let tree = Tree::new();
    for (_, extension) in CODINGS {
        for (name, size) in SIZES {
            let path = format!("{extension}/{name}.{extension}");
            tree.write(&path, &compressed(extension, &text(size)));
        }
    }
    tree
}

/// The paths of [`tree`], with the coding, the extension and the size of each.
fn paths() -> impl Iterator<Item = (String, &'static str, &'static str, usize)> {
    CODINGS.into_iter().flat_map(|(coding, extension)| {
        SIZES.map(|(name, size)| (format!("/{extension}/{name}"), coding, extension, size))
    })
}

#[test]
fn who_takes_the_coding_gets_the_file() {
    let tree = tree();
    for site in [DECOMPRESS, REFUSE] {
        let server = Launch::run(&tree, "", site).start();
        let mut client = server.connect();
        for (path, coding, extension, _) in paths() {
            let accept = format!("Accept-Encoding: {coding}, identity;q=0.5");
            let response = client.get_with(&path, &[&accept]);
            let place = format!("{site} {path}");
            assert_eq!(response.status, 200, "{place}");
            assert_eq!(response.header("content-encoding"), Some(coding), "{place}");
            check_type_and_vary(&response, &place);
            let file = fs::read(tree.path(&format!("{path}.{extension}")[1..])).unwrap();
            assert!(response.body == file, "{place}");
            let head = client.ask("HEAD", &path, &[&accept]);
            assert_eq!(head.steady_headers(), response.steady_headers(), "{place}");
            let part = client.get_with(&path, &[&accept, "Range: bytes=10-19"]);
            assert_eq!(
                (part.status, &part.body[..]),
                (206, &file[10..20]),
                "{place}"
            );
            let known = format!("If-None-Match: {}", response.etag());
            assert_eq!(
                client.get_with(&path, &[&accept, &known]).status,
                304,
                "{place}"
            );
        }
    }
}

#[test]
fn others_get_it_decompressed() {
    let tree = tree();
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let mut client = server.connect();
    for (path, coding, _, size) in paths() {
        for accept in [
            "",
            "identity",
            "deflate",
            "*;q=0",
            "gzip;q=0.1, br;q=0.1, zstd;q=0.1, identity",
        ] {
            let accept = format!("Accept-Encoding: {accept}");
            let place = format!("{path} {accept}");
            let response = client.get_with(&path, &[&accept]);
            assert_eq!(response.status, 200, "{place}");
            assert!(!response.has("content-encoding"), "{place}: {response:?}");
            check_type_and_vary(&response, &place);
            assert!(response.body == text(size), "{place}");
            let head = client.ask("HEAD", &path, &[&accept]);
            assert_eq!(head.steady_headers(), response.steady_headers(), "{place}");
        }
        let plain = client.get(&path).etag().to_owned();
        let coded = client.get_with(&path, &[&format!("Accept-Encoding: {coding}")]);
        assert_ne!(coded.etag(), plain, "RFC 9110, 8.8.3.3");
        conditions(&mut client, &path, &plain, coded.etag());
    }
    server.stop();
}

/// Conditional requests for a decompressed file with the entity tag `plain`.
fn conditions(client: &mut Client, path: &str, plain: &str, coded: &str) {
    for (field, tag, status) in [
        ("If-None-Match", plain, 304),
        ("If-None-Match", coded, 200),
        ("If-None-Match", "*", 304),
        ("If-Match", plain, 200),
        ("If-Match", coded, 412),
    ] {
        let place = format!("{path} {field}: {tag}");
        for method in ["GET", "HEAD"] {
            let response = client.ask(method, path, &[&format!("{field}: {tag}")]);
            assert_eq!(response.status, status, "{place}");
            assert_eq!(response.list("vary"), ["accept-encoding"], "{place}");
            if status == 304 {
                assert_eq!(response.etag(), plain, "{place}");
            }
            if (method, status) == ("HEAD", 412) {
                // Its length tells of a body that is not there.
                return;
            }
        }
    }
}

/// RFC 9110, section 14.2: a range may be ignored. What is not known before it is sent has none.
#[test]
fn ranges_are_of_what_is_decompressed_in_memory() {
    let tree = tree();
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let mut client = server.connect();
    for (path, _, _, size) in paths() {
        let is_small = path.ends_with("small.js");
        let whole = client.get(&path);
        let length = is_small.then(|| size.to_string());
        assert_eq!(whole.header("content-length"), length.as_deref(), "{path}");
        let ranges = is_small.then_some("bytes");
        assert_eq!(whole.header("accept-ranges"), ranges, "{path}");
        let condition = format!("If-Range: {}", whole.etag());
        for fields in [&["Range: bytes=5-9"][..], &["Range: bytes=5-9", &condition]] {
            let part = client.get_with(&path, fields);
            if is_small {
                assert_eq!(
                    (part.status, &part.body[..]),
                    (206, &text(10)[5..]),
                    "{path}"
                );
            } else {
                assert_eq!(part.status, 200, "{path}");
                assert!(part.body == text(size), "{path}");
            }
        }
    }
}

#[test]
fn others_are_refused() {
    let tree = tree();
    let server = Launch::run(&tree, "", REFUSE).start();
    let mut client = server.connect();
    for (path, coding, _, _) in paths() {
        for fields in [
            &[][..],
            &["Accept-Encoding: identity, deflate"],
            &["If-None-Match: *"],
        ] {
            let response = client.get_with(&path, fields);
            assert_eq!(response.status, 406, "{path} {fields:?}");
            assert_eq!(response.list("vary"), ["accept-encoding"], "{path}");
        }
        // A coding that is liked less than none is liked better than nothing.
        let accept = format!("Accept-Encoding: {coding};q=0.1, identity");
        let response = client.get_with(&path, &[&accept]);
        assert_eq!(response.header("content-encoding"), Some(coding), "{path}");
    }
}

#[test]
fn a_refusal_can_have_a_page() {
    let tree = tree();
    tree.write("406.html", b"update your client");
    let site = format!("{REFUSE}error-pages = {{ 406 = \"/406.html\" }}");
    let server = Launch::run(&tree, "", &site).start();
    let response = server.get("/br/small.js");
    assert_eq!(
        (response.status, response.text()),
        (406, "update your client")
    );
}

#[test]
fn by_default_it_is_not_there() {
    let tree = tree();
    for site in [
        "",
        "compressed-only = \"off\"",
        "compressed-only = \"decompress\"\nprecompressed = []",
    ] {
        let server = Launch::run(&tree, "", site).start();
        let mut client = server.connect();
        for (path, coding, _, _) in paths() {
            for accept in ["", coding, "*"] {
                let response = client.get_with(&path, &[&format!("Accept-Encoding: {accept}")]);
                assert_eq!(response.status, 404, "{site} {path} {accept}");
            }
        }
    }
    let site = "compressed-only = \"decompress\"\nprecompressed = [\"gzip\"]";
    let server = Launch::run(&tree, "", site).start();
    assert_eq!(server.get("/br/small.js").status, 404);
    assert_eq!(server.get("/gz/small.js").status, 200);
}

#[test]
fn it_stands_in_wherever_a_file_would() {
    let tree = Tree::new();
    let page = |name: &str| format!("<p>{name}").repeat(50).into_bytes();
    for name in ["docs/index.html", "about.html", "app.html", "404.html"] {
        tree.write(&format!("{name}.gz"), &compressed("gz", &page(name)));
    }
    fs::create_dir(tree.path("pictures")).unwrap();
    tree.write("pictures.gz", &compressed("gz", &page("pictures")));
    let site = format!(
        "{DECOMPRESS}try-files = [\"$path\", \"$path.html\", \"$path/\"]\n\
         spa-fallback = \"/app.html\"\nerror-pages = {{ 404 = \"/404.html\" }}"
    );
    let server = Launch::run(&tree, "", &site).start();
    let mut client = server.connect();
    for accept in ["Accept-Encoding: identity", "Accept-Encoding: gzip"] {
        for (path, status, name) in [
            ("/docs/", 200, "docs/index.html"),
            ("/docs/index.html", 200, "docs/index.html"),
            ("/about", 200, "about.html"),
            ("/users/42", 200, "app.html"),
            ("/none.js", 404, "404.html"),
            // A directory is there: it is not what is missing.
            ("/pictures", 404, "404.html"),
        ] {
            let mut fields = vec![accept];
            if status == 404 {
                fields.push("Accept: image/png");
            }
            let response = client.get_with(path, &fields);
            let place = format!("{path} {accept}");
            assert_eq!(response.status, status, "{place}");
            let html = Some("text/html; charset=utf-8");
            assert_eq!(response.header("content-type"), html, "{place}");
            let is_coded = response.header("content-encoding") == Some("gzip");
            assert_eq!(is_coded, accept.ends_with("gzip"), "{place}");
            let body = if is_coded {
                compressed("gz", &page(name))
            } else {
                page(name)
            };
            assert!(response.body == body, "{place}: {response:?}");
        }
    }
    let moved = client.get("/docs");
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/docs/"))
    );
}

#[test]
fn what_appears_and_disappears_beside_it_shows() {
    let tree = Tree::new();
    // What was known before is not good for a moment, however busy the machine is.
    let cache = "[cache]\nvalid = \"0s\"\nstale = \"0s\"";
    let server = Launch::run(&tree, cache, DECOMPRESS).start();
    let mut client = server.connect();
    let mut asked = |accept: &str| {
        let response = client.get_with("/app.js", &[&format!("Accept-Encoding: {accept}")]);
        let coding = response.header("content-encoding").unwrap_or("").to_owned();
        (response.status, coding, response.body)
    };
    let plain = text(1000);
    let found = |coding: &str, body: &[u8]| (200, coding.to_owned(), body.to_vec());
    assert_eq!(asked("").0, 404);
    let gzip = compressed("gz", &plain);
    tree.write("app.js.gz", &gzip);
    assert_eq!(asked(""), found("", &plain));
    assert_eq!(asked("gzip"), found("gzip", &gzip));
    tree.write("app.js", b"itself");
    assert_eq!(asked(""), found("", b"itself"));
    fs::remove_file(tree.path("app.js")).unwrap();
    assert_eq!(asked(""), found("", &plain));
    let changed = text(3000);
    tree.write("app.js.gz", &compressed("gz", &changed));
    assert_eq!(asked(""), found("", &changed));
    let zstd = compressed("zst", &changed);
    tree.write("app.js.zst", &zstd);
    assert_eq!(asked("zstd, gzip"), found("zstd", &zstd));
    for extension in ["gz", "zst"] {
        fs::remove_file(tree.path(&format!("app.js.{extension}"))).unwrap();
    }
    assert_eq!(asked("gzip").0, 404);
}

#[test]
fn to_http_1_0_the_end_is_told_by_closing() {
    let tree = tree();
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    for (path, _, _, size) in paths() {
        let mut client = server.connect();
        client.send(format!(
            "GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        ));
        let head = client.head();
        assert!(!head.has("transfer-encoding"), "{head:?}");
        if path.ends_with("large.js") {
            assert!(head.closes() && !head.has("content-length"), "{head:?}");
            assert!(client.rest() == text(size), "{path}");
        } else {
            assert!(client.body(head.content_length()) == text(size), "{path}");
        }
    }
}

#[test]
fn requests_in_one_piece_are_answered_in_order() {
    let tree = tree();
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let mut client = server.connect();
    let all: Vec<_> = paths().collect();
    let requests: Vec<_> = all.iter().map(|(path, ..)| get(path)).collect();
    client.send(requests.concat());
    for (path, _, _, size) in &all {
        assert!(client.response().body == text(*size), "{path}");
    }
    let accepted = ["Accept-Encoding: br"];
    client.send(
        [
            get("/gz/large.js"),
            request_with("GET", "/br/large.js", &accepted),
        ]
        .concat(),
    );
    assert!(client.response().body == text(400_000));
    assert_eq!(client.response().header("content-encoding"), Some("br"));
}

/// Members of gzip and frames of zstd may follow each other, so that of a large file is made fast.
#[test]
fn a_large_file_is_sent_with_little_memory() {
    const TIMES: usize = 16;
    let tree = Tree::new();
    let part = text(1 << 20);
    for extension in ["gz", "zst"] {
        let member = compressed(extension, &part);
        tree.write(
            &format!("{extension}/a.txt.{extension}"),
            &member.repeat(TIMES),
        );
    }
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let mut client = server.connect();
    client.get("/gz/none");
    let before = server.memory_peak_kib();
    for path in ["/gz/a.txt", "/zst/a.txt"] {
        let body = client.get(path).body;
        assert_eq!(body.len(), TIMES * part.len(), "{path}");
        assert!(body.chunks(part.len()).all(|chunk| chunk == part), "{path}");
    }
    let taken = server.memory_peak_kib() - before;
    assert!(
        taken < 14 << 10,
        "{taken} KiB: a window of 8 MiB and some pieces"
    );
}

#[test]
fn a_bomb_and_clients_that_vanish_or_stall_hurt_nobody() {
    let tree = tree();
    // 64 GiB.
    let zeros = compressed("zst", &vec![0; 1 << 20]);
    tree.write("bomb.bin.zst", &zeros.repeat(64 << 10));
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let before = server.sockets();
    // More than there is memory for at a time.
    let stalled: Vec<_> = (0..12)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address);
            client.send(get("/bomb.bin"));
            assert_eq!(client.head().status, 200);
            client
        })
        .collect();
    for (path, _, _, size) in paths() {
        assert!(server.get(&path).body == text(size), "{path}");
    }
    let peak = server.memory_peak_kib();
    assert!(peak < 200 << 10, "{peak} KiB");
    for client in stalled {
        client.reset();
    }
    server.wait_for_sockets(before);
    for (path, _, _, size) in paths() {
        assert!(server.get(&path).body == text(size), "{path}");
    }
    server.stop();
}

/// A core that waits for an eventfd on its ring may sleep through the requests of others, for up to a
/// quarter of a second (`Ring::read`).
#[test]
fn no_core_waits_for_an_eventfd_of_a_thread() {
    const EVENTFD: &str = "anon_inode:[eventfd]";
    let tree = Tree::new();
    tree.write("a.txt.zst", &compressed("zst", &text(1 << 20)).repeat(8));
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let before = server.open_files(EVENTFD);
    assert!(before > 0, "those that the rings signal");
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/a.txt"));
    assert_eq!(client.head().status, 200);
    assert_eq!(server.open_files(EVENTFD), before);
}

/// Those that are stalled have their decoders taken; once they go on, their bodies do too.
#[test]
fn a_client_that_stalls_gets_the_rest_later() {
    const STALLED: usize = 9;
    let tree = Tree::new();
    let part = text(1 << 20);
    tree.write("a.txt.zst", &compressed("zst", &part).repeat(6));
    // On a busy machine it takes a while until those before have stalled for long enough.
    let server = Launch::run(&tree, "[timeouts]\nlookup = \"1m\"", DECOMPRESS).start();
    let mut stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address);
            client.send(get("/a.txt"));
            assert_eq!(client.head().status, 200);
            client
        })
        .collect();
    for client in &mut stalled {
        let body = client.chunked_body();
        assert_eq!(body.len(), 6 * part.len());
        assert!(body.chunks(part.len()).all(|chunk| chunk == part));
    }
}

#[test]
fn what_is_corrupt_is_no_whole_answer() {
    let tree = Tree::new();
    for (_, extension) in CODINGS {
        let sound = compressed(extension, &text(400_000));
        let cut = &sound[..sound.len() - 5];
        tree.write(&format!("{extension}/cut.txt.{extension}"), cut);
        let mut changed = sound.clone();
        changed[sound.len() / 2..].fill(0x55);
        tree.write(&format!("{extension}/changed.txt.{extension}"), &changed);
        tree.write(
            &format!("{extension}/noise.txt.{extension}"),
            &noise(50_000, 1),
        );
        tree.write(
            &format!("{extension}/short.txt.{extension}"),
            b"\xff\xff\xff",
        );
    }
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    for (coding, extension) in CODINGS {
        for name in ["cut", "changed"] {
            let path = format!("/{extension}/{name}.txt");
            let mut client = server.connect();
            client.send(get(&path));
            assert_eq!(client.head().status, 200, "{path}");
            let body = client.rest();
            assert!(!body.ends_with(b"\r\n0\r\n\r\n"), "{path}: a last chunk");
            assert!(
                reset_after(&server, &path),
                "{path}: no clean end of HTTP/1.0"
            );
        }
        // Where nothing comes out at all, that is said.
        for name in ["noise", "short"] {
            // Brotli makes something of almost anything.
            if (extension, name) == ("br", "noise") {
                continue;
            }
            let path = format!("/{extension}/{name}.txt");
            let mut client = server.connect();
            assert_eq!(client.get(&path).status, 500, "{path}");
            let accept = format!("Accept-Encoding: {coding}");
            assert_eq!(client.get_with(&path, &[&accept]).status, 200, "{path}");
        }
    }
    assert_eq!(server.get("/none").status, 404);
}

/// Whether the body of `path` to a client of HTTP/1.0 ends with a reset.
fn reset_after(server: &Server, path: &str) -> bool {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .unwrap();
    let mut body = Vec::new();
    let end = stream.read_to_end(&mut body);
    end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn an_empty_file_is_empty() {
    let tree = Tree::new();
    for (_, extension) in CODINGS {
        tree.write(&format!("{extension}.txt.{extension}"), b"");
    }
    tree.write(
        "none.txt.gz",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0",
    );
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    let mut client = server.connect();
    for path in ["/br.txt", "/zst.txt", "/gz.txt", "/none.txt"] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.content_length()),
            (200, 0),
            "{path}"
        );
    }
}

#[test]
fn it_is_sent_over_tls_as_well() {
    let tree = tree();
    let sound = compressed("gz", &text(400_000));
    tree.write("cut.txt.gz", &sound[..sound.len() - 5]);
    let authority = Authority::new();
    let certificate = authority.issue("server", &["localhost"]);
    for ktls in ["auto", "off"] {
        let sites = format!(
            "tls = true\n[tls]\nktls = \"{ktls}\"\n{}\n[[site]]\nroot = \"{}\"\n{DECOMPRESS}",
            certificate.entry(),
            tree.root().display()
        );
        let server = Launch::run_sites(&tree, "", &sites).start();
        let connect = || Client::secure(server.address, &authority.client());
        let mut client = connect();
        for (path, _, _, size) in paths() {
            assert!(client.get(&path).body == text(size), "{ktls} {path}");
        }
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let mut client = connect();
            client.send(format!("GET /cut.txt {version}\r\nHost: a\r\n\r\n"));
            assert_eq!(client.head().status, 200);
            assert_ne!(client.ending(), Ending::CloseNotify, "{ktls} {version}");
        }
    }
}

#[test]
fn curl_takes_every_coding_that_it_knows() {
    if !installed("curl") {
        return;
    }
    let tree = tree();
    let server = Launch::run(&tree, "", DECOMPRESS).start();
    for (path, _, _, size) in paths() {
        for arguments in [&["--compressed"][..], &[], &["--http1.0"]] {
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
                .args(arguments)
                .arg(format!("http://{}{path}", server.address))
                .output()
                .expect("curl");
            assert!(output.status.success(), "{path} {arguments:?}: {output:?}");
            assert!(output.stdout == text(size), "{path} {arguments:?}");
        }
    }
}

/// Checks what both representations say.
#[track_caller]
fn check_type_and_vary(response: &Response, place: &str) {
    let script = Some("text/javascript; charset=utf-8");
    assert_eq!(response.header("content-type"), script, "{place}");
    assert_eq!(response.list("vary"), ["accept-encoding"], "{place}");
}
