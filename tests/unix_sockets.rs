//! Unix sockets as listeners: one file for all cores, which is there for as long as the server is.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::Signal;

use crate::support::http2::{Http2, INITIAL_WINDOW};
use crate::support::{
    Authority, Client, Launch, Server, Tree, eventually, get, is_root, noise, secure, two_cores,
};
use crate::upgrade::upgrade;

/// Bytes of a file that no socket takes at once.
const LARGE: usize = 16 << 20;

fn tree() -> Tree {
    let tree = Tree::with("small", b"content");
    tree.write("large", &content());
    tree
}

/// The content of the large file.
fn content() -> Vec<u8> {
    noise(LARGE, 1)
}

fn socket(tree: &Tree) -> PathBuf {
    tree.base().join("socket")
}

/// A server with a Unix socket beside its usual address: `config` starts in the `[server]` table,
/// `keys` are those of the socket.
fn launch_with(tree: &Tree, config: &str, keys: &str) -> Launch {
    let (path, root) = (socket(tree), tree.root());
    let (path, root) = (path.display(), root.display());
    let listen = format!("[[listen]]\naddress = \"unix:{path}\"\n{keys}\n");
    let site = format!("[[site]]\nroot = \"{root}\"");
    Launch::run_sites(tree, config, &format!("{listen}{site}"))
}

fn launch(tree: &Tree, keys: &str) -> Launch {
    launch_with(tree, "", keys)
}

/// Starts it. Returns it with the path that it says it listens on.
#[track_caller]
fn start(launch: Launch) -> (Server, PathBuf) {
    let server = launch.start();
    let line = server.next_line();
    let path = line.strip_prefix("listening on unix:").expect("a path");
    let path = path.strip_suffix(" (TLS)").unwrap_or(path).into();
    (server, path)
}

#[track_caller]
fn refused(launch: Launch, words: &[&str]) {
    launch.output().refusal(1, words);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a socket").mode() & 0o777
}

#[test]
fn it_serves_as_any_other_address() {
    let tree = tree();
    let (server, path) = start(launch(&tree, ""));
    let kind = fs::symlink_metadata(&path).expect("a file").file_type();
    assert!(kind.is_socket());
    assert_eq!(mode(&path), 0o660);
    let mut client = Client::connect_unix(&path);
    let tag = client.get("/small").etag().to_owned();
    let unchanged = client.get_with("/small", &[&format!("If-None-Match: {tag}")]);
    assert_eq!(unchanged.status, 304);
    let range = client.get_with("/large", &["Range: bytes=-3"]);
    assert_eq!(range.body, content()[LARGE - 3..]);
    assert!(client.get("/large").body == content());
    assert_eq!(client.get("/none").status, 404);
    assert_eq!(server.get("/small").text(), "content");
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response().status, 400);
    client.ends();
    server.stop();
    assert!(!path.exists(), "it is removed");
}

#[test]
fn many_clients_share_it_on_all_cores() {
    let Some(cores) = two_cores() else {
        return;
    };
    let tree = tree();
    let cores = format!("{},{}", cores[0], cores[1]);
    let (server, path) = start(launch(&tree, "").arguments(["--cores", &cores]));
    let large = content();
    thread::scope(|scope| {
        for number in 0..32 {
            let (path, large) = (&path, &large);
            scope.spawn(move || {
                for _ in 0..10 {
                    let mut client = Client::connect_unix(path);
                    assert_eq!(client.get("/small").text(), "content");
                    assert_eq!(client.get("/small").text(), "content");
                }
                if number % 8 == 0 {
                    assert!(Client::connect_unix(path).get("/large").body == *large);
                }
            });
        }
    });
    server.stop();
}

#[test]
fn a_killed_server_leaves_a_socket_that_the_next_one_replaces() {
    let tree = tree();
    let (mut server, path) = start(launch(&tree, ""));
    server.signal(Signal::KILL);
    server.wait();
    assert!(path.exists());
    let (server, path) = start(launch(&tree, ""));
    server.logs("replacing a socket");
    assert_eq!(Client::connect_unix(&path).get("/small").status, 200);
}

#[test]
fn what_is_in_use_is_left_alone() {
    let tree = tree();
    let (server, path) = start(launch(&tree, ""));
    let words = ["cannot listen on unix:", "another process listens on it"];
    refused(launch(&tree, ""), &words);
    assert_eq!(Client::connect_unix(&path).get("/small").status, 200);
    server.stop();
    fs::write(&path, "precious").expect("a file");
    refused(
        launch(&tree, ""),
        &["a file that is no socket has its place"],
    );
    assert_eq!(fs::read(&path).expect("the file"), b"precious");
    fs::remove_file(&path).expect("the file");
    // Nobody accepts there, and the backlog may be full.
    let _live = UnixListener::bind(&path).expect("a listener");
    refused(launch(&tree, ""), &words);
}

#[test]
fn the_socket_of_a_successor_stays() {
    let tree = tree();
    let (first, path) = start(launch(&tree, ""));
    fs::remove_file(&path).expect("the socket");
    let (_second, path) = start(launch(&tree, ""));
    first.stop();
    assert_eq!(Client::connect_unix(&path).get("/small").status, 200);
}

