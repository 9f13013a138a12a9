//! Nodes that ask each other before the origin.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENT, PREFIX, SLICE, at, entry, fresh};
use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::reload::{APPLIED, hup};
use crate::support::{
    Client, Launch, Object, Origin, Response, Server, Tree, eventually, free_address, noise,
    request_with,
};

/// The token of all nodes.
const SECRET: &str = "the-token-of-a-fleet";

/// Fleets that a busy machine may disturb.
const DISTURBED_MAX: usize = 10;

/// A node that may run, and what it needs.
struct Node {
    tree: Tree,
    /// Where its peers ask it.
    peers: SocketAddr,
    server: Option<Server>,
}

/// Nodes in front of one origin.
struct Fleet {
    origin: Origin,
    nodes: Vec<Node>,
    /// Of `[fleet]`.
    keys: String,
    /// Of the site.
    site: String,
}

impl Fleet {
    /// `count` nodes, none of which runs.
    fn of(count: usize) -> Self {
        let node = |_| Node {
            tree: Tree::new(),
            peers: free_address(),
            server: None,
        };
        Self {
            origin: Origin::start(),
            nodes: (0..count).map(node).collect(),
            keys: String::new(),
            site: String::new(),
        }
    }

    /// `count` nodes that run, and know of each other.
    fn start(count: usize) -> Self {
        let mut fleet = Self::of(count);
        let peers = fleet.addresses();
        (0..count).for_each(|node| fleet.start_node(node, &peers));
        fleet
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.peers).collect()
    }

    fn launch(&self, node: usize, peers: &[SocketAddr]) -> Launch {
        let Node {
            tree,
            peers: listen,
            ..
        } = &self.nodes[node];
        let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let config = format!(
            "[cache.disk]\npath = \"{}\"\nsize = \"1g\"\nslice = \"64k\"\n\
             {LISTEN}\
             [fleet]\npeers = {peers:?}\nlisten = \"{listen}\"\n{}",
            tree.base().join("cache").display(),
            self.keys,
        );
        let site = format!(
            "[[site]]\norigin = {}\n{}",
            entry("http", &self.origin, PATIENT),
            self.site
        );
        Launch::run_sites(tree, &config, &site)
    }

    #[track_caller]
    fn start_node(&mut self, node: usize, peers: &[SocketAddr]) {
        self.nodes[node].server = Some(self.launch(node, peers).start());
    }

    fn node(&self, node: usize) -> &Server {
        self.nodes[node].server.as_ref().expect("it runs")
    }

    /// A counter of a node.
    fn value(&self, node: usize, name: &str) -> u64 {
        Scrape::of(admin(self.node(node))).value(name) as u64
    }

    fn put(&self, path: &str, object: Object) {
        self.origin.put(&at(path), object);
    }

    fn count(&self, path: &str) -> usize {
        self.origin.count(&at(path))
    }

    /// `count` paths with an object each, whose owners are several nodes.
    fn put_some(&self, count: u64, length: usize) -> Vec<String> {
        let number = |seed| {
            let path = format!("/object-{seed}");
            self.put(&path, fresh(length, seed));
            path
        };
        (0..count).map(number).collect()
    }

    /// What a node says to a peer that asks for `path` with `fields`.
    fn ask_as_peer(&self, node: usize, path: &str, fields: &[&str]) -> Response {
        let name = format!("Tidegate-Origin: http://{}{PREFIX}", self.origin.address());
        let fields: Vec<_> = [&["Tidegate-Peer: 1", &name], fields].concat();
        let mut client = Client::connect(self.nodes[node].peers);
        client.send(request_with("GET", path, &fields));
        client.response()
    }
}

