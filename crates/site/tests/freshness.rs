//! What changes on the disk shows in time, and not before it is looked for.

mod support;

use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use futures_lite::future::poll_once;
use support::{Bench, Tree, VALID, file, kind, minutes_ago, run, settle, text, wanted};
use tidegate_config::Site;
use tidegate_http::Status;
use tidegate_site::{CacheConfig, Cached, Content};

#[test]
fn a_file_is_trusted_for_its_time() {
    let tree = Tree::new(&[("a", "one")]);
    run(async {
        let mut bench = Bench::new(&tree);
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        assert_eq!(bench.text("/a").await.unwrap(), "one");
        tree.write("a", b"two");
        assert_eq!(bench.cached_text("/a").unwrap(), "one");
        bench.wait();
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        assert_eq!(bench.text("/a").await.unwrap(), "two");
        assert_eq!(bench.cached_text("/a").unwrap(), "two");
    });
}

#[test]
fn a_file_that_did_not_change_is_kept() {
    let tree = Tree::new(&[("a", "one")]);
    settle();
    run(async {
        let mut bench = Bench::new(&tree);
        let before = file(bench.find("/a").await);
        bench.wait();
        let after = file(bench.find("/a").await);
        assert!(Rc::ptr_eq(&before, &after));
    });
}

#[test]
fn what_comes_and_goes_shows_in_time() {
    let tree = Tree::new(&[("keep", "")]);
    run(async {
        let mut bench = Bench::new(&tree);
        assert_eq!(kind(&bench.find("/a").await), "404");
        assert!(matches!(
            bench.cached("/a"),
            Cached::NotFound { page: None }
        ));
        tree.write("a", b"a");
        assert!(matches!(
            bench.cached("/a"),
            Cached::NotFound { page: None }
        ));
        bench.wait();
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        assert_eq!(kind(&bench.find("/a").await), "file a");
        tree.remove("a");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "404");
        tree.write("a/index.html", b"index");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "301 /a/");
        tree.remove("a/index.html");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "404");
    });
}

#[test]
fn what_comes_before_it_in_the_order_shows_in_time() {
    let tree = Tree::new(&[("a.html", "second"), ("d/index.htm", "second")]);
    run(async {
        let mut bench = Bench::with(&tree, |config| {
            config.try_files = vec!["$path".to_owned(), "$path.html".to_owned()];
            config.index = vec!["index.html".to_owned(), "index.htm".to_owned()];
        });
        assert_eq!(kind(&bench.find("/a").await), "file second");
        assert_eq!(kind(&bench.find("/d/").await), "file second");
        tree.write("a", b"first");
        tree.write("d/index.html", b"first");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "file first");
        assert_eq!(kind(&bench.find("/d/").await), "file first");
    });
}

#[test]
fn a_file_that_was_just_written_is_read_again() {
    let tree = Tree::new(&[("a", "one")]);
    run(async {
        let mut bench = Bench::new(&tree);
        let time = SystemTime::now() + Duration::from_secs(5);
        tree.set_modified("a", time);
        assert_eq!(bench.text("/a").await.unwrap(), "one");
        // The same length within one tick of the clock: only the bytes differ.
        tree.write("a", b"two");
        tree.set_modified("a", time);
        bench.wait();
        assert_eq!(bench.text("/a").await.unwrap(), "two");
    });
}

#[test]
fn a_release_is_swapped_as_a_whole() {
    let releases = Tree::new(&[
        ("one/a", "a1"),
        ("one/b", "b1"),
        ("two/a", "a2"),
        ("two/b", "b2"),
    ]);
    releases.link("one", "current");
    let config = Site {
        error_pages: [(Status::NOT_FOUND, "/b".to_owned())].into(),
        ..Site::for_directory(releases.path("current"))
    };
    run(async {
        let mut bench = Bench::of(config, support::cache());
        assert_eq!(kind(&bench.find("/a").await), "file a1");
        assert_eq!(kind(&bench.find("/none").await), "404 b1");
        releases.link("two", "next");
        fs::rename(releases.path("next"), releases.path("current")).unwrap();
        // What was not looked up yet is of the same release.
        assert_eq!(kind(&bench.find("/b").await), "file b1");
        bench.wait();
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        assert_eq!(kind(&bench.find("/b").await), "file b2");
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        assert_eq!(kind(&bench.find("/a").await), "file a2");
        assert_eq!(kind(&bench.find("/none").await), "404 b2");
    });
}

#[test]
fn a_root_that_vanishes_comes_back() {
    let tree = Tree::new(&[("root/a", "one")]);
    run(async {
        let mut bench = Bench::of(Site::for_directory(tree.path("root")), support::cache());
        assert_eq!(kind(&bench.find("/a").await), "file one");
        fs::rename(tree.path("root"), tree.path("away")).unwrap();
        for _ in 0..3 {
            bench.wait();
            assert_eq!(kind(&bench.find("/a").await), "404");
            assert!(matches!(bench.cached("/a"), Cached::Miss));
            assert_eq!(kind(&bench.find("/a").await), "404");
        }
        // A new directory may get the inode of the old one.
        tree.write("root/a", b"two");
        bench.wait();
        assert_eq!(kind(&bench.find("/a").await), "file two");
    });
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let tree = Tree::new(&[("file", "")]);
    run(async {
        let ring = tidegate_uring::Ring::start(&tidegate_uring::Config::default()).unwrap();
        for name in ["file", "none"] {
            let sites = [Site::for_directory(tree.path(name))];
            let error = tidegate_site::Sites::open(
                &sites,
                support::cache(),
                &ring,
                &std::sync::Arc::default(),
            )
            .err();
            assert_eq!(error.unwrap().path, tree.path(name));
        }
    });
}

