//! How connections end: by an error, by a timeout, by the last request, by a stop.

use std::net::TcpStream;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;

use crate::support::http2::{
    ALL, END_HEADERS, END_STREAM, Http2, INITIAL_WINDOW, block, code, frame, kind,
};
use crate::support::{Launch, Server, Tree, eventually, noise};

/// More than the sockets between server and client hold.
const LENGTH: usize = 24 << 20;

fn tree() -> Tree {
    let tree = Tree::with("small", b"small");
    tree.write("large", &noise(LENGTH, 1));
    tree
}

#[track_caller]
fn last_goaway(client: &mut Http2) -> (u32, u32) {
    client.ends();
    *client.goaways.last().expect("GOAWAY")
}

#[test]
fn an_error_is_told_before_the_end() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    client.get("/small");
    // Much follows that the server does not look at.
    let mut bytes = frame(kind::SETTINGS, 0, 3, &[]);
    bytes.extend(vec![0; 300_000]);
    let _ = client.try_send(&bytes);
    assert_eq!(last_goaway(&mut client), (1, code::PROTOCOL_ERROR));
}

#[test]
fn what_is_no_preface_is_told_so() {
    let tree = tree();
    let root = tree.root();
    let sites = format!(
        "protocols = [\"h2\"]\n[[site]]\nroot = \"{}\"\n",
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = Http2::silent(server.address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n");
    assert_eq!(last_goaway(&mut client), (0, code::PROTOCOL_ERROR));
}

#[test]
fn an_idle_one_is_closed() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nkeep-alive = \"300ms\"", "").start();
    let mut client = Http2::connect(server.address);
    client.get("/small");
    assert_eq!(last_goaway(&mut client), (1, code::NO_ERROR));
}

#[test]
fn half_a_request_has_its_time() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nheader = \"300ms\"", "").start();
    let mut silent = Http2::silent(server.address);
    silent.send(b"PRI * HTTP/2.0\r\n\r\n");
    let mut client = Http2::connect(server.address);
    client.get("/small");
    client.send(&frame(kind::HEADERS, 0, 3, &[0x82]));
    assert_eq!(last_goaway(&mut client).1, code::NO_ERROR);
    silent.ends();
}

#[test]
fn who_opens_no_window_is_cut() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nsend-stall = \"300ms\"", "").start();
    let idle = server.sockets();
    let mut client = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 0)]);
    let stream = client.request("GET", "/large", &[]);
    assert_eq!(client.head(stream), 200);
    server.wait_for_sockets(idle);
}

#[test]
fn who_reads_nothing_is_cut() {
    let tree = tree();
    let server = Launch::http2(&tree, "[timeouts]\nsend-stall = \"300ms\"", "").start();
    let idle = server.sockets();
    let mut client = Http2::over(narrow(&server));
    client.begin(&[(INITIAL_WINDOW, 64 << 20)]);
    client.grant(0, 64 << 20);
    client.request("GET", "/large", &[]);
    server.wait_for_sockets(idle);
}

/// A client whose socket holds little.
fn narrow(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("a connection");
    set_socket_recv_buffer_size(&stream, 16 * 1024).expect("a small buffer");
    stream
}

/// Many clients, whose answers would take 50 KiB each.
#[test]
fn answers_that_nobody_reads_take_little_memory() {
    const CLIENTS: usize = 200;
    /// A connection, and four times `http2.control-bytes`: what waits, and what the socket did not
    /// take, with the bytes that were received last and the room that a vector doubles.
    const EACH_KIB_MAX: u64 = 24;
    let tree = tree();
    let config = "[io]\nrecv-buffers = 16\n[http2]\nidle-frame-burst = 10000";
    let server = Launch::http2(&tree, config, "").start();
    let pings = frame(kind::PING, 0, 0, &[0; 8]).repeat(3000);
    let silent = |_| {
        let mut client = Http2::over(narrow(&server));
        client.begin(&[(INITIAL_WINDOW, 64 << 20)]);
        client.grant(0, 64 << 20);
        // More than the socket takes: the answers have to wait.
        client.request("GET", "/large", &[]);
        client.send(&pings);
        client
    };
    drop((0..10).map(silent).collect::<Vec<_>>());
    server.forget_memory_peak();
    let before = server.memory_peak_kib();
    let clients: Vec<_> = (0..CLIENTS).map(silent).collect();
    // By then it has received what all of them sent.
    assert_eq!(Http2::connect(server.address).get("/small").body, b"small");
    let each = (server.memory_peak_kib() - before).div_ceil(CLIENTS as u64);
    println!("{each} KiB for each client");
    assert!(each <= EACH_KIB_MAX, "{each} KiB for each client");
    drop(clients);
}

