//! Which site a Host means, and what several share.

mod support;

use std::time::Instant;

use support::{Tree, kind, run, wanted};
use tidegate_config::Site;
use tidegate_site::Sites;
use tidegate_uring::{Config, Ring};

fn site(tree: &Tree, root: &str, names: &[&str]) -> Site {
    Site {
        names: names.iter().map(ToString::to_string).collect(),
        ..Site::for_directory(tree.path(root))
    }
}

fn tree() -> Tree {
    Tree::new(&[("0/a", "0"), ("1/a", "1"), ("2/a", "2"), ("3/a", "3")])
}

#[test]
fn hosts_are_told_apart() {
    let tree = tree();
    run(async {
        let ring = Ring::start(&Config::default()).unwrap();
        let configs = vec![
            site(&tree, "0", &["example.org", "www.example.org"]),
            site(&tree, "1", &["*.example.org"]),
            site(&tree, "2", &[]),
            site(&tree, "3", &["*.cdn.example.org", "[::1]"]),
        ];
        let sites = Sites::open(
            &configs,
            support::cache(),
            &ring,
            &std::sync::Arc::default(),
        )
        .unwrap();
        // RFC 9110, section 4.2.3: no case; section 7.2: a port.
        // RFC 1034, section 3.1: a final dot.
        let table = [
            (Some("example.org"), 0),
            (Some("EXAMPLE.org:8080"), 0),
            (Some("example.org."), 0),
            (Some("www.example.org"), 0),
            (Some("a.example.org"), 1),
            (Some("a.b.example.org"), 1),
            (Some("a.cdn.example.org"), 3),
            (Some("cdn.example.org"), 1),
            (Some(".example.org"), 2),
            (Some("badexample.org"), 2),
            (Some("other.org"), 2),
            (Some("[::1]:80"), 3),
            (Some(""), 2),
            (None, 2),
        ];
        for (host, expected) in table {
            assert_eq!(sites.of(host).number(), expected, "{host:?}");
        }
    });
}

#[test]
fn without_a_default_the_first_is_it() {
    let tree = tree();
    run(async {
        let ring = Ring::start(&Config::default()).unwrap();
        let configs = vec![site(&tree, "0", &["a"]), site(&tree, "1", &["b"])];
        let sites = Sites::open(
            &configs,
            support::cache(),
            &ring,
            &std::sync::Arc::default(),
        )
        .unwrap();
        assert_eq!(sites.of(Some("c")).number(), 0);
        assert_eq!(sites.of(Some("b")).number(), 1);
    });
}

#[test]
fn sites_share_a_cache_and_not_its_entries() {
    let tree = tree();
    run(async {
        let ring = Ring::start(&Config::default()).unwrap();
        let configs = vec![site(&tree, "0", &["a"]), site(&tree, "1", &["b"])];
        let sites = Sites::open(
            &configs,
            support::cache(),
            &ring,
            &std::sync::Arc::default(),
        )
        .unwrap();
        let now = Instant::now();
        for _ in 0..2 {
            for (host, expected) in [("a", "file 0"), ("b", "file 1")] {
                let found = sites.of(Some(host)).find(&wanted("/a"), now).await;
                assert_eq!(kind(&found), expected);
            }
        }
    });
}
