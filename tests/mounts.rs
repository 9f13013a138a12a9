//! Several directories in one site.

use std::fs;
use std::path::Path;

use crate::support::{
    Launch, Question, Remote, Response, SECRET, Server, Tree, eventually, request, skipped,
};

/// The root, and what is mounted, as directories beside each other.
fn tree() -> Tree {
    let tree = Tree::with("index.html", b"root");
    let files = [
        ("www/404.html", "not here"),
        ("www/staticx", "beside"),
        ("www/static/a.css", "hidden by the mount"),
        ("www/static.html", "beside the mount"),
        ("www/listed/f", "f"),
        ("static/a.css", "a.css"),
        ("static/a.css.gz", "coded"),
        ("static/sub/index.html", "sub"),
        ("static/.hidden", "hidden"),
        ("static/page.html", "page"),
        ("static/fallback.html", "fallback"),
        ("static/error.html", "error"),
        ("fonts/index.html", "fonts"),
        ("fonts/a.woff2", "woff2"),
        ("list/one", "1"),
        ("list/deep/two", "22"),
        ("space/e.txt", "e"),
    ];
    for (path, text) in files {
        let path = tree.base().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for (name, target) in [
        ("in", "a.css"),
        ("out", "../secret"),
        ("across", "../fonts/a.woff2"),
    ] {
        std::os::unix::fs::symlink(target, tree.base().join("static").join(name)).unwrap();
    }
    tree
}

/// The table of a mount.
fn mount(at: &str, root: &Path) -> String {
    format!(
        "[[site.mount]]\nat = {at:?}\nroot = {:?}\n",
        root.display().to_string()
    )
}

/// All of [`tree`], the shorter paths first.
fn mounts(tree: &Tree) -> String {
    let rows = [
        ("/static", "static"),
        ("/static/fonts/", "fonts"),
        ("/static/list", "list"),
        ("/é b/c", "space"),
    ];
    let tables = rows.map(|(at, root)| mount(at, &tree.base().join(root)));
    tables.concat()
}

fn start(tree: &Tree, site: &str) -> Server {
    Launch::run(tree, "", &format!("{site}\n{}", mounts(tree))).start()
}

#[test]
fn a_path_is_looked_for_in_the_longest_mount_that_it_lies_in() {
    let tree = tree();
    let server = start(&tree, "error-pages = { 404 = \"/404.html\" }");
    let table = [
        ("/", 200, "root"),
        ("/staticx", 200, "beside"),
        ("/static.html", 200, "beside the mount"),
        ("/static/a.css", 200, "a.css"),
        ("//static//a.css", 200, "a.css"),
        ("/%73tatic/./x/../a.css", 200, "a.css"),
        ("/static/sub/", 200, "sub"),
        ("/static/fonts/", 200, "fonts"),
        ("/static/fonts/a.woff2", 200, "woff2"),
        ("/static/list/one", 200, "1"),
        ("/%C3%A9%20b/c/e.txt", 200, "e"),
        ("/static/in", 200, "a.css"),
        ("/static/fonts/../a.css", 200, "a.css"),
        ("/static/fonts/a.css", 404, "not here"),
        ("/static/../static.html", 200, "beside the mount"),
        ("/static%2Fa.css", 404, "not here"),
        ("/Static/a.css", 404, "not here"),
        ("/static/", 404, "not here"),
        ("/static", 404, "not here"),
        ("/static/index.html", 404, "not here"),
        ("/static/.hidden", 404, "not here"),
        ("/static/out", 404, "not here"),
        ("/static/across", 404, "not here"),
        ("/static/%2e%2e/secret", 404, "not here"),
        ("/static/none", 404, "not here"),
        ("/%C3%A9%20b", 404, "not here"),
        ("/%C3%A9%20b/", 404, "not here"),
    ];
    let mut client = server.connect();
    // From the disk, then from memory.
    for round in ["first", "second"] {
        for (target, status, body) in table {
            let response = client.get(target);
            assert_eq!(response.status, status, "{round} {target}: {response:?}");
            assert_eq!(response.text(), body, "{round} {target}");
        }
        for (target, location) in [
            ("/static/sub", "/static/sub/"),
            ("/static/fonts?a", "/static/fonts/?a"),
        ] {
            let response = client.get(target);
            assert_eq!(response.status, 301, "{round} {target}");
            assert_eq!(response.header("location"), Some(location), "{round}");
        }
    }
    assert!(!client.get("/static/out").text().contains(SECRET));
}

#[test]
fn all_of_a_site_holds_in_its_mounts() {
    let tree = tree();
    let site = r#"
hidden-files = [".h*"]
symlinks = "follow"

[[site.headers]]
match = "/static/*.css"
cache = "immutable"

[[site.redirects]]
from = "/static/old/*"
to = "/static/$1"

[[site.respond]]
match = "/static/sub/**"
status = 403

[site.cors]
origins = ["*"]
"#;
    let server = start(&tree, site);
    let plain = server.get("/static/a.css");
    let coded = server.get_with("/static/a.css", &["Accept-Encoding: gzip"]);
    assert_eq!((plain.text(), coded.text()), ("a.css", "coded"));
    assert_ne!(plain.etag(), coded.etag());
    assert_eq!(
        plain.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert_eq!(plain.header("access-control-allow-origin"), Some("*"));
    assert!(plain.header("cache-control").unwrap().contains("immutable"));
    let again = server.get_with(
        "/static/a.css",
        &[&format!("If-None-Match: {}", plain.etag())],
    );
    assert_eq!(again.status, 304);
    let part = server.get_with("/static/a.css", &["Range: bytes=2-4"]);
    assert_eq!((part.status, part.text()), (206, "css"));
    assert_eq!(server.get("/static/.hidden").text(), "hidden");
    assert_eq!(server.get("/static/across").text(), "woff2");
    assert_eq!(
        server.get("/static/old/a.css").header("location"),
        Some("/static/a.css")
    );
    for target in ["/static/sub/", "/static/sub/index.html"] {
        assert_eq!(server.get(target).status, 403, "{target}");
    }
    assert_eq!(server.get("/static/sub").status, 404);
}

/// The files that a site names are paths of it, whatever they lie in.
#[test]
fn files_that_a_site_names_lie_in_its_mounts() {
    let tree = tree();
    let site = r#"
error-pages = { 404 = "/static/error.html" }
try-files = ["$path", "$path/", "$path.html", "/static/fallback.html"]
spa-fallback = "/static/page.html"

[[site.respond]]
match = "/down"
status = 503
page = "/static/page.html"
"#;
    let server = start(&tree, site);
    let mut client = server.connect();
    for _ in 0..2 {
        // With `.html` the path of the mount lies in the root.
        for (target, body) in [
            ("/static", "beside the mount"),
            ("/static/page", "page"),
            ("/none", "fallback"),
            ("/static/none", "fallback"),
            ("/static/fonts/none", "fallback"),
        ] {
            let response = client.get(target);
            assert_eq!((response.status, response.text()), (200, body), "{target}");
        }
        let down = client.get("/down");
        assert_eq!((down.status, down.text()), (503, "page"));
    }
    let without = site.replace("try-files", "#");
    drop(server);
    let server = start(&tree, &without);
    for target in ["/none", "/static/none", "/static/fonts/none.js"] {
        let navigated = server.get_with(target, &["Sec-Fetch-Mode: navigate"]);
        assert_eq!(
            (navigated.status, navigated.text()),
            (200, "page"),
            "{target}"
        );
        let script = server.get_with(target, &["Sec-Fetch-Mode: no-cors"]);
        assert_eq!((script.status, script.text()), (404, "error"), "{target}");
    }
}

/// What a site names is found for a path that lies in none of its directories, too: in no mount of a site
/// without a root, or in a root that has vanished.
#[test]
fn a_path_that_lies_nowhere_has_what_the_site_names_in_a_mount() {
    let tree = tree();
    let error = "error-pages = { 404 = \"/static/error.html\" }\n";
    let falls_back = format!("spa-fallback = \"/static/page.html\"\n{error}");
    let tries = format!("try-files = [\"/static$path\", \"/static/fallback.html\"]\n{error}");
    let shows = |server: &Server, target: &str, mode: &str, expected: (u16, &str)| {
        let response = server.get_with(target, &[&format!("Sec-Fetch-Mode: {mode}")]);
        (response.status, response.text()) == expected
    };
    let rows = [
        (&falls_back, "/none", "navigate", (200, "page")),
        (&falls_back, "/", "navigate", (200, "page")),
        (&falls_back, "/none.js", "no-cors", (404, "error")),
        (&falls_back, "/.none", "no-cors", (404, "error")),
        (&tries, "/none", "no-cors", (200, "fallback")),
        (&tries, "/a.css", "no-cors", (200, "a.css")),
        (&tries, "/.hidden", "no-cors", (404, "error")),
    ];
    for (site, target, mode, expected) in rows {
        let rootless = format!("[[site]]\n{site}{}", mounts(&tree));
        let server = Launch::run_sites(&tree, "", &rootless).start();
        for _ in 0..2 {
            assert!(shows(&server, target, mode, expected), "{target}");
        }
        drop(server);
        let away = tree.base().join("away");
        let site = format!("{site}{}", mounts(&tree));
        let server = Launch::run(&tree, "[cache]\nvalid = \"5ms\"", &site).start();
        fs::rename(tree.root(), &away).unwrap();
        eventually(target, || shows(&server, target, mode, expected));
        fs::rename(&away, tree.root()).unwrap();
    }
}

#[test]
fn mounts_are_listed() {
    let tree = tree();
    fs::create_dir_all(tree.base().join("static/list")).unwrap();
    let server = start(&tree, "directory-listing = true");
    let mut client = server.connect();
    let names = |response: &Response| {
        let entries: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let names = entries.as_array().unwrap().iter();
        let names = names.map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let json = ["Accept: application/json"];
    assert_eq!(
        names(&client.get_with("/static/list/", &json)),
        ["deep", "one"]
    );
    assert_eq!(
        names(&client.get_with("/static/list/deep/", &json)),
        ["two"]
    );
    assert_eq!(names(&client.get_with("/listed/", &json)), ["f"]);
    // One is there where the directory around it has one of that name.
    let around = names(&client.get_with("/static/", &json));
    assert!(around.contains(&"list".to_owned()), "{around:?}");
    assert!(!around.contains(&"fonts".to_owned()), "{around:?}");
    assert_eq!(
        client.get("/static/list").header("location"),
        Some("/static/list/")
    );
    assert_eq!(client.get("/static").header("location"), Some("/static/"));
    let page = client.get("/static/list/");
    let page = page.text();
    assert!(
        page.contains("<title>Index of /static/list/</title>"),
        "{page}"
    );
    assert!(
        page.contains("href=\"deep/\"") && page.contains("href=\"../\""),
        "{page}"
    );
}

#[test]
fn a_site_of_mounts_needs_no_root() {
    let tree = tree();
    let sites = format!(
        "[[site]]\nerror-pages = {{ 404 = \"/static/error.html\" }}\n{}",
        mounts(&tree)
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = server.connect();
    for _ in 0..2 {
        for target in ["/", "/index.html", "/staticx", "/404.html"] {
            let response = client.get(target);
            assert_eq!(
                (response.status, response.text()),
                (404, "error"),
                "{target}"
            );
        }
        assert_eq!(client.get("/static/a.css").text(), "a.css");
        assert_eq!(client.get("/static/fonts/").text(), "fonts");
    }
    let file = tree.base().join("tidegate.toml");
    let config = || {
        Launch::with(["config", "--config"])
            .argument(&file)
            .output()
            .success()
    };
    let effective = config();
    fs::write(&file, &effective).unwrap();
    assert_eq!(config(), effective);
    assert!(
        effective.contains("at = \"/static/fonts\"\n"),
        "{effective}"
    );
}

#[test]
fn a_mount_that_is_missing_is_named() {
    let tree = tree();
    let site =
        mount("/static", &tree.base().join("static")) + &mount("/a", Path::new("/nowhere/at/all"));
    for command in ["run", "check"] {
        drop(Launch::run(&tree, "", &site));
        let file = tree.base().join("tidegate.toml");
        let output = Launch::with([command, "--config"]).argument(file).output();
        output.refusal(1, &["/nowhere/at/all", "no such file or directory"]);
    }
}

#[test]
fn two_mounts_and_a_site_of_one_directory_share_it() {
    let tree = tree();
    let shared = tree.base().join("static");
    let other = format!(
        "[[site]]\nnames = [\"other.test\"]\nroot = {:?}\n",
        shared.display().to_string()
    );
    let site = mount("/one", &shared) + &mount("/two", &shared) + &other;
    let server = Launch::run(&tree, "[cache]\nvalid = \"5ms\"", &site).start();
    let each = || {
        [
            server.get("/one/a.css"),
            server.get("/two/a.css"),
            server.get_with("/a.css", &["Host: other.test"]),
        ]
    };
    let shows = |text: &str| each().iter().all(|response| response.text() == text);
    assert!(shows("a.css"), "{:?}", each());
    fs::write(shared.join("a.css"), "another").unwrap();
    eventually("another content", || shows("another"));
    assert_eq!(server.get("/a.css").status, 404);
    assert_eq!(
        server.get_with("/one/a.css", &["Host: other.test"]).status,
        404
    );
}

/// A release of one mount shows as a whole, and what vanishes keeps nothing else from being served.
#[test]
fn each_directory_is_replaced_and_vanishes_by_itself() {
    let tree = tree();
    let base = tree.base();
    for (name, text) in [("r1", "first"), ("r2", "second")] {
        fs::create_dir(base.join(name)).unwrap();
        fs::write(base.join(name).join("a"), text).unwrap();
        fs::write(base.join(name).join("error.html"), text).unwrap();
    }
    let link = |target: &str| {
        std::os::unix::fs::symlink(target, base.join("next")).unwrap();
        fs::rename(base.join("next"), base.join("current")).unwrap();
    };
    link("r1");
    let site = "error-pages = { 404 = \"/now/error.html\" }\n".to_owned()
        + &mount("/now", &base.join("current"))
        + &mount("/static", &base.join("static"));
    let server = Launch::run(&tree, "[cache]\nvalid = \"5ms\"", &site).start();
    let mut client = server.connect();
    let mut shows = |now: &str, root: &str| {
        let texts = ["/now/a", "/none", "/", "/static/a.css"].map(|target| {
            let response = client.get(target);
            match response.status {
                404 if response.text().contains("<h1>404 ") => "404".to_owned(),
                _ => response.text().to_owned(),
            }
        });
        texts == [now, now, root, "a.css"]
    };
    for _ in 0..2 {
        assert!(shows("first", "root"));
        link("r2");
        eventually("the second release", || shows("second", "root"));
        link("r1");
        eventually("the first release", || shows("first", "root"));
    }
    fs::rename(tree.root(), base.join("away")).unwrap();
    eventually("no root", || shows("first", "first"));
    fs::remove_file(base.join("current")).unwrap();
    let nothing = "404";
    eventually("no release", || shows(nothing, nothing));
    fs::rename(base.join("away"), tree.root()).unwrap();
    eventually("the root", || shows(nothing, "root"));
    link("r2");
    eventually("the release", || shows("second", "root"));
    let log = server.log();
    for (name, count) in [("/current", 1), ("/www", 1), ("/static", 0)] {
        let name = format!("{}{name}", base.display());
        let lines = log
            .lines()
            .filter(|line| line.contains(&name) && line.contains("vanished"));
        assert_eq!(lines.count(), count, "{name}: {log}");
    }
}

/// A mount that does not answer holds up nothing but itself.
#[test]
fn a_mount_that_stalls_harms_nothing_else() {
    let tree = tree();
    let far = tree.base().join("far");
    fs::create_dir(&far).unwrap();
    let remote = match Remote::mount(&far) {
        Ok(remote) => remote,
        Err(reason) => {
            skipped(reason);
            return;
        }
    };
    let _answer = remote.answer_at_last();
    let site = mount("/far", &far) + &mounts(&tree);
    let config = "[cache]\nvalid = \"0s\"\n[timeouts]\nlookup = \"5m\"";
    let server = Launch::run(&tree, config, &site).start();
    assert_eq!(server.get("/far/small-1").status, 200);
    remote.hold(Question::Lookup);
    let waiting = (2..100).map(|number| {
        let mut client = server.connect();
        client.send(request("GET", &format!("/far/small-{number}")));
        client
    });
    let waiting: Vec<_> = waiting.collect();
    remote.asked(Question::Lookup);
    let mut client = server.connect();
    for number in 0..20 {
        tree.write(&format!("fresh-{number}"), b"fresh");
        let near = [
            (format!("/fresh-{number}"), "fresh"),
            ("/static/a.css".to_owned(), "a.css"),
            ("/static/fonts/".to_owned(), "fonts"),
        ];
        for (target, body) in near {
            assert_eq!(client.get(&target).text(), body, "{target}");
        }
    }
    remote.answer();
    for mut client in waiting {
        assert_eq!(client.response().status, 200);
    }
}
