//! Header rules and redirects of a site.

mod support;

use support::{Bench, Tree, fields, file, run};
use tidegate_config::{HeaderRule, Redirect};
use tidegate_http::Status;
use tidegate_site::{Found, RuleMatch};

fn rule(pattern: &str, set: &[(&str, &str)]) -> HeaderRule {
    HeaderRule {
        pattern: pattern.parse().expect(pattern),
        ignore_case: false,
        cache: None,
        set: set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[test]
fn rules_are_in_the_fields_of_files() {
    let tree = Tree::new(&[
        ("assets/a.js", "a"),
        ("assets/a.js.br", "b"),
        ("app.html", "app"),
    ]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.spa_fallback = Some("/app.html".to_owned());
            config.headers = vec![
                rule(
                    "/**",
                    &[
                        ("X-All", "yes"),
                        ("Cache-Control", "no-cache"),
                        ("Vary", "Cookie"),
                    ],
                ),
                rule(
                    "/assets/**",
                    &[("cache-control", "public, max-age=31536000, immutable")],
                ),
                rule("/assets/a.js", &[("Content-Type", "text/x-own")]),
            ];
        });
        let asset = file(bench.find("/assets/a.js").await);
        let lines = fields(&asset);
        assert!(lines.starts_with("Content-Type: text/x-own\r\n"), "{lines}");
        assert!(lines.contains("\r\nX-All: yes\r\n"), "{lines}");
        assert!(
            lines.contains("immutable\r\n") && !lines.contains("no-cache"),
            "{lines}"
        );
        assert!(
            lines.contains("\r\nVary: Cookie, Accept-Encoding\r\n"),
            "{lines}"
        );
        assert_eq!(lines.matches("Content-Type").count(), 1);
        assert_eq!(asset.content_type, "text/x-own");
        // RFC 9110, section 15.4.5.
        let not_modified =
            String::from_utf8(asset.not_modified_fields().as_bytes().to_vec()).unwrap();
        assert!(not_modified.contains("immutable\r\n"), "{not_modified}");
        // The rules of the fallback are those of its own path, whatever path it is sent for.
        let Found::Fallback(app) = bench.navigate("/assets/none").await else {
            panic!("no fallback");
        };
        assert!(fields(&app).contains("\r\nCache-Control: no-cache\r\n"));
    });
}

#[test]
fn answers_without_a_file_have_lines_of_their_own() {
    let tree = Tree::new(&[]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.headers = vec![rule(
                "/a/**",
                &[
                    ("X-A", "1"),
                    ("Expires", "0"),
                    ("Cache-Control", "b"),
                    ("CDN-Cache-Control", "b"),
                    ("surrogate-control", "b"),
                ],
            )];
        });
        let lines = |path: &[u8], status| {
            let fields = bench.site.fields_for(path, status);
            fields.lines().as_bytes().to_vec()
        };
        for status in [Status::NO_CONTENT, Status::NOT_FOUND] {
            assert_eq!(lines(b"/a/x", status), b"X-A: 1\r\n");
        }
        let kept: &[u8] = b"X-A: 1\r\nExpires: 0\r\nCache-Control: b\r\n\
            CDN-Cache-Control: b\r\nsurrogate-control: b\r\n";
        for status in [Status::OK, Status::FOUND] {
            assert_eq!(lines(b"/a/x", status), kept);
        }
        assert_eq!(lines(b"/b", Status::NOT_FOUND), b"");
    });
}

#[test]
fn redirects_keep_the_query() {
    let tree = Tree::new(&[("index.html", "")]);
    run(async {
        let bench = Bench::with(&tree, |config| {
            config.redirects = vec![Redirect {
                from: "/old/**".parse().unwrap(),
                ignore_case: false,
                to: "/new/$1".to_owned(),
                status: Status::PERMANENT_REDIRECT,
            }];
        });
        match bench.site.match_rules(b"/old/a b", Some("c=d")) {
            Some(RuleMatch::Redirect { status, location }) => {
                assert_eq!(status, Status::PERMANENT_REDIRECT);
                assert_eq!(location, "/new/a%20b?c=d");
            }
            _ => panic!("no redirect"),
        }
        assert!(bench.site.match_rules(b"/new/a", None).is_none());
    });
}
