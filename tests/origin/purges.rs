//! What is purged, and what is fetched before anybody asks for it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{Mirror, PATIENT, SLICE, assert_hit, cache_status, fresh};
use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::{
    Behaviour, Client, Gate, Launch, Object, Response, Server, eventually, get, noise, request_with,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const BEARER: &str = "Authorization: Bearer 0123456789abcdef0123456789abcdef";

/// An origin, a server of it that lets itself be purged, and its admin listener.
struct Purged {
    mirror: Mirror,
    server: Server,
    admin: SocketAddr,
}

fn token(mirror: &Mirror) -> PathBuf {
    let path = mirror.tree.base().join("token");
    fs::write(&path, format!("{SECRET}\n")).expect("a token");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

fn launch(mirror: &Mirror, site: &str) -> Launch {
    let token = token(mirror);
    // What a core knows holds for long: a purge is not waited for.
    let valid = "[cache]\nvalid = \"1h\"";
    let site = format!("{site}\n{valid}\n{LISTEN}token = \"{}\"\n", token.display());
    mirror.launch(PATIENT, &site)
}

fn post(admin: SocketAddr, path: &str, body: &str, fields: &[&str]) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let fields = [fields, &[&*length]].concat();
    let mut client = Client::connect(admin);
    client.send(request_with("POST", path, &fields) + body);
    client.response()
}

/// The body of /a, asked for by a thread, which cannot share the server.
fn body(server: SocketAddr) -> Vec<u8> {
    Client::connect(server).get("/a").body
}

impl Purged {
    fn new(mirror: Mirror, site: &str) -> Self {
        let server = launch(&mirror, site).start();
        let admin = admin(&server);
        Self {
            mirror,
            server,
            admin,
        }
    }

    /// One that has these fresh objects in its cache.
    fn with(paths: &[&str], site: &str) -> Self {
        let mirror = Mirror::new();
        for path in paths {
            mirror.put(path, fresh(3 * SLICE, 1));
        }
        let purged = Self::new(mirror, site);
        for path in paths {
            assert!(purged.server.get(path).body == noise(3 * SLICE, 1));
        }
        purged.mirror.origin.forget();
        purged
    }

    fn post(&self, path: &str, body: &str, fields: &[&str]) -> Response {
        post(self.admin, path, body, fields)
    }

    #[track_caller]
    fn purge(&self, body: &str) {
        let response = self.post("/purge", body, &[BEARER]);
        assert_eq!(response.status, 200, "{body}: {}", response.text());
    }

    #[track_caller]
    fn warm(&self, body: &str) -> serde_json::Value {
        let response = self.post("/warm", body, &[BEARER]);
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        serde_json::from_str(response.text()).expect("JSON")
    }

    /// Checks that nothing was asked for at `path` since the cache was filled, nor is now.
    #[track_caller]
    fn assert_kept(&self, path: &str) {
        assert_hit(&self.server.get(path));
        assert_eq!(self.mirror.count(path), 0, "{path}");
    }

    /// Checks that the next request for `path` asks the origin once whether it is unchanged.
    #[track_caller]
    fn assert_revalidated(&self, path: &str) {
        let response = self.server.get(path);
        assert!(response.body == noise(3 * SLICE, 1), "{path}");
        let asked = self.mirror.asked(path);
        assert_eq!(asked.len(), 1, "{path}: {asked:?}");
        assert!(asked[0].field("if-none-match").is_some(), "{path}");
        assert_hit(&self.server.get(path));
        assert_eq!(self.mirror.count(path), 1, "{path}");
    }
}

#[test]
fn a_path_has_all_of_its_queries_and_variants() {
    let site = "precompressed = [\"br\"]";
    let mirror = Mirror::new();
    let css = || fresh(3 * SLICE, 1).field("Content-Type", "text/css");
    for path in ["/a b.css", "/a b.css.br", "/other.css", "/other.css.br"] {
        mirror.put(&path.replace(' ', "%20"), css());
    }
    let purged = Purged::new(mirror, site);
    let br = ["Accept-Encoding: br"];
    let targets = ["/a%20b.css", "/a%20b.css?v=1", "/other.css"];
    let ask = |target: &&str| {
        for coding in [&[][..], &br] {
            let response = purged.server.get_with(target, coding);
            assert!(response.body == noise(3 * SLICE, 1), "{target}");
        }
    };
    targets.iter().for_each(ask);
    purged.mirror.origin.forget();
    purged.purge(r#"{"path": "/a%20b.css"}"#);
    targets.iter().for_each(ask);
    targets.iter().for_each(ask);
    for path in ["/a%20b.css", "/a%20b.css.br"] {
        let asked = purged.mirror.asked(path);
        let mut targets: Vec<_> = asked.iter().map(|request| &*request.target).collect();
        targets.sort_unstable();
        assert_eq!(targets, [super::at(path), super::at(path) + "?v=1"]);
    }
    assert_eq!(purged.mirror.count("/other.css"), 0);
    assert_eq!(purged.mirror.count("/other.css.br"), 0);
}

#[test]
fn a_prefix_has_all_below_it() {
    let paths = ["/assets/a", "/assets/b/c", "/assets", "/assetsx"];
    let purged = Purged::with(&paths, "");
    purged.purge(r#"{"prefix": "/assets/"}"#);
    purged.assert_revalidated("/assets/a");
    purged.assert_revalidated("/assets/b/c");
    purged.assert_kept("/assets");
    purged.assert_kept("/assetsx");
    purged.mirror.origin.forget();
    purged.purge(r#"{"all": true}"#);
    for path in paths {
        purged.assert_revalidated(path);
    }
    let scrape = Scrape::of(purged.admin);
    for (manner, count) in [("soft", 2), ("hard", 0)] {
        let name = format!("tidegate_origin_cache_purges_total{{manner=\"{manner}\"}}");
        assert_eq!(scrape.value(&name) as u64, count, "{manner}");
    }
}

#[test]
fn a_directory_is_its_index() {
    let mirror = Mirror::with("/d/index.html", fresh(3 * SLICE, 1));
    let purged = Purged::new(mirror, "");
    for _ in 0..2 {
        assert!(purged.server.get("/d/").body == noise(3 * SLICE, 1));
    }
    purged.mirror.origin.forget();
    purged.purge(r#"{"path": "/d/"}"#);
    assert!(purged.server.get("/d/").body == noise(3 * SLICE, 1));
    assert_eq!(purged.mirror.count("/d/index.html"), 1);
}

#[test]
fn a_tag_has_all_that_have_it() {
    let mirror = Mirror::new();
    let tagged = |name: &str, tags: &str| fresh(3 * SLICE, 1).field(name, tags);
    mirror.put("/a", tagged("Surrogate-Key", "x y"));
    mirror.put("/b", tagged("Cache-Tag", "y,z"));
    mirror.put("/c", tagged("Surrogate-Key", "yy"));
    let purged = Purged::new(mirror, "");
    for path in ["/a", "/b", "/c"] {
        purged.server.get(path);
    }
    purged.mirror.origin.forget();
    purged.purge(r#"[{"tag": "y"}, {"tag": "none"}]"#);
    purged.assert_revalidated("/a");
    purged.assert_revalidated("/b");
    purged.assert_kept("/c");
}

#[test]
fn what_is_absent_is_purged_too() {
    let purged = Purged::new(Mirror::new(), "");
    for _ in 0..2 {
        assert_eq!(purged.server.get("/a").status, 404);
    }
    assert_eq!(purged.mirror.count("/a"), 1);
    purged.mirror.put("/a", fresh(10, 1));
    purged.purge(r#"{"path": "/a"}"#);
    assert_eq!(purged.server.get("/a").body, noise(10, 1));
}

#[test]
fn a_purge_brings_one_request_and_no_avalanche() {
    let object = |seed| {
        let object = Object::noise(3 * SLICE, seed);
        object.field(
            "Cache-Control",
            "max-age=36000, stale-while-revalidate=36000",
        )
    };
    let purged = Purged::new(Mirror::with("/a", object(1)), "");
    assert!(purged.server.get("/a").body == noise(3 * SLICE, 1));
    purged.mirror.origin.forget();
    let gate = Gate::default();
    purged
        .mirror
        .behave("/a", [Behaviour::StallHead(gate.clone())]);
    purged.mirror.put("/a", object(2));
    purged.purge(r#"{"path": "/a"}"#);
    // All get the stale one at once, while the origin hangs.
    let address = purged.server.address;
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                for _ in 0..10 {
                    assert!(client.get("/a").body == noise(3 * SLICE, 1));
                }
            });
        }
    });
    gate.reached();
    assert_eq!(purged.mirror.count("/a"), 1);
    gate.open();
    eventually("the new version", || {
        let body = purged.server.get("/a").body;
        let is_new = body == noise(3 * SLICE, 2);
        assert!(is_new || body == noise(3 * SLICE, 1));
        is_new
    });
    // The slices of the new version, each once.
    assert_eq!(purged.mirror.slices("/a"), [0, 1, 2]);
}

#[test]
fn a_purge_without_stale_objects_is_one_request_too() {
    let purged = Purged::with(&["/a"], "");
    let gate = Gate::default();
    purged
        .mirror
        .behave("/a", [Behaviour::StallHead(gate.clone())]);
    purged.purge(r#"{"path": "/a"}"#);
    let address = purged.server.address;
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert!(body(address) == noise(3 * SLICE, 1)));
        }
        gate.reached();
        gate.open();
    });
    assert_eq!(purged.mirror.count("/a"), 1);
}

