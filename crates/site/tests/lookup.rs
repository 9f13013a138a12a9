//! What a path leads to.

#[path = "../../../tests/support/skip.rs"]
mod skip;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use skip::skipped;
use support::{Bench, Tree, fields, file, kind, run, text, wanted};
use tidegate_config::{HiddenFiles, Symlinks};
use tidegate_http::{Accepted, Navigation, Status};
use tidegate_site::{Cached, Content, SiteRequest};

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

async fn check(bench: &Bench, table: &[(&str, &str)]) {
    for (path, expected) in table {
        // From the disk, then from the cache.
        for _ in 0..2 {
            assert_eq!(kind(&bench.find(path).await), *expected, "{path}");
        }
    }
}

#[test]
fn files_directories_and_nothing() {
    let tree = Tree::new(&[
        ("a.txt", "a"),
        ("index.html", "root"),
        ("d/index.html", "d"),
        ("d d/index.html", "space"),
        ("e/x", "x"),
        ("f/index.html/x", "an index that is a directory"),
        (".hidden", "h"),
        ("d/.hidden/x", "h"),
        (".well-known/security.txt", "s"),
    ]);
    run(async {
        let bench = Bench::new(&tree);
        let table = [
            ("/a.txt", "file a"),
            ("/", "file root"),
            ("/d/", "file d"),
            ("/d", "301 /d/"),
            ("/d d", "301 /d%20d/"),
            ("/a.txt/", "404"),
            ("/e", "404"),
            ("/e/", "404"),
            ("/f/", "404"),
            ("/none", "404"),
            ("/none/none", "404"),
            ("/a.txt/none", "404"),
            ("/.hidden", "404"),
            ("/d/.hidden/x", "404"),
            ("/.well-known/security.txt", "file s"),
        ];
        check(&bench, &table).await;
        let all = Bench::with(&tree, |config| {
            config.hidden_files = HiddenFiles::All;
        });
        check(&all, &[("/.hidden", "file h"), ("/d/.hidden/x", "file h")]).await;
    });
}

#[test]
fn a_name_that_is_too_long_is_not_there() {
    let tree = Tree::new(&[]);
    run(async {
        let bench = Bench::new(&tree);
        assert_eq!(
            kind(&bench.find(&format!("/{}", "a".repeat(300))).await),
            "404"
        );
        assert_eq!(kind(&bench.find(&"/a".repeat(4000)).await), "404");
    });
}

#[test]
fn index_files_are_tried_in_order() {
    let tree = Tree::new(&[
        ("a/index.htm", "htm"),
        ("b/index.html", "html"),
        ("b/index.htm", "no"),
    ]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.index = strings(&["index.html", "index.htm"]);
        });
        check(
            &bench,
            &[("/a/", "file htm"), ("/b/", "file html"), ("/a", "301 /a/")],
        )
        .await;
    });
}

#[test]
fn try_files_are_tried_in_order() {
    let tree = Tree::new(&[
        ("page.html", "page"),
        ("both", "both"),
        ("both.html", "no"),
        ("dir/index.html", "dir"),
        ("dir.html", "beside the directory"),
        ("fallback.html", "fallback"),
        ("fixed/index.html", "fixed"),
    ]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.try_files = strings(&["$path", "$path.html", "$path/", "/fallback.html"]);
        });
        let table = [
            ("/page", "file page"),
            ("/both", "file both"),
            ("/dir", "file beside the directory"),
            ("/dir/", "file dir"),
            ("/none", "file fallback"),
            ("/none/none", "file fallback"),
        ];
        check(&bench, &table).await;
        let bench = Bench::with(&tree, |config| {
            config.try_files = strings(&["$path", "/fixed/"]);
        });
        // A directory that the path does not name is no reason to be sent there.
        check(&bench, &[("/none", "file fixed"), ("/dir", "file fixed")]).await;
    });
}

#[test]
fn types_are_told_by_the_file_that_is_sent() {
    let tree = Tree::new(&[("page.html", "page")]);
    run(async {
        let bench = Bench::with(&tree, |config| config.try_files = strings(&["$path.html"]));
        let page = file(bench.find("/page").await);
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert!(fields(&page).starts_with("Content-Type: text/html; charset=utf-8\r\n"));
    });
}

#[test]
fn symlinks_are_followed_by_policy() {
    let outside = Tree::new(&[("secret", "outside")]);
    let tree = Tree::new(&[("file", "inside"), ("dir/x", "x")]);
    tree.link("file", "to-file");
    tree.link("dir", "to-dir");
    tree.link(outside.path("secret"), "to-outside");
    tree.link("../../../../../../etc/hostname", "climbs");
    tree.link("circle", "circle");
    run(async {
        // path, beneath, never, follow
        let table = [
            ("/file", "file inside", "file inside", "file inside"),
            ("/to-file", "file inside", "404", "file inside"),
            ("/to-dir/x", "file x", "404", "file x"),
            ("/to-outside", "404", "404", "file outside"),
            ("/circle", "404", "404", "404"),
        ];
        let policy = |symlinks| Bench::with(&tree, |config| config.symlinks = symlinks);
        let beneath = policy(Symlinks::Beneath);
        let never = policy(Symlinks::Never);
        let follow = policy(Symlinks::Follow);
        for (path, in_beneath, in_never, in_follow) in table {
            check(&beneath, &[(path, in_beneath)]).await;
            check(&never, &[(path, in_never)]).await;
            check(&follow, &[(path, in_follow)]).await;
        }
        check(&beneath, &[("/climbs", "404")]).await;
    });
}

