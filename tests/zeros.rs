//! Each key of the config that may be zero, at zero: the server starts and serves all the same.

use rustix::process::Signal;

use crate::support::{Client, Launch, Tree, get, noise, request};

/// Below, at and above the default size of what is sent from memory, and more than a pipe.
const SIZES: [usize; 6] = [0, 1, 16_383, 16_384, 16_385, 300_000];

/// More than the sockets between server and client hold.
const LENGTH: usize = 16 * 1024 * 1024;

#[test]
fn no_linger() {
    serves("[timeouts]\nlinger = \"0s\"");
}

#[test]
fn no_graceful_timeout() {
    serves("graceful-timeout = \"0s\"");
}

#[test]
fn no_body_is_discarded() {
    serves("[limits]\nbody-discard = 0");
}

#[test]
fn nothing_is_sent_from_memory() {
    serves("[io]\ninline-max = 0");
}

#[test]
fn nothing_is_kept_in_memory() {
    serves("[cache]\nhot-bytes-per-core = 0");
}

#[test]
fn nothing_is_trusted() {
    serves("[cache]\nvalid = \"0s\"");
}

#[test]
fn all_of_them() {
    serves(
        "graceful-timeout = \"0s\"\n[timeouts]\nlinger = \"0s\"\n[limits]\nbody-discard = 0\n\
         [io]\ninline-max = 0\n[cache]\nhot-bytes-per-core = 0\nvalid = \"0s\"",
    );
}

#[test]
fn without_a_graceful_timeout_a_stop_cuts_downloads_off() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let mut server = Launch::run(&tree, "graceful-timeout = \"0s\"", "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(client.rest().len() < LENGTH);
}

#[test]
fn a_file_that_is_not_trusted_shows_its_change_at_once() {
    let tree = Tree::new();
    let server = Launch::run(&tree, "[cache]\nvalid = \"0s\"", "").start();
    let mut client = server.connect();
    // Sent from memory or not, written in place or replaced.
    for size in [10, 20_000] {
        for round in 0..20 {
            let content = noise(size + round, round as u64);
            if round % 2 == 0 {
                tree.write("file", &content);
            } else {
                tree.write("new", &content);
                std::fs::rename(tree.path("new"), tree.path("file")).expect("another file");
            }
            assert!(client.get("/file").body == content, "{size}, round {round}");
        }
        std::fs::remove_file(tree.path("file")).expect("no file");
        assert_eq!(client.get("/file").status, 404);
    }
}

/// Checks that a server with `config` serves files of every size, goes on after errors and bodies, and stops.
#[track_caller]
fn serves(config: &str) {
    let tree = Tree::new();
    for size in SIZES {
        tree.write(&size.to_string(), &noise(size, size as u64));
    }
    let server = Launch::run(&tree, config, "").start();
    let mut client = server.connect();
    for size in SIZES.into_iter().chain(SIZES) {
        let response = client.get(&format!("/{size}"));
        assert_eq!(response.status, 200, "{size}");
        assert!(response.body == noise(size, size as u64), "{size}");
        client.send(request("HEAD", &format!("/{size}")));
        assert_eq!(client.head().content_length(), size);
    }
    assert_eq!(client.get("/none").status, 404);
    in_one_piece(&mut client);
    for (method, status) in [("POST", 405), ("GET", 200)] {
        let mut client = server.connect();
        let head = "Host: test\r\nContent-Length: 5\r\n\r\n";
        client.send(format!("{method} /1 HTTP/1.1\r\n{head}12345"));
        assert_eq!(client.response().status, status, "{method}");
    }
    server.stop();
}

/// Asks for every size in one piece.
#[track_caller]
fn in_one_piece(client: &mut Client) {
    let requests: String = SIZES.iter().map(|size| get(&format!("/{size}"))).collect();
    client.send(requests);
    for size in SIZES {
        assert!(client.response().body == noise(size, size as u64), "{size}");
    }
}
