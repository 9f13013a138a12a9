//! Streams: buffers that run dry, readers that are behind, peers that go away.

#[path = "../../../tests/support/skip.rs"]
mod skip;
mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures_lite::future::yield_now;
use rustix::net::sockopt::set_socket_linger;
use skip::skipped;
use support::{
    arm, pattern, read_all, ring, ring_with_buffers, run, settle, socket_pair, tcp_pair, until,
};
use tidegate_uring::{Fd, Received, Ring, probe};

/// Bytes that each peer sends where several do.
const SENT: usize = 200_000;

/// A thread that writes `data` to `peer` and closes it.
fn writer(mut peer: impl Write + Send + 'static, data: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || peer.write_all(&data).unwrap())
}

/// Reads all of several sockets at once, one of them only when the others are through.
async fn read_beside_a_stalled_one(ring: &Ring, readers: u8) {
    let (stalled, peer) = socket_pair();
    let mut stalled_recv = ring.recv(&stalled);
    arm(&mut stalled_recv).await;
    let mut writers = vec![writer(peer, pattern(0, SENT))];
    let tasks: Vec<_> = (1..=readers)
        .map(|seed| {
            let (socket, peer) = socket_pair();
            writers.push(writer(peer, pattern(seed, SENT)));
            let mut recv = ring.recv(&socket);
            glommio::spawn_local(async move {
                assert!(read_all(&mut recv, SENT).await == pattern(seed, SENT));
                assert!(recv.next().await.unwrap().is_none());
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    assert!(read_all(&mut stalled_recv, usize::MAX).await == pattern(0, SENT));
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn few_buffers_serve_several_sockets_beside_a_stalled_one() {
    run(async {
        for (recv_buffers, readers) in [(1, 3), (2, 6), (8, 6), (128, 6)] {
            let ring = ring_with_buffers(recv_buffers, 512);
            read_beside_a_stalled_one(&ring, readers).await;
            // All of them came back: once more on the same ring.
            read_beside_a_stalled_one(&ring, readers).await;
        }
    });
}

/// Drops what `peer` sends. Returns how much that was.
async fn discard_all(ring: &Ring, socket: &Fd, peer: impl Write + Send + 'static) -> usize {
    let writer = writer(peer, pattern(1, SENT));
    let mut recv = ring.recv(socket);
    let mut discarded = 0;
    while let Some(count) = recv.discard().await.unwrap() {
        discarded += count;
    }
    writer.join().unwrap();
    discarded
}

/// The kernel copies nothing of TCP; what other sockets receive goes through the buffers.
#[test]
fn bytes_are_discarded_to_the_end() {
    run(async {
        let ring = ring();
        let (socket, peer) = tcp_pair();
        assert_eq!(discard_all(&ring, &socket, peer).await, SENT);
        let (socket, peer) = socket_pair();
        assert!((1..=SENT).contains(&discard_all(&ring, &socket, peer).await));
    });
}

#[test]
fn buffers_of_an_unread_queue_are_spilled_for_others() {
    run(async {
        let ring = ring_with_buffers(1, 64);
        let (unread, mut unread_peer) = socket_pair();
        let mut unread_recv = ring.recv(&unread);
        arm(&mut unread_recv).await;
        unread_peer.write_all(&pattern(1, 8 * 64)).unwrap();
        settle(&ring).await;
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        peer.write_all(b"through").unwrap();
        assert_eq!(read_all(&mut recv, 7).await, b"through");
        let first = unread_recv.next().await.unwrap().unwrap();
        assert!(matches!(first, Received::Spilled(_)));
        let mut all = first.to_vec();
        all.extend(read_all(&mut unread_recv, 7 * 64).await);
        assert_eq!(all, pattern(1, 8 * 64));
    });
}

#[test]
fn unread_bytes_stay_in_the_socket() {
    const SENT: usize = 128 * 1024;
    if !probe().unwrap().recv_limit {
        return skipped("this kernel cannot limit what is received in one go");
    }
    run(async {
        let ring = ring_with_buffers(64, 4096);
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        // In pieces, and all at once.
        for piece in [&[1; 10][..], &[2; 10], &pattern(3, SENT)] {
            peer.write_all(piece).unwrap();
            settle(&ring).await;
        }
        let left = rustix::io::ioctl_fionread(&socket).unwrap() as usize;
        assert!(left >= SENT - 4096, "{left} of {SENT} bytes are left");
        let all = read_all(&mut recv, 20 + SENT).await;
        let expected = [vec![1; 10], vec![2; 10], pattern(3, SENT)].concat();
        assert!(all == expected);
    });
}

#[test]
fn streams_wait_for_buffers_that_are_held() {
    run(async {
        let ring = ring_with_buffers(2, 64);
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        peer.write_all(&pattern(2, 4 * 64)).unwrap();
        let held = [
            recv.next().await.unwrap().unwrap(),
            recv.next().await.unwrap().unwrap(),
        ];
        let done = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (socket, mut peer) = socket_pair();
            let (ring, done) = (ring.clone(), Rc::clone(&done));
            peer.write_all(b"wait").unwrap();
            glommio::spawn_local(async move {
                assert_eq!(read_all(&mut ring.recv(&socket), 4).await, b"wait");
                done.set(done.get() + 1);
                drop(peer);
            })
            .detach();
        }
        settle(&ring).await;
        assert_eq!(done.get(), 0, "no buffer is free and none is queued");
        let mut all = held.map(|data| data.to_vec()).concat();
        until("all waiting streams", || done.get() == 3).await;
        all.extend(read_all(&mut recv, 2 * 64).await);
        assert_eq!(all, pattern(2, 4 * 64));
    });
}

/// Turns that the ring takes until as many new streams as `sockets` have what waits for each.
async fn turns_of_a_burst(ring: &Ring, sockets: &mut [(Fd, UnixStream)]) -> u64 {
    let before = ring.turns();
    let reads: Vec<_> = sockets
        .iter_mut()
        .map(|(socket, peer)| {
            peer.write_all(b"burst").unwrap();
            let mut recv = ring.recv(socket);
            glommio::spawn_local(async move {
                // It is given back at once, as a server of small files does.
                assert_eq!(&*recv.next().await.unwrap().unwrap(), b"burst");
            })
        })
        .collect();
    for read in reads {
        read.await;
    }
    ring.turns() - before
}

#[test]
fn a_burst_has_more_buffers_published_though_readers_give_theirs_back_at_once() {
    run(async {
        let ring = ring_with_buffers(512, 64);
        let mut sockets: Vec<_> = (0..400).map(|_| socket_pair()).collect();
        for _ in 0..4 {
            turns_of_a_burst(&ring, &mut sockets).await;
        }
        let turns = turns_of_a_burst(&ring, &mut sockets).await;
        assert!(turns <= 4, "{turns} turns: with 64 buffers it takes 7");
    });
}

#[test]
fn a_waiting_stream_that_is_dropped_does_not_take_the_wake_up_along() {
    run(async {
        let ring = ring_with_buffers(1, 64);
        let (holder, mut holder_peer) = socket_pair();
        let mut holder_recv = ring.recv(&holder);
        holder_peer.write_all(b"held").unwrap();
        let held = holder_recv.next().await.unwrap().unwrap();
        let (first, mut first_peer) = socket_pair();
        let (second, mut second_peer) = socket_pair();
        first_peer.write_all(b"first").unwrap();
        second_peer.write_all(b"second").unwrap();
        let mut first_recv = ring.recv(&first);
        let mut second_recv = ring.recv(&second);
        for _ in 0..20 {
            arm(&mut first_recv).await;
            arm(&mut second_recv).await;
            yield_now().await;
        }
        drop(held);
        drop(first_recv);
        assert_eq!(read_all(&mut second_recv, 6).await, b"second");
    });
}

#[test]
fn a_paused_stream_resumes_and_loses_nothing() {
    const LEN: usize = 6 << 20;
    run(async {
        let ring = ring();
        let (socket, peer) = tcp_pair();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        let writer = writer(peer, pattern(3, LEN));
        // Nobody reads until the writer is through or stuck, and then with pauses.
        glommio::timer::sleep(Duration::from_millis(50)).await;
        let mut all = Vec::new();
        while let Some(data) = recv.next().await.unwrap() {
            all.extend_from_slice(&data);
            if all.len() % 7 == 0 {
                settle(&ring).await;
            }
        }
        assert!(all == pattern(3, LEN));
        writer.join().unwrap();
    });
}

#[test]
fn a_cancel_reaches_a_paused_stream() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        for _ in 0..16 {
            peer.write_all(&[7; 10]).unwrap();
            settle(&ring).await;
        }
        let _ = ring.cancel(&socket).await.unwrap();
        let mut got = 0;
        let error = loop {
            match recv.next().await {
                Ok(data) => got += data.unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        got += read_all(&mut recv, 160 - got).await.len();
        assert_eq!(got, 160, "what was not received stayed in the socket");
    });
}

#[test]
fn a_peer_that_closes_ends_the_stream_after_its_bytes() {
    run(async {
        let ring = ring();
        for before in [true, false] {
            let (socket, mut peer) = tcp_pair();
            let mut recv = ring.recv(&socket);
            if !before {
                arm(&mut recv).await;
                settle(&ring).await;
            }
            peer.write_all(b"last words").unwrap();
            drop(peer);
            assert_eq!(read_all(&mut recv, usize::MAX).await, b"last words");
            assert!(recv.next().await.unwrap().is_none(), "and stays at its end");
        }
    });
}

#[test]
fn a_peer_that_resets_is_an_error() {
    run(async {
        let ring = ring();
        let (socket, peer) = tcp_pair();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        settle(&ring).await;
        set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        let Err(error) = recv.next().await else {
            panic!("the peer reset the connection");
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    });
}

#[test]
fn a_shutdown_from_another_task_ends_the_stream() {
    run(async {
        let ring = ring();
        let (socket, _peer) = tcp_pair();
        let other = socket.clone();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        settle(&ring).await;
        rustix::net::shutdown(&other, rustix::net::Shutdown::Both).unwrap();
        assert!(recv.next().await.unwrap().is_none());
    });
}

fn listener() -> (Fd, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    rustix::net::listen(&listener, 1024).unwrap();
    (Fd::from(OwnedFd::from(listener)), address)
}

#[test]
fn a_dropped_accept_closes_its_connections_and_frees_its_port() {
    run(async {
        let ring = ring();
        let (listener, address) = listener();
        let mut accept = ring.accept(&listener);
        let taken = TcpStream::connect(address).unwrap();
        drop(accept.next().await.unwrap());
        let queued = TcpStream::connect(address).unwrap();
        settle(&ring).await;
        drop(accept);
        drop(listener);
        until("nobody listens", || TcpStream::connect(address).is_err()).await;
        for mut client in [taken, queued] {
            assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)), "closed");
        }
    });
}

#[test]
fn an_accept_whose_reader_is_behind_pauses_and_resumes() {
    const CLIENTS: usize = 600;
    run(async {
        let ring = ring();
        let (listener, address) = listener();
        let mut accept = ring.accept(&listener);
        let mut clients = vec![TcpStream::connect(address).unwrap()];
        let mut accepted = vec![accept.next().await.unwrap()];
        while clients.len() < CLIENTS {
            clients.push(TcpStream::connect(address).unwrap());
            if clients.len() % 50 == 0 {
                settle(&ring).await;
            }
        }
        while accepted.len() < CLIENTS {
            accepted.push(accept.next().await.unwrap());
        }
    });
}
