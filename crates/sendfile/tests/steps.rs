//! Transfers in steps: the exact bytes in order, other bytes between them, and nothing held while a
//! transfer waits for its next step.

mod support;

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;
use support::{
    Bench, HASTY, PATIENT, PIPE, connect, connect_narrow, evicted_file_of, file_of, joined,
    pattern, poll_until, pool_of, read_all, read_by, run, until_true,
};
use tidegate_sendfile::{Error, ErrorKind, Options, Step, Transfer};
use tidegate_uring::Fd;
use tidegate_uring::executor::coarse_sleep;

/// Bytes of a frame's header: its length.
const HEADER_BYTES: usize = 9;

/// Lengths of steps, used in turn.
const STEPS: [usize; 8] = [
    1,
    9,
    16_384,
    65_536,
    PIPE - 1,
    PIPE,
    PIPE + 1,
    usize::MAX >> 1,
];

const LEN: usize = 5 * PIPE + 77;

/// How often a test is tried that needs a slow disk or a fast machine.
const TRIES_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Splice,
    Encode,
}

const WAYS: [Way; 2] = [Way::Splice, Way::Encode];

/// Inverts every bit.
#[expect(clippy::unnecessary_wraps, reason = "the signature of an encoder")]
fn invert(plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    out.clear();
    out.extend(plain.iter().map(|byte| !byte));
    Ok(out.len())
}

/// What arrives of `data`.
fn on_the_wire(way: Way, data: &[u8]) -> Vec<u8> {
    match way {
        Way::Splice => data.to_vec(),
        Way::Encode => data.iter().map(|byte| !byte).collect(),
    }
}

async fn step(transfer: &mut Transfer, way: Way, socket: &Fd, bytes_max: u64) -> Result<(), Error> {
    let step = Step {
        bytes_max,
        more: false,
    };
    match way {
        Way::Splice => transfer.step(socket, step).await,
        Way::Encode => transfer.step_encoded(socket, step, invert).await,
    }
}

/// One step, and before its bytes a header with its length: on the socket, or before the first
/// bytes that are encoded.
async fn framed_step(transfer: &mut Transfer, way: Way, bench: &Bench, socket: &Fd, len: u64) {
    let mut header = [0; HEADER_BYTES];
    header[1..].copy_from_slice(&len.to_be_bytes());
    match way {
        Way::Splice => {
            write_all(bench, socket, &header).await;
            step(transfer, way, socket, len).await.unwrap();
        }
        Way::Encode => {
            let mut header = Some(header);
            let encode = |plain: &[u8], out: &mut Vec<u8>| {
                out.clear();
                out.extend(header.take().into_iter().flatten());
                out.extend(plain.iter().map(|byte| !byte));
                Ok(out.len())
            };
            let step = Step {
                bytes_max: len,
                more: false,
            };
            let sent = transfer.step_encoded(socket, step, encode).await;
            sent.unwrap();
        }
    }
}

async fn write_all(bench: &Bench, socket: &Fd, mut bytes: &[u8]) {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, flags) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => {
                bench.ring.poll(socket, PollFlags::OUT).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The bytes in the frames of `received`, and the lengths of the frames.
fn unframe(mut received: &[u8]) -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
    while !received.is_empty() {
        let (header, rest) = received.split_at(HEADER_BYTES);
        let len = u64::from_be_bytes(header[1..].try_into().unwrap());
        let (content, rest) = rest.split_at(len as usize);
        bytes.extend_from_slice(content);
        lengths.push(len);
        received = rest;
    }
    (bytes, lengths)
}

async fn send_framed(bench: &Bench, way: Way, file: &Fd, data: &[u8], options: &Options) {
    const START: usize = 5;
    let (socket, peer) = connect();
    let reader = read_all(peer);
    let range = START as u64..data.len() as u64;
    let mut transfer = Transfer::new(&bench.ring, &bench.pool, file, range, options);
    let mut lengths = Vec::new();
    for bound in STEPS.into_iter().cycle() {
        let (before, remaining) = (transfer.sent(), transfer.remaining());
        if remaining == 0 {
            break;
        }
        let len = remaining.min(bound as u64);
        framed_step(&mut transfer, way, bench, &socket, len).await;
        assert_eq!(transfer.sent(), before + len);
        let stats = bench.pool.stats();
        assert_eq!((stats.cold, stats.cold_waiting), (0, 0), "{stats:?}");
        assert_eq!(stats.idle + stats.parked, stats.pipes, "{stats:?}");
        lengths.push(len);
    }
    transfer.finish();
    drop(socket);
    let (bytes, received_lengths) = unframe(&joined(reader).await);
    assert!(bytes == on_the_wire(way, &data[START..]), "{way:?}");
    assert_eq!(received_lengths, lengths, "{way:?}");
    bench.check_rest();
}

