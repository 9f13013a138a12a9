//! Peers and files that fail, and futures that are dropped: the count of sent bytes is exact, and
//! the pool is as good as before.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures_lite::future::{or, poll_once};
use rustix::net::sockopt;
use support::{
    Bench, HASTY, PATIENT, PIPE, connect, connect_narrow, evicted_file_of, file_of, joined,
    pattern, poll_until, pool_of, read_all, run, until_true,
};
use tidegate_sendfile::{Error, ErrorKind, Options};
use tidegate_uring::Fd;

const LEN: usize = 8 << 20;

/// Attempts of a test whose reader must get to read regularly.
const TRIES_MAX: usize = 20;

/// Closes with a reset instead of an end.
fn reset(peer: TcpStream) {
    sockopt::set_socket_linger(peer.as_fd(), Some(Duration::ZERO)).unwrap();
    drop(peer);
}

#[test]
fn a_reader_that_stalls_ends_the_transfer() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let (socket, peer) = connect_narrow();
        let error = bench
            .send(&socket, &file, 0..LEN as u64, &HASTY)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        assert!(error.sent > 0 && error.sent < LEN as u64);
        drop(socket);
        let received = joined(read_all(peer)).await;
        assert_eq!(received.len() as u64, error.sent, "all it took arrives");
        assert!(received == data[..received.len()]);
        bench.check_exact().await;
    });
}

/// Reads `pieces` times, at most 4 KiB each, after a `pause`. Returns the bytes and the longest
/// time between two reads.
fn read_slowly(peer: &mut TcpStream, pieces: usize, pause: Duration) -> (Vec<u8>, Duration) {
    let (mut all, mut longest) = (Vec::new(), Duration::ZERO);
    let mut piece = [0; 4096];
    let mut last = Instant::now();
    for _ in 0..pieces {
        std::thread::sleep(pause);
        let count = peer.read(&mut piece).unwrap_or(0);
        all.extend_from_slice(&piece[..count]);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    (all, longest)
}

/// Repeats `attempt`, which sends to a slow reader with the stall limit `limit`, until it is not
/// cut off. On a machine so busy that the reader does not get to read, the cut-off is right:
/// `attempt` returns the longest time between two reads.
async fn never_stalls(limit: Duration, attempt: impl AsyncFn() -> (Result<(), Error>, Duration)) {
    for _ in 0..TRIES_MAX {
        let (sent, longest) = attempt().await;
        let Err(error) = sent else { return };
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        // It takes a third of the limit until a read is acknowledged.
        assert!(longest > limit / 2, "cut off, with reads {longest:?} apart");
    }
    panic!("the machine is too busy for a reader of any pace");
}

#[test]
fn a_reader_that_is_slow_but_moves_does_not_stall() {
    const LIMIT: Duration = Duration::from_millis(400);
    run(async {
        let bench = Bench::new().await;
        let data = pattern(400_000);
        let file = file_of(&data);
        let attempt = async || {
            let (socket, mut peer) = connect_narrow();
            let reader = std::thread::spawn(move || {
                let pieces = 400_000_usize.div_ceil(4096);
                let (mut all, longest) = read_slowly(&mut peer, pieces, Duration::from_millis(8));
                peer.read_to_end(&mut all).unwrap();
                (all, longest)
            });
            let options = Options {
                stall: LIMIT,
                ..PATIENT
            };
            let sent = bench.send(&socket, &file, 0..400_000, &options).await;
            drop(socket);
            until_true(|| reader.is_finished()).await;
            let (all, longest) = reader.join().unwrap();
            if sent.is_ok() {
                assert!(all == data);
            }
            (sent.map(drop), longest)
        };
        never_stalls(LIMIT, attempt).await;
    });
}

/// On loopback the socket's buffer grows to megabytes, and it is writable again only when a third
/// of it has drained. This reader needs many times the stall time for that.
#[test]
fn a_reader_that_takes_little_of_a_large_buffer_does_not_stall() {
    const LIMIT: Duration = Duration::from_millis(600);
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let attempt = async || {
            let (socket, mut peer) = connect();
            sockopt::set_socket_recv_buffer_size(peer.as_fd(), 16 * 1024).unwrap();
            let reader = std::thread::spawn(move || {
                let (all, longest) = read_slowly(&mut peer, 75, Duration::from_millis(40));
                (all, longest, peer)
            });
            let options = Options {
                stall: LIMIT,
                ..PATIENT
            };
            let mut transfer = Box::pin(bench.send(&socket, &file, 0..LEN as u64, &options));
            let over = async {
                until_true(|| reader.is_finished()).await;
                None
            };
            let cut_off = or(async { Some((&mut transfer).await) }, over).await;
            until_true(|| reader.is_finished()).await;
            let (mut all, longest, peer) = reader.join().unwrap();
            if let Some(sent) = cut_off {
                return (sent.map(drop), longest);
            }
            let rest = read_all(peer);
            let sent = transfer.await;
            drop(socket);
            all.extend(joined(rest).await);
            if sent.is_ok() {
                assert!(all == data);
            }
            (sent.map(drop), longest)
        };
        never_stalls(LIMIT, attempt).await;
    });
}

