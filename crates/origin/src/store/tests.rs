//! Whole stores on a real directory.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;
use tempfile::{TempDir, tempdir};

use super::*;

const BOOT: BootId = BootId([1; 16]);
const OTHER_BOOT: BootId = BootId([2; 16]);

fn options(boot_id: BootId) -> Options<impl Fn(u8) + Send + 'static> {
    Options {
        boot_id,
        unnamed: true,
        before_directory: |_| (),
    }
}

fn config(directory: &TempDir, blocks: u64) -> StoreConfig {
    StoreConfig {
        path: directory.path().join("cache"),
        size: blocks * BLOCK,
        succeeds: false,
    }
}

/// After its scan.
fn open(directory: &TempDir, blocks: u64) -> Store {
    open_after(directory, blocks, BOOT)
}

fn open_after(directory: &TempDir, blocks: u64, boot_id: BootId) -> Store {
    let store = Store::open_with(config(directory, blocks), options(boot_id)).unwrap();
    wait_until(|| store.is_indexed());
    store
}

/// The scan goes on when the sender is dropped.
fn open_held(directory: &TempDir, blocks: u64) -> (Store, Sender<()>) {
    let (sender, receiver) = channel::<()>();
    let options = Options {
        boot_id: BOOT,
        unnamed: true,
        before_directory: move |_| {
            let _ = receiver.recv();
        },
    };
    let store = Store::open_with(config(directory, blocks), options).unwrap();
    (store, sender)
}

fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("it does not come true");
}

fn put(store: &Store, name: u128, bytes: &[u8]) {
    let mut writer = store.reserve(name, bytes.len() as u64).unwrap();
    for part in bytes.chunks(10_000) {
        writer.write_at_end(part).unwrap();
    }
    writer.publish().unwrap();
}

fn read(file: &OwnedFd, len: u64) -> Vec<u8> {
    let file = fs::File::from(file.try_clone().unwrap());
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn get(store: &Store, name: u128) -> Option<Vec<u8>> {
    let blob = store.get(name)?;
    Some(read(&blob.file, blob.len))
}

/// One that follows from its name.
fn content(name: u128) -> Vec<u8> {
    let mut random = Rng::with_seed(name as u64);
    let len = random.usize(..20_000);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Spread over the directories.
fn name(number: u64) -> u128 {
    u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn path_of(directory: &TempDir, name: u128) -> PathBuf {
    let digits = format!("{name:032x}");
    let path = directory.path().join("cache").join(&digits[..2]);
    path.join(&digits[2..])
}

/// All files but the lock.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "lock" {
            found.push(path);
        }
    }
    found
}

/// Number and bytes of the blobs on disk.
fn on_disk(directory: &TempDir) -> (u64, u64) {
    let files = files(&directory.path().join("cache"));
    // The thread may remove one just now.
    let sizes = files.iter().filter_map(|path| fs::metadata(path).ok());
    sizes.fold((0, 0), |(count, bytes), file| {
        (count + 1, bytes + file.len().next_multiple_of(BLOCK))
    })
}

#[test]
fn threads_share_a_store() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Store>();
    is_shared::<Writer>();
}

#[test]
fn a_published_blob_is_found() {
    for unnamed in [true, false] {
        let directory = tempdir().unwrap();
        let options = Options {
            unnamed,
            ..options(BOOT)
        };
        let store = Store::open_with(config(&directory, 1000), options).unwrap();
        let mut blocks = 0;
        // Bytes of a blob, and the blocks that it takes.
        for (len, takes) in [(0, 1), (1, 1), (4056, 1), (4057, 2), (300_000, 74)] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let name = name(len);
            assert!(get(&store, name).is_none());
            put(&store, name, &bytes);
            assert_eq!(get(&store, name), Some(bytes), "{len}");
            assert!(store.contains(name));
            blocks += takes;
            assert_eq!(store.stats().bytes, blocks * BLOCK, "{len}");
            let mode = fs::metadata(path_of(&directory, name))
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
        }
        let mode = fs::metadata(directory.path().join("cache")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700);
        assert!(store.remove(name(1)));
        assert!(!store.remove(name(1)));
        assert!(get(&store, name(1)).is_none());
        assert_eq!(files(directory.path()).len(), 4);
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    for unnamed in [true, false] {
        let directory = tempdir().unwrap();
        let options = Options {
            unnamed,
            ..options(BOOT)
        };
        let store = Store::open_with(config(&directory, 10), options).unwrap();
        let mut writer = store.reserve(1, 5000).unwrap();
        writer.write_at_end(b"abc").unwrap();
        assert_eq!(read(writer.file(), 3), b"abc");
        assert_eq!(store.stats().reserved_bytes, 2 * BLOCK);
        assert!(!store.contains(1));
        drop(writer);
        assert_eq!(store.stats().reserved_bytes, 0);
        assert_eq!(store.stats().blobs, 0);
        assert!(files(directory.path()).is_empty());
    }
}