#[test]
fn the_fallback_answers_navigations_only() {
    let tree = Tree::new(&[("app.html", "app"), ("real", "real")]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.spa_fallback = Some("/app.html".to_owned());
        });
        for _ in 0..2 {
            for path in ["/users/1", "/users/", "/page.html"] {
                assert_eq!(kind(&bench.navigate(path).await), "fallback app", "{path}");
                assert_eq!(kind(&bench.find(path).await), "404", "{path}");
                // Which of the two is up to the request.
                assert!(matches!(
                    bench.cached(path),
                    Cached::NotFound { page: None }
                ));
                let told = || Navigation::Told;
                let known =
                    bench
                        .site
                        .cached(path.as_bytes(), None, Accepted::IDENTITY, told, bench.now);
                assert!(matches!(known, Cached::Miss), "{path}");
                let fields = bench
                    .site
                    .fields_for(path.as_bytes(), tidegate_http::Status::NOT_FOUND);
                assert_eq!(
                    fields.lines().as_bytes(),
                    b"Vary: Accept, Sec-Fetch-Dest, Sec-Fetch-Mode\r\n"
                );
            }
            for (path, navigation) in [
                ("/missing.js", Navigation::TakesHtml),
                ("/missing.js", Navigation::TakesAnything),
                ("/page.html", Navigation::TakesAnything),
                ("/.hidden", Navigation::TakesHtml),
            ] {
                let wanted = SiteRequest {
                    navigation,
                    ..wanted(path)
                };
                assert_eq!(kind(&bench.find_wanted(&wanted).await), "404", "{path}");
            }
            for path in ["/missing.js", "/v/1.2.3", "/.hidden"] {
                assert_eq!(kind(&bench.navigate(path).await), "fallback app", "{path}");
            }
            for path in ["/missing.js", "/v/1.2.3"] {
                assert!(matches!(
                    bench.cached(path),
                    Cached::NotFound { page: None }
                ));
            }
        }
        assert_eq!(kind(&bench.navigate("/real").await), "file real");
        let tidegate_site::Found::Fallback(app) = bench.navigate("/a").await else {
            panic!("no fallback");
        };
        assert!(fields(&app).contains("\r\nVary: Accept, Sec-Fetch-Dest, Sec-Fetch-Mode\r\n"));
        assert!(app.validators.etag.is_some());
    });
}

#[test]
fn error_pages_come_without_validators() {
    let tree = Tree::new(&[("404.html", "missing page"), ("x", "x")]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config
                .error_pages
                .insert(Status::NOT_FOUND, "/404.html".to_owned());
            config
                .error_pages
                .insert(Status::RANGE_NOT_SATISFIABLE, "/none.html".to_owned());
        });
        // The page is a file too.
        assert!(
            file(bench.find("/404.html").await)
                .validators
                .etag
                .is_some()
        );
        for _ in 0..2 {
            let tidegate_site::Found::Refused { page, .. } = bench.find("/none").await else {
                panic!("something is found");
            };
            let page = page.unwrap();
            assert_eq!(text(&page), "missing page");
            assert_eq!(page.validators, tidegate_http::Validators::default());
            let lines = fields(&page);
            assert_eq!(lines, "Content-Type: text/html; charset=utf-8\r\n");
        }
        let Cached::NotFound { page: Some(page) } = bench.cached("/none") else {
            panic!("not known");
        };
        assert_eq!(text(&page), "missing page");
        let status = tidegate_http::Status::RANGE_NOT_SATISFIABLE;
        let accepted = tidegate_http::Accepted::IDENTITY;
        assert!(
            bench
                .site
                .error_page(status, accepted, bench.now)
                .await
                .is_none()
        );
    });
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    if rustix::process::geteuid().is_root() {
        skipped("root may read everything");
        return;
    }
    let tree = Tree::new(&[("secret", "s"), ("dir/x", "x")]);
    fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    run(async {
        let bench = Bench::new(&tree);
        assert_eq!(kind(&bench.find("/secret").await), "403");
    });
}

#[test]
fn what_is_no_file_is_not_there() {
    let tree = Tree::new(&[]);
    let fifo = std::process::Command::new("mkfifo")
        .arg(tree.path("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    run(async {
        check(&Bench::new(&tree), &[("/fifo", "404"), ("/socket", "404")]).await;
    });
}

#[test]
fn small_files_are_in_memory_and_larger_ones_open() {
    let large = "l".repeat(support::INLINE_MAX + 1);
    let tree = Tree::new(&[("empty", ""), ("small", "s"), ("large", &large)]);
    run(async {
        let bench = Bench::new(&tree);
        for (path, len, in_memory) in [
            ("/empty", 0, true),
            ("/small", 1, true),
            ("/large", 1025, false),
        ] {
            let file = file(bench.find(path).await);
            assert_eq!(file.len, len);
            assert_eq!(
                matches!(file.content, Content::Memory(_)),
                in_memory,
                "{path}"
            );
        }
        assert_eq!(bench.cached_text("/large"), Some(large));
    });
}
