//! Listings of directories.

#[path = "../../../tests/support/skip.rs"]
mod skip;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use skip::skipped;
use support::{Bench, Tree, kind, run, wanted};
use tidegate_config::Symlinks;
use tidegate_site::{Found, Listing, SiteRequest};

fn listed(tree: &Tree) -> Bench {
    Bench::with(tree, |config| config.directory_listing = true)
}

fn text(mut listing: Listing) -> String {
    let mut text = Vec::new();
    while let Some(piece) = listing.next_piece() {
        assert!(piece.len() <= 64 * 1024);
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

async fn names(bench: &Bench, path: &str) -> Vec<String> {
    let json = SiteRequest {
        wants_json: true,
        ..wanted(path)
    };
    let Found::Listing { listing, .. } = bench.find_wanted(&json).await else {
        panic!("no listing of {path}");
    };
    assert!(
        listing
            .fields()
            .as_bytes()
            .starts_with(b"Content-Type: application/json\r\n")
    );
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text(listing)).unwrap();
    let name = |entry: &serde_json::Value| entry["name"].as_str().unwrap().to_owned();
    entries.iter().map(name).collect()
}

#[test]
fn a_directory_without_an_index_is_listed() {
    let tree = Tree::new(&[
        ("d/b10", ""),
        ("d/b9", "123"),
        ("d/A", ""),
        ("d/z/x", ""),
        ("d/.hidden", ""),
        ("i/index.html", "index"),
    ]);
    run(async {
        let bench = listed(&tree);
        assert_eq!(names(&bench, "/d/").await, ["z", "A", "b9", "b10"]);
        assert_eq!(names(&bench, "/").await, ["d", "i"]);
        assert_eq!(kind(&bench.find("/d").await), "301 /d/");
        assert_eq!(kind(&bench.find("/i/").await), "file index");
        assert_eq!(kind(&bench.find("/none/").await), "404");
        assert_eq!(kind(&bench.find("/d/b9/").await), "404");
        assert_eq!(kind(&Bench::new(&tree).find("/d/").await), "404");
        let Found::Listing { listing: html, .. } = bench.find("/d/").await else {
            panic!("no listing");
        };
        assert!(
            html.fields()
                .as_bytes()
                .starts_with(b"Content-Type: text/html")
        );
        assert!(text(html).contains("<a href=\"b9\">b9</a></td><td><data value=\"3\">3 B</data>"));
    });
}

#[test]
fn what_is_added_is_listed_in_time() {
    let tree = Tree::new(&[("d/a", "")]);
    run(async {
        let mut bench = listed(&tree);
        assert_eq!(names(&bench, "/d/").await, ["a"]);
        tree.write("d/b", b"");
        assert_eq!(names(&bench, "/d/").await, ["a"]);
        bench.wait();
        assert_eq!(names(&bench, "/d/").await, ["a", "b"]);
    });
}

#[test]
fn links_are_listed_if_they_are_followed() {
    let outside = Tree::new(&[("secret", "")]);
    let tree = Tree::new(&[("d/file", "12"), ("d/dir/x", "")]);
    tree.link("file", "d/to-file");
    tree.link("../d/dir", "d/to-dir");
    tree.link(outside.path("secret"), "d/to-outside");
    tree.link("none", "d/to-none");
    run(async {
        let table: [(Symlinks, &[&str]); 3] = [
            (Symlinks::Beneath, &["dir", "to-dir", "file", "to-file"]),
            (Symlinks::Never, &["dir", "file"]),
            (
                Symlinks::Follow,
                &["dir", "to-dir", "file", "to-file", "to-outside"],
            ),
        ];
        for (symlinks, expected) in table {
            let bench = Bench::with(&tree, |config| {
                config.directory_listing = true;
                config.symlinks = symlinks;
            });
            assert_eq!(names(&bench, "/d/").await, expected, "{symlinks:?}");
        }
    });
}

#[test]
fn a_large_directory_comes_in_pieces() {
    let tree = Tree::new(&[]);
    for number in 0..3000 {
        fs::write(tree.path(&format!("file-{number}")), "").unwrap();
    }
    run(async {
        let bench = listed(&tree);
        let names = names(&bench, "/").await;
        assert_eq!(names.len(), 3000);
        assert_eq!(names[2999], "file-2999");
        let Found::Listing { listing: html, .. } = bench.find("/").await else {
            panic!("no listing");
        };
        assert!(!html.is_truncated());
        assert_eq!(text(html).matches("<tr><td>").count(), 3000);
    });
}

#[test]
fn a_directory_that_may_not_be_read_is_forbidden() {
    if rustix::process::geteuid().is_root() {
        skipped("root may read everything");
        return;
    }
    let tree = Tree::new(&[("d/a", "")]);
    fs::set_permissions(tree.path("d"), fs::Permissions::from_mode(0o311)).unwrap();
    run(async {
        assert_eq!(kind(&listed(&tree).find("/d/").await), "403");
    });
    fs::set_permissions(tree.path("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_reading_that_is_dropped_leaves_nothing() {
    let tree = Tree::new(&[]);
    for number in 0..500 {
        fs::write(tree.path(&number.to_string()), "").unwrap();
    }
    run(async {
        let bench = listed(&tree);
        assert_eq!(names(&bench, "/").await.len(), 500);
        let asked = wanted("/");
        for polls in 1..20 {
            let mut finding = Box::pin(bench.find_wanted(&asked));
            for _ in 0..polls {
                if futures_lite::future::poll_once(&mut finding)
                    .await
                    .is_some()
                {
                    break;
                }
                tidegate_uring::executor::coarse_sleep(std::time::Duration::from_micros(200)).await;
            }
        }
        assert_eq!(names(&bench, "/").await.len(), 500);
    });
}
