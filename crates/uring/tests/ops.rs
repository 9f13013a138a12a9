//! Every op does what it says.

mod support;

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::fs::{Advice, AtFlags, OFlags, ResolveFlags, StatxFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;
use support::{full_socket, pattern, pipe, poll_once, ring, run, settle, socket_pair, tcp_pair};
use tempfile::TempDir;
use tidegate_uring::{Fd, Ring};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

fn directory(files: &[(&str, &[u8])]) -> (TempDir, Fd) {
    let directory = tempfile::tempdir().unwrap();
    for (name, data) in files {
        std::fs::write(directory.path().join(name), data).unwrap();
    }
    let fd = std::fs::File::open(directory.path()).unwrap();
    (directory, Fd::from(OwnedFd::from(fd)))
}

fn path(name: &str) -> CString {
    CString::new(name).unwrap()
}

async fn open(ring: &Ring, dir: &Fd, name: &str) -> io::Result<OwnedFd> {
    ring.openat2(dir, path(name), OFlags::RDONLY, BENEATH).await
}

#[test]
fn a_connection_is_accepted_and_echoed() {
    run(async {
        let ring = ring();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).unwrap();
            back
        });
        let mut accept = ring.accept(&Fd::from(OwnedFd::from(listener)));
        let socket = accept.next().await.unwrap();
        assert!(fcntl_getfl(&socket).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
        let socket = Fd::from(socket);
        let mut recv = ring.recv(&socket);
        let data = recv.next().await.unwrap().unwrap();
        let sent = ring
            .send(&socket, Bytes::copy_from_slice(&data), SendFlags::empty())
            .await;
        assert_eq!(sent.unwrap(), 5);
        drop(data);
        assert!(recv.next().await.unwrap().is_none());
        assert_eq!(&client.join().unwrap(), b"hello");
    });
}

#[test]
fn accept_tells_an_error_and_tries_anew() {
    run(async {
        let ring = ring();
        let (not_a_listener, _peer) = socket_pair();
        let mut accept = ring.accept(&not_a_listener);
        for _ in 0..2 {
            let error = accept.next().await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    });
}

#[test]
fn send_waits_for_room_on_a_nonblocking_socket() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = full_socket();
        let flags = fcntl_getfl(&socket).unwrap();
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK).unwrap();
        let mut send = ring.send(&socket, Bytes::from_static(b"last"), SendFlags::empty());
        assert!(poll_once(&mut send).await.is_none());
        settle(&ring).await;
        assert!(poll_once(&mut send).await.is_none());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(send.await.unwrap(), 4);
        drop(socket);
        assert!(reader.join().unwrap().ends_with(b"last"));
    });
}

#[test]
fn send_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    run(async {
        let ring = ring();
        let (socket, peer) = socket_pair();
        drop(peer);
        let data = Bytes::from_static(b"x");
        let error = ring
            .send(&socket, data, SendFlags::empty())
            .await
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    });
}

#[test]
fn splice_moves_a_file_through_a_pipe_to_a_socket() {
    run(async {
        let ring = ring();
        let data = pattern(1, 10_000);
        let (_directory, dir) = directory(&[("file", &data)]);
        let file = Fd::from(open(&ring, &dir, "file").await.unwrap());
        let (reader, writer) = pipe();
        let writer = Fd::from(writer);
        let (socket, mut peer) = tcp_pair();
        let moved = ring
            .splice(&file, Some(100), &writer, None, 8000, SpliceFlags::empty())
            .await;
        assert_eq!(moved.unwrap(), 8000);
        let moved = ring
            .splice(&reader, None, &socket, None, 8000, SpliceFlags::empty())
            .await;
        assert_eq!(moved.unwrap(), 8000);
        let mut got = vec![0; 8000];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(got, data[100..8100]);
        let end = ring
            .splice(&file, Some(10_000), &writer, None, 1, SpliceFlags::empty())
            .await;
        assert_eq!(end.unwrap(), 0);
        let neither_is_a_pipe = ring
            .splice(&file, None, &socket, None, 1, SpliceFlags::empty())
            .await;
        assert_eq!(
            neither_is_a_pipe.unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    });
}

#[test]
fn a_poll_for_room_ends_when_the_peer_has_ended_its_half() {
    run(async {
        let ring = ring();
        let (socket, peer) = full_socket();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let events = ring.poll(&socket, PollFlags::OUT).await.unwrap();
        assert_eq!(events, PollFlags::RDHUP);
    });
}

#[test]
fn poll_yields_the_events() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        assert_eq!(
            ring.poll(&socket, PollFlags::OUT).await.unwrap(),
            PollFlags::OUT
        );
        let mut readable = ring.poll(&socket, PollFlags::IN);
        settle(&ring).await;
        assert!(poll_once(&mut readable).await.is_none());
        peer.write_all(b"x").unwrap();
        assert_eq!(readable.await.unwrap(), PollFlags::IN);
        drop(peer);
        let events = ring.poll(&socket, PollFlags::OUT).await.unwrap();
        assert!(events.contains(PollFlags::HUP));
    });
}

