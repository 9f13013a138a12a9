//! Clients that take or send less in a second than they have to, and which of them make room on a full
//! core. What is slow and what is not differs by factors, since a busy host is slow, too.

use std::thread;
use std::time::Duration;

use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::http2::{Http2, frame, kind};
use crate::support::{Authority, Client, Launch, Server, Tree, eventually, get, noise, secure};

/// More than the sockets between server and client hold.
const LENGTH: usize = 16 * 1024 * 1024;

const PAUSE: Duration = Duration::from_millis(500);

/// Bytes after each pause: far less and far more than the limits here.
const SLOW: usize = 4 * 1024;
const FAST: usize = 512 * 1024;

/// 64 KiB in a second, on average over four. One who stalls altogether has as long.
const LEAST: &str = "[timeouts]\nsend-stall = \"4s\"\n\
                     [limits]\nsend-rate-min = \"64k\"\nsend-rate-grace = \"4s\"\n\
                     crowded-rate-min = 0";

fn tree() -> Tree {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    tree.write("small", b"content");
    tree
}

fn launch(tree: &Tree, config: &str) -> Server {
    Launch::run(tree, &format!("{config}\n{LISTEN}"), "").start()
}

fn closed(kind: &str) -> String {
    format!("tidegate_slow_connections_closed_total{{kind=\"{kind}\"}}")
}

#[track_caller]
fn counts(server: &Server, sample: &str, expected: f64) {
    let address = admin(server);
    eventually(&format!("{sample} is {expected}"), || {
        (Scrape::of(address).value(sample) - expected).abs() < f64::EPSILON
    });
}

/// A download of `/big` that has its head.
fn download(mut client: Client) -> Client {
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    client
}

/// Reads so many bytes after each pause, until the end of the connection or `enough`. Returns how
/// many they were.
fn read_on(client: &mut Client, piece: usize, enough: usize) -> usize {
    let mut got = 0;
    while got < enough && client.body_or_end(piece).is_some() {
        got += piece;
        thread::sleep(PAUSE);
    }
    got
}

/// Opens the windows by so many bytes after each pause, until the end of the connection or `enough`.
fn open_on(client: &mut Http2, stream: u32, piece: u32, enough: u32) -> u32 {
    let mut opened = 0;
    let update = |stream: u32| {
        let bytes = piece.to_be_bytes();
        frame(kind::WINDOW_UPDATE, 0, stream, &bytes)
    };
    while opened < enough
        && client
            .try_send(&[update(0), update(stream)].concat())
            .is_ok()
    {
        opened += piece;
        thread::sleep(PAUSE);
    }
    opened
}

/// Sends so many bytes after each pause. Whether all were.
fn send_on(client: &mut Client, bytes: &[u8], piece: usize) -> bool {
    bytes.chunks(piece).all(|piece| {
        thread::sleep(PAUSE);
        client.try_send(piece).is_ok()
    })
}

#[test]
fn a_slow_reader_is_cut_and_a_faster_one_is_not() {
    const ENOUGH: usize = 16 * FAST;
    let tree = tree();
    let server = launch(&tree, LEAST);
    let sockets = server.sockets();
    thread::scope(|scope| {
        let address = server.address;
        let client = move || download(Client::connect_narrow(address));
        let fast = scope.spawn(move || read_on(&mut client(), FAST, ENOUGH));
        let mut slow = client();
        let got = read_on(&mut slow, SLOW, LENGTH / 4);
        assert!(got < LENGTH / 4, "{got}");
        assert_eq!(fast.join().unwrap(), ENOUGH);
    });
    server.wait_for_sockets(sockets);
    counts(&server, &closed("reader"), 1.0);
    counts(&server, "tidegate_timeouts_total{kind=\"send_stall\"}", 0.0);
    server.logs("connection of a slow client closed: limits.send-rate-min client=127.0.0.1");
    assert_eq!(server.get("/small").body, b"content");
}

#[test]
fn a_slow_reader_of_tls_is_cut() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let config = format!("{LEAST}\n{LISTEN}");
    let server = Launch::secure(&tree, &config, "", &[&files]).start();
    let config = authority.client();
    let client = Client::connect_narrow(server.address);
    let client = client.with_tls(|tcp| secure(tcp, &config, "localhost"));
    let got = read_on(&mut download(client), SLOW, LENGTH / 4);
    assert!(got < LENGTH / 4, "{got}");
    counts(&server, &closed("reader"), 1.0);
}

/// Its window is open by a few bytes again and again: the socket is never stuck.
#[test]
fn a_slow_window_of_http2_is_cut_and_a_faster_one_is_not() {
    const ENOUGH: u32 = 16 * FAST as u32;
    let tree = tree();
    let server = launch(&tree, LEAST);
    let address = server.address;
    let begin = || {
        let mut client = Http2::connect(address);
        client.grants = false;
        let stream = client.request("GET", "/big", &[]);
        (client, stream)
    };
    thread::scope(|scope| {
        let fast = scope.spawn(|| {
            let (mut client, stream) = begin();
            for round in 1..=16 {
                open_on(&mut client, stream, FAST as u32, FAST as u32);
                client.read_beyond(stream, round * FAST - 1);
            }
        });
        let (mut client, stream) = begin();
        let opened = open_on(&mut client, stream, SLOW as u32, ENOUGH);
        assert!(opened < ENOUGH, "{opened}");
        fast.join().unwrap();
    });
    counts(&server, &closed("reader"), 1.0);
}

