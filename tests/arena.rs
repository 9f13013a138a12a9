//! The entry for the public benchmark, `arena/`: its configuration as it is there, asked as the
//! benchmark asks.

use std::fs;

use crate::support::http2::Http2;
use crate::support::{Authority, Launch, Response, Server, Tree, noise};

const CONFIG: &str = include_str!("../arena/tidegate.toml");
const ACCEPT: &str = "br;q=1, gzip;q=0.8";

/// Files, their bytes, what their variants end in, and the type that is expected.
const FILES: [(&str, usize, &[&str], &str); 4] = [
    ("reset.css", 8_000, &["br", "gz"], "text/css"),
    ("vendor.js", 300_000, &["br", "gz"], "text/javascript"),
    ("manifest.json", 3_000, &["gz"], "application/json"),
    ("hero.webp", 40_000, &[], "image/webp"),
];

fn tree() -> Tree {
    let tree = Tree::new();
    for (name, bytes, variants, _) in FILES {
        tree.write(&format!("static/{name}"), &noise(bytes, 1));
        for variant in variants {
            tree.write(&format!("static/{name}.{variant}"), &noise(bytes / 4, 2));
        }
    }
    tree
}

/// The entry on one core and free ports, with the tree and a certificate in place of what is
/// mounted there.
fn start(tree: &Tree, authority: &Authority) -> Server {
    let files = authority.issue("server", &["localhost"]);
    let config = CONFIG
        .replace("/data", &tree.root().display().to_string())
        .replace("/certs/server.crt", &files.cert.display().to_string())
        .replace("/certs/server.key", &files.key.display().to_string())
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("0.0.0.0:8443", "127.0.0.1:0");
    let path = tree.base().join("arena.toml");
    fs::write(&path, format!("[server]\ncores = 1\n{config}")).expect("a configuration");
    Launch::with(["run", "--config"]).argument(path).start()
}

/// Every file, as it is and as it is asked for there, by a function of the path and Accept-Encoding.
fn check(tree: &Tree, mut ask: impl FnMut(&str, Option<&str>) -> Response) {
    for (name, _, variants, kind) in FILES {
        let path = format!("/static/{name}");
        is_file(tree, &ask(&path, None), name, kind, None);
        let variant = variants.first().copied();
        is_file(tree, &ask(&path, Some(ACCEPT)), name, kind, variant);
    }
    assert_eq!(ask("/static/nonexistent.txt", None).status, 404);
}

fn is_file(tree: &Tree, response: &Response, name: &str, kind: &str, variant: Option<&str>) {
    let (coding, file) = match variant {
        None => (None, format!("static/{name}")),
        Some("gz") => (Some("gzip"), format!("static/{name}.gz")),
        Some(other) => (Some(other), format!("static/{name}.{other}")),
    };
    assert_eq!(response.status, 200, "{name}");
    assert_eq!(response.header("content-encoding"), coding, "{name}");
    let expected = fs::read(tree.path(&file)).expect("a file");
    assert!(response.body == expected, "{name}: not the bytes of {file}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert_eq!(content_type.split(';').next(), Some(kind), "{name}");
}

#[test]
fn its_configuration_serves_the_files_of_both_profiles() {
    let (tree, authority) = (tree(), Authority::new());
    let server = start(&tree, &authority);
    check(&tree, |path, coding| {
        let field = coding.map(|coding| format!("Accept-Encoding: {coding}"));
        server.get_with(path, field.as_deref().as_slice())
    });
    let mut client = Http2::secure(server.next_address(), &authority.client());
    check(&tree, |path, coding| {
        let field = coding.map(|coding| ("accept-encoding", coding));
        client.ask("GET", path, field.as_slice())
    });
}

/// The rule for production: a file is read from the disk for every request.
#[test]
fn it_keeps_no_file_in_memory() {
    assert!(CONFIG.contains("\n[io]\n"));
    assert!(CONFIG.contains("\ninline-max = \"0\"\n"));
}

/// What is read of an entry. The benchmark's validation allows `io_uring` to this engine alone.
#[test]
fn it_has_what_an_entry_needs() {
    const META: &str = include_str!("../arena/meta.json");
    assert!(META.contains(r#""engine": "io_uring","#));
    assert!(META.contains(r#""tests": ["static", "static-h2"],"#));
}
