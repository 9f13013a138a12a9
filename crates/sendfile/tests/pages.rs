//! Pages in memory that are sent: every byte arrives, whatever the peer does.

mod support;

use std::ops::Range;

use futures_lite::future::zip;
use support::{
    Bench, HASTY, PATIENT, connect, connect_narrow, joined, pattern, pool_of, read_all, read_by,
    run,
};
use tidegate_sendfile::{Error, ErrorKind, Options, send_pages};
use tidegate_uring::{Fd, Pages};

const LEN: usize = 1 << 20;

async fn send(
    bench: &Bench,
    socket: &Fd,
    pages: &Pages,
    range: Range<usize>,
    options: &Options,
) -> Result<(), Error> {
    send_pages(
        &bench.ring,
        &bench.pool,
        socket,
        pages,
        range,
        options.stall,
    )
    .await
}

#[test]
fn ranges_arrive() {
    run(async {
        let (bench, data) = (Bench::new().await, pattern(LEN + 9));
        let pages = Pages::copy_of(&data).unwrap();
        for range in [0..data.len(), 1..70_000, 4096..LEN, LEN..LEN + 1, 5..5] {
            let (socket, peer) = connect();
            let reader = read_all(peer);
            send(&bench, &socket, &pages, range.clone(), &PATIENT)
                .await
                .unwrap();
            drop(socket);
            assert!(joined(reader).await == data[range.clone()], "{range:?}");
            bench.check_rest();
        }
        bench.check_exact().await;
    });
}

#[test]
fn slow_readers_take_the_only_pipe_from_each_other_and_get_every_byte() {
    run(async {
        let (bench, data) = (Bench::with(pool_of(1)).await, pattern(LEN));
        let pages = Pages::copy_of(&data).unwrap();
        let pause = |count: usize| {
            if count.is_multiple_of(8) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        let ((one, first), (other, second)) = (connect_narrow(), connect_narrow());
        let (first, second) = (read_by(first, pause), read_by(second, pause));
        let sent = zip(
            send(&bench, &one, &pages, 0..LEN, &PATIENT),
            send(&bench, &other, &pages, 3..LEN, &PATIENT),
        );
        let (one_sent, other_sent) = sent.await;
        one_sent.unwrap();
        other_sent.unwrap();
        drop((one, other, pages));
        assert!(joined(first).await == data);
        assert!(joined(second).await == data[3..]);
        bench.check_exact().await;
    });
}

#[test]
fn a_reader_that_stalls_or_leaves_ends_it() {
    run(async {
        let (bench, data) = (Bench::new().await, pattern(LEN));
        let pages = Pages::copy_of(&data).unwrap();
        let (socket, peer) = connect_narrow();
        let error = send(&bench, &socket, &pages, 0..LEN, &HASTY)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Stalled), "{error}");
        drop(socket);
        let received = joined(read_all(peer)).await;
        assert_eq!(received.len() as u64, error.sent, "all it took arrives");
        assert!(received == data[..received.len()]);

        let (socket, peer) = connect_narrow();
        drop(peer);
        let error = send(&bench, &socket, &pages, 0..LEN, &PATIENT)
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Socket(_)), "{error}");
        bench.check_exact().await;
    });
}
