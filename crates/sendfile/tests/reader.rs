//! Files that are read into buffers of the caller, from memory and from the disk.

mod support;

use std::io::IoSliceMut;
use std::time::Duration;

use support::{Bench, PATIENT, evicted_file_of, file_of, pattern, run};
use tidegate_sendfile::{ErrorKind, FileReader, Options};
use tidegate_uring::Fd;

fn reader(bench: &Bench, file: &Fd, range: std::ops::Range<u64>, options: &Options) -> FileReader {
    FileReader::new(&bench.ring, &bench.pool, file, range, options)
}

/// Reads up to `piece` bytes into two buffers.
fn read_piece(reader: &mut FileReader, piece: usize) -> Result<Option<Vec<u8>>, ErrorKind> {
    let mut first = vec![0; piece.min(reader.remaining() as usize)];
    let mut second = first.split_off(first.len() / 3);
    let buffers = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let read = reader.read_now(buffers)?;
    first.extend(second);
    Ok(read.map(|count| {
        first.truncate(count);
        first
    }))
}

/// Reads all of the range by pieces of at most `piece` bytes.
async fn read_all(reader: &mut FileReader, piece: usize) -> Result<Vec<u8>, ErrorKind> {
    let mut all = Vec::new();
    while reader.remaining() > 0 {
        match read_piece(reader, piece)? {
            Some(bytes) => all.extend(bytes),
            None => reader.fetch().await?,
        }
    }
    Ok(all)
}

#[test]
fn ranges_are_read_whole_from_memory_and_from_the_disk() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(3 << 20);
        let behind = Options {
            unread: true,
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
            for piece in [1000, 16_375, 1 << 20] {
                for (file, options) in [
                    (file_of(&data), &PATIENT),
                    (evicted_file_of(&data), &behind),
                    (evicted_file_of(&data), &PATIENT),
                ] {
                    let mut reader = reader(&bench, &file, start as u64..end as u64, options);
                    let read = read_all(&mut reader, piece).await.unwrap();
                    assert!(read == data[start..end], "{start}..{end} by {piece}");
                    reader.finish();
                }
            }
        }
        bench.check_rest();
        let stats = bench.pool.stats();
        let sum = stats.bytes_inline + stats.bytes_cold;
        let ranges = 1 + (70_000 - 4095) + 65_536 + all;
        assert_eq!(sum, 9 * ranges as u64, "each byte is counted once");
    });
}

#[test]
fn what_was_fetched_may_be_forgotten_and_is_read_again() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(1 << 20);
        let file = evicted_file_of(&data);
        let mut reader = reader(&bench, &file, 0..data.len() as u64, &PATIENT);
        let mut all = Vec::new();
        while reader.remaining() > 0 {
            if let Some(bytes) = read_piece(&mut reader, 1000).unwrap() {
                all.extend(bytes);
            } else {
                reader.fetch().await.unwrap();
            }
            reader.forget_fetched();
        }
        assert!(all == data);
    });
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(100_000);
        for file in [file_of(&data), evicted_file_of(&data)] {
            let mut reader = reader(&bench, &file, 50_000..100_001, &PATIENT);
            let result = read_all(&mut reader, 4096).await;
            assert!(matches!(result, Err(ErrorKind::Truncated)), "{result:?}");
        }
        bench.check_rest();
    });
}

#[test]
fn a_fetch_that_is_dropped_gives_its_permit_back() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(1 << 20);
        for _ in 0..20 {
            let file = evicted_file_of(&data);
            let mut reader = reader(&bench, &file, 0..data.len() as u64, &PATIENT);
            let _ = futures_lite::future::poll_once(Box::pin(reader.fetch())).await;
            assert!(read_all(&mut reader, 65_536).await.unwrap() == data);
        }
        while bench.pool.stats().cold > 0 || bench.pool.stats().ahead > 0 {
            tidegate_uring::executor::coarse_sleep(Duration::from_millis(1)).await;
        }
        bench.check_rest();
    });
}