#[test]
fn a_reader_that_takes_nothing_of_a_large_buffer_stalls() {
    run(async {
        let bench = Bench::new().await;
        let file = file_of(&pattern(4 * LEN));
        let (socket, _peer) = connect();
        let error = bench
            .send(&socket, &file, 0..4 * LEN as u64, &HASTY)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        bench.check_exact().await;
    });
}

#[test]
fn a_socket_that_is_not_of_tcp_stalls_too() {
    run(async {
        let bench = Bench::new().await;
        let file = file_of(&pattern(LEN));
        let (socket, _peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Fd::from(OwnedFd::from(socket));
        let error = bench
            .send(&socket, &file, 0..LEN as u64, &HASTY)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        bench.check_exact().await;
    });
}

async fn truncated(bench: &Bench, file: &Fd, promised: u64) -> (Error, Vec<u8>) {
    let (socket, peer) = connect();
    let reader = read_all(peer);
    let error = bench
        .send(&socket, file, 0..promised, &PATIENT)
        .await
        .unwrap_err();
    drop(socket);
    (error, joined(reader).await)
}

#[test]
fn a_file_shorter_than_its_range_is_an_error_after_its_last_byte() {
    run(async {
        let bench = Bench::new().await;
        for len in [0, 1, 4096, 5000, PIPE, PIPE + 1, 3 * PIPE - 7] {
            let data = pattern(len);
            for file in [file_of(&data), evicted_file_of(&data)] {
                let (error, received) = truncated(&bench, &file, len as u64 + PIPE as u64).await;
                assert!(matches!(error.kind, ErrorKind::Truncated), "{len}: {error}");
                assert_eq!(error.sent, len as u64);
                assert!(received == data, "{len}");
                bench.check_rest();
            }
        }
    });
}

#[test]
fn a_file_that_shrinks_meanwhile_is_an_error() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let (socket, peer) = connect_narrow();
        let shrink = async {
            until_true(|| bench.pool.stats().parked == 1).await;
            rustix::fs::ftruncate(&file, 100_000).unwrap();
            joined(read_all(peer)).await
        };
        let send = async {
            let error = bench.send(&socket, &file, 0..LEN as u64, &PATIENT).await;
            rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).unwrap();
            error.unwrap_err()
        };
        let (received, error) = futures_lite::future::zip(shrink, send).await;
        assert!(matches!(error.kind, ErrorKind::Truncated), "{error}");
        assert_eq!(error.sent, received.len() as u64);
        bench.check_exact().await;
    });
}

#[test]
fn a_reset_is_an_error_and_its_pipe_is_not_used_again() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let file = file_of(&pattern(LEN));
        let (socket, peer) = connect_narrow();
        let break_off = async {
            until_true(|| bench.pool.stats().parked == 1).await;
            reset(peer);
        };
        let send = bench.send(&socket, &file, 0..LEN as u64, &PATIENT);
        let ((), result) = futures_lite::future::zip(break_off, send).await;
        let error = result.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Socket(_)), "{error}");
        assert_eq!(bench.pool.stats().pipes, 0, "it held bytes");
        bench.check_exact().await;
    });
}

