//! Streams of one connection do not get in each other's way.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::support::http2::{
    END_HEADERS, END_STREAM, Http2, INITIAL_WINDOW, PREFACE, block, code, frame, kind,
};
use crate::support::{Launch, Tree, eventually, noise};

/// More than a window.
const LENGTH: usize = 2 << 20;

/// The initial window of both (RFC 9113, section 6.9.2).
const WINDOW: usize = 65_535;

fn tree() -> Tree {
    let tree = Tree::new();
    tree.write("small", b"small");
    tree.write("large", &noise(LENGTH, 1));
    tree.fill("dir", (0..3000).map(|number| format!("{number:05}")));
    tree
}

#[test]
fn one_whose_window_is_closed_holds_no_other_up() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "directory-listing = true").start();
    // No stream may send a byte at first.
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 0)]);
    client.grants = false;
    client.grant(0, 64 << 20);
    let targets = ["/large", "/small", "/dir/"];
    let streams = targets.map(|target| client.request("GET", target, &[]));
    for stream in streams {
        assert_eq!(client.head(stream), 200);
        client.settle();
        assert_eq!(client.body_len(stream), 0);
    }
    let [large, small, listing] = streams;
    client.grant(small, 5);
    assert_eq!(client.response(small).body, b"small");
    client.grant(listing, 16 << 20);
    assert!(client.response(listing).text().contains("02999"));
    client.grant(large, 10);
    while client.body_len(large) < 10 {
        client.frame().expect("a frame");
    }
    client.settle();
    assert_eq!(client.body_len(large), 10);
    client.grant(large, 16 << 20);
    assert!(client.response(large).body == noise(LENGTH, 1));
}

#[test]
fn the_window_of_the_connection_holds_all_of_them() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 16 << 20)]);
    client.grants = false;
    let streams = ["/large", "/large"].map(|target| client.request("GET", target, &[]));
    let sum = |client: &Http2| {
        streams
            .map(|stream| client.body_len(stream))
            .iter()
            .sum::<usize>()
    };
    while sum(&client) < WINDOW {
        client.frame().expect("a frame");
    }
    client.settle();
    assert_eq!(sum(&client), WINDOW);
    // Heads have no window.
    let stream = client.request("HEAD", "/small", &[]);
    assert_eq!(client.response(stream).status, 200);
    client.grant(0, 16 << 20);
    for stream in streams {
        assert!(client.response(stream).body == noise(LENGTH, 1));
    }
}

#[test]
fn one_that_is_reset_is_dropped_and_the_others_go_on() {
    let tree = tree();
    let server = Launch::http2(&tree, "[cache]\nvalid = \"0s\"", "").start();
    let mut client = Http2::connect(server.address);
    client.grants = false;
    for _ in 0..50 {
        let stream = client.request("GET", "/large", &[]);
        client.reset(stream, code::CANCEL);
    }
    client.grants = true;
    client.grant(0, 1 << 20);
    let stream = client.request("GET", "/large", &[]);
    assert!(client.response(stream).body == noise(LENGTH, 1));
    drop(client);
    let path = tree.path("large");
    let path = path.to_str().expect("a path in UTF-8");
    eventually("few open files", || server.open_files(path) <= 1);
}

/// Not even from memory: a flood of them costs little.
#[test]
fn one_that_ends_with_the_bytes_that_open_it_is_not_answered() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    assert_eq!(client.get("/small").body, b"small");
    let block = block(&client.fields("GET", "/small", &[]));
    let [cancelled, made, last] = [(); 3].map(|()| client.next_stream());
    let open = |stream| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block);
    let cancel = code::CANCEL.to_be_bytes();
    let ends = [
        frame(kind::RST_STREAM, 0, cancelled, &cancel),
        frame(kind::WINDOW_UPDATE, 0, made, &[0; 4]),
    ];
    let opened = [open(cancelled), open(made), open(last)];
    client.send(&[opened.concat(), ends.concat()].concat());
    assert_eq!(client.response(last).body, b"small");
    assert_eq!(
        client.response_or_reset(made).err(),
        Some(code::PROTOCOL_ERROR)
    );
    assert_eq!(client.body_len(cancelled) + client.body_len(made), 0);
}