/// Has `work` look at new fleets until no node of one passed over a peer: on a busy machine one that
/// is well may be late.
fn undisturbed<T>(start: impl Fn() -> Fleet, work: impl Fn(&Fleet) -> T) -> T {
    for _ in 0..DISTURBED_MAX {
        let fleet = start();
        let found = work(&fleet);
        let failures = |node| fleet.value(node, "tidegate_peer_failures_total");
        if (0..fleet.nodes.len()).map(failures).sum::<u64>() == 0 {
            return found;
        }
    }
    panic!("peers are passed over");
}

#[test]
fn the_origin_is_asked_for_each_slice_once() {
    let length = 3 * SLICE + 100;
    let asked = undisturbed(
        || Fleet::start(3),
        |fleet| {
            // Few, so that no response counts as slow and is asked for once more.
            let paths = fleet.put_some(6, length);
            let slices = paths.iter().map(|path| {
                get_from_all(fleet, path, &noise(length, path[8..].parse().unwrap()));
                let slices = fleet.origin.slices(&at(path)).into_iter();
                let mut starts: Vec<_> = slices.map(|range| range.start as usize).collect();
                starts.sort_unstable();
                starts
            });
            let slices: Vec<_> = slices.collect();
            for node in 0..3 {
                assert_eq!(fleet.node(node).get("/none").status, 404);
            }
            (slices, fleet.count("/none"))
        },
    );
    // That there is none is asked once, too.
    assert_eq!(asked, (vec![vec![0, SLICE, 2 * SLICE, 3 * SLICE]; 6], 1));
}

/// Asks all nodes for `path` at the same time.
fn get_from_all(fleet: &Fleet, path: &str, expected: &[u8]) {
    thread::scope(|scope| {
        for (number, node) in fleet.nodes.iter().enumerate() {
            let address = node.server.as_ref().expect("it runs").address;
            scope.spawn(move || {
                let body = Client::connect(address).get(path).body;
                assert!(body == expected, "{path} of {number}");
            });
        }
    });
}

#[test]
fn without_an_owner_the_rest_goes_on() {
    let mut fleet = Fleet::start(3);
    let before = fleet.put_some(12, 2 * SLICE);
    for path in &before {
        assert_eq!(fleet.node(0).get(path).status, 200);
    }
    drop(fleet.nodes[2].server.take());
    for number in 12..36 {
        let path = format!("/object-{number}");
        fleet.put(&path, fresh(2 * SLICE, number));
        for node in 0..2 {
            let body = fleet.node(node).get(&path).body;
            assert!(body == noise(2 * SLICE, number), "{path} of {node}");
        }
    }
    // It comes back with what it had.
    let peers = fleet.addresses();
    fleet.start_node(2, &peers);
    fleet.origin.forget();
    for path in &before {
        assert_eq!(fleet.node(2).get(path).status, 200);
    }
    assert!(fleet.origin.requests().len() < 2 * before.len());
}

#[test]
fn a_response_of_a_peer_that_is_cut_off_is_completed() {
    let mut fleet = Fleet::of(1);
    let length = 3 * SLICE;
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [fleet.nodes[0].peers, peer.local_addr().unwrap()];
    thread::spawn(move || {
        for stream in peer.incoming() {
            let _ = half(stream.unwrap(), length);
        }
    });
    fleet.start_node(0, &peers);
    for (seed, path) in fleet.put_some(16, length).iter().enumerate() {
        let body = fleet.node(0).get(path).body;
        assert!(body == noise(length, seed as u64), "{path}");
    }
    let asked = fleet.origin.requests();
    let is_rest = |first: &str| {
        asked.iter().any(|asked| {
            asked
                .field("range")
                .is_some_and(|range| range.starts_with(first))
        })
    };
    assert!(is_rest("bytes=32768-"), "the peer was asked: {asked:?}");
}