/// The kernel sends no faster than the rule says.
#[test]
fn who_is_paced_below_the_least_rate_is_not_cut() {
    const RATE: usize = 20 * 1024;
    let tree = tree();
    let config = format!("{LEAST}\n{LISTEN}");
    let pace = "[[site.pace]]\nmatch = \"/big\"\nrate = \"20k\"";
    let server = Launch::run(&tree, &config, pace).start();
    let mut client = download(Client::connect_narrow(server.address));
    // Twice as long as the rate is averaged over.
    assert!(client.body(10 * RATE) == noise(LENGTH, 1)[..10 * RATE]);
    counts(&server, &closed("reader"), 0.0);
}

#[test]
fn a_slow_sender_is_cut_and_a_faster_one_is_not() {
    let tree = tree();
    let limits = "[timeouts]\nheader = \"1m\"\n\
                  [limits]\nreceive-rate-min = 400\nreceive-rate-grace = \"2s\"";
    let server = launch(&tree, limits);
    let address = server.address;
    let padding = format!("X-A: {}\r\n\r\n", "a".repeat(12_000));
    thread::scope(|scope| {
        let fast = scope.spawn(|| {
            let mut client = Client::connect(address);
            client.send("GET /small HTTP/1.1\r\nHost: test\r\n");
            assert!(send_on(&mut client, padding.as_bytes(), 1200));
            client.response().body
        });
        let head = scope.spawn(|| {
            let mut client = Client::connect(address);
            client.get("/small");
            client.send("GET /small HTTP/1.1\r\nHost: test\r\n");
            send_on(&mut client, &padding.as_bytes()[..100], 1);
            let response = client.response_or_end();
            assert!(response.is_none_or(|response| response.status == 408));
        });
        let mut client = Client::connect(address);
        client.send("POST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 50000\r\n\r\n");
        let is_whole = send_on(&mut client, &[b'a'; 100], 1);
        assert!(!is_whole || client.response_or_end().is_some());
        client.rest();
        head.join().unwrap();
        assert_eq!(fast.join().unwrap(), b"content");
    });
    counts(&server, &closed("sender"), 2.0);
    server.logs("connection of a slow client closed: limits.receive-rate-min client=127.0.0.1");
}

/// Three downloads fill a core: the slower of two slow ones makes room first, the fast one never.
#[test]
fn the_slowest_of_a_full_core_make_room() {
    const ENOUGH: usize = 30 * FAST;
    let tree = tree();
    let limits = "[limits]\nconnections-per-core = 3\nsend-rate-min = 0\n\
                  crowded-rate-min = \"64k\"";
    let server = launch(&tree, limits);
    let address = server.address;
    let client = || download(Client::connect_narrow(address));
    thread::scope(|scope| {
        let (mut fast, mut slow, mut slower) = (client(), client(), client());
        let fast = scope.spawn(move || read_on(&mut fast, FAST, ENOUGH));
        let slow = scope.spawn(move || {
            let got = read_on(&mut slow, 3 * SLOW, LENGTH / 4);
            assert!(got < LENGTH / 4, "{got}");
        });
        let slower = scope.spawn(move || {
            let got = read_on(&mut slower, SLOW, LENGTH / 4);
            assert!(got < LENGTH / 4, "{got}");
        });
        // It waits until one is known to be slow.
        assert_eq!(download_small(&server), b"content");
        counts(&server, &closed("for_room"), 1.0);
        assert!(!slow.is_finished(), "the slower one is first");
        slower.join().unwrap();
        // Two that stay: one of them has the place of the first.
        let mut two = [server.connect(), server.connect()];
        for client in &mut two {
            client.send(get("/big"));
            assert_eq!(client.head().status, 200);
        }
        slow.join().unwrap();
        assert_eq!(fast.join().unwrap(), ENOUGH);
    });
    counts(&server, "tidegate_connections_closed_for_room_total", 0.0);
    server.logs("connection of a slow client closed: limits.crowded-rate-min client=127.0.0.1");
}

/// By a connection that ends with it.
fn download_small(server: &Server) -> Vec<u8> {
    let response = server.connect().get_with("/small", &["Connection: close"]);
    response.body
}

/// Those that have sent nothing, or a part of a head, make room as well.
#[test]
fn those_that_do_not_begin_make_room() {
    let tree = tree();
    let limits = "[timeouts]\nheader = \"1h\"\n[limits]\nconnections-per-core = 3";
    let server = launch(&tree, limits);
    let mut silent: Vec<_> = (0..3).map(|_| server.connect()).collect();
    silent[0].send("GET /small HTTP/1.1\r\nHo");
    for _ in 0..3 {
        assert_eq!(download_small(&server), b"content");
    }
    counts(&server, &closed("for_room"), 1.0);
}

/// As above, where nothing makes room: clients wait for the downloads.
#[test]
fn without_a_rate_nothing_makes_room_but_idle_connections() {
    let tree = tree();
    let limits = "[limits]\nconnections-per-core = 1\ncrowded-rate-min = 0";
    let server = launch(&tree, limits);
    let mut slow = download(Client::connect_narrow(server.address));
    let mut newcomer = server.connect();
    newcomer.send(get("/small"));
    let got = read_on(&mut slow, SLOW, 16 * SLOW);
    assert_eq!(got, 16 * SLOW);
    assert!(slow.body(LENGTH - got) == noise(LENGTH, 1)[got..]);
    assert_eq!(newcomer.response().body, b"content");
    counts(&server, &closed("for_room"), 0.0);
}
