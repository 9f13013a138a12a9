//! One scan over a tree that is larger than the cache leaves what others ask for where it was: a
//! plain LRU, which keeps what came last, would have dropped it all.

mod support;

use support::{Bench, INLINE_MAX, Tree, cache, run};
use tidegate_config::Site;
use tidegate_site::{CacheConfig, Cached};

/// Files that all ask for: well within what the cache takes.
const POPULAR: usize = 8;

/// About how many files the cache takes.
const CACHED: usize = 64;

/// Files that a scan asks for, each once.
const SCANNED: usize = 10 * CACHED;

/// Above what a file in memory takes beside its content.
const OVERHEAD_BYTES: usize = 1024;

/// Files of `len` bytes: popular ones, and those of two scans.
fn tree(len: usize) -> Tree {
    let tree = Tree::new(&[]);
    let content = vec![b'a'; len];
    for (kind, count) in [
        ("popular", POPULAR),
        ("first", SCANNED),
        ("second", SCANNED),
    ] {
        for path in paths(kind, count) {
            tree.write(&path[1..], &content);
        }
    }
    tree
}

fn paths(kind: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("/{kind}/{number}"))
}

/// Asks for each file, as a request does: what is known is not looked up.
async fn ask(bench: &Bench, kind: &str, count: usize) {
    for path in paths(kind, count) {
        if matches!(bench.cached(&path), Cached::Miss) {
            assert!(bench.text(&path).await.is_some(), "{path}");
        }
    }
}

fn known(bench: &Bench, kind: &str, count: usize) -> usize {
    paths(kind, count)
        .filter(|path| matches!(bench.cached(path), Cached::File(_)))
        .count()
}

/// Popular files stay cached through a scan, whether they came before it or to a full cache.
fn popular_files_survive_scans(len: usize, config: CacheConfig) {
    let tree = tree(len);
    run(async {
        for begins_full in [false, true] {
            let bench = Bench::of(Site::for_directory(tree.root()), config);
            if begins_full {
                ask(&bench, "first", SCANNED).await;
            }
            for _ in 0..3 {
                ask(&bench, "popular", POPULAR).await;
            }
            ask(&bench, "second", SCANNED).await;
            let left = known(&bench, "popular", POPULAR);
            assert!(
                left >= POPULAR * 3 / 4,
                "{left}, begins full: {begins_full}"
            );
            // The cache is no larger than it was told to be.
            let scanned = known(&bench, "second", SCANNED);
            assert!(scanned <= 2 * CACHED, "{scanned}");
        }
    });
}

#[test]
fn a_scan_of_small_files_leaves_those_in_memory_that_are_asked_for_again() {
    let hot_bytes = (CACHED * (INLINE_MAX + OVERHEAD_BYTES)) as u64;
    let config = CacheConfig {
        hot_bytes,
        ..cache()
    };
    popular_files_survive_scans(INLINE_MAX, config);
}

#[test]
fn a_scan_of_large_files_leaves_those_open_that_are_asked_for_again() {
    let config = CacheConfig {
        open_files: CACHED,
        ..cache()
    };
    popular_files_survive_scans(INLINE_MAX + 1, config);
}