#[test]
fn a_socket_that_was_shut_down_is_an_error() {
    run(async {
        let bench = Bench::new().await;
        let file = file_of(&pattern(1000));
        let (socket, _peer) = connect();
        rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).unwrap();
        let error = bench
            .send(&socket, &file, 0..1000, &PATIENT)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Socket(_)), "{error}");
        assert_eq!(error.sent, 0);
        bench.check_exact().await;
    });
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    run(async {
        let bench = Bench::new().await;
        let directory = Fd::from(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let (socket, _peer) = connect();
        let error = bench
            .send(&socket, &directory, 0..10, &PATIENT)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::File(_)), "{error}");
        assert_eq!(error.sent, 0);
        bench.check_exact().await;
    });
}

#[test]
fn dropped_while_it_waits_for_the_socket() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let file = file_of(&pattern(LEN));
        let (socket, _peer) = connect_narrow();
        let mut send = Box::pin(bench.send(&socket, &file, 0..LEN as u64, &PATIENT));
        assert!(poll_once(&mut send).await.is_none());
        assert_eq!(bench.pool.stats().parked, 1);
        drop(send);
        let stats = bench.pool.stats();
        assert_eq!((stats.pipes, stats.pages, stats.parked), (0, 0, 0));
        bench.check_exact().await;
    });
}

#[test]
fn dropped_while_it_waits_for_the_disk() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let data = pattern(2 * PIPE);
        for _ in 0..5 {
            let (transfer, reader) = bench.cold_transfer(&data, |stats| stats.cold > 0).await;
            drop(transfer);
            let stats = bench.pool.stats();
            assert_eq!((stats.pipes, stats.pages), (0, 0));
            // A worker may still wait for the disk.
            until_true(|| bench.pool.stats().cold == 0).await;
            bench.check_exact().await;
            let received = joined(reader).await;
            assert!(received.len() < 2 * PIPE && data.starts_with(&received));
        }
    });
}

#[test]
fn dropped_while_it_waits_for_a_pipe_or_with_one_just_given() {
    run(async {
        let bench = Bench::with(pool_of(1)).await;
        let data = pattern(LEN);
        let hot = file_of(&data);
        let (reading, _reader) = bench.cold_transfer(&data, |stats| stats.cold > 0).await;
        let (sockets, _peers): (Vec<_>, Vec<_>) = (0..3).map(|_| connect_narrow()).unzip();
        let mut waiting: Vec<_> = sockets
            .iter()
            .map(|socket| Box::pin(bench.send(socket, &hot, 0..LEN as u64, &PATIENT)))
            .collect();
        for (before, waiter) in waiting.iter_mut().enumerate() {
            assert!(poll_until(waiter, || bench.pool.stats().waiting > before).await);
        }
        assert_eq!(bench.pool.stats().waiting, 3);
        drop(waiting.remove(1));
        assert_eq!(bench.pool.stats().waiting, 2);
        // The first gets room for a new pipe, and is dropped before it is polled.
        drop(reading);
        assert_eq!(bench.pool.stats().waiting, 1);
        drop(waiting.remove(0));
        assert_eq!(bench.pool.stats().waiting, 0);
        assert!(poll_once(&mut waiting[0]).await.is_none());
        until_true(|| bench.pool.stats().pipes == 0).await;
        drop(waiting);
        // A worker may still wait for the disk.
        until_true(|| bench.pool.stats().cold == 0).await;
        bench.check_exact().await;
    });
}

#[test]
fn dropped_while_it_waits_for_a_permit_to_read() {
    run(async {
        let bench = Bench::with(pool_of(2)).await;
        let data = pattern(LEN);
        let (reading, _reader) = bench.cold_transfer(&data, |stats| stats.cold > 0).await;
        let (waiting, _other_reader) = bench
            .cold_transfer(&data, |stats| stats.cold_waiting > 0)
            .await;
        drop(reading);
        until_true(|| bench.pool.stats().cold_waiting == 0).await;
        assert_eq!(bench.pool.stats().cold, 1, "the permit was handed on");
        drop(waiting);
        until_true(|| bench.pool.stats().cold == 0).await;
        bench.check_exact().await;
    });
}