#[test]
fn openat2_opens_and_says_why_not() {
    let (root, dir) = directory(&[("file", b"data")]);
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("outside")).unwrap();
    run(async {
        let ring = ring();
        let file = open(&ring, &dir, "file").await.unwrap();
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        for (name, errno) in [
            ("missing", libc::ENOENT),
            ("file/below", libc::ENOTDIR),
            ("..", libc::EXDEV),
            ("/etc/passwd", libc::EXDEV),
            ("outside", libc::EXDEV),
            ("", libc::ENOENT),
        ] {
            let error = open(&ring, &dir, name).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{name}");
        }
    });
}

#[test]
fn statx_tells_of_a_path_and_of_the_descriptor_itself() {
    let (_root, dir) = directory(&[("file", b"12345")]);
    run(async {
        let ring = ring();
        let mask = StatxFlags::BASIC_STATS;
        let stat = ring.statx(&dir, path("file"), AtFlags::empty(), mask).await;
        assert_eq!(stat.unwrap().stx_size, 5);
        let stat = ring.statx(&dir, path(""), AtFlags::EMPTY_PATH, mask).await;
        assert_eq!(
            u32::from(stat.unwrap().stx_mode) & libc::S_IFMT,
            libc::S_IFDIR
        );
        let error = ring
            .statx(&dir, path("missing"), AtFlags::empty(), mask)
            .await
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    });
}

#[test]
fn read_appends_at_an_offset_or_the_position() {
    let (_root, dir) = directory(&[("file", b"0123456789")]);
    run(async {
        let ring = ring();
        let file = Fd::from(open(&ring, &dir, "file").await.unwrap());
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(b"ab");
        let (count, buffer) = ring.read(&file, buffer, Some(7)).await;
        assert_eq!(count.unwrap(), 3);
        assert_eq!(buffer, b"ab789");
        let (count, buffer) = ring.read(&file, Vec::with_capacity(64), None).await;
        assert_eq!((count.unwrap(), buffer.len()), (10, 10));
        let (count, buffer) = ring.read(&file, buffer, None).await;
        assert_eq!((count.unwrap(), buffer.len()), (0, 10));
        let (error, buffer) = ring.read(&dir, buffer, None).await;
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert_eq!(buffer, b"0123456789");
    });
}

#[test]
fn fadvise_is_taken_for_a_file_and_refused_for_a_pipe() {
    let (_root, dir) = directory(&[("file", &pattern(0, 4096))]);
    run(async {
        let ring = ring();
        let file = Fd::from(open(&ring, &dir, "file").await.unwrap());
        for advice in [Advice::WillNeed, Advice::Sequential, Advice::DontNeed] {
            ring.fadvise(&file, 0, 0, advice).await.unwrap();
        }
        let (reader, _writer) = pipe();
        let error = ring
            .fadvise(&reader, 0, 0, Advice::WillNeed)
            .await
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    });
}

#[test]
fn close_closes() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        ring.close(writer).await.unwrap();
        let (count, _) = ring.read(&reader, Vec::with_capacity(1), None).await;
        assert_eq!(count.unwrap(), 0, "the last write end is gone");
    });
}

#[test]
fn a_pipe_carries_bytes_on_the_ring_and_by_the_call() {
    run(async {
        for pipe in [tidegate_uring::probe().unwrap().pipe, false] {
            let mut features = tidegate_uring::probe().unwrap();
            features.pipe = pipe;
            let ring = Ring::start(&tidegate_uring::Config {
                features: Some(features),
                ..tidegate_uring::Config::default()
            })
            .unwrap();
            assert_eq!(ring.features().pipe, pipe);
            let (reader, writer) = ring.pipe().await.unwrap();
            assert!(reader.as_raw_fd() > 2 && writer.as_raw_fd() > 2);
            for end in [&reader, &writer] {
                assert!(fcntl_getfd(end).unwrap().contains(FdFlags::CLOEXEC));
            }
            rustix::io::write(&writer, b"through").unwrap();
            let (count, data) = ring
                .read(&Fd::from(reader), Vec::with_capacity(16), None)
                .await;
            assert_eq!(count.unwrap(), 7);
            assert_eq!(data, b"through");
        }
    });
}

#[test]
fn cancel_ends_every_op_on_a_descriptor_and_no_other() {
    run(async {
        let ring = ring();
        let (socket, _peer) = socket_pair();
        let (other, _other_peer) = socket_pair();
        let first = ring.poll(&socket, PollFlags::IN);
        let second = ring.read(&socket, Vec::with_capacity(1), None);
        let mut third = ring.poll(&other, PollFlags::IN);
        let mut recv = ring.recv(&socket);
        support::arm(&mut recv).await;
        assert_eq!(ring.cancel(&socket).await.unwrap(), 3);
        let cancelled = Some(libc::ECANCELED);
        assert_eq!(first.await.unwrap_err().raw_os_error(), cancelled);
        assert_eq!(second.await.0.unwrap_err().raw_os_error(), cancelled);
        let Err(error) = recv.next().await else {
            panic!("the stream was cancelled");
        };
        assert_eq!(error.raw_os_error(), cancelled);
        settle(&ring).await;
        assert!(poll_once(&mut third).await.is_none());
        assert_eq!(ring.cancel(&socket).await.unwrap(), 0);
    });
}

#[test]
fn a_descriptor_is_kept_open_by_its_op() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        let op = ring.read(&reader, Vec::with_capacity(1), None);
        let reader = reader.try_unwrap().unwrap_err();
        drop(reader);
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(op.await.0.unwrap(), 1);
        let (reader, _writer) = pipe();
        assert!(reader.try_unwrap().is_ok());
    });
}
