//! The validators of files whose time tells nothing: reproducible builds set it to the start of 1970,
//! zip to 1980, npm to 1985, others to any second that they are told; a copy keeps that of its original.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::{Launch, Response, Server, Tree, eventually, noise};

/// Bytes of files, sent from memory and spliced.
const SIZES: [usize; 4] = [0, 10, 10_000, 3_000_000];

#[test]
fn a_file_of_1970_has_a_tag_of_its_content() {
    let tree = Tree::new();
    for (at, size) in SIZES.into_iter().enumerate() {
        let other = [1, 2][at % 2];
        tree.write_at(&format!("{size}"), &noise(size, 1), at as u64 % 2);
        tree.write_at(&format!("same-{size}"), &noise(size, 1), other % 2);
        tree.write_at(&format!("other-{size}"), &noise(size, 2), 0);
    }
    let server = Server::serve(&tree);
    for size in SIZES {
        let tag = tag(&server, &format!("/{size}"));
        assert_eq!(self::tag(&server, &format!("/same-{size}")), tag, "{size}");
        if size > 0 {
            assert_ne!(self::tag(&server, &format!("/other-{size}")), tag, "{size}");
        }
    }
    // It lasts: another server, with another cache, has the same.
    let tags = SIZES.map(|size| tag(&server, &format!("/{size}")));
    let another = Server::serve(&tree);
    assert_eq!(SIZES.map(|size| tag(&another, &format!("/{size}"))), tags);
}

#[test]
fn a_file_with_a_made_up_time_has_no_date() {
    let tree = Tree::new();
    tree.write_at("zero", b"content", 0);
    tree.write_at("one", b"content", 1);
    tree.write_at("npm", b"content", 499_162_500);
    tree.write_at("1990", b"content", 631_152_001);
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in ["/zero", "/one", "/npm"] {
        assert!(!client.get(target).has("last-modified"), "{target}");
        // RFC 9110, section 13.1.3: ignored where there is no date to compare with.
        for date in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            for condition in ["If-Modified-Since", "If-Unmodified-Since"] {
                let response = client.get_with(target, &[&format!("{condition}: {date}")]);
                assert_eq!(response.status, 200, "{target} {condition}: {date}");
            }
            let fields = ["Range: bytes=0-1", &format!("If-Range: {date}")];
            assert_eq!(client.get_with(target, &fields).status, 200, "{target}");
        }
    }
    let response = client.get("/1990");
    assert_eq!(
        response.header("last-modified"),
        Some("Mon, 01 Jan 1990 00:00:01 GMT")
    );
}

#[test]
fn a_tag_of_content_serves_as_any_other() {
    let tree = Tree::new();
    for size in SIZES {
        tree.write_at(&format!("{size}"), &noise(size, 1), 1);
    }
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for size in SIZES {
        let target = format!("/{size}");
        let tag = tag(&server, &target);
        for (condition, status) in [
            (format!("If-None-Match: {tag}"), 304),
            (format!("If-None-Match: W/{tag}"), 304),
            (format!("If-Match: {tag}"), 200),
            ("If-Match: \"other\"".to_owned(), 412),
        ] {
            let response = client.get_with(&target, &[&condition]);
            assert_eq!(response.status, status, "{target} {condition}");
        }
        if size > 0 {
            let fields = ["Range: bytes=0-4", &format!("If-Range: {tag}")];
            let response = client.get_with(&target, &fields);
            assert_eq!(response.status, 206, "{target}");
            assert_eq!(response.etag(), tag, "{target}");
        }
    }
}

#[test]
fn a_change_that_leaves_time_and_length_shows_in_the_tag() {
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        let tree = Tree::new();
        tree.write_at("file", &noise(size, 1), 1);
        let server = Server::serve(&tree);
        let first = tag(&server, "/file");
        // Not written in place: what is open and trusted would change beneath its tag.
        tree.write_at("new", &noise(size, 2), 1);
        fs::rename(tree.path("new"), tree.path("file")).unwrap();
        eventually("the new content, with a tag of its own", || {
            let response = server.get("/file");
            assert!(
                response.header("etag") != Some(&first) || response.body == noise(size, 1),
                "the new content with the tag of the old"
            );
            response.has("etag") && response.body == noise(size, 2)
        });
        assert_ne!(tag(&server, "/file"), first, "{size}");
    }
}