#[test]
fn a_blob_has_the_length_that_was_reserved() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    let mut writer = store.reserve(1, 3).unwrap();
    assert!(writer.write_at_end(b"abcd").is_err());
    writer.write_at_end(b"ab").unwrap();
    assert!(writer.write_at_end(b"cd").is_err());
    let error = writer.publish().unwrap_err();
    assert!(matches!(
        error,
        StoreError::Incomplete { written: 2, len: 3 }
    ));
    assert!(!store.contains(1));
    assert_eq!(store.stats().reserved_bytes, 0);
    assert!(files(directory.path()).is_empty());
    assert!(store.is_writable());
}

#[test]
fn a_blob_is_replaced_as_a_whole() {
    for unnamed in [true, false] {
        let directory = tempdir().unwrap();
        let options = Options {
            unnamed,
            ..options(BOOT)
        };
        let store = Store::open_with(config(&directory, 10), options).unwrap();
        put(&store, 1, b"old");
        let blob = store.get(1).unwrap();
        put(&store, 1, &[7; 5000]);
        assert_eq!(read(&blob.file, blob.len), b"old");
        assert_eq!(get(&store, 1), Some(vec![7; 5000]));
        assert_eq!((store.stats().blobs, store.stats().bytes), (1, 2 * BLOCK));
    }
}

#[test]
fn a_restart_finds_all() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10_000);
    for number in 0..300 {
        put(&store, name(number), &content(name(number)));
    }
    let before = store.stats();
    drop(store);
    let store = open(&directory, 10_000);
    assert_eq!(store.stats(), before);
    for number in 0..300 {
        let expected = content(name(number));
        assert_eq!(get(&store, name(number)), Some(expected), "{number}");
    }
}

#[test]
fn blobs_are_served_before_the_scan_reaches_them() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 1000);
    for name in 1..=5 {
        put(&store, name, b"old");
    }
    drop(store);
    let (store, scan) = open_held(&directory, 1000);
    assert!(!store.is_indexed());
    assert_eq!(get(&store, 1), Some(b"old".to_vec()));
    assert_eq!(store.stats().blobs, 1);
    assert!(store.contains(2));
    assert!(store.remove(3));
    assert!(!store.remove(3));
    put(&store, 4, b"new");
    put(&store, 6, b"new");
    store.touch(5);
    assert!(get(&store, 7).is_none());
    assert!(!store.contains(7));
    drop(scan);
    wait_until(|| store.is_indexed());
    assert_eq!(store.stats().blobs, 5);
    assert_eq!(store.stats().bytes, 5 * BLOCK);
    let expected: [Option<&[u8]>; 7] = [
        Some(b"old"),
        Some(b"old"),
        None,
        Some(b"new"),
        Some(b"old"),
        Some(b"new"),
        None,
    ];
    for (name, expected) in (1..).zip(expected) {
        assert_eq!(get(&store, name).as_deref(), expected, "{name}");
    }
}

#[test]
fn a_smaller_size_holds_after_the_scan() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 1000);
    for number in 0..100 {
        put(&store, name(number), b"abc");
    }
    drop(store);
    let store = open(&directory, 30);
    assert_eq!(store.stats().bytes, 30 * BLOCK);
    assert_eq!(on_disk(&directory), (30, 30 * BLOCK));
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let directory = tempdir().unwrap();
    drop(open(&directory, 10));
    let tmp = directory.path().join("cache/tmp");
    fs::write(tmp.join("0"), b"abc").unwrap();
    fs::write(tmp.join("probe"), b"").unwrap();
    let store = open(&directory, 10);
    assert!(files(directory.path()).is_empty());
    assert_eq!(store.stats().blobs, 0);
}

#[test]
fn a_damaged_blob_is_removed() {
    type Damage = fn(&fs::File);
    let footer: Damage = |file| file.write_all_at(b"?", 5000).unwrap();
    let length: Damage = |file| file.write_all_at(&[1], 5008).unwrap();
    let truncated: Damage = |file| file.set_len(5039).unwrap();
    let empty: Damage = |file| file.set_len(0).unwrap();
    let longer: Damage = |file| file.set_len(5041).unwrap();
    let zeros: Damage = |file| file.write_all_at(&[0; 4096], 0).unwrap();
    let none: Damage = |_| ();
    // What happened, in which boot it is found, and whether it is served.
    let cases = [
        ("footer", footer, BOOT, false),
        ("length", length, BOOT, false),
        ("truncated", truncated, BOOT, false),
        ("empty", empty, BOOT, false),
        ("longer", longer, BOOT, false),
        ("zeros", zeros, OTHER_BOOT, false),
        ("nothing", none, BOOT, true),
        ("nothing", none, OTHER_BOOT, true),
    ];
    for (damage, apply, boot_id, expected) in cases {
        let directory = tempdir().unwrap();
        let store = open(&directory, 10);
        put(&store, 1, &[7; 5000]);
        drop(store);
        let path = path_of(&directory, 1);
        apply(&fs::File::options().write(true).open(&path).unwrap());
        let store = open_after(&directory, 10, boot_id);
        assert_eq!(store.get(1).is_some(), expected, "{damage}");
        assert_eq!(store.contains(1), expected, "{damage}");
        assert_eq!(path.exists(), expected, "{damage}");
        let stats = store.stats();
        assert_eq!(stats.failures_damaged, u64::from(!expected), "{damage}");
        assert_eq!(stats.bytes, if expected { 2 * BLOCK } else { 0 });
    }
}