#[test]
fn a_hard_purge_fetches_the_same_version_again() {
    let purged = Purged::with(&["/a"], "");
    // The store has other bytes, and says that they are the same.
    let object = Object::new(noise(3 * SLICE, 2)).etag("\"1\"");
    let object = object.field("Cache-Control", "max-age=36000");
    purged.mirror.put("/a", object);
    purged.purge(r#"{"path": "/a"}"#);
    assert!(purged.server.get("/a").body == noise(3 * SLICE, 1));
    purged.mirror.origin.forget();
    purged.purge(r#"{"path": "/a", "hard": true}"#);
    for _ in 0..2 {
        assert!(purged.server.get("/a").body == noise(3 * SLICE, 2));
    }
    assert_eq!(purged.mirror.slices("/a"), [0, 1, 2]);
    let asked = purged.mirror.asked("/a");
    assert!(
        asked
            .iter()
            .all(|asked| asked.field("if-none-match").is_none())
    );
}

#[test]
fn a_purge_survives_a_restart() {
    for hard in [false, true] {
        let purged = Purged::with(&["/a", "/b"], "");
        purged.purge(&format!(r#"{{"path": "/a", "hard": {hard}}}"#));
        let Purged { mirror, server, .. } = purged;
        server.stop();
        let server = launch(&mirror, "").start();
        assert!(server.get("/a").body == noise(3 * SLICE, 1));
        assert_eq!(mirror.count("/a"), if hard { 3 } else { 1 });
        assert_hit(&server.get("/b"));
        assert_eq!(mirror.count("/b"), 0);
    }
}

#[test]
fn a_purge_concerns_what_is_on_its_way() {
    for (hard, is_head) in [(false, false), (true, false), (false, true), (true, true)] {
        let purged = Purged::new(Mirror::with("/a", fresh(3 * SLICE, 1)), "");
        let address = purged.server.address;
        let gate = Gate::default();
        // Before the head, so that the lookup is under way; or within the first slice.
        let behaviour = if is_head {
            Behaviour::StallHead(gate.clone())
        } else {
            Behaviour::StallBody(SLICE / 2, gate.clone()).at(0)
        };
        purged.mirror.behave("/a", [behaviour]);
        let early = thread::spawn(move || whole_or_not(address));
        gate.reached();
        purged.purge(&format!(r#"{{"path": "/a", "hard": {hard}}}"#));
        purged.mirror.put("/a", fresh(3 * SLICE, 2));
        purged.mirror.behave("/a", []);
        // Who asks after the purge does not get what was asked for before it.
        let late = thread::spawn(move || body(address));
        if is_head {
            // It waits for the lookup.
            thread::sleep(Duration::from_millis(100));
            gate.open();
        }
        assert!(late.join().unwrap() == noise(3 * SLICE, 2), "{hard}");
        gate.open();
        early.join().unwrap();
        for _ in 0..2 {
            assert!(body(address) == noise(3 * SLICE, 2), "{hard}");
        }
        assert_hit(&purged.server.get("/a"));
    }
}

/// Asks for /a, whose response may be cut off: it is of two versions.
fn whole_or_not(server: SocketAddr) {
    let mut client = Client::connect(server);
    client.send(get("/a"));
    client.response_or_end();
}

#[test]
fn files_of_this_host_do_not_hide_a_purge() {
    let mirror = Mirror::with("/a", fresh(3 * SLICE, 1));
    let root = mirror.tree.root();
    let site = format!("root = \"{}\"", root.display());
    let purged = Purged::new(mirror, &site);
    purged.server.get("/a");
    for _ in 0..3 {
        purged.mirror.origin.forget();
        purged.purge(r#"{"path": "/a"}"#);
        purged.assert_revalidated("/a");
    }
}

#[test]
fn strangers_purge_nothing() {
    let purged = Purged::with(&["/a"], "");
    let body = r#"{"all": true, "hard": true}"#;
    for (fields, expected) in [
        (&[][..], 401),
        (&["Authorization: Bearer 0123456789abcdef"], 401),
        (
            &["Authorization: Basic 0123456789abcdef0123456789abcdef"],
            401,
        ),
        (&[BEARER, BEARER], 401),
        (&["Host: evil.test", BEARER], 403),
    ] {
        for path in ["/purge", "/warm"] {
            let response = purged.post(path, body, fields);
            assert_eq!(response.status, expected, "{fields:?}");
            let asks = response.header("www-authenticate") == Some("Bearer");
            assert_eq!(asks, expected == 401);
        }
    }
    for body in ["", "{", "{}", r#"{"path": "/a?b"}"#, r#"{"tag": ""}"#, "[]"] {
        let response = purged.post("/purge", body, &[BEARER]);
        assert_eq!(response.status, 400, "{body}");
        assert!(response.text().contains("\"error\""), "{}", response.text());
    }
    for path in ["/purge", "/warm"] {
        let mut client = Client::connect(purged.admin);
        let response = client.get_with(path, &[BEARER]);
        assert_eq!(response.status, 405);
        assert_eq!(response.header("allow"), Some("POST"));
    }
    let long = format!(r#"{{"tag": "{}"}}"#, "x".repeat(64 << 10));
    assert_eq!(purged.post("/purge", &long, &[BEARER]).status, 413);
    purged.assert_kept("/a");
}

#[test]
fn without_a_token_nobody_purges_and_without_an_origin_nothing() {
    let mirror = Mirror::with("/a", fresh(10, 1));
    let server = mirror.launch(PATIENT, LISTEN).start();
    let admin_address = admin(&server);
    let purged = Purged {
        mirror,
        server,
        admin: admin_address,
    };
    for path in ["/purge", "/warm"] {
        let response = purged.post(path, r#"{"all": true}"#, &[BEARER]);
        assert_eq!(response.status, 403);
        assert!(
            response.text().contains("admin.token"),
            "{}",
            response.text()
        );
    }
    drop(purged);
    let mirror = Mirror::new();
    let root = format!("root = \"{}\"\n", mirror.tree.root().display());
    let token = token(&mirror);
    let site = format!("{root}{LISTEN}token = \"{}\"", token.display());
    let server = mirror.launch_site(&site).start();
    let admin_address = admin(&server);
    let purged = Purged {
        mirror,
        server,
        admin: admin_address,
    };
    let response = purged.post("/purge", r#"{"all": true}"#, &[BEARER]);
    assert_eq!(response.status, 404);
}

#[test]
fn the_token_is_read_again_with_the_configuration() {
    let purged = Purged::with(&["/a"], "");
    let body = r#"{"path": "/a"}"#;
    let path = token(&purged.mirror);
    fs::write(&path, "another-secret-of-the-admin").unwrap();
    purged.server.signal(Signal::HUP);
    eventually("the new token", || {
        let fields = ["Authorization: Bearer another-secret-of-the-admin"];
        purged.post("/purge", body, &fields).status == 200
    });
    assert_eq!(purged.post("/purge", body, &[BEARER]).status, 401);
    // One that cannot be used changes nothing.
    fs::write(&path, "short").unwrap();
    purged.server.signal(Signal::HUP);
    purged.server.logs("admin.token: ");
    assert_eq!(
        purged
            .post("/purge", body, &["Authorization: Bearer short"])
            .status,
        401
    );
}

#[test]
fn a_token_for_everybody_is_told() {
    let mirror = Mirror::new();
    let launched = launch(&mirror, "");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(token(&mirror), open.clone()).unwrap();
    let path = mirror.tree.base().join("token");
    fs::set_permissions(&path, open).unwrap();
    let server = launched.start();
    server.logs("all users have access to");
    let file = mirror.tree.base().join("tidegate.toml");
    let output = Launch::with(["check"]).argument(file).output();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        output.stderr.contains("admin.token: warning: all users"),
        "{output:?}"
    );
}

#[test]
fn what_was_warmed_is_sent_without_a_request() {
    let site = "precompressed = [\"br\"]";
    let mirror = Mirror::with(
        "/a.css",
        fresh(3 * SLICE, 1).field("Content-Type", "text/css"),
    );
    mirror.put("/a.css.br", fresh(2 * SLICE, 2));
    mirror.put("/d/index.html", fresh(SLICE / 2, 3));
    mirror.put(
        "/private",
        Object::noise(10, 4).field("Cache-Control", "private"),
    );
    let purged = Purged::new(mirror, site);
    let list = r#"[{"path": "/a.css"}, {"path": "/d/"}, {"host": "x.test", "path": "/a.css?v=1"},
        {"path": "/none"}, {"path": "/private"}]"#;
    let answer = purged.warm(list);
    assert_eq!(answer["warmed"], 3, "{answer}");
    let failed = answer["failed"].as_array().expect("a list");
    let mut failed: Vec<_> = failed
        .iter()
        .map(|one| {
            (
                one["path"].as_str().unwrap(),
                one["error"].as_str().unwrap(),
            )
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed[0], ("/none", "the origin has no such object"));
    assert!(
        failed[1].0 == "/private" && failed[1].1.starts_with("not stored"),
        "{failed:?}"
    );
    assert_eq!(purged.mirror.slices("/a.css.br?v=1"), [0, 1]);
    let count = purged.mirror.origin.requests().len();
    for path in ["/a.css", "/a.css?v=1"] {
        assert!(purged.server.get(path).body == noise(3 * SLICE, 1));
        let small = purged.server.get_with(path, &["Accept-Encoding: br"]);
        assert!(small.body == noise(2 * SLICE, 2));
        assert!(cache_status(&small).contains(&"hit"));
    }
    assert!(purged.server.get("/d/").body == noise(SLICE / 2, 3));
    assert_eq!(purged.mirror.origin.requests().len(), count);
    let mut slices = purged.mirror.slices("/a.css");
    slices.dedup();
    assert_eq!(slices, [0, 1, 2]);
    // What is there is not fetched again.
    assert_eq!(purged.warm(r#"[{"path": "/a.css"}]"#)["warmed"], 1);
    assert_eq!(purged.mirror.origin.requests().len(), count);
}

#[test]
fn one_request_at_a_time_warms() {
    let purged = Purged::new(Mirror::with("/a", fresh(10, 1)), "");
    let gate = Gate::default();
    purged
        .mirror
        .behave("/a", [Behaviour::StallHead(gate.clone())]);
    let list = r#"[{"path": "/a"}]"#;
    let address = purged.admin;
    thread::scope(|scope| {
        let first = scope.spawn(|| post(address, "/warm", list, &[BEARER]));
        gate.reached();
        assert_eq!(purged.post("/warm", list, &[BEARER]).status, 429);
        // Neither is held up.
        assert_eq!(Client::connect(purged.admin).get("/healthz").status, 200);
        purged.purge(r#"{"path": "/b"}"#);
        gate.open();
        let first = first.join().unwrap();
        assert!(first.text().contains("\"warmed\":1"), "{}", first.text());
    });
    assert_eq!(purged.warm(list)["warmed"], 1);
}

fn command(purged: &Purged, arguments: &[&str]) -> Launch {
    let token = purged.mirror.tree.base().join("token");
    Launch::with([
        arguments[0],
        "--admin",
        &purged.admin.to_string(),
        "--token-file",
    ])
    .argument(token)
    .arguments(&arguments[1..])
}

#[test]
fn commands_purge_and_warm() {
    let purged = Purged::with(&["/a%20b", "/c/d", "/e"], "");
    let arguments = ["purge", "--path", "https://x.test/a b", "--prefix", "/c/"];
    assert_eq!(command(&purged, &arguments).output().success(), "purged\n");
    purged.assert_revalidated("/a%20b");
    purged.assert_revalidated("/c/d");
    purged.assert_kept("/e");
    command(&purged, &["purge", "--all", "--hard"])
        .output()
        .success();
    purged.mirror.origin.forget();

    let list = purged.mirror.tree.base().join("list");
    fs::write(&list, "# all\n\n/a b\nhttp://x.test/c/d\n/none\n").unwrap();
    let output = command(&purged, &["warm", list.to_str().unwrap()]).output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, "warmed 2 objects\n");
    assert!(
        output
            .stderr
            .starts_with("/none: the origin has no such object\n"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("1 objects are not in the cache"),
        "{output:?}"
    );
    for path in ["/a%20b", "/c/d"] {
        assert_eq!(purged.mirror.slices(path), [0, 1, 2]);
        assert_hit(&purged.server.get(path));
        assert_eq!(purged.mirror.count(path), 3);
    }

    // By the configuration file, whose port is any.
    let file = purged.mirror.tree.base().join("tidegate.toml");
    Launch::with(["purge", "--all", "-c"])
        .argument(&file)
        .output()
        .refusal(1, &["--admin HOST:PORT"]);
    let address = purged.admin.to_string();
    Launch::with(["purge", "--all", "--admin", &address, "-c"])
        .argument(&file)
        .output()
        .success();
    Launch::with(["purge", "-c", "x"])
        .output()
        .refusal(2, &["--path"]);
    fs::write(purged.mirror.tree.base().join("token"), "f".repeat(32)).unwrap();
    command(&purged, &["purge", "--all"])
        .output()
        .refusal(1, &["the server refuses: not the secret"]);
    let Purged { mirror, server, .. } = purged;
    server.stop();
    Launch::with(["purge", "--all", "--admin", &address, "--token-file"])
        .argument(mirror.tree.base().join("token"))
        .output()
        .refusal(1, &["no admin listener answers on"]);
}
