//! Futures dropped at each stage: what the kernel may touch stays, what was not taken is not lost
//! for others, and rings and executors end with ops in flight.

mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::fs::{Advice, OFlags, ResolveFlags};
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;
use support::{
    arm, executor, full_socket, pipe, poll_once, read_all, ring, ring_with_queues, run, settle,
    socket_pair, until, watch, watched,
};
use tidegate_uring::send::Send;
use tidegate_uring::{Fd, Op, Permit, Ring, Shares};

fn send(ring: &Ring, socket: &Fd, data: Bytes) -> Op<Send> {
    ring.send(socket, data, SendFlags::empty())
}

#[test]
fn bytes_outlive_a_send_dropped_before_its_first_turn() {
    run(async {
        let ring = ring();
        let (socket, _peer) = full_socket();
        let (data, freed) = watched(b"data");
        drop(send(&ring, &socket, data));
        assert!(!freed(), "the entry is queued and points to the bytes");
        until("freed after the cancellation", &freed).await;
    });
}

#[test]
fn bytes_outlive_a_send_dropped_while_pending() {
    run(async {
        let ring = ring();
        let (socket, _peer) = full_socket();
        let (data, freed) = watched(b"data");
        let mut op = send(&ring, &socket, data);
        assert!(poll_once(&mut op).await.is_none());
        settle(&ring).await;
        assert!(poll_once(&mut op).await.is_none());
        drop(op);
        assert!(!freed(), "the kernel waits for room to send them");
        until("freed after the cancellation", &freed).await;
    });
}

#[test]
fn bytes_of_a_complete_send_are_freed_with_its_future() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        let (data, freed) = watched(b"data");
        let op = send(&ring, &socket, data);
        let mut got = [0; 4];
        settle(&ring).await;
        peer.set_nonblocking(true).unwrap();
        until("sent", || peer.read(&mut got).is_ok()).await;
        settle(&ring).await;
        assert!(!freed(), "the op is complete and nobody polled it");
        drop(op);
        assert!(freed());

        let (data, freed) = watched(b"data");
        send(&ring, &socket, data).await.unwrap();
        assert!(freed(), "ready");
    });
}

#[test]
fn a_dropped_read_leaves_the_bytes_to_the_next() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        drop(ring.read(&reader, Vec::with_capacity(64), None));
        let mut op = ring.read(&reader, Vec::with_capacity(64), None);
        assert!(poll_once(&mut op).await.is_none());
        settle(&ring).await;
        drop(op);
        settle(&ring).await;
        rustix::io::write(&writer, b"kept").unwrap();
        let (count, data) = ring.read(&reader, Vec::with_capacity(64), None).await;
        assert_eq!(count.unwrap(), 4);
        assert_eq!(data, b"kept");
    });
}

#[test]
fn a_dropped_next_leaves_the_bytes_to_the_stream() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        for round in 0..4 {
            let mut next = Box::pin(recv.next());
            if round > 0 {
                assert!(poll_once(&mut next).await.is_none());
            }
            settle(&ring).await;
            if round == 2 {
                peer.write_all(b"kept").unwrap();
                settle(&ring).await;
            }
            drop(next);
            if round == 2 {
                assert_eq!(read_all(&mut recv, 4).await, b"kept");
            }
        }
    });
}

#[test]
fn a_ring_that_ends_frees_what_its_ops_held() {
    run(async {
        for turns in [false, true] {
            for (entries, completions, count) in [(1024, 1024, 1), (8, 64, 100)] {
                let ring = ring_with_queues(entries, completions);
                let (socket, _peer) = full_socket();
                let (empty, _writer) = pipe();
                let mut watches = Vec::new();
                for _ in 0..count {
                    let (data, freed) = watched(b"data");
                    watches.push(freed);
                    drop(send(&ring, &socket, data));
                    drop(ring.poll(&empty, PollFlags::IN));
                }
                let splice = ring.splice(&empty, None, &socket, None, 1, SpliceFlags::empty());
                if turns {
                    settle(&ring).await;
                }
                drop(splice);
                drop(ring);
                assert!(watches.iter().all(|freed| freed()), "{turns} {entries}");
            }
        }
    });
}

