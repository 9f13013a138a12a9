//! Files above io.inline-max that are requested so often that they are kept in memory.

use std::fs;
use std::sync::mpsc::channel;
use std::thread;

use crate::support::{
    Call, Client, Launch, Server, Strace, Tree, eventually, get, installed, noise, request_with,
};

/// Above io.inline-max, and at most cache.popular-max.
const LENGTH: usize = 60 * 1024;

/// More requests than make a file popular.
const REQUESTS: usize = 40;

/// A tree with one file, which is old enough that its changes show.
fn tree() -> Tree {
    let tree = Tree::new();
    tree.write_at("file", &noise(LENGTH, 1), 1_600_000_000);
    tree
}

fn serve(tree: &Tree) -> Server {
    Server::serve(tree)
}

/// Whether the server has a file of the tree open: one that is in memory is not.
fn has_open_files(server: &Server, tree: &Tree) -> bool {
    server.open_files(&format!("{}/", tree.root().display())) > 0
}

/// Makes `target` popular.
fn request_often(client: &mut Client, target: &str) {
    for _ in 0..REQUESTS {
        assert_eq!(client.get(target).status, 200);
    }
}

/// A server and its client, for which /file is in memory.
fn with_popular(tree: &Tree) -> (Server, Client) {
    let server = serve(tree);
    let mut client = server.connect();
    // The times of the file settle.
    eventually("in memory", || {
        request_often(&mut client, "/file");
        !has_open_files(&server, tree)
    });
    (server, client)
}

#[test]
fn only_a_popular_file_comes_to_memory_and_nothing_else_about_it_changes() {
    let tree = tree();
    let server = serve(&tree);
    let mut client = server.connect();
    let first = client.get("/file");
    assert!(has_open_files(&server, &tree));
    drop((server, client));
    let (_server, mut client) = with_popular(&tree);
    let popular = client.get("/file");
    assert!(popular.body == noise(LENGTH, 1));
    assert_eq!(popular.steady_headers(), first.steady_headers());
    for (range, expected) in [
        ("bytes=5-50000", 5..50_001),
        ("bytes=4096-", 4096..LENGTH),
        ("bytes=7-7", 7..8),
        ("bytes=1000-21000", 1000..21_001),
    ] {
        let part = client.get_with("/file", &[&format!("Range: {range}")]);
        assert_eq!(part.status, 206);
        assert!(part.body == noise(LENGTH, 1)[expected], "{range}");
    }
}

#[test]
fn a_popular_file_leaves_without_a_copy_and_without_a_look_at_it() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    let (server, mut client) = with_popular(&tree);
    let Some(strace) = Strace::attach(&server, &tree) else {
        return;
    };
    client.send(get("/file").repeat(2));
    for _ in 0..2 {
        assert!(client.response().body == noise(LENGTH, 1));
    }
    let calls = strace.calls(server);
    let count = |name: &str| calls.iter().filter(|call| call.name == name).count();
    assert_eq!(count("preadv2"), 0, "{calls:?}");
    assert!(count("vmsplice") >= 2, "{calls:?}");
    // Nor their heads, which leave with the pages. A signal that wakes a thread is a single byte.
    let is_sent = |call: &Call| call.name == "sendto" && call.result > 1;
    assert!(!calls.iter().any(is_sent), "{calls:?}");
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_many_popular_files() {
    const TIMES: usize = 60;
    if !installed("strace") {
        return;
    }
    let tree = tree();
    tree.write("small", b"small");
    let (server, mut client) = with_popular(&tree);
    let mut many = server.connect();
    assert_eq!(client.get("/small").status, 200);
    let Some(strace) = Strace::attach_with_delay(&server, &tree, "splice", "3ms") else {
        return;
    };
    thread::scope(|scope| {
        let (begun, wait) = channel();
        scope.spawn(move || {
            many.send(get("/file").repeat(TIMES));
            for number in 0..TIMES {
                assert!(many.response().body == noise(LENGTH, 1));
                if number == 0 {
                    begun.send(()).expect("a test that waits");
                }
            }
        });
        wait.recv().expect("a response");
        assert_eq!(client.get("/small").status, 200);
    });
    let calls = strace.calls(server);
    let is_small = |call: &Call| {
        call.name == "sendto" && call.result > 100 && !call.arguments.contains("MSG_MORE")
    };
    let small = calls.iter().rposition(is_small).expect("a small response");
    assert!(
        calls[small..].iter().any(|call| call.name == "splice"),
        "{calls:?}"
    );
}

#[test]
fn a_scan_makes_no_file_popular() {
    let tree = tree();
    let names: Vec<_> = (0..50).map(|number| format!("other-{number}")).collect();
    for name in &names {
        tree.write_at(name, &noise(LENGTH, 2), 1_600_000_000);
    }
    let server = serve(&tree);
    let mut client = server.connect();
    for _ in 0..4 {
        for name in &names {
            assert_eq!(client.get(&format!("/{name}")).status, 200);
        }
    }
    assert_eq!(
        server.open_files(&format!("{}/other-", tree.root().display())),
        names.len()
    );
}