#[test]
fn a_connection_has_a_last_request() {
    let tree = tree();
    let server = Launch::http2(&tree, "[limits]\nrequests-per-connection = 3", "").start();
    let mut client = Http2::connect(server.address);
    for _ in 0..2 {
        assert_eq!(client.get("/small").body, b"small");
    }
    assert!(client.goaways.is_empty());
    // One that was sent before the client knew is answered.
    let streams = ["/large", "/small"].map(|target| client.request("GET", target, &[]));
    assert!(client.response(streams[0]).body == noise(LENGTH, 1));
    assert_eq!(client.response(streams[1]).body, b"small");
    client.ends();
    assert_eq!(client.goaways[0], (ALL, code::NO_ERROR));
    assert_eq!(client.goaways[1..], [(streams[1], code::NO_ERROR)]);
}

#[test]
fn a_stop_lets_streams_finish() {
    let tree = tree();
    let mut server = Launch::http2(&tree, "", "").start();
    let mut idle = Http2::connect(server.address);
    idle.get("/small");
    let mut client = Http2::connect(server.address);
    let stream = client.request("GET", "/large", &[]);
    while client.body_len(stream) < 1 << 20 {
        client.frame().expect("a frame");
    }
    server.signal(Signal::TERM);
    eventually("no new connections", || {
        TcpStream::connect(server.address).is_err()
    });
    assert_eq!(last_goaway(&mut idle), (1, code::NO_ERROR));
    assert!(client.response(stream).body == noise(LENGTH, 1));
    client.ends();
    assert_eq!(client.goaways, [(ALL, 0), (stream, 0)]);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn ping_is_answered_before_the_end_of_a_long_body() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let stream = client.request("GET", "/large", &[]);
    while client.body_len(stream) < 1 << 20 {
        client.frame().expect("a frame");
    }
    client.settle();
    assert!(client.body_len(stream) < LENGTH);
    assert!(client.response(stream).body == noise(LENGTH, 1));
}

#[test]
fn a_listener_that_is_removed_lets_streams_finish() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    let mut idle = Http2::connect(server.address);
    idle.get("/small");
    let stream = client.request("GET", "/large", &[]);
    while client.body_len(stream) < 1 << 20 {
        client.frame().expect("a frame");
    }
    let path = tree.base().join("tidegate.toml");
    let text = std::fs::read_to_string(&path).expect("the config file");
    let (before, after) = text.split_once("[[listen]]").expect("a listener");
    let (_, after) = after.split_once("protocols").expect("its protocols");
    let listen = "[[listen]]\naddress = \"127.0.0.2:0\"\nprotocols";
    std::fs::write(&path, format!("{before}{listen}{after}")).expect("the config file");
    server.signal(Signal::HUP);
    assert_eq!(last_goaway(&mut idle), (1, code::NO_ERROR));
    assert!(client.response(stream).body == noise(LENGTH, 1));
    client.ends();
    assert_eq!(client.goaways, [(ALL, 0), (stream, 0)]);
}

#[test]
fn requests_that_came_with_an_error_are_answered() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    let mut client = Http2::connect(server.address);
    client.get("/small");
    let stream = client.next_stream();
    let block = block(&client.fields("GET", "/small", &[]));
    let mut bytes = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block);
    bytes.extend(frame(kind::SETTINGS, 0, 3, &[]));
    client.send(&bytes);
    assert_eq!(client.response(stream).body, b"small");
    assert_eq!(last_goaway(&mut client), (stream, code::PROTOCOL_ERROR));
}