#[test]
fn a_blob_is_verified_once() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    put(&store, 1, &[7; 5000]);
    drop(store);
    let store = open_after(&directory, 10, OTHER_BOOT);
    assert!(store.get(1).is_some());
    let path = path_of(&directory, 1);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; 100], 0).unwrap();
    assert!(store.get(1).is_some());
    drop(store);
    assert!(open_after(&directory, 10, OTHER_BOOT).get(1).is_none());
}

#[test]
fn a_blob_that_somebody_removed_is_a_miss() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    put(&store, 1, b"abc");
    fs::remove_dir_all(directory.path().join("cache/00")).unwrap();
    assert!(store.get(1).is_none());
    assert_eq!(store.stats().bytes, 0);
    put(&store, 1, b"abc");
    assert!(store.get(1).is_some());
}

#[test]
fn eviction_keeps_the_size_and_popular_blobs() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 100);
    for number in 0..40 {
        put(&store, name(number), b"popular");
        store.touch(name(number));
        assert!(store.get(name(number)).is_some());
    }
    for number in 1000..1500 {
        put(&store, name(number), b"once");
        store.touch(name(number));
        assert!(store.stats().bytes <= 100 * BLOCK);
    }
    let kept = (0..40).filter(|number| store.contains(name(*number)));
    assert_eq!(kept.count(), 40);
    wait_until(|| on_disk(&directory) == (store.stats().blobs, store.stats().bytes));
    let stats = store.stats();
    assert_eq!(stats.evictions + stats.blobs, 540);
    assert_eq!(stats.evicted_bytes, stats.evictions * BLOCK);
}

#[test]
fn the_thread_evicts_down_to_the_low_mark() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 100);
    for number in 0..101 {
        put(&store, name(number), b"abc");
    }
    wait_until(|| store.stats().bytes == 95 * BLOCK);
    wait_until(|| on_disk(&directory) == (95, 95 * BLOCK));
}

#[test]
fn reservations_share_the_size() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    put(&store, 1, b"abc");
    let first = store.reserve(2, 6 * BLOCK - 40).unwrap();
    assert!(store.contains(1));
    let error = store.reserve(3, 5 * BLOCK - 40).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }));
    assert!(store.contains(1));
    let second = store.reserve(3, 4 * BLOCK - 40).unwrap();
    assert!(!store.contains(1));
    assert_eq!(store.stats().reserved_bytes, 10 * BLOCK);
    for len in [10 * BLOCK - 39, u64::from(u32::MAX) * BLOCK, u64::MAX] {
        let error = store.reserve(4, len).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{len}");
    }
    drop((first, second));
    assert_eq!(store.stats().reserved_bytes, 0);
    assert!(store.reserve(4, 10 * BLOCK - 40).is_ok());
    assert_eq!(store.stats().failures_full, 1);
    assert!(store.is_writable());
}

#[test]
fn a_directory_has_one_store() {
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    let error = Store::open(config(&directory, 10)).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    let path = config(&directory, 10).path;
    assert!(error.to_string().contains(path.to_str().unwrap()));
    let writer = store.reserve(1, 1).unwrap();
    drop(store);
    assert!(Store::open(config(&directory, 10)).is_err());
    drop(writer);
    assert!(Store::open(config(&directory, 10)).is_ok());
}

