//! Every byte of a range, in order, and no other.

#[path = "../../../tests/support/skip.rs"]
mod skip;
mod support;

use std::time::Duration;

use skip::skipped;
use support::{
    Bench, PATIENT, PIPE, connect, connect_narrow, evicted_file_of, file_of, joined, pattern,
    pool_of, read_all, read_by, run,
};
use tidegate_sendfile::{Opening, Options, PoolConfig};
use tidegate_uring::Fd;

async fn check(bench: &Bench, file: &Fd, data: &[u8], start: usize, end: usize) {
    let (socket, peer) = connect();
    let reader = read_all(peer);
    bench
        .send(&socket, file, start as u64..end as u64, &PATIENT)
        .await
        .unwrap();
    drop(socket);
    assert!(joined(reader).await == data[start..end], "{start}..{end}");
    bench.check_rest();
}

#[test]
fn files_of_sizes_about_the_pipe_arrive_whole() {
    run(async {
        let bench = Bench::new().await;
        for len in [0, 1, 4095, 4096, 4097, PIPE - 1, PIPE, PIPE + 1, 5 << 20] {
            let data = pattern(len);
            check(&bench, &file_of(&data), &data, 0, len).await;
        }
        assert_eq!(bench.pool.stats().chunks_cold, 0, "all was in memory");
        assert_eq!(bench.pool.stats().pipes_made, 1, "one was enough");
    });
}

const UNREAD: Options = Options {
    unread: true,
    device: 0,
    opening: Opening::NONE,
    ..PATIENT
};

#[test]
fn a_file_that_was_not_read_before_arrives_whole() {
    run(async {
        let data = pattern(5 << 20);
        for drop_behind in [false, true] {
            let options = Options {
                drop_behind,
                ..UNREAD
            };
            for (start, end) in [(0, data.len()), (PIPE + 1, PIPE + 2), (9, 9)] {
                let bench = Bench::new().await;
                let file = evicted_file_of(&data);
                let (socket, peer) = connect();
                let reader = read_all(peer);
                let range = start as u64..end as u64;
                bench.send(&socket, &file, range, &options).await.unwrap();
                drop(socket);
                assert!(joined(reader).await == data[start..end], "{start}..{end}");
                bench.check_rest();
                let asked = bench.pool.stats().prefetches;
                let expected = end.saturating_sub(start).div_ceil(2 << 20) as u64;
                assert!(asked >= expected, "{start}..{end}: {asked}");
            }
        }
    });
}

#[test]
fn only_the_first_chunk_of_an_unread_file_in_memory_is_prefetched() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(5 << 20);
        let file = file_of(&data);
        for (unread, asked) in [(true, 1), (false, 1)] {
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let options = Options { unread, ..PATIENT };
            let whole = 0..data.len() as u64;
            let sent = bench.send(&socket, &file, whole, &options).await.unwrap();
            drop(socket);
            assert!(joined(reader).await == data);
            assert!(!sent.from_disk);
            assert_eq!(bench.pool.stats().prefetches, asked, "in all");
        }
        assert_eq!(bench.pool.stats().chunks_cold, 0);
    });
}

/// However soon the disk answers the prefetch.
#[test]
fn a_file_that_was_not_in_memory_is_reported() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(5 << 20);
        // A fast disk may have answered between two probes.
        for attempt in 0.. {
            let file = evicted_file_of(&data);
            let (socket, peer) = connect();
            let reader = read_all(peer);
            let whole = 0..data.len() as u64;
            let sent = bench.send(&socket, &file, whole, &UNREAD).await.unwrap();
            drop(socket);
            assert!(joined(reader).await == data);
            if sent.from_disk {
                break;
            }
            assert!(attempt < 20, "{:?}", bench.pool.stats());
        }
    });
}