#[test]
fn steps_of_any_size_send_exactly_their_bytes_between_others() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let cold = Options {
            unread: true,
            drop_behind: true,
            ..PATIENT
        };
        for way in WAYS {
            send_framed(&bench, way, &file_of(&data), &data, &PATIENT).await;
            for options in [&PATIENT, &cold] {
                let file = evicted_file_of(&data);
                send_framed(&bench, way, &file, &data, options).await;
            }
        }
    });
}

#[test]
fn steps_that_fill_the_socket_are_completed() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        for way in WAYS {
            let (socket, peer) = connect_narrow();
            let reader = read_by(peer, |_| std::thread::sleep(Duration::from_micros(100)));
            let file = file_of(&data);
            let whole = 0..LEN as u64;
            let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
            while transfer.remaining() > 0 {
                step(&mut transfer, way, &socket, 100_001).await.unwrap();
            }
            drop(socket);
            assert!(joined(reader).await == on_the_wire(way, &data), "{way:?}");
            drop(transfer);
            bench.check_rest();
        }
    });
}

#[test]
fn a_step_past_the_end_and_one_of_nothing_succeed() {
    run(async {
        let bench = Bench::new().await;
        let (socket, peer) = connect();
        let reader = read_all(peer);
        let file = file_of(b"abc");
        let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, 0..3, &PATIENT);
        transfer.step(&socket, Step::ALL).await.unwrap();
        for bytes_max in [0, 1, u64::MAX] {
            step(&mut transfer, Way::Splice, &socket, bytes_max)
                .await
                .unwrap();
        }
        assert_eq!((transfer.sent(), transfer.remaining()), (3, 0));
        drop(socket);
        assert_eq!(joined(reader).await, b"abc");
    });
}

#[test]
fn a_transfer_between_steps_leaves_its_pipe_to_others() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let (socket, peer) = connect();
        let reader = read_all(peer);
        let whole = 0..LEN as u64;
        let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
        step(&mut transfer, Way::Splice, &socket, 1000)
            .await
            .unwrap();
        assert_eq!(bench.pool.stats().parked, 1, "it still holds bytes");
        step(&mut transfer, Way::Splice, &socket, 1000)
            .await
            .unwrap();
        assert_eq!(bench.pool.stats().chunks_inline, 1, "the same bytes");
        bench.check_exact().await;
        assert_eq!(bench.pool.stats().pipes_taken, 1);
        step(&mut transfer, Way::Splice, &socket, u64::MAX)
            .await
            .unwrap();
        drop(socket);
        assert!(joined(reader).await == data);
        bench.check_rest();
    });
}

#[test]
fn dropped_between_steps_a_transfer_leaves_nothing() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let data = pattern(LEN);
        for way in WAYS {
            for file in [file_of(&data), evicted_file_of(&data)] {
                let (socket, _peer) = connect();
                let whole = 0..LEN as u64;
                let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
                step(&mut transfer, way, &socket, 1000).await.unwrap();
                // A prefetch needs no step to return its permit.
                until_true(|| bench.pool.stats().ahead == 0).await;
                drop(transfer);
                assert_eq!(bench.pool.stats().parked, 0);
                bench.check_exact().await;
            }
        }
    });
}

/// Reads the bytes that have arrived at `peer`.
fn read_some(peer: &mut TcpStream) -> Vec<u8> {
    peer.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let end = peer.read_to_end(&mut all).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
    peer.set_nonblocking(false).unwrap();
    all
}

#[test]
fn a_step_dropped_at_a_full_socket_can_be_continued() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let data = pattern(LEN);
        for way in WAYS {
            let file = file_of(&data);
            let (socket, mut peer) = connect_narrow();
            let whole = 0..LEN as u64;
            let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
            let mut received = Vec::new();
            for _ in 0..10 {
                let mut sending = Box::pin(step(&mut transfer, way, &socket, u64::MAX));
                assert!(poll_once(&mut sending).await.is_none());
                drop(sending);
                let stats = bench.pool.stats();
                assert_eq!((stats.parked, stats.idle), (0, stats.pipes), "{stats:?}");
                received.extend(read_some(&mut peer));
                assert!(transfer.sent() >= received.len() as u64 || way == Way::Encode);
            }
            let reader = read_all(peer);
            step(&mut transfer, way, &socket, u64::MAX).await.unwrap();
            drop(socket);
            received.extend(joined(reader).await);
            assert!(received == on_the_wire(way, &data), "{way:?}");
            bench.check_exact().await;
        }
    });
}

