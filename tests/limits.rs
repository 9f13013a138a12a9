//! Time limits, full tables, and clients that leave without a word: what they held comes back.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Client, Launch, Server, Tree, WATCHDOG, eventually, get, noise, release, skipped,
};

/// More than the sockets between server and client hold.
const LENGTH: usize = 16 * 1024 * 1024;

#[test]
fn an_idle_connection_is_ended() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "[timeouts]\nkeep-alive = \"1s\"", "").start();
    let mut client = server.connect();
    client.get("/file");
    let idle_since = Instant::now();
    client.ends();
    assert!(
        idle_since.elapsed() > Duration::from_millis(500),
        "cut too early"
    );
}

#[test]
fn a_connection_in_use_is_not_idle() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "[timeouts]\nkeep-alive = \"3s\"", "").start();
    let mut client = server.connect();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        assert_eq!(client.get("/file").body, b"content");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_head_that_does_not_end_is_cut() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "[timeouts]\nheader = \"1s\"\nlinger = \"1s\"", "").start();
    // As a first request, as a later one, and dripping.
    let mut client = server.connect();
    client.send("GET /file HTTP/1.1\r\nHo");
    too_slow(&mut client);
    let mut client = server.connect();
    client.get("/file");
    client.send("GET /file HTTP/1.1\r\nHo");
    too_slow(&mut client);
    let mut client = server.connect();
    let head = format!("GET /file HTTP/1.1\r\nHost: {}", "x".repeat(600));
    let drip = |byte| {
        thread::sleep(Duration::from_millis(100));
        client.try_send([byte])
    };
    assert!(
        head.bytes().map(drip).any(|sent| sent.is_err()),
        "a minute of dripping"
    );
}

#[test]
fn a_connection_without_a_request_is_ended() {
    let tree = Tree::with("file", b"content");
    let timeouts = "[timeouts]\nheader = \"1s\"\nkeep-alive = \"1s\"\nlinger = \"1s\"";
    let server = Launch::run(&tree, timeouts, "").start();
    too_slow(&mut server.connect());
}

#[test]
fn a_reader_that_stalls_is_cut() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let timeouts = "[timeouts]\nsend-stall = \"1s\"\nlinger = \"1s\"";
    let server = Launch::run(&tree, timeouts, "").start();
    let idle = server.sockets();
    let mut clients: Vec<_> = (0..5).map(|_| stalled(&server)).collect();
    server.wait_for_sockets(idle);
    for client in &mut clients {
        let rest = client.rest();
        assert!(rest.len() < LENGTH, "all of it was sent");
        assert!(noise(LENGTH, 1).starts_with(&rest));
    }
    assert_eq!(server.get("/big").body.len(), LENGTH);
}

/// Else the kernel would keep what the client does not take, for minutes.
#[test]
fn a_reader_that_stalls_is_cut_by_a_reset() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let server = Launch::run(&tree, "[timeouts]\nsend-stall = \"1s\"", "").start();
    let idle = server.sockets();
    let mut client = stalled(&server);
    server.wait_for_sockets(idle);
    assert!(client.ends_with_reset());
}