#[test]
fn ranges_with_odd_ends_arrive_exactly() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(5 << 20);
        let file = file_of(&data);
        for (start, end) in [
            (1, 2),
            (4095, 4097),
            (4096, 8192),
            (1, PIPE),
            (1, PIPE + 1),
            (4095, PIPE + 4095),
            (PIPE - 1, 2 * PIPE + 1),
            (12_345, 4_567_891),
            (data.len() - 1, data.len()),
            (data.len(), data.len()),
        ] {
            check(&bench, &file, &data, start, end).await;
        }
    });
}

#[test]
fn an_evicted_file_comes_through_the_ring() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern((5 << 20) + 17);
        // A fast disk may have answered before a probe looks again.
        for attempt in 0.. {
            let file = evicted_file_of(&data);
            check(&bench, &file, &data, 33, data.len()).await;
            check(&bench, &file, &data, 0, data.len()).await;
            if bench.pool.stats().chunks_cold > 0 {
                break;
            }
            assert!(attempt < 20, "{:?}", bench.pool.stats());
        }
    });
}

#[test]
fn a_file_system_in_memory_is_served_too() {
    let Ok(file) = tempfile::tempfile_in("/dev/shm") else {
        return skipped("there is no /dev/shm");
    };
    run(async {
        let bench = Bench::new().await;
        let data = pattern((1 << 20) + 3);
        std::io::Write::write_all(&mut &file, &data).unwrap();
        let file = Fd::from(std::os::fd::OwnedFd::from(file));
        check(&bench, &file, &data, 5, data.len()).await;
    });
}

#[test]
fn a_hole_reads_as_zeros() {
    run(async {
        let bench = Bench::new().await;
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        let file = Fd::from(std::os::fd::OwnedFd::from(file));
        check(&bench, &file, &vec![0; 3 << 20], 100, 3 << 20).await;
    });
}

#[test]
fn a_slow_reader_gets_it_all() {
    run(async {
        let bench = Bench::new().await;
        for data in [pattern(2 << 20), pattern(PIPE + 1)] {
            let file = file_of(&data);
            let (socket, peer) = connect_narrow();
            let reader = read_by(peer, |_| std::thread::sleep(Duration::from_micros(200)));
            bench
                .send(&socket, &file, 0..data.len() as u64, &PATIENT)
                .await
                .unwrap();
            drop(socket);
            assert!(joined(reader).await == data);
            bench.check_rest();
        }
    });
}

#[test]
fn pipes_of_a_page_do() {
    run(async {
        let config = PoolConfig {
            pages_max: Some(3),
            ..pool_of(8)
        };
        let bench = Bench::with(config).await;
        let data = pattern(300_001);
        let hot = file_of(&data);
        let cold = evicted_file_of(&data);
        let transfers: Vec<_> = [&hot, &hot, &cold, &hot, &cold]
            .map(Fd::clone)
            .into_iter()
            .map(|file| {
                let (bench, data) = (bench.clone(), data.clone());
                tidegate_uring::spawn(async move {
                    let (socket, peer) = connect_narrow();
                    let reader = read_all(peer);
                    bench
                        .send(&socket, &file, 7..data.len() as u64, &PATIENT)
                        .await
                        .unwrap();
                    drop(socket);
                    assert!(joined(reader).await == data[7..]);
                    assert!(bench.pool.stats().pages <= 3);
                })
            })
            .collect();
        for transfer in transfers {
            transfer.await;
        }
        bench.check_rest();
        assert_eq!(bench.pool.stats().pages, 3);
        assert_eq!(bench.pool.stats().pipes, 3, "of a page each");
    });
}

#[test]
fn the_first_pipe_is_made_whatever_the_budget() {
    run(async {
        let config = PoolConfig {
            pages_max: Some(0),
            pipes_max: 0,
            cold_max: 0,
            ..pool_of(0)
        };
        let bench = Bench::with(config).await;
        bench.check_exact().await;
        assert_eq!(bench.pool.stats().pages, 1);
        let data = pattern(100_000);
        check(&bench, &evicted_file_of(&data), &data, 0, data.len()).await;
    });
}