#[test]
fn a_path_that_is_no_directory_is_an_error() {
    let directory = tempdir().unwrap();
    let config = config(&directory, 10);
    fs::write(&config.path, b"").unwrap();
    let error = Store::open(config).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[test]
fn after_an_error_of_the_disk_nothing_is_written() {
    use rustix::io::Errno;
    let directory = tempdir().unwrap();
    let store = open(&directory, 10);
    put(&store, 1, b"abc");
    for (errno, is_full) in [
        (Errno::NOSPC, true),
        (Errno::IO, false),
        (Errno::ROFS, false),
    ] {
        store.shared.failed("write a blob", errno.into());
        assert!(!store.is_writable());
        let error = store.reserve(2, 1).unwrap_err();
        assert_eq!(matches!(error, StoreError::Full { .. }), is_full, "{errno}");
        assert!(store.get(1).is_some());
        store.probe_write().unwrap();
        assert!(store.is_writable());
        assert!(store.reserve(2, 1).is_ok());
    }
    assert_eq!(store.stats().failures_full, 1);
    assert_eq!(store.stats().failures_io, 2);
}

fn random() -> Rng {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    Rng::with_seed(seed)
}

#[test]
fn random_operations_do_as_a_map_does() {
    let mut random = random();
    let directory = tempdir().unwrap();
    let mut store = open(&directory, 10_000);
    let mut model = HashMap::new();
    let mut writers = Vec::new();
    for _ in 0..3000 {
        let name = name(random.u64(..50));
        match random.u8(..100) {
            0..40 => assert_eq!(get(&store, name).as_ref(), model.get(&name)),
            40..50 => assert_eq!(store.contains(name), model.contains_key(&name)),
            50..60 => assert_eq!(store.remove(name), model.remove(&name).is_some()),
            60..80 => {
                put(&store, name, &content(name));
                model.insert(name, content(name));
            }
            80..88 => {
                let bytes = content(name);
                let mut writer = store.reserve(name, bytes.len() as u64).unwrap();
                writer.write_at_end(&bytes).unwrap();
                writers.push((writer, name, bytes));
            }
            88..96 if !writers.is_empty() => {
                let (writer, name, bytes) = writers.swap_remove(random.usize(..writers.len()));
                if random.bool() {
                    writer.publish().unwrap();
                    model.insert(name, bytes);
                }
            }
            96 => {
                writers.clear();
                drop(store);
                store = open_held(&directory, 10_000).0;
            }
            97 => {
                writers.clear();
                drop(store);
                let boot_id = if random.bool() { BOOT } else { OTHER_BOOT };
                store = open_after(&directory, 10_000, boot_id);
            }
            _ => wait_until(|| store.is_indexed()),
        }
    }
    drop(writers);
    wait_until(|| store.is_indexed());
    let stats = store.stats();
    assert_eq!(stats.blobs, model.len() as u64);
    assert_eq!(on_disk(&directory), (stats.blobs, stats.bytes));
    assert_eq!(stats.reserved_bytes, 0);
}

#[test]
fn the_index_and_the_disk_agree_after_many_threads() {
    let mut random = random();
    let directory = tempdir().unwrap();
    let store = open(&directory, 60);
    let work = |mut random: Rng| {
        for _ in 0..1000 {
            let name = name(random.u64(..30));
            match random.u8(..10) {
                0..4 => {
                    if let Some(bytes) = get(&store, name) {
                        assert_eq!(bytes, content(name));
                    }
                }
                4 => {
                    store.remove(name);
                }
                5 => drop(store.reserve(name, random.u64(..20_000))),
                _ => put(&store, name, &content(name)),
            }
            let stats = store.stats();
            assert!(stats.bytes + stats.reserved_bytes <= 60 * BLOCK);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            let random = random.fork();
            scope.spawn(|| work(random));
        }
    });
    wait_until(|| on_disk(&directory) == (store.stats().blobs, store.stats().bytes));
    let stats = store.stats();
    assert_eq!(stats.reserved_bytes, 0);
    assert_eq!(stats.failures_damaged + stats.failures_io, 0);
}

/// Run it with `--ignored --nocapture`: it prints how long the scan takes.
#[test]
#[ignore = "makes 1 million files"]
fn a_million_blobs_are_indexed() {
    let directory = tempdir().unwrap();
    drop(open(&directory, 10));
    for number in 0..1_000_000 {
        let file = fs::File::create(path_of(&directory, name(number))).unwrap();
        file.set_len(1000).unwrap();
    }
    let start = Instant::now();
    let store = open(&directory, 2_000_000);
    eprintln!("{:?}", start.elapsed());
    assert_eq!(store.stats().blobs, 1_000_000);
}

#[test]
fn a_successor_shares_the_directory_until_its_predecessor_ends() {
    let directory = TempDir::new().unwrap();
    let before = Store::open(config(&directory, 64)).unwrap();
    put(&before, 1, b"first");
    let successor = StoreConfig {
        succeeds: true,
        ..config(&directory, 64)
    };
    let after = Store::open(successor).unwrap();
    put(&after, 2, b"second");
    put(&before, 3, b"third");
    // Each has what was there before and what it wrote itself: the rest is a miss at most.
    for (store, own) in [(&before, 3), (&after, 2)] {
        assert!(store.get(1).is_some() && store.get(own).is_some(), "{own}");
    }
    drop(before);
    // It has the lock as soon as it looks again.
    while Store::open(config(&directory, 64)).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