#[test]
fn its_mode_owner_and_group_are_as_configured() {
    let tree = tree();
    let (server, path) = start(launch(&tree, "mode = \"0606\""));
    assert_eq!(mode(&path), 0o606);
    server.stop();
    if is_root() {
        let (server, path) = start(launch(&tree, "owner = \"nobody\"\ngroup = \"65534\""));
        let metadata = fs::symlink_metadata(&path).expect("a socket");
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534));
        server.stop();
    }
    let unknown = || launch(&tree, "owner = \"nobody-at-all\"");
    let words = [
        "cannot listen on unix:",
        "this host has no user `nobody-at-all`",
    ];
    refused(unknown(), &words);
    assert!(!path.exists());
    let file = tree.base().join("tidegate.toml");
    let checked = Launch::with(["check"]).argument(file).output();
    let words = ["listen.owner: this host has no user `nobody-at-all`"];
    checked.refusal(1, &words);
}

#[test]
fn it_speaks_tls() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let (server, path) = start(launch_with(&tree, &files.entry(), "tls = true"));
    let config = authority.client();
    let client = Client::connect_unix(&path);
    let mut client = client.with_tls(|stream| secure(stream, &config, "localhost"));
    assert_eq!(client.get("/small").text(), "content");
    assert!(client.get("/large").body == content());
    assert!(!server.log().contains("TLS:"), "the kernel is not asked");
}

#[test]
fn it_speaks_http2() {
    let tree = tree();
    let (server, path) = start(launch(&tree, ""));
    let sockets = server.sockets();
    let mut client = Http2::unix(&path, &[(INITIAL_WINDOW, 1 << 20)]);
    let streams = ["/large", "/small", "/none", "/large"];
    let streams = streams.map(|target| client.request("GET", target, &[]));
    let [first, small, none, second] = streams.map(|stream| client.response(stream));
    assert!(first.body == content() && second.body == content());
    assert_eq!((small.text(), none.status), ("content", 404));
    // A proxy ends the connection when it has all.
    drop(client);
    server.wait_for_sockets(sockets);
    server.stop();
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let tree = tree();
    let config = "[timeouts]\nsend-stall = \"300ms\"";
    let (server, path) = start(launch_with(&tree, config, ""));
    let mut stalled = Client::connect_unix(&path);
    stalled.send(get("/large"));
    stalled.head();
    let sockets = server.sockets();
    eventually("the end of its connection", || server.sockets() < sockets);
    assert!(stalled.rest().len() < LARGE);
}

#[test]
fn a_slow_request_is_answered_with_408() {
    let tree = tree();
    let config = "[timeouts]\nheader = \"200ms\"";
    let (_server, path) = start(launch_with(&tree, config, ""));
    let mut silent = Client::connect_unix(&path);
    let mut slow = Client::connect_unix(&path);
    slow.send("GET / HT");
    assert_eq!(slow.response().status, 408);
    slow.ends();
    silent.ends();
}

#[test]
fn a_stop_serves_the_waiting_and_finishes_transfers() {
    let tree = tree();
    let (mut server, path) = start(launch(&tree, ""));
    let mut transfer = Client::connect_unix(&path);
    transfer.send(get("/large"));
    let head = transfer.head();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect_unix(&path);
            client.send(get("/small"));
            client
        })
        .collect();
    server.signal(Signal::TERM);
    for mut client in waiting {
        assert_eq!(client.response().text(), "content");
    }
    eventually("the socket is removed", || !path.exists());
    assert!(transfer.body_of(&head) == content());
    assert!(server.wait().success());
}

/// Adds this mode to the socket's section, and `rest` to the end of the configuration.
fn rewrite(tree: &Tree, mode: &str, rest: &str) {
    drop(launch(tree, &format!("mode = \"{mode}\"")));
    let file = tree.base().join("tidegate.toml");
    let text = fs::read_to_string(&file).expect("the config");
    fs::write(&file, text + rest).expect("a config");
}

#[test]
fn a_reload_and_an_upgrade_change_its_mode_once_they_are_accepted() {
    let tree = tree();
    let (server, path) = start(launch(&tree, "mode = \"0640\""));
    let reload = |line| {
        let before = server.log().matches(line).count();
        server.signal(Signal::HUP);
        eventually(line, || server.log().matches(line).count() > before);
    };
    rewrite(&tree, "0600", "[[listen]]\naddress = \"192.0.2.1:80\"\n");
    reload("not reloaded: ");
    assert_eq!(mode(&path), 0o640);
    rewrite(&tree, "0600", "");
    reload("the configuration is applied");
    assert_eq!(mode(&path), 0o600);
    rewrite(&tree, "0606", "");
    let successor = upgrade(&server);
    eventually("another mode", || mode(&path) == 0o606);
    successor.stop();
}

#[test]
fn what_has_its_place_keeps_its_mode() {
    let tree = tree();
    let (server, path) = start(launch(&tree, ""));
    let other = tree.base().join("other");
    fs::write(&other, "precious").expect("a file");
    let before = mode(&other);
    fs::remove_file(&path).expect("the socket");
    symlink(&other, &path).expect("a link");
    rewrite(&tree, "0606", "");
    server.signal(Signal::HUP);
    let line = "a file that is no socket has this place";
    eventually(line, || server.log().contains(line));
    assert_eq!(mode(&other), before);
    // Another server's socket.
    fs::remove_file(&other).expect("the file");
    let _live = UnixListener::bind(&other).expect("a listener");
    fs::remove_file(&path).expect("the link");
    fs::rename(&other, &path).expect("another socket");
    let before = mode(&path);
    server.signal(Signal::HUP);
    let line = "another file has its place";
    eventually(line, || server.log().contains(line));
    assert_eq!(mode(&path), before);
    server.stop();
    assert!(path.exists());
}
