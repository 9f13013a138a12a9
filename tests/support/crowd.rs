//! Clients that compare every byte with the one that is expected: one that blocks, and thousands
//! of them on
//! a few threads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;

use super::{WATCHDOG, get, noise, skipped};

/// Threads of a crowd.
const THREADS: usize = 2;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// What the kernel may hold for each client of a crowd.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Descriptors of a test that are no client's.
const DESCRIPTORS_OF_OTHERS: u64 = 500;
/// Bytes that have a number of their own in what is made up.
const BLOCK: usize = 4096;

/// Whether bytes are those of the object from this position on.
type Expected<'a> = &'a (dyn Fn(u64, &[u8]) -> bool + Sync);

/// Bytes of an object that nobody holds: blocks of noise, each of which starts with its number.
pub(crate) fn made_up(range: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize + BLOCK);
    let first = range.start / BLOCK as u64;
    let mut number = first;
    while first * BLOCK as u64 + (bytes.len() as u64) < range.end {
        bytes.extend(block(number));
        number += 1;
    }
    bytes.truncate((range.end - first * BLOCK as u64) as usize);
    bytes.drain(..(range.start % BLOCK as u64) as usize);
    bytes
}

/// Whether `bytes` are those of [`made_up`] from `position` on.
pub(crate) fn is_made_up(mut position: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let within = (position % BLOCK as u64) as usize;
        let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK - within));
        if block(position / BLOCK as u64)[within..][..piece.len()] != *piece {
            return false;
        }
        position += piece.len() as u64;
        bytes = rest;
    }
    true
}

fn block(number: u64) -> [u8; BLOCK] {
    static NOISE: LazyLock<[u8; BLOCK]> =
        LazyLock::new(|| noise(BLOCK, 1).try_into().expect("a block"));
    let mut block = *NOISE;
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}

/// What came of a request. A wrong byte has no place in it: it ends the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200, and all of the body.
    Whole,
    /// 200, and so many bytes of the body.
    Cut(u64),
    /// Another status; whether it says when to come again.
    Status(u16, bool),
    /// No connection, or no head.
    Nothing,
}

/// A response that arrives.
struct Arrival<'a> {
    length: u64,
    is_expected: Expected<'a>,
    /// Until it is complete.
    head: Vec<u8>,
    status: Option<(u16, bool)>,
    received: u64,
}

impl<'a> Arrival<'a> {
    /// One whose body has `length` bytes if its status is 200.
    fn new(length: u64, is_expected: Expected<'a>) -> Self {
        Self {
            length,
            is_expected,
            head: Vec::new(),
            status: None,
            received: 0,
        }
    }

    /// Takes what came.
    fn take(&mut self, bytes: &[u8]) {
        if self.status.is_some() {
            return self.take_body(bytes);
        }
        self.head.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(end) = head.parse(&self.head).expect("a head") else {
            return;
        };
        let field = |name: &str| {
            let mut fields = head.headers.iter();
            fields.find(|field| field.name.eq_ignore_ascii_case(name))
        };
        let status = head.code.expect("a status");
        if status == 200 {
            let length = field("content-length").expect("Content-Length").value;
            let length = str::from_utf8(length)
                .ok()
                .and_then(|text| text.parse().ok());
            assert_eq!(length, Some(self.length), "Content-Length");
        }
        self.status = Some((status, field("retry-after").is_some()));
        let body = self.head.split_off(end);
        self.take_body(&body);
        self.head = Vec::new();
    }

    fn take_body(&mut self, bytes: &[u8]) {
        if !matches!(self.status, Some((200, _))) {
            return;
        }
        let end = self.received + bytes.len() as u64;
        assert!(end <= self.length, "{end} of {} bytes", self.length);
        assert!(
            (self.is_expected)(self.received, bytes),
            "a wrong byte in {}..{end} of {}",
            self.received,
            self.length
        );
        self.received = end;
    }

    /// Whether nothing more of it is waited for.
    fn is_over(&self) -> bool {
        self.status
            .is_some_and(|(status, _)| status != 200 || self.received == self.length)
    }