/// Answers a request for a slice of one of [`Fleet::put_some`] with half of it.
fn half(mut stream: TcpStream, length: usize) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let count = stream.read(&mut request)?;
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    let between = |start: &str, end: char| {
        let (_, rest) = request.split_once(start).expect("a request of a peer");
        rest[..rest.find(end).unwrap()].to_owned()
    };
    let seed = between("GET /object-", ' ').parse().unwrap();
    let first: usize = between("bytes=", '-').parse().unwrap();
    let end = (first + SLICE).min(length);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"{seed}\"\r\nTidegate-Asked-Ago: 0\r\n\
         Cache-Control: max-age=36000\r\nContent-Length: {}\r\n\
         Content-Range: bytes {first}-{}/{length}\r\n\r\n",
        end - first,
        end - 1
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&noise(length, seed)[first..first + SLICE / 2])
}

/// Files below a directory.
fn files(directory: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let each = entries.filter_map(Result::ok).map(|entry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            files(&entry.path())
        } else {
            1
        }
    });
    each.sum()
}

#[test]
fn a_node_joins_by_a_reload() {
    let mut fleet = Fleet::of(3);
    let all = fleet.addresses();
    fleet.start_node(0, &all[..2]);
    fleet.start_node(1, &all[..2]);
    let first = fleet.put_some(6, SLICE);
    for path in &first {
        assert_eq!(fleet.node(0).get(path).status, 200);
    }
    fleet.start_node(2, &all);
    for node in 0..2 {
        drop(fleet.launch(node, &all));
        hup(fleet.node(node), APPLIED);
        assert!(!fleet.node(node).log().contains("needs a restart"));
    }
    fleet.origin.forget();
    let paths: Vec<_> = (100..112)
        .map(|seed| {
            let path = format!("/object-{seed}");
            fleet.put(&path, fresh(SLICE, seed));
            path
        })
        .collect();
    for path in &paths {
        for node in 0..3 {
            assert_eq!(fleet.node(node).get(path).status, 200);
        }
        assert_eq!(fleet.count(path), 1, "{path}");
    }
}

#[test]
fn a_name_stands_for_its_addresses() {
    let mut fleet = Fleet::of(2);
    let (first, second) = (fleet.nodes[0].peers, fleet.nodes[1].peers);
    fleet.keys = format!("self = \"{first}\"");
    // 127.0.0.1, and ::1 on some hosts, where nobody listens.
    let tree = &fleet.nodes[0].tree;
    let config = format!(
        "[cache.disk]\npath = \"{}\"\nsize = \"1g\"\nslice = \"64k\"\n\
         [fleet]\npeers = [\"localhost:{}\", \"localhost:{}\"]\nlisten = \"{first}\"\n",
        tree.base().join("cache").display(),
        first.port(),
        second.port(),
    );
    let site = format!(
        "[[site]]\norigin = {}",
        entry("http", &fleet.origin, PATIENT)
    );
    let server = Launch::run_sites(tree, &config, &site).start();
    fleet.keys.clear();
    fleet.start_node(1, &[first, second]);
    let paths = fleet.put_some(16, SLICE);
    for path in &paths {
        assert_eq!(server.get(path).status, 200);
    }
    server.logs("nodes of the fleet");
    assert!(
        server
            .log()
            .contains(&format!("127.0.0.1:{}", second.port()))
    );
    let cache = fleet.nodes[1].tree.base().join("cache");
    eventually("the other node stores what it owns", || files(&cache) > 1);
}

#[test]
fn a_silent_peer_is_overtaken_by_the_origin() {
    let mut fleet = Fleet::of(1);
    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [fleet.nodes[0].peers, silent.local_addr().unwrap()];
    fleet.start_node(0, &peers);
    let paths = fleet.put_some(16, 2 * SLICE);
    for (seed, path) in paths.iter().enumerate() {
        let start = Instant::now();
        assert!(fleet.node(0).get(path).body == noise(2 * SLICE, seed as u64));
        // A second for each of the two slices, and the patience of a slow host.
        assert!(start.elapsed() < Duration::from_secs(20), "{path}");
    }
    fleet.node(0).logs("is passed over");
}

