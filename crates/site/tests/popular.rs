//! Popular files are read into memory, within a bound that slow clients do not move.

mod support;

use std::rc::Rc;

use support::{Bench, POPULAR_MAX, Tree, cache, file, run};
use tidegate_config::Site;
use tidegate_site::{CacheConfig, Cached, Content, File};

/// Requests that make a file popular, and one more.
const REQUESTS: usize = 33;

/// Files that fit into memory.
const FITTING: usize = 64;

const FILES: usize = 3 * FITTING;

fn path(number: usize) -> String {
    format!("/{number}")
}

/// The file, after as many requests as make it popular.
async fn popular(bench: &Bench, number: usize) -> Rc<File> {
    for _ in 0..REQUESTS {
        if matches!(bench.cached(&path(number)), Cached::Miss) {
            bench.find(&path(number)).await;
        }
    }
    file(bench.find(&path(number)).await)
}

fn in_memory(files: &[Rc<File>]) -> usize {
    let in_memory = |file: &&Rc<File>| matches!(file.content, Content::Memory(_));
    files.iter().filter(in_memory).count()
}

#[test]
fn popular_files_that_responses_hold_are_bounded_and_make_room_when_they_end() {
    let tree = Tree::new(&[]);
    for number in 0..FILES {
        tree.write(&path(number)[1..], &vec![b'a'; POPULAR_MAX]);
    }
    let config = CacheConfig {
        hot_bytes: (FITTING * POPULAR_MAX) as u64,
        ..cache()
    };
    run(async {
        let bench = Bench::of(Site::for_directory(tree.root()), config);
        let mut held = Vec::new();
        for number in 0..FILES - 1 {
            held.push(popular(&bench, number).await);
        }
        let count = in_memory(&held);
        assert!((FITTING..=FITTING * 5 / 4).contains(&count), "{count}");
        held.clear();
        held.push(popular(&bench, FILES - 1).await);
        assert_eq!(in_memory(&held), 1);
    });
}