    fn outcome(&self) -> Outcome {
        match self.status {
            None => Outcome::Nothing,
            Some((200, _)) if self.received == self.length => Outcome::Whole,
            Some((200, _)) => Outcome::Cut(self.received),
            Some((status, retry_after)) => Outcome::Status(status, retry_after),
        }
    }
}

/// Asks for `target` on a connection of its own. Panics at a wrong byte, and when nothing comes
/// for long.
#[track_caller]
pub(crate) fn ask(
    address: SocketAddr,
    target: &str,
    length: u64,
    is_expected: Expected<'_>,
) -> Outcome {
    let mut arrival = Arrival::new(length, is_expected);
    let Ok(mut stream) = TcpStream::connect(address) else {
        return Outcome::Nothing;
    };
    let timeout = stream.set_read_timeout(Some(WATCHDOG));
    timeout.expect("a timeout");
    let mut buffer = vec![0; 1 << 16];
    // It may have been closed already.
    let _ = stream.write_all(get(target).as_bytes());
    while !arrival.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => arrival.take(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither a byte nor the end of {target}: {error}"),
        }
    }
    arrival.outcome()
}

/// `clients` ask for `target` at the same time, and all get it whole. Adds the bytes of their
/// bodies to
/// `received` as they come.
#[track_caller]
pub(crate) fn crowd(
    clients: usize,
    address: SocketAddr,
    target: &str,
    length: u64,
    is_expected: Expected<'_>,
    received: &AtomicU64,
) {
    let connected = Barrier::new(THREADS);
    let share = |number: usize| clients / THREADS + usize::from(number < clients % THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let connected = &connected;
            scope.spawn(move || {
                let streams = (0..share(number)).map(|_| connect(address));
                let streams: Vec<_> = streams.collect();
                connected.wait();
                let arrivals = streams
                    .into_iter()
                    .map(|stream| (stream, Arrival::new(length, is_expected)));
                serve(arrivals.collect(), target, received).expect("a crowd");
            });
        }
    });
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    sockopt::set_socket_recv_buffer_size(&stream, RECEIVE_BYTES).expect("a smaller buffer");
    stream
}

/// Asks for `target` on each of these connections, and reads what comes until all have it.
fn serve(
    mut clients: Vec<(TcpStream, Arrival<'_>)>,
    target: &str,
    received: &AtomicU64,
) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, (stream, _)) in clients.iter_mut().enumerate() {
        stream.write_all(get(target).as_bytes())?;
        stream.set_nonblocking(true)?;
        let data = EventData::new_u64(number as u64);
        epoll::add(&epoll, stream, data, EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; READ_BYTES];
    let patience = Timespec::try_from(WATCHDOG).expect("a time");
    let mut left = clients.len();
    while left > 0 {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
        assert!(!events.is_empty(), "{left} clients get nothing more");
        for event in &events {
            let (stream, arrival) = &mut clients[event.data.u64() as usize];
            let before = arrival.received;
            let count = match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => read?,
            };
            assert!(count > 0, "it ends: {:?}", arrival.outcome());
            arrival.take(&buffer[..count]);
            received.fetch_add(arrival.received - before, Ordering::Relaxed);
            if arrival.is_over() {
                assert_eq!(arrival.outcome(), Outcome::Whole);
                epoll::delete(&epoll, &*stream)?;
                // Thousands that wait for their time take the ports of others.
                sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
                left -= 1;
            }
        }
    }
    Ok(())
}

/// Lets this process and its servers have so many connections each; says so where that is not
/// possible,
/// since a test is then skipped.
pub(crate) fn can_connect(clients: usize) -> bool {
    let wanted = clients as u64 + DESCRIPTORS_OF_OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let has = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if has(current) {
        return true;
    }
    if !has(maximum) {
        skipped(format_args!("RLIMIT_NOFILE is {maximum:?}, not {wanted}"));
        return false;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("a limit of descriptors");
    true
}