#[test]
fn a_reader_that_is_slow_is_not_cut() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let server = Launch::run(&tree, "[timeouts]\nsend-stall = \"3s\"", "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    // Longer than the limit in all, with progress far more often.
    let pieces = 50;
    for piece in noise(LENGTH, 1).chunks(LENGTH.div_ceil(pieces)) {
        assert!(client.body(piece.len()) == piece);
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn aborted_downloads_leave_nothing_open() {
    let tree = Tree::new();
    for number in 0..3 {
        tree.write(&number.to_string(), &noise(LENGTH, number));
    }
    let pipes = 4;
    let config = format!("[io]\npipes-per-core = {pipes}");
    let server = Launch::run(&tree, &config, "").start();
    let sockets = server.sockets();
    let pipe_ends = server.open_files("pipe:");
    for round in 0..4 {
        let mut clients: Vec<_> = (0..30)
            .map(|number| {
                let mut client = Client::connect_narrow(server.address);
                client.send(get(&format!("/{}", number % 3)));
                client
            })
            .collect();
        for client in clients.iter_mut().take(20) {
            let length = client.head().content_length();
            client.body((length / 1000 * round).max(1));
        }
        // Half of them orderly, half with a reset; some before they have read a byte.
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 {
                client.reset();
            }
        }
        server.wait_for_sockets(sockets);
    }
    // What a cache or a pool may keep is bounded: a descriptor for each file, two for each pipe.
    let root = tree.root();
    let root = root.to_str().expect("a temporary directory in UTF-8");
    eventually("no more files than there are, and the root", || {
        server.open_files(root) <= 4
    });
    eventually("no more pipes than the pool has", || {
        server.open_files("pipe:") <= pipe_ends + 2 * pipes
    });
    assert!(server.get("/1").body == noise(LENGTH, 1));
}

#[test]
fn more_downloads_than_pipes() {
    let content = noise(LENGTH / 2, 1);
    let tree = Tree::with("big", &content);
    let server = Launch::run(&tree, "[io]\npipes-per-core = 2", "").start();
    at_the_same_time(&server, 20, &content);
}

#[test]
fn more_downloads_than_a_users_pipe_pages() {
    let content = noise(LENGTH / 2, 2);
    let tree = Tree::with("big", &content);
    // 90 pipes of 1 MiB; an unprivileged user has 64 MiB.
    let io = "[io]\npipe-size = \"1m\"\npipes-per-core = 90";
    let launch = Launch::run(&tree, io, "").unprivileged(&tree);
    let server = launch.start();
    at_the_same_time(&server, 80, &content);
    at_the_same_time(&server, 80, &content);
}

#[test]
fn out_of_descriptors_it_serves_some_and_recovers() {
    let content = noise(300_000, 3);
    let tree = Tree::with("big", &content);
    let server = Launch::serve(tree.root()).limited("-n 48").start();
    let idle = server.sockets();
    for _ in 0..3 {
        // More than it can have; those it has no room for wait in the backlog or are turned away.
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        let first = clients.first_mut().expect("a hundred of them");
        assert!(first.get("/big").body == content);
        drop(clients);
        server.wait_for_sockets(idle);
        assert!(server.get("/big").body == content);
        server.wait_for_sockets(idle);
    }
    server.stop();
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let tree = Tree::new();
    let server = Launch::serve(tree.root()).limited("-S -n 300").start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("its limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut fields = line
        .expect("a limit of open files")
        .split_whitespace()
        .skip(3);
    let (soft, hard) = (fields.next(), fields.next());
    assert_ne!(hard, Some("300"), "the hard limit is higher: {limits}");
    assert_eq!(soft, hard);
}

#[test]
fn a_full_core_makes_room_from_idle_connections() {
    let tree = Tree::with("file", b"content");
    let limits = "[limits]\nconnections-per-core = 5";
    let server = Launch::run(&tree, limits, "").start();
    let idle = server.sockets();
    for _ in 0..3 {
        let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/file").body, b"content");
        }
        let mut beyond: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for client in &mut beyond {
            assert_eq!(client.get("/file").body, b"content");
            assert!(server.sockets() <= idle + 6, "{} sockets", server.sockets());
        }
        drop(clients);
        drop(beyond);
        server.wait_for_sockets(idle);
    }
    assert_eq!(server.get("/file").body, b"content");
}

#[test]
fn a_core_full_of_downloads_ends_none_for_a_newcomer() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let limits = "[limits]\nconnections-per-core = 3";
    let server = Launch::run(&tree, limits, "").start();
    let mut downloads: Vec<_> = (0..3).map(|_| stalled(&server)).collect();
    let mut newcomer = server.connect();
    newcomer.send(get("/none"));
    for client in &mut downloads {
        assert!(client.body(LENGTH) == noise(LENGTH, 1));
    }
    assert_eq!(newcomer.response().status, 404);
}

#[test]
fn the_listeners_of_a_full_core_share_its_room() {
    const ROOM: usize = 5;
    let content = noise(1_000_000, 4);
    let tree = Tree::with("file", &content);
    let config =
        format!("[limits]\nconnections-per-core = {ROOM}\n[[listen]]\naddress = \"127.0.0.1:0\"");
    let server = Launch::run(&tree, &config, "").start();
    let addresses = [server.address, server.next_address()];
    let idle = server.sockets();
    let expected = &content;
    thread::scope(|scope| {
        let start = |number: usize| {
            let address = addresses[number % 2];
            scope.spawn(move || only_answer(address, expected))
        };
        let clients: Vec<_> = (0..40).map(start).collect();
        while clients.iter().any(|client| !client.is_finished()) {
            // Some are about to be closed while others are taken in their place.
            let sockets = server.sockets();
            assert!(sockets <= idle + 2 * ROOM, "{sockets} sockets");
        }
    });
    server.wait_for_sockets(idle);
    server.stop();
}

