//! Popular files are read into memory, within a bound that slow clients do not move.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use support::{Bench, POPULAR_MAX, Tree, cache, file, run};
use tidegate_config::Site;
use tidegate_site::{CacheConfig, Cached, Content, Found};

/// Requests that make a file popular, and one more.
const REQUESTS: usize = 33;

/// Files that fit into memory.
const FITTING: usize = 64;

const FILES: usize = 3 * FITTING;

fn path(number: usize) -> String {
    format!("/{number}")
}

/// A part of the file if it is in memory, after as many requests as make it popular. That is what a
/// slow client holds.
async fn popular(bench: &Bench, number: usize) -> Option<Bytes> {
    for _ in 0..REQUESTS {
        if matches!(bench.cached(&path(number)), Cached::Miss) {
            bench.find(&path(number)).await;
        }
    }
    match &file(bench.find(&path(number)).await).content {
        Content::Memory(bytes) => Some(bytes.slice(..1)),
        Content::File(_) | Content::Sliced(_) => None,
    }
}

fn tree() -> Tree {
    let tree = Tree::new(&[]);
    for number in 0..FILES {
        tree.write(&path(number)[1..], &vec![b'a'; POPULAR_MAX]);
    }
    tree
}

fn bench(tree: &Tree) -> Bench {
    let config = CacheConfig {
        hot_bytes: (FITTING * POPULAR_MAX) as u64,
        // A busy machine reads them late, and then what was known before would be used.
        stale: Duration::ZERO,
        ..cache()
    };
    Bench::of(Site::for_directory(tree.root()), config)
}

#[test]
fn popular_files_that_clients_hold_are_bounded_and_make_room_when_they_end() {
    let tree = tree();
    run(async {
        let bench = bench(&tree);
        let mut held = Vec::new();
        for number in 0..FILES - 1 {
            held.extend(popular(&bench, number).await);
        }
        let count = held.len();
        assert!((FITTING..=FITTING * 5 / 4).contains(&count), "{count}");
        drop(held);
        assert!(popular(&bench, FILES - 1).await.is_some());
    });
}

#[test]
fn files_that_become_popular_at_once_are_bounded_before_they_are_read() {
    let tree = tree();
    run(async {
        let bench = bench(&tree);
        let paths: Vec<_> = (0..FILES).map(path).collect();
        for path in &paths {
            bench.find(path).await;
            let is_due = (0..REQUESTS).any(|_| matches!(bench.cached(path), Cached::Miss));
            assert!(is_due, "{path}");
        }
        let all = join_all(paths.iter().map(|path| bench.find(path))).await;
        let in_memory = |found: &Found| match found {
            Found::File(file) => matches!(file.content, Content::Memory(_)),
            _ => false,
        };
        let count = all.iter().filter(|found| in_memory(found)).count();
        assert!((FITTING..=FITTING * 5 / 4).contains(&count), "{count}");
    });
}
