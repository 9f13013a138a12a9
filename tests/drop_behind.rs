//! Large files that are not in memory: whether what was read of them stays there (`io.drop-behind`).

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};

use crate::support::{Launch, Server, Tree, eventually, installed, noise, skipped};

/// Several times what is given back at a time, and what the last part is given back of.
const LEN: usize = 40 * 1024 * 1024;

/// What may be left of it: pages that another processor had in hand.
const LEFT_MAX: usize = LEN / 40;

#[test]
fn a_large_file_that_was_not_in_memory_is_given_back() {
    let Some(tree) = tree(&["cold.bin", "hot.bin"]) else {
        return;
    };
    let server = start(&tree, "16m");
    let (cold, hot) = (tree.path("cold.bin"), tree.path("hot.bin"));
    evict(&cold);
    // A player that asks for the first bytes, and then for all, is still one client.
    for _ in 0..2 {
        let response = server.get_with("/cold.bin", &["Range: bytes=0-1"]);
        assert_eq!(response.status, 206);
    }
    get(&server, "/cold.bin", 0);
    // A system that is short of memory may have dropped it since it was written.
    std::fs::read(&hot).unwrap();
    get(&server, "/hot.bin", 1);
    eventually("the memory is given back", || resident(&cold) <= LEFT_MAX);
    assert!(is_in_memory(&hot), "what was in memory stays there");
    // Asked for once more, others may well do so too.
    get(&server, "/cold.bin", 0);
    wait_for_the_last_part();
    assert!(is_in_memory(&cold), "{} bytes are", resident(&cold));
    server.stop();
}

#[test]
fn smaller_files_and_those_of_a_server_that_drops_none_stay_in_memory() {
    let Some(tree) = tree(&["cold.bin"]) else {
        return;
    };
    let cold = tree.path("cold.bin");
    for drop_behind in ["off", "64m"] {
        let server = start(&tree, drop_behind);
        evict(&cold);
        get(&server, "/cold.bin", 0);
        wait_for_the_last_part();
        assert!(is_in_memory(&cold), "{drop_behind}: {}", resident(&cold));
        server.stop();
    }
}

/// A tree of files of [`LEN`] bytes, on the disk and in memory; `None` where they cannot be evicted.
fn tree(names: &[&str]) -> Option<Tree> {
    if !installed("fincore") {
        return None;
    }
    let tree = Tree::new();
    for (seed, name) in names.iter().enumerate() {
        tree.write(name, &noise(LEN, seed as u64));
        File::open(tree.path(name)).unwrap().sync_all().unwrap();
    }
    let probe = tree.path("probe");
    tree.write("probe", &noise(1 << 20, 9));
    File::open(&probe).unwrap().sync_all().unwrap();
    evict(&probe);
    let evicted = resident(&probe) == 0;
    if !evicted {
        skipped("files on this file system stay in memory");
    }
    evicted.then_some(tree)
}

fn start(tree: &Tree, drop_behind: &str) -> Server {
    Launch::run(tree, &format!("[io]\ndrop-behind = \"{drop_behind}\""), "").start()
}

#[track_caller]
fn get(server: &Server, target: &str, seed: u64) {
    let response = server.get(target);
    assert_eq!(response.status, 200);
    assert!(response.body == noise(LEN, seed), "{target}");
}

fn evict(path: &Path) {
    fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
}

/// Twice as long as until the last part of a transfer is given back, if it is.
fn wait_for_the_last_part() {
    sleep(Duration::from_secs(2));
}

/// Whether a file is in memory, but for pages that the system took at that moment.
fn is_in_memory(path: &Path) -> bool {
    resident(path) > LEN / 10 * 9
}

/// Bytes of a file that are in memory.
fn resident(path: &Path) -> usize {
    let arguments = ["--bytes", "--noheadings", "--raw", "--output", "RES"];
    let output = Command::new("fincore").args(arguments).arg(path).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.trim().parse().unwrap()
}
