//! Clients that do not send what they should: windows, bodies, answers, the rest of frames.

use std::fs::File;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::http2::{ALL, END_HEADERS, Http2, INITIAL_WINDOW, block, code, frame, kind};
use crate::support::{Launch, Tree, noise};

const LENGTH: usize = 3 << 20;

/// The initial window of both (RFC 9113, section 6.9.2).
const WINDOW: usize = 65_535;

fn tree() -> Tree {
    let tree = Tree::with("small", b"small");
    tree.write("large", &noise(LENGTH, 1));
    tree
}

/// Asks for the large file, and reads until the window is closed.
#[track_caller]
fn blocked(client: &mut Http2) -> u32 {
    client.grants = false;
    let stream = client.request("GET", "/large", &[]);
    while client.body_len(stream) < WINDOW {
        client.frame().expect("a frame");
    }
    stream
}

/// Sends the head of a request whose body never comes.
#[track_caller]
fn begin_body(client: &mut Http2) -> u32 {
    let stream = client.next_stream();
    let block = block(&client.fields("POST", "/small", &[]));
    client.send_frame(kind::HEADERS, END_HEADERS, stream, &block);
    stream
}

#[test]
fn a_reset_without_other_output_is_sent_at_once() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let stream = blocked(&mut client);
    let file = File::options().write(true).open(tree.path("large"));
    file.and_then(|file| file.set_len(1000))
        .expect("a shorter file");
    client.grant(0, 1 << 20);
    client.grant(stream, 1 << 20);
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::INTERNAL_ERROR);
    assert!(client.goaways.is_empty());
}

#[test]
fn pings_in_pieces_prolong_nothing() {
    let tree = tree();
    let timeouts = "[timeouts]\nkeep-alive = \"500ms\"\nsend-stall = \"500ms\"";
    let server = Launch::http2(&tree, timeouts, "").start();
    let mut idle = Http2::connect(server.address);
    idle.get("/small");
    let mut stalled = Http2::connect(server.address);
    blocked(&mut stalled);
    let ping = frame(kind::PING, 0, 0, b"anybody?");
    for client in [&mut idle, &mut stalled] {
        let start = Instant::now();
        let is_open = |client: &mut Http2, piece: &[u8]| {
            std::thread::sleep(Duration::from_millis(50));
            client.try_send(piece).is_ok()
        };
        while is_open(client, &ping[..5]) && is_open(client, &ping[5..]) {
            assert!(start.elapsed() < Duration::from_secs(5), "it goes on");
        }
    }
}

#[test]
fn a_closed_window_ends_in_order() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nsend-stall = \"300ms\"", "").start();
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 100)]);
    let stream = client.request("GET", "/large", &[]);
    client.grants = false;
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::CANCEL);
    client.ends();
    assert_eq!(client.goaways.last(), Some(&(stream, code::NO_ERROR)));
}

#[test]
fn a_body_that_does_not_come_ends_its_stream_alone() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nheader = \"300ms\"", "").start();
    let mut client = Http2::connect(server.address);
    let stalled = blocked(&mut client);
    let stream = begin_body(&mut client);
    assert_eq!(client.head(stream), 405);
    // The page is part of the window that is closed, so it never is whole.
    client.grant(0, 1 << 20);
    client.response(stream);
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::NO_ERROR);
    client.grants = true;
    client.grant(stalled, 1 << 20);
    assert!(client.response(stalled).body == noise(LENGTH, 1));
    assert_eq!(client.get("/small").body, b"small");
    assert!(client.goaways.is_empty());
}

#[test]
fn who_only_listens_gets_all_of_it() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let socket = TcpStream::connect(server.address).expect("a connection");
    let half = socket.try_clone().expect("a second handle");
    let mut client = Http2::over(socket);
    client.begin(&[(INITIAL_WINDOW, 16 << 20)]);
    client.grant(0, 16 << 20);
    client.grants = false;
    let streams = ["/large", "/small"].map(|target| client.request("GET", target, &[]));
    half.shutdown(Shutdown::Write).expect("half a connection");
    assert!(client.response(streams[0]).body == noise(LENGTH, 1));
    assert_eq!(client.response(streams[1]).body, b"small");
    client.ends();
    assert_eq!(client.goaways.last(), Some(&(streams[1], code::NO_ERROR)));
}

#[test]
fn who_only_listens_can_open_no_window() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let socket = TcpStream::connect(server.address).expect("a connection");
    let half = socket.try_clone().expect("a second handle");
    let mut client = Http2::over(socket);
    client.begin(&[]);
    client.grants = false;
    let stream = client.request("GET", "/large", &[]);
    half.shutdown(Shutdown::Write).expect("half a connection");
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::CANCEL);
    assert_eq!(client.body_len(stream), WINDOW);
    client.ends();
}

#[test]
fn who_does_not_confirm_the_end_is_told_a_last_stream() {
    let tree = tree();
    let config = "[timeouts]\nlinger = \"300ms\"\n[limits]\nrequests-per-connection = 3";
    let server = Launch::http2(&tree, config, "").start();
    let mut client = Http2::connect(server.address);
    client.answers_pings = false;
    let start = Instant::now();
    while client.goaways.len() < 2 {
        // The last one may come too late.
        let stream = client.request("GET", "/small", &[]);
        while client.body_len(stream) < b"small".len() && client.frame().is_some() {}
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(5), "it goes on");
    }
    client.ends();
}

#[test]
fn who_says_nothing_after_the_end_was_told_is_closed() {
    let tree = tree();
    let config = "[timeouts]\nlinger = \"300ms\"\n[limits]\nrequests-per-connection = 1";
    let server = Launch::http2(&tree, config, "").start();
    let mut client = Http2::connect(server.address);
    client.answers_pings = false;
    let start = Instant::now();
    assert_eq!(client.get("/small").body, b"small");
    client.ends();
    assert_eq!(client.goaways, [(ALL, code::NO_ERROR), (1, code::NO_ERROR)]);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[test]
fn a_stop_is_told_to_who_waits_for_its_window() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let stream = blocked(&mut client);
    server.signal(Signal::TERM);
    while client.goaways.is_empty() {
        client.frame().expect("a frame");
    }
    assert_eq!(client.goaways, [(ALL, code::NO_ERROR)]);
    client.grants = true;
    client.grant(0, 16 << 20);
    client.grant(stream, 16 << 20);
    assert!(client.response(stream).body == noise(LENGTH, 1));
    client.ends();
}
