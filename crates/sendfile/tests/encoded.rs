//! Transfers through memory: every byte is encoded once and in order, and failures are reported.

mod support;

use std::io;
use std::ops::Range;
use std::time::Duration;

use support::{
    Bench, HASTY, PATIENT, connect, connect_narrow, evicted_file_of, file_of, joined, pattern,
    read_all, read_by, run,
};
use tidegate_sendfile::{Error, ErrorKind, Opening, Options, Sent, sendfile_encoded};
use tidegate_uring::Fd;

/// Precedes each piece when it is encoded.
const MARK: [u8; 3] = [7, 8, 9];

/// Inverts every bit, and puts a mark and the length before each piece.
#[expect(
    clippy::unnecessary_wraps,
    reason = "an encoder may fail, as another does below"
)]
fn invert(plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    out.clear();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&(plain.len() as u32).to_be_bytes());
    out.extend(plain.iter().map(|byte| !byte));
    Ok(out.len())
}

/// The bytes that [`invert`] encoded.
fn revert(mut encoded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let Some(rest) = encoded.strip_prefix(&MARK) {
        let (len, rest) = rest.split_at(4);
        let len = u32::from_be_bytes(len.try_into().unwrap()) as usize;
        plain.extend(rest[..len].iter().map(|byte| !byte));
        encoded = &rest[len..];
    }
    assert!(encoded.is_empty(), "a piece begins with its mark");
    plain
}

async fn send(
    bench: &Bench,
    socket: &Fd,
    file: &Fd,
    range: Range<u64>,
    options: &Options,
) -> Result<Sent, Error> {
    sendfile_encoded(
        &bench.ring,
        &bench.pool,
        socket,
        file,
        range,
        options,
        invert,
    )
    .await
}

#[test]
fn ranges_arrive_whole_from_memory_and_from_the_disk() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(3 << 20);
        let options = Options {
            unread: true,
            device: 0,
            opening: Opening::NONE,
            drop_behind: true,
            ..PATIENT
        };
        let all = data.len();
        for (start, end) in [
            (0, 0),
            (0, 1),
            (4095, 70_000),
            (1, 65_537),
            (0, all),
            (all, all),
        ] {
            for (file, options) in [
                (file_of(&data), &PATIENT),
                (evicted_file_of(&data), &options),
            ] {
                let (socket, peer) = connect();
                let reader = read_all(peer);
                let range = start as u64..end as u64;
                send(&bench, &socket, &file, range, options).await.unwrap();
                drop(socket);
                let received = revert(&joined(reader).await);
                assert!(received == data[start..end], "{start}..{end}");
            }
        }
        bench.check_rest();
    });
}

#[test]
fn a_slow_reader_gets_every_byte_once() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(400_000);
        let (socket, peer) = connect_narrow();
        let reader = read_by(peer, |_| std::thread::sleep(Duration::from_millis(2)));
        send(&bench, &socket, &file_of(&data), 0..400_000, &PATIENT)
            .await
            .unwrap();
        drop(socket);
        assert!(revert(&joined(reader).await) == data);
    });
}

#[test]
fn a_reader_that_stalls_ends_the_transfer() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(8 << 20);
        let (socket, _peer) = connect_narrow();
        let error = send(&bench, &socket, &file_of(&data), 0..8 << 20, &HASTY)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        bench.check_rest();
    });
}

#[test]
fn a_file_shorter_than_its_range_is_an_error_after_its_last_byte() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(100_000);
        for file in [file_of(&data), evicted_file_of(&data)] {
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let error = send(&bench, &socket, &file, 0..100_001, &PATIENT)
                .await
                .unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Truncated), "{error}");
            assert_eq!(error.sent, 100_000);
            drop(socket);
            assert!(revert(&joined(reader).await) == data);
        }
        bench.check_rest();
    });
}

#[test]
fn bytes_that_cannot_be_encoded_are_not_sent() {
    run(async {
        let bench = Bench::new().await;
        let (socket, peer) = connect();
        let reader = read_all(peer);
        let file = file_of(&pattern(100));
        let refuse = |_: &[u8], _: &mut Vec<u8>| Err(io::Error::other("no more"));
        let sent = sendfile_encoded(
            &bench.ring,
            &bench.pool,
            &socket,
            &file,
            0..100,
            &PATIENT,
            refuse,
        );
        let error = sent.await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Encode(_)), "{error}");
        drop(socket);
        assert!(joined(reader).await.is_empty());
    });
}
