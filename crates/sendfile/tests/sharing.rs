//! Many transfers, few pipes.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use support::{
    Bench, PATIENT, connect, connect_narrow, evicted_file_of, file_of, joined, pattern, pipe_pages,
    pool_of, read_all, run, until_true,
};
use tidegate_sendfile::{Opening, Options, PoolConfig, PoolStats};

const LEN: u64 = 3_000_001;

#[test]
fn stalled_readers_do_not_starve_good_ones() {
    for (pipes_max, pages_max) in [(1, None), (2, None), (2, Some(0)), (2, Some(pipe_pages()))] {
        run(stalled_readers_and_good_ones(PoolConfig {
            pages_max,
            ..pool_of(pipes_max)
        }));
    }
}

async fn stalled_readers_and_good_ones(config: PoolConfig) {
    let pipes_max = config.pipes_max;
    let bench = Bench::with(config).await;
    let data = pattern(LEN as usize);
    let file = file_of(&data);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (socket, peer) = connect_narrow();
        let (bench, file) = (bench.clone(), file.clone());
        let sending = tidegate_uring::spawn(async move {
            let result = bench.send(&socket, &file, 0..LEN, &PATIENT).await;
            drop(socket);
            result
        });
        stalled.push((sending, peer));
    }
    until_true(|| bench.pool.stats().pipes_taken >= 20 - pipes_max as u64).await;
    let good: Vec<_> = (0..5)
        .map(|_| {
            let (bench, file) = (bench.clone(), file.clone());
            let data = data.clone();
            tidegate_uring::spawn(async move {
                let (socket, peer) = connect();
                let reader = read_all(peer);
                bench.send(&socket, &file, 0..LEN, &PATIENT).await.unwrap();
                drop(socket);
                assert!(joined(reader).await == data);
            })
        })
        .collect();
    for transfer in good {
        transfer.await;
    }
    assert!(bench.pool.stats().pipes <= pipes_max);
    // The transfers lost nothing when their pipes were taken.
    let readers: Vec<_> = stalled
        .into_iter()
        .map(|(sending, peer)| (sending, read_all(peer)))
        .collect();
    for (sending, reader) in readers {
        sending.await.unwrap();
        assert!(joined(reader).await == data);
    }
    bench.check_rest();
}

#[test]
fn transfers_that_read_from_the_disk_leave_pipes_to_others() {
    // pages_max; half of the pipes that fit
    for (pages_max, cold_max) in [(None, 2), (Some(2 * pipe_pages()), 2), (Some(3), 1)] {
        let config = PoolConfig {
            pages_max,
            cold_max: 4,
            ..pool_of(4)
        };
        run(read_from_the_disk(config, cold_max));
    }
}

async fn read_from_the_disk(config: PoolConfig, cold_max: usize) {
    let bench = Bench::with(config).await;
    let data = pattern(LEN as usize);
    let mut transfers = Vec::new();
    for _ in 0..8 {
        let file = evicted_file_of(&data);
        let (bench, data) = (bench.clone(), data.clone());
        transfers.push(tidegate_uring::spawn(async move {
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let options = Options {
                unread: true,
                device: 0,
                opening: Opening::NONE,
                ..PATIENT
            };
            bench.send(&socket, &file, 1..LEN, &options).await.unwrap();
            let stats = bench.pool.stats();
            assert!(stats.cold <= cold_max && stats.ahead <= 2, "{stats:?}");
            drop(socket);
            assert!(joined(reader).await == data[1..]);
        }));
    }
    for transfer in transfers {
        transfer.await;
    }
    let stats = bench.pool.stats();
    assert!(stats.chunks_cold > 0, "{stats:?}");
    bench.check_rest();
}

/// A transfer that is not polled keeps its pipe, as one does whose disk does not answer.
#[test]
fn a_disk_that_does_not_answer_leaves_a_pipe_to_files_in_memory() {
    for pages_max in [0, 1, 2, 3, 16, pipe_pages(), 2 * pipe_pages()] {
        run(async {
            let config = PoolConfig {
                pages_max: Some(pages_max),
                ..pool_of(32)
            };
            let bench = Bench::with(config).await;
            let data = pattern(LEN as usize);
            let mut hanging = Vec::new();
            for before in 0..10 {
                let asks_the_disk = |stats: &PoolStats| stats.cold + stats.cold_waiting > before;
                hanging.push(bench.cold_transfer(&data, asks_the_disk).await);
            }
            assert!(bench.pool.stats().cold_waiting > 0, "all permits are taken");

            let (socket, peer) = connect();
            let reader = read_all(peer);
            let file = file_of(&data);
            bench.send(&socket, &file, 0..LEN, &PATIENT).await.unwrap();
            drop(socket);
            assert!(joined(reader).await == data);
            drop(hanging);
            bench.check_exact().await;
        });
    }
}

/// These sockets take everything at once and the transfers never wait, so another runs only because
/// they yield.
#[test]
fn transfers_that_never_wait_take_turns() {
    run(async {
        const TRANSFERS: usize = 4;
        // More than a transfer may send in one turn.
        let len: u64 = 8 << 20;
        let own_chunks = len / support::PIPE as u64;
        let bench = Bench::new().await;
        let file = file_of(&pattern(len as usize));
        let ends: Rc<RefCell<Vec<u64>>> = Rc::default();
        let transfers: Vec<_> = (0..TRANSFERS)
            .map(|_| {
                let (bench, file, ends) = (bench.clone(), file.clone(), Rc::clone(&ends));
                tidegate_uring::spawn(async move {
                    let (socket, peer) = connect();
                    let reader = read_all(peer);
                    bench.send(&socket, &file, 0..len, &PATIENT).await.unwrap();
                    let chunks = bench.pool.stats().chunks_inline;
                    ends.borrow_mut().push(chunks);
                    drop(socket);
                    joined(reader).await
                })
            })
            .collect();
        for transfer in transfers {
            assert_eq!(transfer.await.len() as u64, len);
        }
        // One after the other, the first would end when only its own chunks were spliced.
        assert!(ends.borrow()[0] > own_chunks, "{ends:?}");
    });
}
