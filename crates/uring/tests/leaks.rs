//! No descriptor is leaked, whenever a future is dropped. Descriptors are counted for the whole
//! process, so this binary holds one test.

mod support;

use std::ffi::CString;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::fs::{Advice, AtFlags, OFlags, ResolveFlags, StatxFlags};
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;
use support::{
    full_socket, open_fds, pipe, poll_once, ring, ring_with_queues, run, settle, socket_pair, until,
};
use tidegate_uring::{Config, Fd, Ring};

type Any = Pin<Box<dyn Future<Output = ()>>>;

/// Makes an op that completes at once or, with a false `ready`, one that waits for something.
/// What it works on is owned by the future.
type Make = fn(&Ring, bool) -> Any;

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Stage {
    BeforeItsFirstTurn,
    Submitted,
    CompleteButUnpolled,
    Ready,
}

const STAGES: [Stage; 4] = [
    Stage::BeforeItsFirstTurn,
    Stage::Submitted,
    Stage::CompleteButUnpolled,
    Stage::Ready,
];

/// Every op; whether it can be made to wait.
const OPS: [(&str, bool, Make); 13] = [
    ("accept", true, accept),
    ("recv", true, recv),
    ("send", true, send),
    ("splice", true, splice),
    ("poll", true, poll),
    ("read", true, read),
    ("openat2", false, openat2),
    ("statx", false, statx),
    ("fadvise", false, fadvise),
    ("close", false, close),
    ("pipe", false, |ring, _| pipe_op(ring)),
    ("pipe by the call", false, |ring, _| pipe_op(ring)),
    ("cancel", false, cancel),
];

fn hold<T: 'static>(op: impl Future + 'static, holds: T) -> Any {
    Box::pin(async move {
        drop(op.await);
        drop(holds);
    })
}

fn accept(ring: &Ring, ready: bool) -> Any {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<TcpStream> = (0..if ready { 3 } else { 0 })
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut accept = ring.accept(&Fd::from(OwnedFd::from(listener)));
    Box::pin(async move {
        drop(accept.next().await.unwrap());
        drop(clients);
    })
}

fn recv(ring: &Ring, ready: bool) -> Any {
    let (socket, peer) = socket_pair();
    if ready {
        rustix::io::write(&peer, b"data").unwrap();
    }
    let mut recv = ring.recv(&socket);
    Box::pin(async move {
        drop(recv.next().await.unwrap());
        drop(peer);
    })
}

fn send_socket(ready: bool) -> (Fd, impl Sized + 'static) {
    if ready { socket_pair() } else { full_socket() }
}

fn send(ring: &Ring, ready: bool) -> Any {
    let (socket, peer) = send_socket(ready);
    let data = Bytes::from_static(b"data");
    hold(ring.send(&socket, data, SendFlags::empty()), (socket, peer))
}

/// A pipe to read from: with or without bytes.
fn read_pipe(ready: bool) -> (Fd, OwnedFd) {
    let (reader, writer) = pipe();
    if ready {
        rustix::io::write(&writer, b"data").unwrap();
    }
    (reader, writer)
}

fn splice(ring: &Ring, ready: bool) -> Any {
    let (reader, from) = read_pipe(ready);
    let (other, to) = pipe();
    let to = Fd::from(to);
    let op = ring.splice(&reader, None, &to, None, 4, SpliceFlags::empty());
    hold(op, (reader, from, other, to))
}

fn poll(ring: &Ring, ready: bool) -> Any {
    let (reader, writer) = read_pipe(ready);
    hold(ring.poll(&reader, PollFlags::IN), (reader, writer))
}

fn read(ring: &Ring, ready: bool) -> Any {
    let (reader, writer) = read_pipe(ready);
    hold(
        ring.read(&reader, Vec::with_capacity(4), None),
        (reader, writer),
    )
}

fn directory() -> Fd {
    Fd::from(OwnedFd::from(std::fs::File::open("/").unwrap()))
}

