//! Precompressed variants.

mod support;

use support::{Bench, Tree, fields, minutes_ago, run, text};
use tidegate_http::{Coding, Navigation, Status};
use tidegate_site::Cached;

fn tree() -> Tree {
    Tree::new(&[
        ("a.js", "plain"),
        ("a.js.br", "brotli"),
        ("a.js.gz", "gzip"),
        ("alone.js", "alone"),
    ])
}

#[test]
fn the_best_that_is_accepted_and_there_is_sent() {
    let tree = tree();
    run(async {
        let bench = Bench::new(&tree);
        // Accept-Encoding (RFC 9110, section 12.5.3), what is sent
        let table = [
            ("br, gzip", "brotli"),
            ("gzip", "gzip"),
            ("zstd", "plain"),
            ("zstd, gzip;q=0.5", "gzip"),
            ("br;q=0.1, gzip;q=0.9", "gzip"),
            ("br;q=0", "plain"),
            ("*", "brotli"),
            ("identity", "plain"),
            ("", "plain"),
        ];
        for (codings, expected) in table {
            for _ in 0..2 {
                let file = bench.accepting("/a.js", codings).await;
                assert_eq!(text(&file), expected, "{codings}");
                let accepted = support::accepted(codings);
                let Cached::File(cached) =
                    bench
                        .site
                        .cached(b"/a.js", None, accepted, || Navigation::No, bench.now)
                else {
                    panic!("not cached");
                };
                assert_eq!(text(&cached), expected, "{codings}");
            }
        }
    });
}

#[test]
fn a_variant_is_the_original_in_another_coding() {
    let tree = tree();
    run(async {
        let bench = Bench::new(&tree);
        let plain = bench.accepting("/a.js", "").await;
        let coded = bench.accepting("/a.js", "br").await;
        assert_eq!(coded.content_type, "text/javascript; charset=utf-8");
        assert_eq!(coded.coding, Some(Coding::Brotli));
        assert_ne!(coded.validators.etag, plain.validators.etag);
        assert!(fields(&coded).contains("\r\nContent-Encoding: br\r\n"));
        assert!(!fields(&plain).contains("Content-Encoding"));
        for file in [&plain, &coded] {
            assert!(fields(file).contains("\r\nVary: Accept-Encoding\r\n"));
            let not_modified =
                String::from_utf8(file.not_modified_fields().as_bytes().to_vec()).unwrap();
            assert!(not_modified.contains("Vary: Accept-Encoding\r\n"));
        }
        let alone = bench.accepting("/alone.js", "br").await;
        assert!(!fields(&alone).contains("Vary"));
    });
}

#[test]
fn the_order_of_the_site_breaks_ties() {
    let tree = tree();
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.precompressed = vec![Coding::Gzip, Coding::Brotli];
        });
        assert_eq!(bench.text_accepting("/a.js", "br, gzip").await, "gzip");
        let bench = Bench::with(&tree, |config| config.precompressed = vec![Coding::Gzip]);
        assert_eq!(bench.text_accepting("/a.js", "br").await, "plain");
        let bench = Bench::with(&tree, |config| config.precompressed.clear());
        let file = bench.accepting("/a.js", "br, gzip").await;
        assert_eq!(text(&file), "plain");
        assert!(!fields(&file).contains("Vary"));
    });
}

#[test]
fn a_variant_older_than_its_original_is_not_sent() {
    let tree = tree();
    tree.set_modified("a.js.br", minutes_ago(5));
    run(async {
        let bench = Bench::new(&tree);
        assert_eq!(bench.text_accepting("/a.js", "br, gzip").await, "gzip");
    });
}

#[test]
fn a_variant_is_a_regular_file_beneath_the_root() {
    let outside = Tree::new(&[("secret", "outside")]);
    let tree = Tree::new(&[("a.js", "plain"), ("a.js.br/x", "a directory")]);
    tree.link(outside.path("secret"), "a.js.gz");
    run(async {
        let bench = Bench::new(&tree);
        assert_eq!(bench.text_accepting("/a.js", "br, gzip").await, "plain");
    });
}

#[test]
fn variants_that_come_change_and_go_show_in_time() {
    let tree = Tree::new(&[("a.js", "plain")]);
    run(async {
        let mut bench = Bench::new(&tree);
        assert_eq!(bench.text_accepting("/a.js", "br").await, "plain");
        tree.write("a.js.br", b"one");
        assert_eq!(bench.text_accepting("/a.js", "br").await, "plain");
        bench.wait();
        assert_eq!(bench.text_accepting("/a.js", "br").await, "one");
        // In place: the directory stays as it is.
        tree.write("a.js.br", b"two");
        bench.wait();
        assert_eq!(bench.text_accepting("/a.js", "br").await, "two");
        tree.write("a.js", b"newer");
        tree.set_modified("a.js.br", minutes_ago(2));
        bench.wait();
        assert_eq!(bench.text_accepting("/a.js", "br").await, "newer");
        tree.remove("a.js.br");
        bench.wait();
        let file = bench.accepting("/a.js", "br").await;
        assert!(!fields(&file).contains("Vary"));
    });
}

#[test]
fn a_fallback_and_an_error_page_have_variants() {
    let tree = Tree::new(&[("e.html", "plain"), ("e.html.gz", "gzip")]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config
                .error_pages
                .insert(Status::NOT_FOUND, "/e.html".to_owned());
            config.spa_fallback = Some("/e.html".to_owned());
        });
        let wanted = tidegate_site::SiteRequest {
            accepted: support::accepted("gzip"),
            navigation: Navigation::Told,
            ..support::wanted("/none")
        };
        let found = bench.find_wanted(&wanted).await;
        assert_eq!(support::kind(&found), "fallback gzip");
        let tidegate_site::Found::Fallback(file) = found else {
            panic!("no fallback");
        };
        assert!(
            fields(&file)
                .contains("\r\nVary: Accept, Sec-Fetch-Dest, Sec-Fetch-Mode, Accept-Encoding\r\n")
        );
        let wanted = tidegate_site::SiteRequest {
            navigation: Navigation::No,
            ..wanted
        };
        assert_eq!(support::kind(&bench.find_wanted(&wanted).await), "404 gzip");
    });
}