/// Checks that a client was answered 408 or nothing, and that the connection has ended.
#[track_caller]
fn too_slow(client: &mut Client) {
    if let Some(response) = client.response_or_end() {
        assert_eq!(response.status, 408);
        client.ends();
    }
}

/// Asks for `/file` as the only request of a connection and reads on to its end, which must be an orderly one.
fn only_answer(address: SocketAddr, content: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(WATCHDOG)).expect("a watchdog");
    stream
        .write_all(b"GET /file HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .expect("a request to be sent");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(read.is_ok(), "{read:?} after {} bytes", answer.len());
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{} bytes",
        answer.len()
    );
    assert!(answer.ends_with(content), "{} bytes", answer.len());
}

/// A client that asks for `/big`, reads the head, and then nothing more.
fn stalled(server: &Server) -> Client {
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    client
}

/// Downloads `/big`, which is `content`, `count` times side by side: every client has its head before any
/// reads on, then all read a piece in turn.
fn at_the_same_time(server: &Server, count: usize, content: &[u8]) {
    let mut clients: Vec<_> = (0..count)
        .map(|_| Client::connect_narrow(server.address))
        .collect();
    for client in &mut clients {
        client.send(get("/big"));
    }
    for client in &mut clients {
        assert_eq!(client.head().content_length(), content.len());
    }
    for piece in content.chunks(content.len().div_ceil(4)) {
        for client in &mut clients {
            assert!(client.body(piece.len()) == piece);
        }
    }
}

/// Clients that ask for `/large` again and again, for as long as the sockets take it, and read nothing. The
/// server finds all of that at once, and has begun to answer each of them at the end.
fn ask_on_and_on(server: &Server, clients: u64) -> Vec<TcpStream> {
    let requests = get("/large").repeat(4000);
    server.signal(Signal::STOP);
    let streams = (0..clients).map(|_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut unsent = requests.as_bytes();
        while let Ok(count @ 1..) = stream.write(unsent) {
            unsent = &unsent[count..];
        }
        stream
    });
    let streams: Vec<TcpStream> = streams.collect();
    server.signal(Signal::CONT);
    for stream in &streams {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap(), 1, "it is being answered");
    }
    streams
}

/// The same, some requests at a time: the server has time to receive each of them.
fn ask_now_and_then(server: &Server, clients: u64) -> Vec<TcpStream> {
    let requests = get("/large").repeat(50);
    let connect = |_| TcpStream::connect(server.address).unwrap();
    let mut streams: Vec<TcpStream> = (0..clients).map(connect).collect();
    for _ in 0..10 {
        for stream in &mut streams {
            stream.write_all(requests.as_bytes()).unwrap();
        }
        thread::sleep(Duration::from_millis(50));
    }
    streams
}

#[test]
fn what_clients_send_that_read_nothing_takes_little_memory() {
    const CLIENTS: u64 = 200;
    /// A connection, its transfer, and what was received before it was seen that nobody reads.
    const EACH_KIB_MAX: u64 = 8;
    if release() < (6, 17) {
        return skipped("this kernel cannot limit what is received in one go");
    }
    let tree = Tree::with("large", &noise(LENGTH, 1));
    for ask in [ask_on_and_on, ask_now_and_then] {
        // What all clients share is little, and in use before: the rest is copied for each of them.
        let server = Launch::run(&tree, "[io]\nrecv-buffers = 16", "").start();
        drop(ask(&server, 10));
        server.forget_memory_peak();
        let before = server.memory_peak_kib();
        let clients = ask(&server, CLIENTS);
        let each = (server.memory_peak_kib() - before).div_ceil(CLIENTS);
        println!("{each} KiB for each client");
        assert!(each <= EACH_KIB_MAX, "{each} KiB for each client");
        drop(clients);
        server.stop();
    }
}
