//! Bodies arrive whole, from memory and from the disk, alone and side by side.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use rustix::fs::Advice;

use crate::support::http2::{Http2, INITIAL_WINDOW};
use crate::support::{Authority, Launch, Server, Tree, noise};

/// Lengths about those where bodies are sent another way.
const LENGTHS: [usize; 12] = [
    0,
    1,
    1000,
    16_374,
    16_375,
    16_376,
    32_768,
    65_499,
    65_536,
    200_000,
    1 << 20,
    5 << 20,
];

fn tree() -> Tree {
    let tree = Tree::new();
    for length in LENGTHS {
        tree.write(&format!("{length}"), &noise(length, length as u64));
    }
    tree
}

#[track_caller]
fn check_one_by_one(client: &mut Http2) {
    for length in LENGTHS {
        let response = client.get(&format!("/{length}"));
        assert_eq!(response.status, 200);
        assert_eq!(response.content_length(), length);
        assert!(response.body == noise(length, length as u64), "{length}");
    }
}

#[track_caller]
fn check_side_by_side(client: &mut Http2) {
    let streams: Vec<_> = LENGTHS
        .iter()
        .chain(&LENGTHS)
        .map(|length| (*length, client.request("GET", &format!("/{length}"), &[])))
        .collect();
    for (length, stream) in streams {
        let response = client.response(stream);
        assert!(response.body == noise(length, length as u64), "{length}");
    }
}

#[track_caller]
fn check(server: &Server, connect: impl Fn() -> Http2) {
    let mut client = connect();
    for _ in 0..2 {
        check_one_by_one(&mut client);
        check_side_by_side(&mut client);
    }
    drop(client);
    // HTTP/1.1 goes on beside it.
    let _ = server;
}

#[test]
fn they_arrive_without_tls() {
    let tree = tree();
    let server = Launch::http2(&tree, "", "").start();
    check(&server, || Http2::connect(server.address));
    let large = [(INITIAL_WINDOW, 16 << 20)];
    check(&server, || Http2::connect_with(server.address, &large));
    let small = [(INITIAL_WINDOW, 1000)];
    let mut client = Http2::connect_with(server.address, &small);
    check_one_by_one(&mut client);
}

#[test]
fn they_arrive_from_memory() {
    let tree = tree();
    let server = Launch::http2(&tree, "[io]\ninline-max = \"1m\"", "").start();
    check(&server, || Http2::connect(server.address));
}

fn secure(tree: &Tree, authority: &Authority) -> Server {
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "tls = true\nprotocols = [\"h2\"]\n{}\n[[site]]\nroot = \"{}\"\n",
        files.entry(),
        root.display()
    );
    Launch::run_sites(tree, "", &sites).start()
}

#[test]
fn they_arrive_over_tls() {
    let tree = tree();
    let authority = Authority::new();
    let server = secure(&tree, &authority);
    let config = authority.client();
    check(&server, || Http2::secure(server.address, &config));
}

#[test]
fn they_arrive_from_the_disk() {
    let tree = tree();
    let server = Launch::http2(&tree, "[io]\ndrop-behind = \"1m\"", "").start();
    let mut client = Http2::connect(server.address);
    for _ in 0..3 {
        for length in LENGTHS {
            evict(&tree, &format!("{length}"));
        }
        check_side_by_side(&mut client);
    }
}

/// Drops the pages of the file `path`.
fn evict(tree: &Tree, path: &str) {
    let file = File::open(tree.path(path)).expect("a file");
    rustix::fs::fsync(&file).expect("its pages on the disk");
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("its pages dropped");
}

/// A client's socket that keeps the lengths of the TLS records that it reads.
struct Tap {
    socket: TcpStream,
    records: Rc<RefCell<Records>>,
}

#[derive(Default)]
struct Records {
    lengths: Vec<usize>,
    header: Vec<u8>,
    /// Bytes of the record that are still to come.
    rest: usize,
}

impl Records {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.header.push(*byte);
            if let [_, _, _, high, low] = self.header[..] {
                self.rest = usize::from(u16::from_be_bytes([high, low]));
                self.lengths.push(self.rest);
                self.header.clear();
            }
        }
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.records.borrow_mut().take(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

#[test]
fn full_frames_are_full_records() {
    const LENGTH: usize = 5 << 20;
    /// A full record of TLS 1.3: its plaintext, its type and its tag.
    const RECORD: usize = 16_384 + 1 + 16;
    let tree = tree();
    let authority = Authority::new();
    let server = secure(&tree, &authority);
    let socket = TcpStream::connect(server.address).expect("a connection");
    let records = Rc::<RefCell<Records>>::default();
    let tap = Tap {
        socket,
        records: Rc::clone(&records),
    };
    let mut client = Http2::secure_over(tap, &authority.client(), &[(INITIAL_WINDOW, 16 << 20)]);
    client.grant(0, 16 << 20);
    client.get(&format!("/{LENGTH}"));
    let full = client.data_frames.iter().filter(|len| **len == 16_375);
    assert!(full.count() > LENGTH / 16_375 / 2);
    assert!(client.data_frames.iter().all(|len| *len <= 16_375));
    let lengths = &records.borrow().lengths;
    let full = lengths.iter().filter(|len| **len == RECORD).count();
    assert!(full > LENGTH / RECORD / 2, "{lengths:?}");
    // Each of these records is a frame, which the records of others do not cut.
    let records_of_frames = client.data_frames.len() + 40;
    assert!(lengths.len() < records_of_frames, "{lengths:?}");
}