#[test]
fn a_popular_file_that_changes_is_sent_as_it_is_now() {
    let tree = tree();
    let (_server, mut client) = with_popular(&tree);
    for (content, length) in [(2, LENGTH), (3, LENGTH - 20_000), (4, 10)] {
        let now = noise(length, content);
        tree.write("next", &now);
        fs::rename(tree.path("next"), tree.path("file")).expect("a new version");
        eventually("the new version", || client.get("/file").body == now);
        request_often(&mut client, "/file");
        assert!(client.get("/file").body == now);
    }
    fs::remove_file(tree.path("file")).expect("a file");
    eventually("gone", || client.get("/file").status == 404);
}

#[test]
fn readers_that_stall_get_every_byte_and_hold_no_copy() {
    const CLIENTS: usize = 48;
    /// More than the server's end of a connection takes.
    const TIMES: usize = 130;
    /// A copy for each of them would be more.
    const GROWTH_MAX_KIB: u64 = 2 * 1024;
    let tree = tree();
    let (server, mut client) = with_popular(&tree);
    let before = server.memory_peak_kib();
    let mut stalled: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect_narrow(server.address))
        .collect();
    for stalled in &mut stalled {
        stalled.send(get("/file").repeat(TIMES));
        stalled.head();
        // Others are served meanwhile.
        assert!(client.get("/file").body == noise(LENGTH, 1));
    }
    let grown = server.memory_peak_kib() - before;
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    for stalled in &mut stalled {
        assert!(stalled.body(LENGTH) == noise(LENGTH, 1));
        for _ in 1..TIMES {
            assert!(stalled.response().body == noise(LENGTH, 1));
        }
    }
}

#[test]
fn readers_that_leave_in_the_midst_harm_no_other() {
    let tree = tree();
    tree.write("small", b"small");
    let (server, mut client) = with_popular(&tree);
    for _ in 0..20 {
        let mut leaving = Client::connect_narrow(server.address);
        leaving.send(get("/file").repeat(100));
        leaving.head();
        leaving.reset();
        assert_eq!(client.get("/small").body, b"small");
        assert!(client.get("/file").body == noise(LENGTH, 1));
    }
    let closing = request_with("GET", "/file", &["Connection: close"]);
    let mut last = server.connect();
    last.send(get("/small") + &closing);
    assert_eq!(last.response().body, b"small");
    assert!(last.response().body == noise(LENGTH, 1));
    last.ends();
}

#[test]
fn without_memory_for_it_a_popular_file_is_sent_from_the_page_cache() {
    let tree = tree();
    for config in [
        "popular-max = 0",
        "popular-max = \"59k\"",
        "hot-bytes-per-core = \"1m\"",
    ] {
        let config = format!("[cache]\n{config}");
        let server = Launch::run(&tree, &config, "").start();
        let mut client = server.connect();
        for _ in 0..3 {
            request_often(&mut client, "/file");
        }
        assert!(has_open_files(&server, &tree), "{config}");
    }
}

/// Long enough to be in a huge page and to leave by turns.
const LONG: usize = 1 << 20;

fn long_tree() -> Tree {
    let tree = Tree::new();
    tree.write_at("file", &noise(LONG, 1), 1_600_000_000);
    tree
}

#[test]
fn a_popular_megabyte_leaves_without_a_copy_and_without_a_look_at_it() {
    let tree = long_tree();
    let (server, mut client) = with_popular(&tree);
    for (range, expected) in [
        ("bytes=5-900000", 5..900_001),
        ("bytes=100001-", 100_001..LONG),
        ("bytes=-100000", LONG - 100_000..LONG),
    ] {
        let part = client.get_with("/file", &[&format!("Range: {range}")]);
        assert_eq!(part.status, 206);
        assert!(part.body == noise(LONG, 1)[expected], "{range}");
    }
    if !installed("strace") {
        return;
    }
    let Some(strace) = Strace::attach(&server, &tree) else {
        return;
    };
    assert!(client.get("/file").body == noise(LONG, 1));
    let calls = strace.calls(server);
    let count = |name: &str| calls.iter().filter(|call| call.name == name).count();
    assert_eq!(count("preadv2"), 0, "{calls:?}");
    assert!(count("vmsplice") >= 1, "{calls:?}");
    let longest = calls.iter().filter(|call| call.name == "sendto");
    let longest = longest.map(|call| call.result).max();
    assert!(longest < Some(1000), "{calls:?}");
}

#[test]
fn readers_of_a_popular_megabyte_that_stall_or_leave_harm_nobody() {
    const CLIENTS: usize = 24;
    /// A copy for each of them would be more.
    const GROWTH_MAX_KIB: u64 = 8 * 1024;
    let tree = long_tree();
    let (server, mut client) = with_popular(&tree);
    let before = server.memory_peak_kib();
    let mut stalled: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect_narrow(server.address))
        .collect();
    for stalled in &mut stalled {
        stalled.send(get("/file").repeat(8));
        stalled.head();
        assert!(client.get("/file").body == noise(LONG, 1));
    }
    let grown = server.memory_peak_kib() - before;
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    for leaving in stalled.drain(..CLIENTS / 2) {
        leaving.reset();
        assert!(client.get("/file").body == noise(LONG, 1));
    }
    // The bytes that still wait are those of the old version.
    tree.write("next", &noise(LONG, 2));
    fs::rename(tree.path("next"), tree.path("file")).expect("a new version");
    for stalled in &mut stalled {
        assert!(stalled.body(LONG) == noise(LONG, 1));
    }
}
