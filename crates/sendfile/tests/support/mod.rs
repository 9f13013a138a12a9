//! Shared by the tests: an executor with a ring and a pool, sockets with a peer on a thread of its
//! own, and files whose bytes differ by position.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../../../uring/tests/support/watchdog.rs"]
mod watchdog;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::{poll_once, yield_now};
use rustix::fs::Advice;
use rustix::net::sockopt;
use tidegate_sendfile::{Error, Opening, Options, Pool, PoolConfig, PoolStats, Sent, sendfile};
use tidegate_uring::executor::{Executor, coarse_sleep};
use tidegate_uring::{Config, Fd, Ring};
use watchdog::watch;

pub(crate) const PIPE: usize = 256 * 1024;

/// Longer than any test.
pub(crate) const PATIENT: Options = Options {
    stall: Duration::from_mins(10),
    drop_behind: false,
    unread: false,
    device: 0,
    opening: Opening::NONE,
};

pub(crate) const HASTY: Options = Options {
    stall: Duration::from_millis(50),
    drop_behind: false,
    unread: false,
    device: 0,
    opening: Opening::NONE,
};

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let _watched = watch();
    Executor::new("test", 1).unwrap().run(future)
}

#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) ring: Ring,
    pub(crate) pool: Rc<Pool>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(pool_of(8)).await
    }

    pub(crate) async fn with(config: PoolConfig) -> Self {
        let ring = Ring::start(&Config::default()).unwrap();
        let pool = Pool::new(&ring, config).await.unwrap();
        Self { ring, pool }
    }

    pub(crate) async fn send(
        &self,
        socket: &Fd,
        file: &Fd,
        range: std::ops::Range<u64>,
        options: &Options,
    ) -> Result<Sent, Error> {
        sendfile(&self.ring, &self.pool, socket, file, range, options).await
    }

    /// Sends a whole file to a new peer, which must receive exactly that.
    pub(crate) async fn check_exact(&self) {
        let data = pattern(700_001);
        let (socket, peer) = connect();
        let reader = read_all(peer);
        let file = file_of(&data);
        self.send(&socket, &file, 0..700_001, &PATIENT)
            .await
            .unwrap();
        drop(socket);
        assert_eq!(joined(reader).await, data);
        self.check_rest();
    }

    /// Begins a transfer of a file of `data` that is not in memory and polls it until the
    /// pool's counters say `so_far`. A fast disk may have answered before a probe looks again:
    /// then another file is tried. Returns the transfer and its peer's reader.
    pub(crate) async fn cold_transfer(
        &self,
        data: &[u8],
        so_far: impl Fn(&PoolStats) -> bool,
    ) -> (Transfer, Reader) {
        for _ in 0..100 {
            let (file, len) = (evicted_file_of(data), data.len());
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let bench = self.clone();
            let mut transfer: Transfer = Box::pin(async move {
                let whole = 0..len as u64;
                bench.send(&socket, &file, whole, &PATIENT).await
            });
            if poll_until(&mut transfer, || so_far(&self.pool.stats())).await {
                return (transfer, reader);
            }
        }
        panic!("the disk always answers at once: {:?}", self.pool.stats());
    }

    /// The pool is not in use, and its counts say so.
    pub(crate) fn check_rest(&self) {
        let stats = self.pool.stats();
        assert_eq!(stats.idle, stats.pipes, "{stats:?}");
        assert_eq!((stats.parked, stats.waiting), (0, 0), "{stats:?}");
        assert_eq!((stats.cold, stats.cold_waiting), (0, 0), "{stats:?}");
    }
}

pub(crate) fn pool_of(pipes_max: usize) -> PoolConfig {
    PoolConfig {
        pipe_bytes: PIPE,
        pipes_max,
        pages_max: None,
        cold_max: 16,
    }
}

/// Pages that one pipe of `PIPE` bytes has.
pub(crate) fn pipe_pages() -> usize {
    PIPE / rustix::param::page_size()
}

/// Bytes that do not repeat at any power of two.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index % 251) as u8 ^ (index / 251 % 241) as u8)
        .collect()
}

pub(crate) fn file_of(data: &[u8]) -> Fd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    Fd::from(OwnedFd::from(file))
}

/// A file without a page in memory. (A file that is being read cannot be evicted.) Its disk may
/// answer at once; a test that must see a wait for the disk uses [`Bench::cold_transfer`].
pub(crate) fn evicted_file_of(data: &[u8]) -> Fd {
    let file = file_of(data);
    rustix::fs::fsync(&file).unwrap();
    // Repeated: pages that another processor is using at that moment stay, as happens on a busy
    // machine.
    for _ in 0..5 {
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    file
}

/// A nonblocking socket and its blocking peer.
pub(crate) fn connect() -> (Fd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    (Fd::from(OwnedFd::from(socket)), peer)
}

/// Both with small buffers: the socket is full soon after the peer stops reading.
pub(crate) fn connect_narrow() -> (Fd, TcpStream) {
    let (socket, peer) = connect();
    sockopt::set_socket_send_buffer_size(socket.as_fd(), 16 * 1024).unwrap();
    sockopt::set_socket_recv_buffer_size(peer.as_fd(), 16 * 1024).unwrap();
    (socket, peer)
}

pub(crate) type Reader = Receiver<Vec<u8>>;

/// Reads to the end, or to an error, on a thread.
pub(crate) fn read_all(peer: TcpStream) -> Reader {
    read_by(peer, |_| {})
}

/// Reads to the end, `pause`d after each small piece with the count so far.
pub(crate) fn read_by(mut peer: TcpStream, pause: impl Fn(usize) + Send + 'static) -> Reader {
    let (done, reader) = channel();
    let _: JoinHandle<()> = std::thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), vec![0; 32 * 1024]);
        while let Ok(count @ 1..) = peer.read(&mut piece) {
            all.extend_from_slice(&piece[..count]);
            pause(all.len());
        }
        // Nobody listens if the test failed.
        let _ = done.send(all);
    });
    reader
}

/// The bytes of a reader that is done.
pub(crate) async fn joined(reader: Reader) -> Vec<u8> {
    until(|| reader.try_recv().ok()).await
}

/// Calls `ask` every millisecond until it returns something.
pub(crate) async fn until<T>(ask: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        coarse_sleep(Duration::from_millis(1)).await;
    }
}

/// Calls `ask` every millisecond until it returns true.
pub(crate) async fn until_true(ask: impl Fn() -> bool) {
    until(|| ask().then_some(())).await;
}

pub(crate) type Transfer = Pin<Box<dyn Future<Output = Result<Sent, Error>>>>;

/// Polls a transfer until `so_far` returns true. False if it ended before.
pub(crate) async fn poll_until<T>(
    mut transfer: impl Future<Output = T> + Unpin,
    so_far: impl Fn() -> bool,
) -> bool {
    loop {
        if poll_once(&mut transfer).await.is_some() {
            return false;
        }
        if so_far() {
            return true;
        }
        yield_now().await;
    }
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
