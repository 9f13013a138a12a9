//! Clients that do not get as far as a request, and what goes over the wire.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::{ClientConfig, ClientConnection};

use crate::support::{Authority, Client, Launch, Server, Tree, WATCHDOG, get, noise};

/// The header timeout of these servers: the time that a handshake has.
const HEADER: Duration = Duration::from_millis(1500);

/// Content types of records (RFC 8446, section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// A server that speaks TLS; its tree is there as long as it is held.
fn start() -> (Server, Authority, Tree) {
    let tree = Tree::with("file", &noise(100_000, 1));
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\n{}[timeouts]\nheader = \"{}ms\"\nlinger = \"200ms\"\n[[site]]\nroot = \"{}\"\n",
        files.entry(),
        HEADER.as_millis(),
        root.display()
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    (server, authority, tree)
}

fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = "localhost".try_into().unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// All that a client wants to send now.
fn output(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn client_hello(authority: &Authority) -> Vec<u8> {
    output(&mut connection(&authority.client()))
}

/// Checks that the server is as it was, and serves.
#[track_caller]
fn check_unharmed(server: &Server, authority: &Authority, sockets: usize) {
    server.wait_for_sockets(sockets);
    let mut client = Client::secure(server.address, &authority.client());
    assert!(client.get("/file").body == noise(100_000, 1));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn plain_http_is_answered_in_plain_http() {
    let (server, authority, _tree) = start();
    let sockets = server.sockets();
    for request in [get("/file"), "GET".to_owned(), "x".to_owned()] {
        let mut client = server.connect();
        client.send(request);
        let response = client.response();
        assert_eq!(response.status, 400);
        assert!(response.closes());
        client.ends();
    }
    check_unharmed(&server, &authority, sockets);
}

#[test]
fn garbage_gets_an_alert() {
    let (server, authority, _tree) = start();
    let sockets = server.sockets();
    let hello = client_hello(&authority);
    let mut oversized = vec![HANDSHAKE, 3, 1, 0xff, 0xff];
    oversized.extend(noise(70_000, 1));
    let mut bad_version = hello.clone();
    bad_version[1] = 9;
    let mut bad_length = hello.clone();
    bad_length[7] ^= 0x40;
    for garbage in [
        vec![HANDSHAKE, 3, 1, 0, 4, 9, 9, 9, 9],
        vec![0; 100],
        vec![DATA, 3, 3, 0, 1, 0],
        oversized,
        bad_version,
        bad_length,
    ] {
        let mut client = server.connect();
        // The server may have closed before all of it is sent.
        let _ = client.try_send(&garbage);
        client.finish_sending();
        let answer = client.rest();
        assert_eq!(answer.first(), Some(&ALERT), "{:?}", &garbage[..9]);
    }
    check_unharmed(&server, &authority, sockets);
}

#[test]
fn a_client_that_leaves_at_any_step_leaves_nothing_behind() {
    let (server, authority, _tree) = start();
    let sockets = server.sockets();
    let config = authority.client();
    // With nothing sent; after a part of its first flight, of its last flight, of a request.
    drop(server.connect());
    let hello = client_hello(&authority);
    for part in [1, 5, 100, hello.len() - 1, hello.len()] {
        let mut client = server.connect();
        client.send(&hello[..part]);
        drop(client);
        let mut client = server.connect();
        client.send(&hello[..part]);
        client.reset();
    }
    for part in [0, 1, 6, 50, usize::MAX] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let mut client = connection(&config);
        stream.write_all(&output(&mut client)).unwrap();
        while client.is_handshaking() {
            client.read_tls(&mut stream).unwrap();
            client.process_new_packets().unwrap();
        }
        let last = output(&mut client);
        stream.write_all(&last[..part.min(last.len())]).unwrap();
    }
    check_unharmed(&server, &authority, sockets);
}

#[test]
fn a_handshake_a_byte_at_a_time() {
    let (server, authority, _tree) = start();
    let config = authority.client();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = connection(&config);
    client.writer().write_all(get("/file").as_bytes()).unwrap();
    while client.is_handshaking() || client.wants_write() {
        for byte in output(&mut client) {
            stream.write_all(&[byte]).unwrap();
        }
        if client.is_handshaking() {
            client.read_tls(&mut stream).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let mut received = Vec::new();
    while received.len() < 100_000 {
        client.read_tls(&mut stream).unwrap();
        client.process_new_packets().unwrap();
        // What is there was read.
        let _ = client.reader().read_to_end(&mut received);
    }
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_ended() {
    let (server, authority, _tree) = start();
    let sockets = server.sockets();
    let hello = client_hello(&authority);
    let begin = Instant::now();
    let mut idle = server.connect();
    let mut half = server.connect();
    half.send(&hello[..100]);
    let mut unfinished = server.connect();
    unfinished.send(&hello);
    // A byte now and then gives no more time.
    let mut slow = server.connect();
    for byte in &hello[..] {
        if slow.try_send([*byte]).is_err() {
            break;
        }
        assert!(begin.elapsed() < HEADER * 4, "a slow client is not ended");
        std::thread::sleep(HEADER / 20);
    }
    idle.ends();
    assert_eq!(half.rest().first(), Some(&ALERT));
    assert_eq!(unfinished.rest().first(), Some(&HANDSHAKE));
    assert!(begin.elapsed() >= HEADER);
    drop((idle, half, unfinished, slow));
    check_unharmed(&server, &authority, sockets);
}

#[test]
fn a_handshake_without_a_request_ends_with_close_notify() {
    let (server, authority, _tree) = start();
    let mut client = Client::secure(server.address, &authority.client());
    client.send("");
    assert!(client.ends_with_close_notify());
}

#[test]
fn a_request_that_does_not_end_is_told_so() {
    let (server, authority, _tree) = start();
    let mut client = Client::secure(server.address, &authority.client());
    client.send("GET /file HTTP/1.1\r\n");
    assert_eq!(client.response().status, 408);
    assert!(client.ends_with_close_notify());
}

#[test]
fn records_that_are_bad_after_the_handshake_get_an_alert() {
    let (server, authority, _tree) = start();
    let sockets = server.sockets();
    for record in [
        vec![DATA, 3, 3, 0, 40],
        vec![DATA, 3, 3, 0x48, 0],
        vec![HANDSHAKE, 3, 3, 0, 40],
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        let mut client = connection(&authority.client());
        while client.is_handshaking() {
            client.complete_io(&mut stream).unwrap();
        }
        let mut bad = record;
        bad.extend(noise(0x4800, 1));
        stream.write_all(&bad).unwrap();
        let error = loop {
            match client.read_tls(&mut stream) {
                Ok(0) => panic!("no alert"),
                Ok(_) => {}
                Err(error) => panic!("no alert: {error}"),
            }
            if let Err(error) = client.process_new_packets() {
                break error;
            }
        };
        let told = matches!(error, rustls::Error::AlertReceived(_));
        assert!(told, "{error}");
    }
    check_unharmed(&server, &authority, sockets);
}

/// Keeps what it reads.
struct Tap<'a> {
    stream: &'a mut TcpStream,
    read: &'a mut Vec<u8>,
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.read.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// The records in `bytes`: their types and what is in them.
fn records(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut records = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (record, rest) = rest.split_at(length.min(rest.len()));
        records.push((*kind, record));
        bytes = rest;
    }
    records
}

/// A GCM nonce that is used twice with a key gives the key of its authentication away.
#[test]
fn no_explicit_nonce_of_tls12_is_sent_twice() {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    let (server, authority, _tree) = start();
    for suite in [
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ] {
        let config = authority.client_with(&[suite], None);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        let mut client = connection(&config);
        let (mut wire, mut received) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            client.writer().write_all(get("/file").as_bytes()).unwrap();
        }
        client.send_close_notify();
        while received.len() < 20 * 100_000 {
            stream.write_all(&output(&mut client)).unwrap();
            let mut tap = Tap {
                stream: &mut stream,
                read: &mut wire,
            };
            assert_ne!(client.read_tls(&mut tap).unwrap(), 0);
            client.process_new_packets().unwrap();
            // What is there was read.
            let _ = client.reader().read_to_end(&mut received);
        }
        let records = records(&wire);
        let encrypted = records
            .iter()
            .skip_while(|(kind, _)| *kind != CHANGE_CIPHER_SPEC)
            .skip(1);
        let nonces: Vec<_> = encrypted.map(|(_, record)| &record[..8]).collect();
        assert!(nonces.len() > 20 * 100_000 / 16_384, "{}", nonces.len());
        let distinct: HashSet<_> = nonces.iter().collect();
        assert_eq!(distinct.len(), nonces.len(), "{suite:?}");
    }
}

#[test]
fn a_small_body_leaves_in_one_record_with_its_head_and_large_records_are_full_but_the_first() {
    /// A full record's length.
    const FULL: usize = 16_384 + 17;
    let (server, authority, _tree) = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    let mut client = connection(&authority.client());
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    let mut exchange = |request: &str, length: usize| {
        let (mut wire, mut received) = (Vec::new(), Vec::new());
        client.writer().write_all(request.as_bytes()).unwrap();
        stream.write_all(&output(&mut client)).unwrap();
        while received.len() < length {
            let mut tap = Tap {
                stream: &mut stream,
                read: &mut wire,
            };
            assert_ne!(client.read_tls(&mut tap).unwrap(), 0);
            client.process_new_packets().unwrap();
            // What is there was read.
            let _ = client.reader().read_to_end(&mut received);
        }
        let records = records(&wire);
        records
            .iter()
            .map(|(_, record)| record.len())
            .collect::<Vec<_>>()
    };
    // The tickets come before.
    exchange("GET /none HTTP/1.1\r\nHost: test\r\n\r\n", 100);
    assert_eq!(
        exchange("GET /none HTTP/1.1\r\nHost: test\r\n\r\n", 100).len(),
        1
    );
    // What has not the time to be decrypted before another round trip if it is in a full one.
    let opening = exchange(&get("/file"), 100_000);
    let short = opening.split(|len| *len == FULL).next().unwrap();
    let bytes = short.iter().sum::<usize>();
    assert!((16_384..17_408).contains(&bytes), "{opening:?}");
    assert!(short.iter().all(|len| *len < 5_000), "{opening:?}");
    for _ in 0..2 {
        let large = exchange(&get("/file"), 100_000);
        let full = large.iter().filter(|len| **len == FULL).count();
        assert_eq!(full, 100_000 / 16_384, "{large:?}");
    }
}