#[test]
fn a_look_that_is_dropped_is_made_by_the_next() {
    let tree = Tree::new(&[("a", "one")]);
    run(async {
        let mut bench = Bench::new(&tree);
        assert_eq!(bench.text("/a").await.unwrap(), "one");
        tree.write("a", b"two");
        bench.wait();
        // However far the look had come.
        for polls in 1..6 {
            let asked = wanted("/a");
            let mut finding = Box::pin(bench.find_wanted(&asked));
            for _ in 0..polls {
                if poll_once(&mut finding).await.is_some() {
                    break;
                }
                tidegate_uring::executor::coarse_sleep(Duration::from_millis(1)).await;
            }
            drop(finding);
            let cached = bench.cached_text("/a");
            assert_ne!(cached.as_deref(), Some("one"), "nobody looked");
        }
        assert_eq!(bench.text("/a").await.unwrap(), "two");
    });
}

#[test]
fn nobody_is_answered_with_what_another_is_looking_at_again() {
    let tree = Tree::new(&[("a", "one")]);
    run(async {
        let mut bench = Bench::new(&tree);
        assert_eq!(bench.text("/a").await.unwrap(), "one");
        tree.write("a", b"two");
        // A night without requests.
        bench.now += VALID * 10_000;
        let asked = wanted("/a");
        let mut looks: Vec<_> = (0..40)
            .map(|_| Box::pin(bench.find_wanted(&asked)))
            .collect();
        let mut found = Vec::new();
        for look in &mut looks {
            assert!(poll_once(look).await.is_none());
            assert!(matches!(bench.cached("/a"), Cached::Miss));
        }
        for look in looks {
            found.push(file(look.await));
            assert_eq!(bench.cached_text("/a").unwrap(), "two");
        }
        for other in &found {
            assert_eq!(text(other), "two");
            assert!(Rc::ptr_eq(other, &found[0]), "more than one look");
        }
    });
}

#[test]
fn nobody_is_answered_with_the_release_before() {
    let releases = Tree::new(&[
        ("one/a", "a1"),
        ("one/b", "b1"),
        ("two/a", "a2"),
        ("two/b", "b2"),
    ]);
    releases.link("one", "current");
    run(async {
        let config = Site::for_directory(releases.path("current"));
        let mut bench = Bench::of(config, support::cache());
        for path in ["/a", "/b"] {
            assert!(bench.text(path).await.unwrap().ends_with('1'));
        }
        releases.link("two", "next");
        fs::rename(releases.path("next"), releases.path("current")).unwrap();
        bench.wait();
        let (page, script) = (wanted("/a"), wanted("/b"));
        let mut page = Box::pin(bench.find_wanted(&page));
        let mut script = Box::pin(bench.find_wanted(&script));
        assert!(poll_once(&mut page).await.is_none());
        assert!(poll_once(&mut script).await.is_none());
        let (script, page) = futures_lite::future::zip(script, page).await;
        assert_eq!(kind(&script), "file b2");
        assert_eq!(kind(&page), "file a2");
    });
}

#[test]
fn an_error_page_alone_shows_the_next_release() {
    let releases = Tree::new(&[("one/405", "405 of one"), ("two/405", "405 of two")]);
    releases.link("one", "current");
    let config = Site {
        error_pages: [(Status::METHOD_NOT_ALLOWED, "/405".to_owned())].into(),
        ..Site::for_directory(releases.path("current"))
    };
    run(async {
        let mut bench = Bench::of(config, support::cache());
        for release in ["one", "two"] {
            releases.link(release, "next");
            fs::rename(releases.path("next"), releases.path("current")).unwrap();
            bench.wait();
            let status = tidegate_http::Status::METHOD_NOT_ALLOWED;
            let accepted = tidegate_http::Accepted::IDENTITY;
            let page = bench.site.error_page(status, accepted, bench.now).await;
            assert_eq!(text(&page.unwrap()), format!("405 of {release}"));
        }
    });
}

