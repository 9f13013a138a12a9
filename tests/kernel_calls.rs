//! The system calls behind a response: invisible to clients, but decisive for throughput and fairness.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread;

use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::support::{
    Authority, Call, Client, Launch, Server, Strace, Tree, get, installed, noise, request_with,
    skipped,
};

/// Longer than io.inline-max, and shorter than what is corked.
const SHORT: usize = 100 * 1024;
/// Corked.
const LONG: usize = 600 * 1024;

/// The system calls of the server while a client requests `targets`, one after the other; `None`
/// without strace.
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

/// Whether it sends a head. A signal that wakes a thread sends a single byte.
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
fn a_recently_read_range_is_not_prefetched_and_hardly_probed() {
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
    // What comes before the first head is the lookup.
    let transfers = calls.split(|call| call.arguments.contains("MSG_MORE"));
    let transfers: Vec<_> = transfers.skip(1).collect();
    let before = |name: &str| {
        let matching = |calls: &&[Call]| {
            let before = calls.iter().take_while(|call| call.name != "splice");
            before.filter(|call| call.name == name).count()
        };
        transfers.iter().map(matching).collect::<Vec<_>>()
    };
    let asked = before("io_uring_enter");
    assert!(asked[0] > 0 && asked[1] == 0, "{asked:?}");
    assert_eq!(before("preadv2"), [3, 1]);
}

/// Whether a small request is answered before the response to `request` has left; `None` without strace. Each
/// `call` that sends a piece of that returns `delay` late, so that the socket never fills: a server that waits for
/// room serves others in any case.
fn is_answered_within(
    (tree, launch): (&Tree, Launch),
    connect: impl Fn(&Server) -> Client,
    request: &str,
    (call, delay): (&str, &str),
) -> Option<bool> {
    let server = launch.start();
    let (mut long, mut small) = (connect(&server), connect(&server));
    // Opens the files, and reads what is in memory.
    long.send(request);
    long.response();
    small.get("/small");
    let strace = Strace::attach_with_delay(&server, tree, call, delay)?;
    thread::scope(|scope| {
        let (begun, wait) = channel();
        let long = &mut long;
        scope.spawn(move || {
            long.send(request);
            let head = long.head();
            begun.send(()).expect("a test that waits");
            long.body_of(&head)
        });
        wait.recv().expect("a head");
        assert_eq!(small.get("/small").status, 200);
    });
    let calls = strace.calls(server);
    let small = calls.iter().rposition(is_small_response)?;
    let is_piece = |call: &Call| call.name == "splice" || call.result > SMALL_MAX;
    Some(calls[small + 1..].iter().any(is_piece))
}

/// The most bytes that a small response has, with its head and in a record of TLS.
const SMALL_MAX: usize = 1000;

/// Whether it sends a small response, and neither the end of another nor an alert.
fn is_small_response(call: &Call) -> bool {
    let is_last = !call.arguments.contains("MSG_MORE");
    call.name == "sendto" && is_last && (150..=SMALL_MAX).contains(&call.result)
}

/// Fails if a small request is never answered within the response to `request`.
#[track_caller]
fn check_others_run(
    tree: &Tree,
    launch: impl Fn() -> Launch,
    connect: impl Fn(&Server) -> Client,
    request: &str,
    delay: (&str, &str),
) {
    if !installed("strace") {
        return;
    }
    // On a busy machine the small request may come when the other response has left.
    for _ in 0..5 {
        match is_answered_within((tree, launch()), &connect, request, delay) {
            Some(false) => {}
            Some(true) | None => return,
        }
    }
    panic!("each small request was answered behind the whole response");
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_a_long_transfer() {
    let tree = Tree::with("large", &noise(32 * 1024 * 1024, 1));
    tree.write("small", b"small");
    let launch = || Launch::serve(tree.root());
    let delay = ("splice", "2ms");
    check_others_run(&tree, launch, Server::connect, &get("/large"), delay);
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_many_parts() {
    let tree = Tree::with("large", &noise(1024 * 1024, 1));
    tree.write("small", b"small");
    // In memory: between parts of a file a worker is waited for.
    let config = "[io]\ninline-max = '1m'\n[limits]\nheader-bytes = '32k'";
    let launch = || Launch::run(&tree, config, "");
    let ranges: Vec<_> = (0..400)
        .map(|at| format!("{}-{}", at * 2500, at * 2500 + 1999))
        .collect();
    let field = format!("Range: bytes={}", ranges.join(","));
    let request = request_with("GET", "/large", &[&field]);
    let delay = ("sendto", "30ms");
    check_others_run(&tree, launch, Server::connect, &request, delay);
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_a_listing() {
    let tree = Tree::with("small", b"small");
    tree.fill(
        "many",
        (0..20_000).map(|number| format!("a-name-of-a-file-{number}")),
    );
    let launch = || Launch::run(&tree, "", "directory-listing = true");
    let delay = ("sendto", "10ms");
    check_others_run(&tree, launch, Server::connect, &get("/many/"), delay);
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_an_encrypted_transfer() {
    check_others_run_beside_encryption(8 * 1024 * 1024, "", "5ms");
}

/// Without encryption such a file leaves in one turn.
#[test]
fn a_small_request_does_not_wait_for_the_end_of_an_encrypted_file_from_memory() {
    check_others_run_beside_encryption(1024 * 1024, "[io]\ninline-max = '1m'", "30ms");
}

#[track_caller]
fn check_others_run_beside_encryption(length: usize, config: &str, delay: &str) {
    let tree = Tree::with("large", &noise(length, 1));
    tree.write("small", b"small");
    let authority = Authority::new();
    let files = authority.issue("localhost", &["localhost"]);
    let launch = || Launch::secure(&tree, config, "ktls = 'off'", &[&files]);
    let client = authority.client();
    let connect = |server: &Server| Client::secure(server.address, &client);
    check_others_run(&tree, launch, connect, &get("/large"), ("sendto", delay));
}

/// The server's end of the connection from `client`; `None` where `pidfd_getfd(2)` is not permitted.
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
