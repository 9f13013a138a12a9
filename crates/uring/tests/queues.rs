//! More ops, more completions and more tasks than the queues of a ring hold.

mod support;

use std::cell::Cell;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::Bytes;
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::net::SendFlags;
use support::{pattern, pipe, read_all, ring, ring_with_queues, run, settle, socket_pair, watched};
use tidegate_uring::{Fd, Ring};

fn readable_event() -> Fd {
    Fd::from(eventfd(1, EventfdFlags::CLOEXEC).unwrap())
}

#[test]
fn a_thousand_ops_pass_a_queue_of_four() {
    run(async {
        for entries in [1, 4, 8] {
            let ring = ring_with_queues(entries, 2 * entries);
            let ready = readable_event();
            let ops: Vec<_> = (0..1000)
                .map(|_| ring.poll(&ready, PollFlags::IN))
                .collect();
            for op in ops {
                assert_eq!(op.await.unwrap(), PollFlags::IN);
            }
        }
    });
}

#[test]
fn ops_of_a_full_queue_keep_their_order() {
    run(async {
        let ring = ring_with_queues(4, 8);
        let (socket, peer) = socket_pair();
        let peer = Fd::from(OwnedFd::from(peer));
        let mut recv = ring.recv(&peer);
        let data = pattern(5, 2000);
        let sends: Vec<_> = data
            .chunks(20)
            .map(|chunk| ring.send(&socket, Bytes::copy_from_slice(chunk), SendFlags::empty()))
            .collect();
        for send in sends {
            assert_eq!(send.await.unwrap(), 20);
        }
        assert_eq!(read_all(&mut recv, 2000).await, data);
    });
}

#[test]
fn ops_dropped_in_a_full_queue_are_released() {
    run(async {
        let ring = ring_with_queues(4, 8);
        let (socket, _peer) = support::full_socket();
        let mut watches = Vec::new();
        for _ in 0..500 {
            let (data, freed) = watched(b"data");
            watches.push(freed);
            drop(ring.send(&socket, data, SendFlags::empty()));
        }
        assert!(!watches[0]());
        support::until("all released", || watches.iter().all(|freed| freed())).await;
    });
}

#[test]
fn completions_past_the_completion_queue_all_come() {
    run(async {
        let ring = ring_with_queues(8, 8);
        let waiting = Fd::from(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let ops: Vec<_> = (0..700)
            .map(|_| ring.poll(&waiting, PollFlags::IN))
            .collect();
        settle(&ring).await;
        rustix::io::write(&waiting, &1_u64.to_ne_bytes()).unwrap();
        for op in ops {
            assert_eq!(op.await.unwrap(), PollFlags::IN);
        }
    });
}

#[test]
fn streams_past_the_completion_queue_lose_nothing() {
    run(async {
        let ring = ring_with_queues(8, 8);
        let data = pattern(6, 30_000);
        let (mut recvs, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let (socket, peer) = socket_pair();
            recvs.push(ring.recv(&socket));
            peers.push(peer);
        }
        for recv in &mut recvs {
            support::arm(recv).await;
        }
        settle(&ring).await;
        for peer in &mut peers {
            peer.write_all(&data).unwrap();
        }
        drop(peers);
        for recv in &mut recvs {
            assert!(read_all(recv, usize::MAX).await == data);
        }
    });
}

/// One of many tasks: reads a byte.
async fn read_one(ring: Ring, reader: Fd, done: Rc<Cell<usize>>) {
    let (count, byte) = ring.read(&reader, Vec::with_capacity(1), None).await;
    assert_eq!((count.unwrap(), byte.len()), (1, 1));
    done.set(done.get() + 1);
}

#[test]
fn ten_thousand_tasks_each_await_an_op() {
    run(async {
        let ring = ring();
        let done = Rc::new(Cell::new(0));
        let pipes: Vec<(Fd, OwnedFd)> = (0..20).map(|_| pipe()).collect();
        let tasks: Vec<_> = (0..10_000)
            .map(|index| {
                let reader = pipes[index % pipes.len()].0.clone();
                glommio::spawn_local(read_one(ring.clone(), reader, Rc::clone(&done)))
            })
            .collect();
        settle(&ring).await;
        assert_eq!(done.get(), 0);
        for (_, writer) in &pipes {
            rustix::io::write(writer, &[0; 500]).unwrap();
        }
        for task in tasks {
            task.await;
        }
        assert_eq!(done.get(), 10_000);
    });
}

#[test]
fn ten_thousand_tasks_may_be_dropped_at_once() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        let done = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..10_000)
            .map(|_| glommio::spawn_local(read_one(ring.clone(), reader.clone(), Rc::clone(&done))))
            .collect();
        settle(&ring).await;
        drop(tasks);
        settle(&ring).await;
        rustix::io::write(&writer, b"left").unwrap();
        let (count, _) = ring.read(&reader, Vec::with_capacity(8), None).await;
        assert_eq!(count.unwrap(), 4);
        assert_eq!(done.get(), 0);
    });
}