#[test]
fn a_peer_that_does_not_accept_is_passed_over_at_once() {
    let mut fleet = Fleet::of(1);
    // Its queue is full: it drops SYNs, as a host that is gone.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let queued: Vec<_> = (0..4).map(connect).collect();
    assert!(queued.iter().any(Result::is_err), "the queue is full");
    let peers = [fleet.nodes[0].peers, address];
    fleet.start_node(0, &peers);
    for (seed, path) in fleet.put_some(16, SLICE).iter().enumerate() {
        assert!(fleet.node(0).get(path).body == noise(SLICE, seed as u64));
    }
    fleet.node(0).logs("a connection did not come in time");
}

#[test]
fn a_peer_that_errs_is_passed_over() {
    for answer in [
        &b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nTidegate-Asked-Ago: 1\r\nContent-Range: bytes 1-2/3\r\n\
          Content-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 2\r\n\r\nxx",
        b"\0nonsense\r\n\r\n",
        b"",
    ] {
        let mut fleet = Fleet::of(1);
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let peers = [fleet.nodes[0].peers, peer.local_addr().unwrap()];
        thread::spawn(move || {
            for stream in peer.incoming() {
                let _ = err(stream.unwrap(), answer);
            }
        });
        fleet.start_node(0, &peers);
        for (seed, path) in fleet.put_some(8, SLICE + 1).iter().enumerate() {
            let body = fleet.node(0).get(path).body;
            assert!(
                body == noise(SLICE + 1, seed as u64),
                "{path} after {answer:?}"
            );
        }
    }
}

#[test]
fn requests_of_peers_are_counted() {
    let mut fleet = Fleet::of(1);
    let peers = [fleet.nodes[0].peers, free_address()];
    fleet.start_node(0, &peers);
    let value = |name| fleet.value(0, name);
    for path in fleet.put_some(16, 10) {
        assert_eq!(fleet.node(0).get(&path).status, 200);
    }
    assert!(value("tidegate_peer_requests_total") > 0);
    assert!(value("tidegate_peer_failures_total") > 0);
    assert_eq!(fleet.ask_as_peer(0, "/object-1", &[]).status, 200);
    assert_eq!(value("tidegate_peer_served_total"), 1);
    assert_eq!(Client::connect(peers[0]).get("/object-1").status, 403);
    assert_eq!(value("tidegate_peer_refused_total"), 1);
}

/// Reads a request, answers, and ends.
fn err(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(answer)
}

#[test]
fn no_request_goes_round() {
    // Each node knows itself by no address, so all objects are of the next one.
    let mut fleet = Fleet::of(3);
    let addresses = fleet.addresses();
    for node in 0..3 {
        fleet.start_node(node, &[addresses[(node + 1) % 3]]);
    }
    let paths = fleet.put_some(6, 2 * SLICE);
    thread::scope(|scope| {
        for node in 0..3 {
            let (address, paths) = (fleet.node(node).address, &paths);
            scope.spawn(move || {
                for (seed, path) in paths.iter().enumerate() {
                    let body = Client::connect(address).get(path).body;
                    assert!(body == noise(2 * SLICE, seed as u64), "{path} of {node}");
                }
            });
        }
    });
    for path in &paths {
        assert!(fleet.count(path) <= 12, "{path}: {}", fleet.count(path));
        for request in fleet.origin.asked(&at(path)) {
            assert_eq!(request.field("tidegate-peer"), None);
            assert_eq!(request.field("tidegate-origin"), None);
        }
    }
}