#[test]
fn those_that_wait_for_a_look_that_is_dropped_look_themselves() {
    let tree = Tree::new(&[("a", "one"), ("b", "one")]);
    run(async {
        let mut bench = Bench::new(&tree);
        for path in ["/a", "/none"] {
            bench.find("/b").await;
            tree.write("a", b"two");
            bench.wait();
            // Whether the first looks at the root or at the name.
            for polls in 1..6 {
                let asked = wanted(path);
                let mut first = Box::pin(bench.find_wanted(&asked));
                let mut others: Vec<_> = (0..3)
                    .map(|_| Box::pin(bench.find_wanted(&asked)))
                    .collect();
                for _ in 0..polls {
                    if poll_once(&mut first).await.is_some() {
                        break;
                    }
                    for other in &mut others {
                        // Whoever is done already needs no waking.
                        let _ = poll_once(other).await;
                    }
                    tidegate_uring::executor::coarse_sleep(Duration::from_micros(200)).await;
                }
                drop(first);
                others.clear();
                let expected = if path == "/a" { "file two" } else { "404" };
                assert_eq!(kind(&bench.find(path).await), expected);
            }
        }
        bench.wait();
        let asked = wanted("/a");
        let mut first = Box::pin(bench.find_wanted(&asked));
        let mut second = Box::pin(bench.find_wanted(&asked));
        assert!(poll_once(&mut first).await.is_none());
        assert!(poll_once(&mut second).await.is_none());
        drop(first);
        assert_eq!(kind(&second.await), "file two");
    });
}

#[test]
fn without_trust_a_look_that_began_before_a_request_is_none_of_its() {
    let tree = Tree::new(&[("a", "one")]);
    let cache = CacheConfig {
        valid: Duration::ZERO,
        ..support::cache()
    };
    run(async {
        let bench = Bench::of(Site::for_directory(tree.root()), cache);
        let asked = wanted("/a");
        let mut first = Box::pin(bench.find_wanted(&asked));
        // The look at the root, and then most of that at the name.
        for _ in 0..10 {
            if poll_once(&mut first).await.is_some() {
                break;
            }
            tidegate_uring::executor::coarse_sleep(Duration::from_micros(50)).await;
            tree.write("a", b"two");
            let fresh = Box::pin(bench.find_wanted(&asked));
            let (found, seen) = futures_lite::future::zip(fresh, &mut first).await;
            assert_eq!(kind(&found), "file two");
            drop(seen);
            first = Box::pin(bench.find_wanted(&asked));
            tree.write("a", b"one");
        }
    });
}

#[test]
fn nothing_is_trusted_without_time() {
    let tree = Tree::new(&[("a", "one")]);
    let cache = CacheConfig {
        valid: Duration::ZERO,
        ..support::cache()
    };
    run(async {
        let bench = Bench::of(Site::for_directory(tree.root()), cache);
        assert_eq!(bench.text("/a").await.unwrap(), "one");
        assert!(matches!(bench.cached("/a"), Cached::Miss));
        tree.write("a", b"two");
        assert_eq!(bench.text("/a").await.unwrap(), "two");
    });
}

#[test]
fn times_of_reproducible_builds_are_no_validators() {
    let large = "l".repeat(support::INLINE_MAX * 1000);
    let tree = Tree::new(&[("small", "s"), ("other", "o"), ("large", &large)]);
    for name in ["small", "other", "large"] {
        tree.set_modified(name, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    }
    run(async {
        let mut bench = Bench::new(&tree);
        let small = file(bench.find("/small").await);
        let other = file(bench.find("/other").await);
        assert_eq!(small.validators.modified, None);
        assert!(small.validators.etag.is_some());
        assert_ne!(small.validators.etag, other.validators.etag);
        let first = file(bench.find("/large").await);
        assert_eq!(first.validators.modified, None);
        let mut looks = 0;
        let tag = loop {
            bench.wait();
            if let Some(tag) = file(bench.find("/large").await).validators.etag {
                break tag;
            }
            looks += 1;
            assert!(looks < 5000, "never hashed");
            tidegate_uring::executor::coarse_sleep(Duration::from_millis(2)).await;
        };
        // Another core, and the same content elsewhere, have the same tag.
        let copy = Tree::new(&[("copy", &large)]);
        copy.set_modified("copy", SystemTime::UNIX_EPOCH);
        let mut other = Bench::new(&copy);
        let mut copied = None;
        while copied.is_none() {
            other.wait();
            copied = file(other.find("/copy").await).validators.etag;
            tidegate_uring::executor::coarse_sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(copied, Some(tag));
    });
}

#[test]
fn a_file_of_the_past_has_a_date() {
    let tree = Tree::new(&[("a", "a")]);
    tree.set_modified("a", minutes_ago(7));
    run(async {
        let a = file(Bench::new(&tree).find("/a").await);
        assert!(a.validators.modified.is_some());
        assert!(support::fields(&a).contains("\r\nLast-Modified: "));
        assert_eq!(text(&a), "a");
    });
}

#[test]
fn a_file_that_changes_while_it_is_read_is_whole_or_not_in_memory() {
    let tree = Tree::new(&[("a", "one")]);
    let cache = CacheConfig {
        valid: Duration::ZERO,
        ..support::cache()
    };
    let path = tree.path("a");
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for len in [0, 700, 30] {
                fs::write(&path, vec![b'a'; len]).unwrap();
            }
        }
    });
    run(async {
        let bench = Bench::of(Site::for_directory(tree.root()), cache);
        for _ in 0..300 {
            let file = file(bench.find("/a").await);
            if let Content::Memory(bytes) = &file.content {
                assert_eq!(bytes.len() as u64, file.len);
            }
        }
    });
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}