#[test]
fn a_future_keeps_its_ring() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        let op = ring.read(&reader, Vec::with_capacity(8), None);
        let (socket, mut peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        drop(ring);
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(op.await.1, b"x");
        peer.write_all(b"y").unwrap();
        let data = recv.next().await.unwrap().unwrap();
        drop(recv);
        assert_eq!(&*data, b"y", "the buffer outlives the ring");
    });
}

#[test]
fn an_executor_may_end_with_ops_in_flight() {
    let _watched = watch();
    let (reader, writer) = pipe();
    let (full, _peer) = full_socket();
    let (data, freed) = watched(b"data");
    let first = executor();
    let (ring, op) = first.run(async {
        let ring = ring();
        let task_ring = ring.clone();
        let task_reader = reader.clone();
        // Waits for ever; glommio leaks such a task, and its op must not be freed meanwhile.
        glommio::spawn_local(async move {
            let read = task_ring.read(&task_reader, Vec::with_capacity(8), None);
            let send = task_ring.send(&full, data, SendFlags::empty());
            futures_lite::future::zip(read, send).await
        })
        .detach();
        settle(&ring).await;
        let op = ring.read(&reader, Vec::with_capacity(8), None);
        settle(&ring).await;
        (ring, op)
    });
    drop(first);
    rustix::io::write(&writer, b"12345678").unwrap();
    drop(op);
    drop(ring);
    assert!(!freed(), "the task that sends it was not dropped");
    run(async {
        let ring = support::ring();
        let (reader, writer) = ring.pipe().await.unwrap();
        rustix::io::write(&writer, b"on").unwrap();
        let reader = Fd::from(reader);
        assert_eq!(
            ring.read(&reader, Vec::with_capacity(2), None).await.1,
            b"on"
        );
    });
}

#[test]
fn a_ring_may_outlive_its_executor() {
    let _watched = watch();
    let first = executor();
    let (data, freed) = watched(b"data");
    let (socket, _peer) = full_socket();
    let (ring, op) = first.run(async {
        let ring = ring();
        let mut op = ring.send(&socket, data, SendFlags::empty());
        assert!(poll_once(&mut op).await.is_none());
        settle(&ring).await;
        (ring, op)
    });
    drop(first);
    drop(op);
    drop(ring);
    assert!(freed(), "the last clone ended the ring");
}

#[test]
fn two_rings_on_two_threads_do_not_meet() {
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        run(async {
            let ring = ring();
            let socket = Fd::from(std::os::fd::OwnedFd::from(right));
            let mut recv = ring.recv(&socket);
            while let Some(data) = recv.next().await.unwrap() {
                let data = Bytes::copy_from_slice(&data);
                assert_eq!(
                    ring.send(&socket, data.clone(), SendFlags::empty())
                        .await
                        .unwrap(),
                    data.len()
                );
            }
        });
    });
    run(async {
        let ring = ring();
        let socket = Fd::from(std::os::fd::OwnedFd::from(left));
        let mut recv = ring.recv(&socket);
        for round in 0..500_u32 {
            let data = Bytes::copy_from_slice(&round.to_ne_bytes());
            ring.send(&socket, data, SendFlags::empty()).await.unwrap();
            assert_eq!(read_all(&mut recv, 4).await, round.to_ne_bytes());
        }
    });
    echo.join().unwrap();
}

/// Queues an op when it is dropped.
struct Owner {
    ring: Ring,
    fd: Fd,
    dropped: Rc<Cell<bool>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.ring.poll(&self.fd, PollFlags::IN));
        self.dropped.set(true);
    }
}