#[test]
fn peers_get_what_the_origin_said() {
    let mut fleet = Fleet::of(1);
    fleet.site =
        "[[site.headers]]\nmatch = \"**\"\nset = { Cache-Control = \"no-store\", X-A = \"b\" }\n\
                  [[site.respond]]\nmatch = \"/ruled\"\nstatus = 410"
            .to_owned();
    let peers = fleet.addresses();
    fleet.start_node(0, &peers);
    let object = fresh(SLICE + 10, 1)
        .last_modified("Tue, 01 Sep 2020 00:00:00 GMT")
        .field("Surrogate-Key", "a b")
        .field("Expires", "Tue, 01 Sep 2099 00:00:00 GMT")
        .field("Content-Type", "text/x-odd")
        .field("Age", "100");
    fleet.put("/ruled", object);
    let whole = fleet.ask_as_peer(0, "/ruled", &[]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == noise(SLICE + 10, 1));
    for (name, value) in [
        ("etag", "\"1\""),
        ("last-modified", "Tue, 01 Sep 2020 00:00:00 GMT"),
        ("cache-control", "max-age=36000"),
        ("expires", "Tue, 01 Sep 2099 00:00:00 GMT"),
        ("surrogate-key", "a b"),
        ("content-type", "text/x-odd"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    assert!(!whole.has("x-a"));
    assert!(age(&whole).is_some_and(|age| age >= 100));
    let part = fleet.ask_as_peer(0, "/ruled", &["Range: bytes=65530-65549"]);
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        Some("bytes 65530-65545/65546")
    );
    assert!(part.body == noise(SLICE + 10, 1)[65530..65546]);
    for (field, status) in [
        ("If-None-Match: \"1\"", 304),
        ("If-None-Match: \"2\"", 200),
        ("If-Match: \"2\"", 412),
        ("If-Match: \"1\"", 200),
        ("Range: bytes=70000-70001", 416),
    ] {
        assert_eq!(
            fleet.ask_as_peer(0, "/ruled", &[field]).status,
            status,
            "{field}"
        );
    }
    assert_eq!(fleet.ask_as_peer(0, "/none", &[]).status, 404);
    // Others get nothing: no peer, and one of another origin.
    let mut client = Client::connect(fleet.nodes[0].peers);
    assert_eq!(client.get("/ruled").status, 403);
    let fields = ["Tidegate-Peer: 1", "Tidegate-Origin: http://other.test"];
    assert_eq!(client.get_with("/ruled", &fields).status, 421);
}

fn age(response: &Response) -> Option<u64> {
    response.header("age").and_then(|age| age.parse().ok())
}

#[test]
fn ages_add_up() {
    let found = undisturbed(
        || Fleet::start(2),
        |fleet| {
            let paths = (0..8).map(|seed| format!("/object-{seed}"));
            let paths: Vec<_> = paths.collect();
            for path in &paths {
                fleet.put(path, fresh(100, 1).field("Age", "1000"));
                let first = age(&fleet.node(0).get(path));
                assert!(first.is_some_and(|age| age >= 1000), "{first:?}");
            }
            thread::sleep(Duration::from_millis(2100));
            let second = |path: &String| (age(&fleet.node(1).get(path)), fleet.count(path));
            paths.iter().map(second).collect::<Vec<_>>()
        },
    );
    let is_right =
        |(age, count): &(Option<u64>, _)| age.is_some_and(|age| age >= 1002) && *count == 1;
    assert!(found.iter().all(is_right), "{found:?}");
}

#[test]
fn an_age_counts_with_a_lifetime_of_the_site_too() {
    let start = || {
        let mut fleet = Fleet::of(2);
        fleet.site = "[[site.cache]]\nmatch = \"**\"\nttl = \"100s\"".to_owned();
        let peers = fleet.addresses();
        (0..2).for_each(|node| fleet.start_node(node, &peers));
        fleet
    };
    let ages = undisturbed(start, |fleet| {
        let paths = fleet.put_some(8, 100);
        for path in &paths {
            fleet.node(0).get(path);
        }
        thread::sleep(Duration::from_millis(2100));
        let age = |path: &String| age(&fleet.node(1).get(path));
        paths.iter().map(age).collect::<Vec<_>>()
    });
    let is_right = |age: &Option<u64>| age.is_some_and(|age| (2..100).contains(&age));
    assert!(ages.iter().all(is_right), "{ages:?}");
}

#[test]
fn what_is_not_stored_is_asked_of_the_origin_by_each() {
    let fleet = Fleet::start(2);
    for seed in 0..8 {
        let path = format!("/object-{seed}");
        let object = Object::noise(2 * SLICE, seed).field("Cache-Control", "private");
        fleet.put(&path, object);
        for node in [0, 1, 0, 1] {
            let body = fleet.node(node).get(&path).body;
            assert!(body == noise(2 * SLICE, seed), "{path} of {node}");
        }
    }
}

#[test]
fn a_token_that_is_short_or_open_to_all_is_told() {
    let tree = Tree::new();
    let token = tree.base().join("token");
    let text = "[fleet]\nlisten = '127.0.0.1:0'\npeers = ['127.0.0.1:9']\ntoken = 'token'\n\
                [[site]]\nroot = '.'\n";
    std::fs::write(tree.base().join("tidegate.toml"), text).unwrap();
    let check = |secret: &str, mode| {
        std::fs::write(&token, secret).unwrap();
        std::fs::set_permissions(&token, Permissions::from_mode(mode)).unwrap();
        Launch::with(["check"])
            .argument(tree.base().join("tidegate.toml"))
            .output()
    };
    let short = check("short", 0o600);
    assert_eq!(short.status.code(), Some(1), "{short:?}");
    assert!(short.stderr.contains(":4: fleet.token: "), "{short:?}");
    assert!(short.stderr.contains("a token at least 16"), "{short:?}");
    let open = check(SECRET, 0o644);
    assert_eq!(open.status.code(), Some(0), "{open:?}");
    let told = ":4: fleet.token: warning: all users have access";
    assert!(open.stderr.contains(told), "{open:?}");
    let right = check(SECRET, 0o600);
    assert!(!right.stderr.contains("fleet.token"), "{right:?}");
}

#[test]
fn a_peer_needs_the_token() {
    let mut fleet = Fleet::of(2);
    for node in &fleet.nodes {
        std::fs::write(node.tree.base().join("token"), format!("{SECRET}\n")).unwrap();
    }
    fleet.keys = "token = \"token\"".to_owned();
    let peers = fleet.addresses();
    (0..2).for_each(|node| fleet.start_node(node, &peers));
    let paths = fleet.put_some(8, 100);
    assert_eq!(fleet.ask_as_peer(0, &paths[0], &[]).status, 403);
    let wrong = ["Authorization: Bearer wrong"];
    assert_eq!(fleet.ask_as_peer(0, &paths[0], &wrong).status, 403);
    assert_eq!(fleet.origin.requests().len(), 0);
    let right = [&*format!("Authorization: Bearer {SECRET}")];
    assert_eq!(fleet.ask_as_peer(0, &paths[0], &right).status, 200);
    // The first one may be stored by a node that does not own it.
    for path in &paths[1..] {
        for node in 0..2 {
            assert_eq!(fleet.node(node).get(path).status, 200);
        }
        assert_eq!(fleet.count(path), 1, "{path}");
        for request in fleet.origin.asked(&at(path)) {
            assert_eq!(request.field("authorization"), None);
        }
    }
    // One with another token is passed over, and its 403 reaches nobody.
    std::fs::write(
        fleet.nodes[1].tree.base().join("token"),
        SECRET.to_uppercase(),
    )
    .unwrap();
    drop(fleet.nodes[1].server.take());
    fleet.start_node(1, &peers);
    fleet.origin.forget();
    for (seed, path) in fleet.put_some(16, 100).iter().enumerate().skip(8) {
        for node in 0..2 {
            assert_eq!(fleet.node(node).get(path).body, noise(100, seed as u64));
        }
        assert_eq!(fleet.count(path), 2, "{path}");
    }
    for node in 0..2 {
        assert!(!fleet.node(node).log().contains(SECRET));
    }
}
