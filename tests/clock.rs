//! The clock of the host is set, forward and back by hours, while the server runs: dates follow, and
//! nobody is cut, kept or trusted for longer because of it.
//!
//! libfaketime (`LD_PRELOAD`) tells the server another time of day; its monotonic clock goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{
    Authority, Client, Launch, Object, Origin, Response, Server, Tree, eventually, get, noise,
    skipped,
};

/// More than the buffers of a connection take.
const LARGE: usize = 24 << 20;

/// How far from the time that is expected a date may be: the tests share their cores.
const NEAR: Duration = Duration::from_mins(20);

/// The time of day that a server is told.
struct FakeClock {
    library: PathBuf,
    offset: PathBuf,
}

impl FakeClock {
    /// One for the server of `tree`; says so where there is no libfaketime, since a test is then skipped.
    fn for_server_of(tree: &Tree) -> Option<Self> {
        // Each architecture has a directory of its own.
        let directories = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut found =
            directories.map(|directory| directory.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = found.find(|path| path.exists()) else {
            skipped("libfaketime is not installed (apt-get install libfaketime)");
            return None;
        };
        let offset = tree.base().join("offset");
        let clock = Self { library, offset };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it to the true time and `offset`, such as `-5h`.
    fn set(&self, offset: &str) {
        let next = self.offset.with_extension("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, &self.offset).unwrap();
    }

    fn start(&self, launch: Launch) -> Server {
        let variable = |name: &str, value: &PathBuf| format!("{name}={}", value.display());
        let wrapper = [
            "env".to_owned(),
            variable("LD_PRELOAD", &self.library),
            variable("FAKETIME_TIMESTAMP_FILE", &self.offset),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        launch.through(wrapper).start()
    }
}

/// Whether the date of a response is about `hours` from now.
fn is_dated(response: &Response, hours: i64) -> bool {
    let date = response.header("date").expect("a date");
    let date = httpdate::parse_http_date(date).expect("a date of HTTP");
    let now = SystemTime::now();
    let apart = Duration::from_hours(hours.unsigned_abs());
    let expected = if hours < 0 { now - apart } else { now + apart };
    let [low, high] = [expected - NEAR, expected + NEAR];
    (low..high).contains(&date)
}

#[test]
fn dates_follow_and_nobody_is_cut() {
    let content = noise(LARGE, 1);
    let tree = Tree::with("large", &content);
    tree.write("file", b"content");
    let Some(clock) = FakeClock::for_server_of(&tree) else {
        return;
    };
    let log = tree.base().join("access.log");
    let config = format!(
        "[access-log]\npath = \"{}\"\nformat = \"$msec $uri\"\n[timeouts]\nsend-stall = \"1h\"\nkeep-alive = \"1h\"",
        log.display()
    );
    let server = clock.start(Launch::run(&tree, &config, ""));
    let mut kept = server.connect();
    assert!(is_dated(&kept.get("/file"), 0));
    let mut stalled = Client::connect_narrow(server.address);
    stalled.send(get("/large"));
    assert_eq!(stalled.head().content_length(), LARGE);
    stalled.body(1000);
    let mut begun = server.connect();
    begun.send("GET /file HTTP/1.1\r\n");
    for (offset, hours) in [("+5h", 5), ("-7h", -7), ("+9h", 9), ("+0", 0)] {
        clock.set(offset);
        eventually(offset, || is_dated(&kept.get("/file"), hours));
        eventually("a line of that time", || {
            kept.get("/file");
            let lines = fs::read_to_string(&log).unwrap_or_default();
            let last = lines.lines().last().and_then(|line| line.split('.').next());
            let logged = last.and_then(|seconds| seconds.parse::<i64>().ok());
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let expected = now.expect("after 1970").as_secs().cast_signed() + hours * 3600;
            logged.is_some_and(|logged| (logged - expected).abs() < NEAR.as_secs().cast_signed())
        });
    }
    begun.send("Host: test\r\n\r\n");
    assert_eq!(begun.response().body, b"content");
    assert!(stalled.body(LARGE - 1000) == content[1000..]);
    server.stop();
}

#[test]
fn timeouts_and_limits_end_though_the_clock_goes_back() {
    let tree = Tree::with("large", &noise(LARGE, 1));
    tree.write("file", b"content");
    let Some(clock) = FakeClock::for_server_of(&tree) else {
        return;
    };
    let config = "[timeouts]\nsend-stall = \"2s\"\nkeep-alive = \"2s\"\nheader = \"2s\"\n\
                  [limits]\nrequest-rate-per-ip = 2.0\nrequest-burst-per-ip = 4";
    let server = clock.start(Launch::run(&tree, config, ""));
    let mut stalled = Client::connect_narrow(server.address);
    stalled.send(get("/large"));
    stalled.head();
    let mut begun = server.connect();
    begun.send("GET /file HTTP/1.1\r\n");
    let mut idle = server.connect();
    assert_eq!(idle.get("/file").status, 200);
    clock.set("-5h");
    let limited = (0..20).any(|_| server.get("/file").status == 429);
    assert!(limited);
    eventually("a token", || server.get("/file").status == 200);
    assert_eq!(begun.response().status, 408);
    idle.ends();
    thread::sleep(Duration::from_secs(3));
    let rest = stalled.rest_or_cut();
    assert!(rest.len() < LARGE, "{}", rest.len());
    server.stop();
}

#[test]
fn signed_urls_expire_by_the_clock_as_it_is() {
    let tree = Tree::with("v/file", b"content");
    let Some(clock) = FakeClock::for_server_of(&tree) else {
        return;
    };
    let key = tree.base().join("video.key");
    fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let sign = Launch::with(["sign", "--key-file"]).argument(&key);
    let url = sign.arguments(["/v/file", "--expires", "1h"]).output();
    let url = url.success();
    let rule = "[[site.signed]]\nmatch = \"/v/**\"\nkeys = [\"video.key\"]";
    let server = clock.start(Launch::run(&tree, "", rule));
    let mut client = server.connect();
    for (offset, status) in [("+0", 200), ("+2h", 410), ("-2h", 200), ("+0", 200)] {
        clock.set(offset);
        assert_eq!(client.get(url.trim_end()).status, status, "{offset}");
    }
    server.stop();
}

#[test]
fn an_object_is_trusted_for_no_longer_than_it_may_be() {
    let tree = Tree::new();
    let Some(clock) = FakeClock::for_server_of(&tree) else {
        return;
    };
    let origin = Origin::start();
    origin.put("/object", Object::new("content").etag("\"1\""));
    let sites = format!(
        "[[site]]\norigin = {{ http = \"http://{}\" }}\n\
         [[site.cache]]\nmatch = \"/**\"\nttl = \"10m\"",
        origin.address()
    );
    let cache = tree.base().join("cache");
    let disk = format!(
        "[cache.disk]\npath = \"{}\"\nsize = \"1g\"",
        cache.display()
    );
    // A core that knows an object trusts it by the monotonic clock; what is on the disk has times of day.
    let ask = |offset: &str| {
        clock.set(offset);
        let server = clock.start(Launch::run_sites(&tree, &disk, &sites));
        assert_eq!(server.get("/object").body, b"content", "{offset}");
        server.stop();
        origin.count("/object")
    };
    assert_eq!([ask("+0"), ask("+5m")], [1, 1], "it is fresh");
    let stale = ask("+1h");
    assert!(stale > 1);
    assert_eq!(ask("+65m"), stale);
    // It comes from the future, and would be fresh for more than an hour.
    let back = ask("+0");
    assert!(back > stale);
    assert_eq!(ask("+5m"), back);
}

#[test]
fn handshakes_and_tickets_go_on() {
    let tree = Tree::with("file", b"content");
    let Some(clock) = FakeClock::for_server_of(&tree) else {
        return;
    };
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = clock.start(Launch::secure(&tree, "", "", &[&files]));
    let config = authority.client();
    for offset in ["+0", "+20h", "-20h", "+400d", "+0"] {
        clock.set(offset);
        for _ in 0..3 {
            let mut client = Client::secure(server.address, &config);
            assert_eq!(client.get("/file").body, b"content", "{offset}");
        }
    }
    server.stop();
}