#[test]
fn a_change_in_place_shows_in_the_tag() {
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        let tree = Tree::new();
        tree.write_at("file", &noise(size, 1), 1);
        let server = Server::serve(&tree);
        let first = tag(&server, "/file");
        tree.write_at("file", &noise(size, 2), 1);
        eventually("another tag", || tag(&server, "/file") != first);
        assert!(server.get("/file").body == noise(size, 2), "{size}");
    }
}

#[test]
fn variants_of_1970_have_tags_of_their_own() {
    let tree = Tree::new();
    tree.write_at("file", &noise(1000, 1), 1);
    tree.write_at("file.br", &noise(500, 2), 1);
    tree.write_at("file.gz", &noise(500, 2), 1);
    let server = Server::serve(&tree);
    let tags = ["identity", "br", "gzip"].map(|coding| {
        let accept = format!("Accept-Encoding: {coding}");
        let mut tag = String::new();
        eventually("a tag", || {
            let response = server.get_with("/file", &[&accept]);
            tag = response.header("etag").unwrap_or_default().to_owned();
            !tag.is_empty()
        });
        tag
    });
    assert!(
        tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2],
        "{tags:?}"
    );
}

/// Has what was looked up looked at again soon.
const SHORT: &str = "[cache]\nvalid = \"20ms\"";

/// Bazel's, and a `SOURCE_DATE_EPOCH`.
const PINNED: [u64; 2] = [946_684_800, 1_700_000_000];

#[test]
fn contents_with_one_pinned_time_have_tags_of_their_own() {
    for seconds in PINNED {
        for size in SIZES.into_iter().filter(|size| *size > 0) {
            let [old, new] = [1, 2].map(|seed| {
                let tree = Tree::new();
                tree.write_at("file", &noise(size, seed), seconds);
                tree
            });
            // No server ever sees both.
            let known = tagged(&Server::serve(&old), "/file");
            let server = Server::serve(&new);
            let place = format!("{seconds} {size}");
            assert_ne!(tagged(&server, "/file").etag(), known.etag(), "{place}");
            is_another(&server, "/file", &[&known], false, &place);
        }
    }
}

#[test]
fn a_tree_that_has_one_time_has_no_dates() {
    let tree = Tree::new();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(PINNED[1]);
    tree.write_at("dir/file", b"content", PINNED[1]);
    tree.write_at("file", b"content", PINNED[1]);
    let directory = fs::File::open(tree.path("dir")).unwrap();
    directory.set_modified(time).unwrap();
    let server = Server::serve(&tree);
    assert!(!server.get("/dir/file").has("last-modified"));
    assert!(server.get("/file").has("last-modified"));
    assert_eq!(server.get("/dir/file").etag(), server.get("/file").etag());
}

/// Two releases: one with the lengths of the release before it, one with others.
#[test]
fn another_content_with_the_same_time_is_noticed() {
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(PINNED[1]);
    for time in [whole, whole + Duration::from_nanos(1)] {
        for size in SIZES.into_iter().filter(|size| *size > 0) {
            for more in [0, 1] {
                let tree = Tree::with("file", &noise(size, 1));
                tree.modified("file", time);
                let server = Launch::run(&tree, SHORT, "").start();
                let known = tagged(&server, "/file");
                assert!(known.has("last-modified"), "{known:?}");
                tree.write("new", &noise(size + more, 2));
                tree.modified("new", time);
                fs::rename(tree.path("new"), tree.path("file")).unwrap();
                let place = format!("{time:?} {size} {more}");
                eventually(&place, || server.get("/file").body == noise(size + more, 2));
                is_another(&server, "/file", &[&known], true, &place);
                // What was there before has not the date of what came after it, either.
                let between = tagged(&server, "/file");
                tree.write("new", &noise(size, 1));
                tree.modified("new", time);
                fs::rename(tree.path("new"), tree.path("file")).unwrap();
                eventually(&place, || server.get("/file").body == noise(size, 1));
                is_another(&server, "/file", &[&between], true, &place);
            }
        }
    }
}