fn openat2(ring: &Ring, _: bool) -> Any {
    let directory = directory();
    let path = CString::new("etc").unwrap();
    let op = ring.openat2(&directory, path, OFlags::RDONLY, ResolveFlags::BENEATH);
    hold(op, directory)
}

fn statx(ring: &Ring, _: bool) -> Any {
    let directory = directory();
    let path = CString::new("etc").unwrap();
    let op = ring.statx(&directory, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
    hold(op, directory)
}

fn fadvise(ring: &Ring, _: bool) -> Any {
    let file = Fd::from(OwnedFd::from(tempfile::tempfile().unwrap()));
    hold(ring.fadvise(&file, 0, 0, Advice::WillNeed), file)
}

fn close(ring: &Ring, _: bool) -> Any {
    let (reader, writer) = pipe();
    hold(ring.close(writer), reader)
}

fn pipe_op(ring: &Ring) -> Any {
    let ring = ring.clone();
    Box::pin(async move { drop(ring.pipe().await.unwrap()) })
}

fn cancel(ring: &Ring, _: bool) -> Any {
    let (reader, writer) = pipe();
    let read = ring.read(&reader, Vec::with_capacity(4), None);
    let op = ring.cancel(&reader);
    hold(op, (read, writer))
}

/// Takes an op to `stage` and drops it there.
async fn drop_at(stage: Stage, ring: &Ring, make: Make) {
    let ready = !matches!(stage, Stage::Submitted);
    let mut op = make(ring, ready);
    match stage {
        Stage::BeforeItsFirstTurn => {}
        Stage::Submitted => {
            let _ = poll_once(&mut op).await;
            settle(ring).await;
        }
        Stage::CompleteButUnpolled => {
            // The first poll queues what is queued on demand.
            let _ = poll_once(&mut op).await;
            settle(ring).await;
            glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
            settle(ring).await;
        }
        Stage::Ready => op.as_mut().await,
    }
}

fn ring_for(name: &str) -> Ring {
    let mut features = tidegate_uring::probe().unwrap();
    features.pipe &= name != "pipe by the call";
    Ring::start(&Config {
        features: Some(features),
        ..Config::default()
    })
    .unwrap()
}

#[test]
fn no_descriptor_is_leaked() {
    run(async {
        // What glommio opens on first use is open from here on.
        drop(ring());
        settle(&ring()).await;
        glommio::timer::sleep(std::time::Duration::from_millis(10)).await;
        let before = open_fds();

        for (name, waits, make) in OPS {
            let ring = ring_for(name);
            settle(&ring).await;
            let with_ring = open_fds();
            for stage in STAGES {
                drop_at(stage, &ring, make).await;
                let what = format!("the descriptors of {name} dropped: {stage:?}");
                until(&what, || open_fds() == with_ring).await;
            }
            if waits {
                let op = make(&ring, false);
                settle(&ring).await;
                drop(op);
            }
            drop(make(&ring, true));
            drop(ring);
            until(name, || open_fds() == before).await;
        }

        // More closes than the queue holds, and the ring ends before it has seen them.
        let small = ring_with_queues(4, 8);
        for _ in 0..50 {
            let (reader, writer) = pipe();
            drop(reader);
            drop(small.close(writer));
        }
        drop(small);
        until("the closes", || open_fds() == before).await;
    });

    // An executor that ends with its ring leaves no more behind than one without (glommio 0.9
    // leaves an eventfd of its own).
    let without_ring = left_by_executors(false);
    assert_eq!(left_by_executors(true), without_ring);
}

/// Descriptors left behind by three executors.
fn left_by_executors(with_ring: bool) -> usize {
    let before = open_fds();
    for _ in 0..3 {
        run(async {
            let ring = with_ring.then(ring);
            if let Some(ring) = &ring {
                settle(ring).await;
            }
            glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
        });
    }
    open_fds() - before
}
