//! Bodies arrive whole, from memory and from the disk, alone and side by side.

use std::fs::File;

use rustix::fs::Advice;

use crate::support::http2::{Http2, INITIAL_WINDOW};
use crate::support::{Authority, Launch, Server, Tree, noise};

/// Lengths about those where bodies are sent another way.
const LENGTHS: [usize; 12] = [
    0,
    1,
    1000,
    16_374,
    16_375,
    16_376,
    32_768,
    65_499,
    65_536,
    200_000,
    1 << 20,
    5 << 20,
];

fn tree() -> Tree {
    let tree = Tree::new();
    for length in LENGTHS {
        tree.write(&format!("{length}"), &noise(length, length as u64));
    }
    tree
}

#[track_caller]
fn check_one_by_one(client: &mut Http2) {
    for length in LENGTHS {
        let response = client.get(&format!("/{length}"));
        assert_eq!(response.status, 200);
        assert_eq!(response.content_length(), length);
        assert!(response.body == noise(length, length as u64), "{length}");
    }
}

#[track_caller]
fn check_side_by_side(client: &mut Http2) {
    let streams: Vec<_> = LENGTHS
        .iter()
        .chain(&LENGTHS)
        .map(|length| (*length, client.request("GET", &format!("/{length}"), &[])))
        .collect();
    for (length, stream) in streams {
        let response = client.response(stream);
        assert!(response.body == noise(length, length as u64), "{length}");
    }
}

#[track_caller]
fn check(server: &Server, connect: impl Fn() -> Http2) {
    let mut client = connect();
    for _ in 0..2 {
        check_one_by_one(&mut client);
        check_side_by_side(&mut client);
    }
    drop(client);
    // HTTP/1.1 goes on beside it.
    let _ = server;
}

#[test]
fn they_arrive_without_tls() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    check(&server, || Http2::connect(server.address));
    let large = [(INITIAL_WINDOW, 16 << 20)];
    check(&server, || Http2::connect_with(server.address, &large));
    let small = [(INITIAL_WINDOW, 1000)];
    let mut client = Http2::connect_with(server.address, &small);
    check_one_by_one(&mut client);
}

#[test]
fn they_arrive_from_memory() {
    let tree = tree();
    let server = Launch::http2(&tree, "[io]\ninline-max = \"1m\"", "").start();
    check(&server, || Http2::connect(server.address));
}

#[test]
fn they_arrive_over_tls() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\nprotocols = [\"h2\"]\n{}\n[[site]]\nroot = \"{}\"\n",
        files.entry(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let config = authority.client();
    check(&server, || Http2::secure(server.address, &config));
}

#[test]
fn they_arrive_from_the_disk() {
    let tree = tree();
    let server = Launch::http2(&tree, "[io]\ndrop-behind = \"1m\"", "").start();
    let mut client = Http2::connect(server.address);
    for _ in 0..3 {
        for length in LENGTHS {
            evict(&tree, &format!("{length}"));
        }
        check_side_by_side(&mut client);
    }
}

/// Drops the pages of the file `path`.
fn evict(tree: &Tree, path: &str) {
    let file = File::open(tree.path(path)).expect("a file");
    rustix::fs::fsync(&file).expect("its pages on the disk");
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("its pages dropped");
}

#[test]
fn full_frames_are_full_records() {
    const LENGTH: usize = 5 << 20;
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 16 << 20)]);
    client.grant(0, 16 << 20);
    client.get(&format!("/{LENGTH}"));
    let full = client.data_frames.iter().filter(|len| **len == 16_375);
    assert!(full.count() > LENGTH / 16_375 / 2);
    assert!(client.data_frames.iter().all(|len| *len <= 16_375));
}
