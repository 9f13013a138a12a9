//! A new configuration, or a new process, under connections that go on.

use std::path::Path;

use crate::reload::{APPLIED, hup};
use crate::support::http2::{ALL, Http2, INITIAL_WINDOW, code};
use crate::support::{Authority, Launch, Tree, noise};
use crate::upgrade::upgrade;

/// More than the sockets between server and client hold.
const LENGTH: usize = 24 << 20;

fn tree() -> Tree {
    let tree = Tree::with("small", b"small");
    tree.write("large", &noise(LENGTH, 1));
    tree
}

/// Asks for the large file, and reads some of it.
#[track_caller]
fn begin_large(client: &mut Http2) -> u32 {
    let stream = client.request("GET", "/large", &[]);
    client.read_beyond(stream, 1 << 20);
    stream
}

#[test]
fn streams_go_on_across_a_reload() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let mut blocked = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 100)]);
    blocked.grants = false;
    let waiting = blocked.request("GET", "/large", &[]);
    blocked.read_beyond(waiting, 99);
    let stream = begin_large(&mut client);
    let other = tree.base().join("other");
    std::fs::create_dir(&other).expect("a directory");
    std::fs::write(other.join("small"), "other").expect("a file");
    write_config(&tree, &other);
    hup(&server, APPLIED);
    // The next request has the new configuration, while the others have the old one.
    assert_eq!(client.get("/small").body, b"other");
    assert_eq!(client.get("/large").status, 404);
    assert!(client.response(stream).body == noise(LENGTH, 1));
    blocked.grants = true;
    blocked.grant(waiting, 16 << 20);
    assert!(blocked.response(waiting).body == noise(LENGTH, 1));
    assert!(client.goaways.is_empty() && blocked.goaways.is_empty());
    server.stop();
}

/// Writes the configuration of [`Launch::http2`] for another root.
fn write_config(tree: &Tree, root: &Path) {
    let site = format!("[[site]]\nroot = \"{}\"\n", root.display());
    let protocols = "protocols = [\"h2\", \"http/1.1\"]";
    drop(Launch::run_sites(tree, "", &format!("{protocols}\n{site}")));
}

#[test]
fn streams_finish_while_a_new_process_serves() {
    let tree = tree();
    // Idle connections would be ended behind that time.
    let config = "graceful-timeout = \"1h\"\n[timeouts]\nkeep-alive = \"1h\"";
    let mut server = Launch::http2(&tree, config, "").start();
    let [mut client, mut busy, mut idle] = [(); 3].map(|()| Http2::connect(server.address));
    assert_eq!(idle.get("/small").body, b"small");
    let streams = [&mut client, &mut busy].map(begin_large);
    let mut blocked = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 100)]);
    blocked.grants = false;
    let waiting = blocked.request("GET", "/large", &[]);
    blocked.read_beyond(waiting, 99);
    blocked.settle();
    let successor = upgrade(&server);
    assert_eq!(Http2::connect(server.address).get("/small").body, b"small");
    // A request that was sent before the client knew is answered.
    let late = busy.request("GET", "/small", &[]);
    assert_eq!(busy.response(late).body, b"small");
    ends_with(&mut busy, streams[1], late);
    // Nothing but the new process tells these.
    ends_with(&mut client, streams[0], streams[0]);
    while blocked.goaways.is_empty() {
        blocked.frame().expect("a frame");
    }
    blocked.grants = true;
    blocked.grant(waiting, 16 << 20);
    ends_with(&mut blocked, waiting, waiting);
    idle.ends();
    assert_eq!(idle.goaways, [(ALL, code::NO_ERROR), (1, code::NO_ERROR)]);
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    assert_eq!(Http2::connect(server.address).get("/small").body, b"small");
    successor.stop();
}

/// Checks that the large file arrives on `stream`, and that the connection ends in order behind it
/// with `last`.
#[track_caller]
fn ends_with(client: &mut Http2, stream: u32, last: u32) {
    assert!(client.response(stream).body == noise(LENGTH, 1));
    client.ends();
    assert_eq!(
        client.goaways,
        [(ALL, code::NO_ERROR), (last, code::NO_ERROR)]
    );
}

#[test]
fn a_new_process_speaks_http2_with_tls() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let sites = format!(
        "tls = true\n{}\n[[site]]\nroot = \"{}\"\n",
        files.entry(),
        tree.root().display()
    );
    let mut server = Launch::run_sites(&tree, "", &sites).start();
    let config = authority.client();
    let mut client = Http2::secure(server.address, &config);
    let stream = begin_large(&mut client);
    let successor = upgrade(&server);
    let mut new = Http2::secure(server.address, &config);
    assert_eq!(new.get("/small").body, b"small");
    ends_with(&mut client, stream, stream);
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    assert!(new.get("/large").body == noise(LENGTH, 1));
    assert!(new.goaways.is_empty());
    successor.stop();
}