#[test]
fn a_file_that_is_truncated_ends_its_stream_alone() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    client.grants = false;
    let stream = client.request("GET", "/large", &[]);
    while client.body_len(stream) < WINDOW {
        client.frame().expect("a frame");
    }
    let file = File::options().write(true).open(tree.path("large"));
    file.and_then(|file| file.set_len(100_000))
        .expect("a shorter file");
    client.grants = true;
    client.grant(0, 16 << 20);
    client.grant(stream, 16 << 20);
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::INTERNAL_ERROR);
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn the_bodies_of_requests_are_passed_over() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let stream = client.next_stream();
    let fields = client.fields("POST", "/small", &[("content-length", "20000")]);
    client.send_frame(kind::HEADERS, END_HEADERS, stream, &block(&fields));
    client.send_frame(kind::DATA, 0, stream, &[0; 10_000]);
    assert_eq!(client.head(stream), 405);
    client.send_frame(kind::DATA, 1, stream, &[0; 10_000]);
    client.response(stream);
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn a_body_too_large_to_pass_over_resets_its_stream_behind_the_response() {
    let tree = tree();
    let config = "[limits]\nbody-discard = \"1k\"\n[timeouts]\nlinger = \"0s\"";
    let server = Launch::http2(&tree, config, "").start();
    let mut client = Http2::connect(server.address);
    let stream = client.next_stream();
    let block = block(&client.fields("POST", "/small", &[]));
    client.send_frame(kind::HEADERS, END_HEADERS, stream, &block);
    client.send_frame(kind::DATA, 0, stream, &[0; 2000]);
    assert_eq!(client.response(stream).status, 405);
    let reset = client.response_or_reset(stream).expect_err("a reset");
    assert_eq!(reset, code::NO_ERROR);
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn a_client_that_sends_all_of_a_large_body_first_gets_its_answer() {
    const FRAME: usize = 16 << 10;
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let stream = client.next_stream();
    let block = block(&client.fields("PUT", "/small", &[("content-length", "5242880")]));
    client.send_frame(kind::HEADERS, END_HEADERS, stream, &block);
    // Bytes that may be sent on the connection, and on the stream.
    let mut windows = [WINDOW; 2];
    for left in (0..5 * 1024 * 1024 / FRAME).rev() {
        while windows.iter().any(|window| *window < FRAME) {
            let frame = client.frame().expect("a frame");
            assert_ne!(frame.kind, kind::RST_STREAM);
            if frame.kind == kind::WINDOW_UPDATE {
                let window = usize::from(frame.stream == stream);
                windows[window] += frame.number(0) as usize;
            }
        }
        windows = windows.map(|window| window - FRAME);
        let flags = if left == 0 { END_STREAM } else { 0 };
        client.send_frame(kind::DATA, flags, stream, &[0; FRAME]);
    }
    assert_eq!(client.response(stream).status, 405);
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn a_paced_body_leaves_the_others_their_speed() {
    const RATE: usize = 64 << 10;
    let tree = tree();
    tree.write("slow", &noise(RATE + RATE / 2, 3));
    let rule = "[[site.pace]]\nmatch = \"/slow\"\nrate = \"64k\"";
    let server = Launch::http2(&tree, "", rule).start();
    let mut client = Http2::connect(server.address);
    let start = Instant::now();
    let slow = client.request("GET", "/slow", &[]);
    let fast = client.request("GET", "/large", &[]);
    assert!(client.response(fast).body == noise(LENGTH, 1));
    assert!(client.body_len(slow) < RATE, "it is the slower one");
    assert!(client.response(slow).body == noise(RATE + RATE / 2, 3));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn the_preface_may_come_in_any_pieces() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
    let block = block(&Http2::silent(server.address).fields("GET", "/small", &[]));
    bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block));
    for cut in (1..bytes.len()).step_by(3) {
        let mut client = Http2::silent(server.address);
        client.send(&bytes[..cut]);
        std::thread::sleep(Duration::from_millis(2));
        client.send(&bytes[cut..]);
        assert_eq!(client.response(1).body, b"small", "{cut}");
    }
}

#[test]
fn the_urgent_one_overtakes_the_others() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 16 << 20)]);
    client.get("/large");
    let late = client.request("GET", "/large", &[("priority", "u=6")]);
    while client.body_len(late) < WINDOW {
        client.frame().expect("a frame");
    }
    let urgent = client.request("GET", "/large", &[("priority", "u=1")]);
    assert!(client.response(urgent).body == noise(LENGTH, 1));
    assert!(client.body_len(late) < LENGTH / 2);
    assert!(client.response(late).body == noise(LENGTH, 1));
}

#[test]
fn those_that_wait_for_their_window_hold_little() {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 100;
    /// For a stream, and for what a connection has of its own beside them.
    const STREAM_BYTES: u64 = 1024;
    const CONNECTION_BYTES: u64 = 32 << 10;
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let blocked = || {
        let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 100)]);
        client.grants = false;
        let streams: Vec<_> = (0..STREAMS)
            .map(|_| client.request("GET", "/large", &[]))
            .collect();
        for stream in streams {
            while client.body_len(stream) < 100 {
                client.frame().expect("a frame");
            }
        }
        client
    };
    let mut clients = vec![blocked()];
    let before = server.memory_peak_kib();
    clients.extend((0..CONNECTIONS).map(|_| blocked()));
    let grown = (server.memory_peak_kib() - before) * 1024;
    let streams = CONNECTIONS as u64 * STREAMS as u64 * STREAM_BYTES;
    let most = streams + CONNECTIONS as u64 * CONNECTION_BYTES;
    assert!(grown <= most, "{grown} bytes, not {most}");
}
