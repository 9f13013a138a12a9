//! What the kernel is asked to do with the bytes of a response: no client sees it, and all of them
//! gain by it.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::support::{Call, Launch, Server, Strace, Tree, get, installed, noise, skipped};

/// Longer than io.inline-max, and shorter than what is corked.
const SHORT: usize = 100 * 1024;
/// Corked.
const LONG: usize = 600 * 1024;

/// What the server calls while a client asks for `targets`, one after the other; `None` without
/// strace.
fn calls_for(tree: &Tree, targets: &[&str]) -> Option<Vec<Call>> {
    if !installed("strace") {
        return None;
    }
    let server = Server::serve(tree);
    // Opens the files, and reads what is in memory.
    for target in targets {
        server.get(target);
    }
    let strace = Strace::attach(&server, tree)?;
    let mut client = server.connect();
    for target in targets {
        assert_eq!(client.get(target).status, 200);
    }
    Some(strace.calls(server))
}

/// Whether it sends a head, and not the single byte by which a signal wakes a thread.
fn sends_a_head(call: &Call) -> bool {
    call.name == "sendto" && call.result > 1
}

#[test]
fn a_head_waits_for_the_first_bytes_of_its_body() {
    let tree = Tree::with("short", &noise(SHORT, 1));
    tree.write("small", b"small");
    let Some(calls) = calls_for(&tree, &["/short", "/small"]) else {
        return;
    };
    let heads = calls.iter().filter(|call| sends_a_head(call));
    let more: Vec<bool> = heads
        .map(|call| call.arguments.contains("MSG_MORE"))
        .collect();
    assert_eq!(more, [true, false]);
}

#[test]
fn a_long_transfer_is_corked_and_a_short_one_is_not() {
    let tree = Tree::with("short", &noise(SHORT, 1));
    tree.write("long", &noise(LONG, 2));
    let corks = |target: &str| -> Option<Vec<bool>> {
        let calls = calls_for(&tree, &[target])?;
        let corks = calls
            .iter()
            .filter(|call| call.arguments.contains("TCP_CORK"));
        Some(corks.map(|call| call.arguments.contains("[1]")).collect())
    };
    let (Some(short), Some(long)) = (corks("/short"), corks("/long")) else {
        return;
    };
    assert!(short.is_empty(), "{short:?}");
    assert_eq!(long, [true, false]);
}

#[test]
fn what_was_read_of_late_is_not_asked_for_by_a_worker() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::with("short", &noise(SHORT, 1));
    let server = Server::serve(&tree);
    let Some(strace) = Strace::attach(&server, &tree) else {
        return;
    };
    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/short").status, 200);
    }
    let calls = strace.calls(server);
    let transfers = calls.split(|call| call.arguments.contains("MSG_MORE"));
    let asks = |calls: &[Call]| {
        let mut before = calls.iter().take_while(|call| call.name != "splice");
        before.any(|call| call.name == "io_uring_enter")
    };
    // What comes before the first head is the look-up.
    let asks: Vec<bool> = transfers.skip(1).map(asks).collect();
    assert_eq!(asks, [true, false]);
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_a_long_transfer() {
    const LENGTH: usize = 32 * 1024 * 1024;
    if !installed("strace") {
        return;
    }
    let tree = Tree::with("large", &noise(LENGTH, 1));
    tree.write("small", b"small");
    // On a busy machine the small request may come when all of the file is sent.
    let is_answered_between = || -> Option<bool> {
        let server = Server::serve(&tree);
        server.get("/large");
        server.get("/small");
        let strace = Strace::attach_with_late_splices(&server, &tree, "2ms")?;
        let (mut large, mut small) = (server.connect(), server.connect());
        large.send(get("/large"));
        large.head();
        large.body(LENGTH / 16);
        thread::scope(|scope| {
            scope.spawn(|| large.body(LENGTH - LENGTH / 16));
            assert_eq!(small.get("/small").status, 200);
        });
        let calls = strace.calls(server);
        let last = calls.iter().rposition(sends_a_head)?;
        Some(calls[last..].iter().any(|call| call.name == "splice"))
    };
    for _ in 0..5 {
        match is_answered_between() {
            Some(false) => {}
            Some(true) | None => return,
        }
    }
    panic!("each small request was answered after the whole file");
}

/// The server's end of the connection from `client`; `None` where its descriptors may not be had.
fn server_end(server: &Server, client: SocketAddr) -> Option<OwnedFd> {
    let pid = Pid::from_raw(server.id().try_into().expect("a pid"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let numbers = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("its descriptors");
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok())
        .find(|fd| {
            let peer = rustix::net::getpeername(fd).ok().flatten();
            peer.is_some_and(|peer| SocketAddr::try_from(peer).is_ok_and(|peer| peer == client))
        })
}

#[test]
fn a_response_does_not_wait_for_acknowledgements() {
    let tree = Tree::with("small", b"small");
    let server = Launch::serve(tree.root()).start();
    let mut client = server.connect();
    client.get("/small");
    let Some(socket) = server_end(&server, client.address()) else {
        skipped("pidfd_getfd is not allowed");
        return;
    };
    assert!(sockopt::tcp_nodelay(&socket).expect("an option of TCP"));
}
