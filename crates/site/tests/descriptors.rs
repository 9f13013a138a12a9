//! Descriptors: none is left open, and to be out of them is no lasting harm. Alone in its file,
//! since it counts those of the process and lowers its limit.

mod support;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Bench, INLINE_MAX, Tree, descriptors, kind, run};
use tidegate_config::Site;
use tidegate_site::CacheConfig;

fn tree(count: usize) -> Tree {
    let tree = Tree::new(&[]);
    for number in 0..count {
        tree.write(&number.to_string(), &vec![b'a'; INLINE_MAX + 1]);
    }
    tree
}

/// Ops that were dropped end with the executor's next rounds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..5000 {
        if condition() {
            return;
        }
        tidegate_uring::executor::coarse_sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

async fn bounded() {
    let tree = tree(100);
    let cache = CacheConfig {
        open_files: 10,
        ..support::cache()
    };
    let bench = Bench::of(Site::for_directory(tree.root()), cache);
    let before = descriptors();
    for number in 0..100 {
        bench.text(&format!("/{number}")).await.unwrap();
    }
    until("closed", || descriptors() <= before + 10).await;
}

/// With no more descriptors than there are, the cached ones are given up for the one that is
/// wanted.
async fn exhausted() {
    let tree = tree(40);
    let bench = Bench::of(Site::for_directory(tree.root()), support::cache());
    for number in 0..30 {
        bench.text(&format!("/{number}")).await.unwrap();
    }
    let limit = getrlimit(Resource::Nofile);
    let lowered = Rlimit {
        current: Some(descriptors() as u64 - 1),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, lowered).unwrap();
    let found = kind(&bench.find("/35").await);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(found.starts_with("file "), "{found}");
}

#[test]
fn descriptors_are_bounded_and_given_up() {
    run(async {
        let before = descriptors();
        bounded().await;
        exhausted().await;
        until("all closed", || descriptors() <= before).await;
    });
}
