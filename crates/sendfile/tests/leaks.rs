//! No descriptor outlives its use. Alone in its file, since it counts those of the process.

mod support;

use std::net::Shutdown;

use futures_lite::future::poll_once;
use support::{
    Bench, HASTY, PIPE, connect_narrow, descriptors, evicted_file_of, pattern, pool_of, run,
    until_true,
};
use tidegate_sendfile::{Step, Transfer};
use tidegate_uring::Fd;

/// Drops a transfer between two steps, and one within a step.
async fn drop_in_steps(bench: &Bench, file: &Fd, len: u64) {
    let (socket, _peer) = connect_narrow();
    for bytes_max in [9, len] {
        let mut transfer = Transfer::new(&bench.ring, &bench.pool, file, 0..len, &HASTY);
        let step = Step {
            bytes_max,
            more: true,
        };
        let _ = poll_once(Box::pin(transfer.step(&socket, step))).await;
    }
}

#[test]
fn no_descriptor_is_left_open() {
    run(async {
        let before = descriptors();
        {
            let bench = Bench::with(pool_of(4)).await;
            for _ in 0..30 {
                let (socket, peer) = connect_narrow();
                let file = evicted_file_of(&pattern(PIPE * 2));
                let len = PIPE as u64 * 2;
                let mut send = Box::pin(bench.send(&socket, &file, 0..len, &HASTY));
                let _ = poll_once(&mut send).await;
                drop(send);
                peer.shutdown(Shutdown::Both).unwrap();
                let _ = bench.send(&socket, &file, 0..len, &HASTY).await;
                drop_in_steps(&bench, &file, len).await;
            }
            bench.check_exact().await;
            assert!(bench.pool.stats().pipes <= 4);
        }
        // The ring's driver and ops that were dropped end with the executor's next rounds.
        until_true(|| descriptors() <= before).await;
    });
}