/// Dates have steps of a second, whatever those of the file system are.
#[test]
fn another_content_of_the_same_second_has_no_date() {
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(PINNED[1]);
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        let tree = Tree::with("file", &noise(size, 1));
        tree.modified("file", second + Duration::from_millis(3));
        let server = Launch::run(&tree, SHORT, "").start();
        let known = tagged(&server, "/file");
        assert!(known.has("last-modified"), "{known:?}");
        tree.write("new", &noise(size, 2));
        tree.modified("new", second + Duration::from_millis(5));
        fs::rename(tree.path("new"), tree.path("file")).unwrap();
        let place = format!("{size}");
        eventually(&place, || server.get("/file").body == noise(size, 2));
        is_another(&server, "/file", &[&known], true, &place);
        let response = server.get("/file");
        assert!(response.has("etag"), "{place}");
        assert!(!response.has("last-modified"), "{place}");
        // In another second it has one again.
        tree.modified("file", second + Duration::from_secs(1));
        eventually(&place, || server.get("/file").has("last-modified"));
    }
}

/// Checks that a client that has one of `known` gets the file, whatever it asks by. `dated`: by date, too.
#[track_caller]
fn is_another(server: &Server, target: &str, known: &[&Response], dated: bool, place: &str) {
    for known in known {
        let none_match = format!("If-None-Match: {}", known.etag());
        assert_eq!(
            server.get_with(target, &[&none_match]).status,
            200,
            "{place}"
        );
        let if_range = format!("If-Range: {}", known.etag());
        let part = server.get_with(target, &["Range: bytes=1-2", &if_range]);
        assert_eq!(part.status, 200, "{place}");
        let date = known.header("last-modified").filter(|_| dated);
        let Some(date) = date else { continue };
        let since = format!("If-Modified-Since: {date}");
        assert_eq!(server.get_with(target, &[&since]).status, 200, "{place}");
        let if_range = format!("If-Range: {date}");
        let part = server.get_with(target, &["Range: bytes=1-2", &if_range]);
        assert_eq!(part.status, 200, "{place}");
    }
}

#[test]
fn a_variant_of_what_a_file_held_before_is_not_sent() {
    let tree = Tree::new();
    tree.write_at("file", &noise(1000, 1), PINNED[1]);
    tree.write_at("file.gz", &noise(500, 2), PINNED[1]);
    let server = Launch::run(&tree, SHORT, "").start();
    let ask = || server.get_with("/file", &["Accept-Encoding: gzip"]);
    assert_eq!(ask().header("content-encoding"), Some("gzip"));
    // A tool that copies times writes the file, and leaves alone what looks the same.
    tree.write_at("new", &noise(1000, 3), PINNED[1]);
    fs::rename(tree.path("new"), tree.path("file")).unwrap();
    eventually("the file", || !ask().has("content-encoding"));
    assert!(ask().body == noise(1000, 3));
    tree.write_at("file.gz", &noise(500, 4), PINNED[1]);
    eventually("its new variant", || ask().body == noise(500, 4));
}

#[test]
fn a_site_may_have_tags_of_contents_alone() {
    let trees = [1, 2].map(|_| Tree::new());
    let tags = trees.each_ref().map(|tree| {
        let server = Launch::run(tree, "", "etag = \"content\"").start();
        SIZES.map(|size| {
            tree.write(&format!("{size}"), &noise(size, 1));
            tag(&server, &format!("/{size}"))
        })
    });
    assert_eq!(tags[0], tags[1]);
}

/// What is sent for `target` once it has a tag.
fn tagged(server: &Server, target: &str) -> Response {
    let mut response = server.get(target);
    eventually(&format!("a tag of {target}"), || {
        response = server.get(target);
        response.has("etag")
    });
    response
}

#[test]
fn a_file_of_the_future_has_a_tag_but_no_date() {
    let tree = Tree::with("file", b"content");
    let future = SystemTime::now() + Duration::from_hours(24);
    tree.modified("file", future);
    let server = Launch::serve(tree.root()).start();
    let response = server.get("/file");
    // RFC 9110, section 8.8.2.1.
    assert!(!response.has("last-modified"), "{response:?}");
    let known = format!("If-None-Match: {}", response.etag());
    assert_eq!(server.get_with("/file", &[&known]).status, 304);
    let since = format!("If-Modified-Since: {}", httpdate::fmt_http_date(future));
    assert_eq!(server.get_with("/file", &[&since]).status, 200);
}

/// The tag of `target`. That of a large file takes a while, in which it is sent without.
fn tag(server: &Server, target: &str) -> String {
    let mut tag = String::new();
    eventually(&format!("a tag of {target}"), || {
        let response = server.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert!(!response.has("last-modified"), "{target}: {response:?}");
        let found = response.has("etag");
        if found {
            response.etag().clone_into(&mut tag);
        }
        found
    });
    tag
}
