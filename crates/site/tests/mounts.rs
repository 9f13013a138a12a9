//! Several roots of one site, and what a lookup that ends in another one is trusted for.

mod support;

use std::fs;

use support::{Bench, Tree, kind, run, settle};
use tidegate_config::{Mount, Site};
use tidegate_site::Cached;

fn mount(at: &str, tree: &Tree, path: &str) -> Mount {
    Mount {
        at: at.to_owned(),
        root: tree.path(path),
    }
}

/// A site whose root is `www`, with `current` mounted: a link that the test moves.
fn site(tree: &Tree) -> Site {
    tree.link("one", "current");
    let mut config = Site::for_directory(tree.path("www"));
    config.mounts.push(mount("/now", tree, "current"));
    config
}

fn releases() -> Tree {
    Tree::new(&[
        ("www/a", "a"),
        ("one/a", "a1"),
        ("one/fallback", "f1"),
        ("two/a", "a2"),
        ("two/fallback", "f2"),
    ])
}

fn release(tree: &Tree, name: &str) {
    tree.link(name, "next");
    fs::rename(tree.path("next"), tree.path("current")).unwrap();
}

#[test]
fn what_is_found_in_another_root_is_known_no_longer_than_that_is() {
    let tree = releases();
    let mut config = site(&tree);
    config.try_files.push("/now/fallback".to_owned());
    run(async {
        let mut bench = Bench::of(config, support::cache());
        assert_eq!(kind(&bench.find("/now/a").await), "file a1");
        bench.now += support::VALID / 2;
        // This root is known for half the time by now.
        assert_eq!(kind(&bench.find("/none").await), "file f1");
        assert_eq!(bench.cached_text("/none").as_deref(), Some("f1"));
        release(&tree, "two");
        bench.now += support::VALID / 2 + support::VALID / 4;
        assert!(matches!(bench.cached("/none"), Cached::Miss));
        assert_eq!(kind(&bench.find("/none").await), "file f2");
        assert_eq!(bench.cached_text("/none").as_deref(), Some("f2"));
        fs::remove_file(tree.path("current")).unwrap();
        bench.wait();
        assert_eq!(kind(&bench.find("/none").await), "404");
        release(&tree, "one");
        bench.wait();
        assert_eq!(kind(&bench.find("/none").await), "file f1");
    });
}

/// A name is looked at again in the root that it was found in.
#[test]
fn the_same_name_in_two_roots_is_two_files() {
    let tree = releases();
    fs::hard_link(tree.path("one/fallback"), tree.path("www/fallback")).unwrap();
    let mut config = site(&tree);
    config.try_files.push("/now/fallback".to_owned());
    config.precompressed = Vec::new();
    settle();
    run(async {
        let mut bench = Bench::of(config, support::cache());
        assert_eq!(kind(&bench.find("/none").await), "file f1");
        release(&tree, "two");
        bench.wait();
        assert_eq!(kind(&bench.find("/none").await), "file f2");
    });
}

#[test]
fn a_root_that_is_replaced_takes_nothing_of_another_with_it() {
    let tree = releases();
    let config = site(&tree);
    run(async {
        let mut bench = Bench::of(config, support::cache());
        assert_eq!(kind(&bench.find("/now/a").await), "file a1");
        bench.now += support::VALID / 2;
        assert_eq!(kind(&bench.find("/a").await), "file a");
        release(&tree, "two");
        bench.now += support::VALID / 2;
        assert!(matches!(bench.cached("/now/a"), Cached::Miss));
        assert_eq!(kind(&bench.find("/now/a").await), "file a2");
        assert_eq!(bench.cached_text("/now/a").as_deref(), Some("a2"));
        assert_eq!(kind(&bench.find("/now").await), "404");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "file a");
    });
}