const OWNING: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: `data` came from `Rc::into_raw`.
        unsafe { Rc::increment_strong_count(data.cast::<Owner>()) };
        RawWaker::new(data, &OWNING)
    },
    // SAFETY: as above; the waker's count is given up.
    |data| drop(unsafe { Rc::from_raw(data.cast::<Owner>()) }),
    |_| {},
    // SAFETY: as above.
    |data| drop(unsafe { Rc::from_raw(data.cast::<Owner>()) }),
);

/// A waker that does nothing but own `owner`, for use on this thread only.
fn owning_waker(owner: Owner) -> Waker {
    let data = Rc::into_raw(Rc::new(owner)).cast();
    // SAFETY: the functions keep the count of the `Rc`; the waker stays on this thread.
    unsafe { Waker::from_raw(RawWaker::new(data, &OWNING)) }
}

#[test]
fn a_waker_that_owns_an_op_may_reenter_the_ring_when_it_is_dropped() {
    run(async {
        let ring = ring();
        let (reader, _peer) = socket_pair();
        for replaced in [true, false] {
            let dropped = Rc::new(Cell::new(false));
            let waker = owning_waker(Owner {
                ring: ring.clone(),
                fd: reader.clone(),
                dropped: Rc::clone(&dropped),
            });
            let mut op = ring.read(&reader, Vec::with_capacity(1), None);
            let mut recv = ring.recv(&reader);
            let mut context = Context::from_waker(&waker);
            assert!(Pin::new(&mut op).poll(&mut context).is_pending());
            assert!(recv.poll_next(&mut context).is_pending());
            drop(waker);
            assert!(!dropped.get(), "the ring has clones of the waker");
            if replaced {
                assert!(poll_once(&mut op).await.is_none());
                arm(&mut recv).await;
            } else {
                drop((op, recv));
            }
            assert!(dropped.get());
            settle(&ring).await;
        }
    });
}

/// The permit to occupy the only worker.
fn permit(shares: &Rc<Shares>) -> Permit {
    let owner = tidegate_uring::Owner { device: 1, user: 1 };
    shares.try_take(owner).unwrap()
}

#[test]
fn a_permit_is_held_until_the_kernel_is_done_with_a_dropped_op() {
    run(async {
        let ring = ring();
        let shares = Shares::new(1);
        let (reader, writer) = pipe();
        let read = ring.read(&reader, Vec::with_capacity(1), None);
        let mut read = read.holding(permit(&shares));
        assert!(poll_once(&mut read).await.is_none());
        settle(&ring).await;
        drop(read);
        assert_eq!(shares.given(), 1, "its last completion has yet to come");
        until("given back", || shares.given() == 0).await;

        let read = ring.read(&reader, Vec::with_capacity(1), None);
        let read = read.holding(permit(&shares));
        rustix::io::write(&writer, b".").unwrap();
        read.await.0.unwrap();
        assert_eq!(shares.given(), 0, "it is complete");
    });
}

#[test]
fn a_permit_for_an_advice_returns_though_its_future_is_not_polled() {
    run(async {
        let ring = ring();
        let shares = Shares::new(1);
        let file = Fd::from(OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()));
        let advice = ring.fadvise(&file, 0, 4096, Advice::WillNeed);
        let advice = advice.holding(permit(&shares));
        assert_eq!(shares.given(), 1);
        until("returned", || shares.given() == 0).await;
        advice.await.unwrap();
    });
}

#[test]
fn a_file_opened_for_a_dropped_future_is_closed_by_a_worker_with_its_permit() {
    run(async {
        let ring = ring();
        let shares = Shares::new(1);
        let path = std::ffi::CString::new("/proc/self/status").unwrap();
        for taken_in_time in [false, true] {
            let root = Fd::from(OwnedFd::from(std::fs::File::open("/").unwrap()));
            let flags = OFlags::RDONLY;
            let open = ring.openat2(&root, path.clone(), flags, ResolveFlags::empty());
            let open = open.holding(permit(&shares));
            if taken_in_time {
                settle(&ring).await;
            }
            drop(open);
            assert_eq!(shares.given(), 1, "{taken_in_time}");
            until("closed", || shares.given() == 0).await;
        }
    });
}
