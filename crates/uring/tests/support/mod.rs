//! Shared by the tests: an executor for each, a watchdog, sockets, and memory that shows when it is
//! freed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod watchdog;

use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Task};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tidegate_uring::{Config, Fd, Recv, Ring};
pub(crate) use watchdog::watch;

/// Set in a test binary that one of its own tests started.
pub(crate) const CHILD: &str = "TIDEGATE_URING_TEST_CHILD";

/// How often a condition is looked at, a millisecond apart, before the test gives up.
const LOOKS_MAX: usize = 20_000;

pub(crate) fn executor() -> LocalExecutor {
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .unwrap()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let _watched = watch();
    executor().run(future)
}

pub(crate) fn ring() -> Ring {
    Ring::start(&Config::default()).unwrap()
}

/// A ring with few and small buffers.
pub(crate) fn ring_with_buffers(recv_buffers: u16, recv_buffer_bytes: usize) -> Ring {
    Ring::start(&Config {
        recv_buffers,
        recv_buffer_bytes,
        ..Config::default()
    })
    .unwrap()
}

/// A ring with queues of `entries` and `completions`.
pub(crate) fn ring_with_queues(entries: u32, completions: u32) -> Ring {
    Ring::start(&Config {
        entries,
        completions,
        ..Config::default()
    })
    .unwrap()
}

/// Lets the ring take a good few turns.
pub(crate) async fn settle(ring: &Ring) {
    for _ in 0..8 {
        ring.yield_now().await;
    }
}

/// Waits until `condition` holds; fails the test if it never does.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if condition() {
            return;
        }
        tidegate_uring::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// Polls `future` once; whether it is ready.
pub(crate) async fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Polls `recv` once, which arms it; fails if it has something already.
pub(crate) async fn arm(recv: &mut Recv) {
    poll_fn(|context| {
        assert!(recv.poll_next(context).is_pending(), "nothing was sent");
        Poll::Ready(())
    })
    .await;
}

/// Receives a byte every 5 ms, until it is cancelled.
pub(crate) fn conversation(ring: &Ring) -> Task<()> {
    let (socket, mut peer) = socket_pair();
    thread::spawn(move || {
        while peer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let listening = ring.clone();
    ring.spawn(async move {
        let mut recv = listening.recv(&socket);
        while let Ok(Some(_)) = recv.next().await {}
    })
}

/// One end for the ring, the other for the test.
pub(crate) fn socket_pair() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Fd::from(OwnedFd::from(ours)), theirs)
}

pub(crate) fn tcp_pair() -> (Fd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Fd::from(OwnedFd::from(ours)), theirs)
}

/// A socket whose buffers are full, with its peer, which reads nothing.
pub(crate) fn full_socket() -> (Fd, UnixStream) {
    let (fd, peer) = socket_pair();
    let flags = fcntl_getfl(&fd).unwrap();
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&fd, &[0; 4096]).is_ok() {}
    fcntl_setfl(&fd, flags).unwrap();
    (fd, peer)
}

pub(crate) fn pipe() -> (Fd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (Fd::from(reader), writer)
}

/// `len` bytes that differ by place and by `seed`.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index % 251) as u8 ^ seed ^ (index >> 12) as u8)
        .collect()
}

/// Memory that says when it is freed.
struct Watched {
    data: Vec<u8>,
    freed: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.freed.store(true, Ordering::SeqCst);
    }
}

/// Bytes, and a question: are they freed?
pub(crate) fn watched(data: &[u8]) -> (Bytes, impl Fn() -> bool + use<>) {
    let freed = Arc::new(AtomicBool::new(false));
    let watched = Watched {
        data: data.to_vec(),
        freed: Arc::clone(&freed),
    };
    (Bytes::from_owner(watched), move || {
        freed.load(Ordering::SeqCst)
    })
}

pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Reads `recv` to the end of the connection, or until `len` bytes are there.
pub(crate) async fn read_all(recv: &mut Recv, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        match recv.next().await.unwrap() {
            Some(data) => all.extend_from_slice(&data),
            None => break,
        }
    }
    all
}

/// This test binary once more, for the test `name` alone, with [`CHILD`] set.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1");
    command
}

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}
