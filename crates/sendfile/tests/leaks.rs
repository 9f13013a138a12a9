//! No descriptor outlives its use. Alone in its file, since it counts those of the process.

mod support;

use std::net::Shutdown;

use futures_lite::future::poll_once;
use support::{
    Bench, HASTY, PIPE, connect_narrow, descriptors, evicted_file_of, pattern, pool_of, run,
    until_true,
};

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
            }
            bench.check_exact().await;
            assert!(bench.pool.stats().pipes <= 4);
        }
        // The ring's driver and ops that were dropped end with the executor's next rounds.
        until_true(|| descriptors() <= before).await;
    });
}