#[test]
fn the_rest_of_an_encoded_piece_goes_before_the_next_step() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let (socket, peer) = connect_narrow();
        let whole = 0..LEN as u64;
        let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
        let mut sending = Box::pin(step(&mut transfer, Way::Encode, &socket, u64::MAX));
        assert!(poll_once(&mut sending).await.is_none());
        drop(sending);
        let before = transfer.sent();
        let reader = read_all(peer);
        step(&mut transfer, Way::Encode, &socket, 1).await.unwrap();
        assert_eq!(transfer.sent(), before + 65_536, "a whole piece");
        step(&mut transfer, Way::Encode, &socket, 1).await.unwrap();
        assert_eq!(transfer.sent(), before + 65_537);
        drop(socket);
        let sent = transfer.sent() as usize;
        assert!(joined(reader).await == on_the_wire(Way::Encode, &data[..sent]));
    });
}

/// Polls a step until it waits for the disk, and drops it. False if the disk answered before.
async fn drop_cold_step(bench: &Bench, transfer: &mut Transfer, way: Way, socket: &Fd) -> bool {
    let mut sending = Box::pin(step(transfer, way, socket, u64::MAX));
    poll_until(&mut sending, || bench.pool.stats().cold > 0).await
}

#[test]
fn a_step_dropped_at_the_disk_can_be_continued() {
    run(async {
        let bench = Bench::with(pool_of(2)).await;
        let data = pattern(LEN);
        for way in WAYS {
            for attempt in 0.. {
                assert!(attempt < TRIES_MAX, "the disk always answers at once");
                let file = evicted_file_of(&data);
                let (socket, peer) = connect();
                let reader = read_all(peer);
                let whole = 0..LEN as u64;
                let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
                let waited = drop_cold_step(&bench, &mut transfer, way, &socket).await;
                step(&mut transfer, way, &socket, u64::MAX).await.unwrap();
                drop(socket);
                assert!(joined(reader).await == on_the_wire(way, &data), "{way:?}");
                drop(transfer);
                // A worker may still wait for the disk.
                until_true(|| bench.pool.stats().cold == 0).await;
                bench.check_exact().await;
                if waited {
                    break;
                }
            }
        }
    });
}

#[test]
fn the_time_between_steps_does_not_count_against_the_peer() {
    run(async {
        let bench = Bench::new().await;
        let file = file_of(&pattern(LEN));
        for way in WAYS {
            let (socket, _peer) = connect_narrow();
            let whole = 0..LEN as u64;
            let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &HASTY);
            step(&mut transfer, way, &socket, 100).await.unwrap();
            let mut sending = Box::pin(step(&mut transfer, way, &socket, u64::MAX));
            assert!(poll_once(&mut sending).await.is_none());
            drop(sending);
            coarse_sleep(HASTY.stall * 4).await;
            let start = Instant::now();
            let error = step(&mut transfer, way, &socket, u64::MAX)
                .await
                .unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
            assert!(start.elapsed() >= HASTY.stall);
            assert_eq!(error.sent, transfer.sent());
            drop(transfer);
            bench.check_rest();
        }
    });
}

#[test]
fn the_last_segment_of_a_step_is_held_back_only_if_more_follows() {
    run(async {
        let bench = Bench::new().await;
        let file = file_of(&pattern(LEN));
        for way in WAYS {
            let held = async || {
                let (socket, mut peer) = connect();
                let whole = 0..LEN as u64;
                let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, whole, &PATIENT);
                let with_more = Step {
                    bytes_max: 100,
                    more: true,
                };
                let sent = match way {
                    Way::Splice => transfer.step(&socket, with_more).await,
                    Way::Encode => transfer.step_encoded(&socket, with_more, invert).await,
                };
                sent.unwrap();
                let held = read_some(&mut peer).is_empty();
                step(&mut transfer, way, &socket, 100).await.unwrap();
                let mut rest = vec![0; if held { 200 } else { 100 }];
                peer.read_exact(&mut rest).unwrap();
                held
            };
            let mut tries = 0;
            // TCP sends it after 200 ms in any case.
            while !held().await {
                tries += 1;
                assert!(tries < TRIES_MAX, "{way:?}: never held back");
            }
        }
    });
}

#[test]
fn a_file_that_ends_within_a_step_is_an_error_after_its_last_byte() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(100_000);
        for way in WAYS {
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let file = file_of(&data);
            let mut transfer = Transfer::new(&bench.ring, &bench.pool, &file, 0..200_000, &PATIENT);
            step(&mut transfer, way, &socket, 60_000).await.unwrap();
            let error = step(&mut transfer, way, &socket, 60_000).await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Truncated), "{error}");
            assert_eq!((error.sent, transfer.sent()), (100_000, 100_000));
            transfer.finish();
            drop(socket);
            assert!(joined(reader).await == on_the_wire(way, &data));
            bench.check_rest();
        }
    });
}
