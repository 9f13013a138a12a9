//! The memory is a budget: whoever fills it, the kernel ends nobody, and the server answers.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::http2::{Http2, INITIAL_WINDOW, code};
use crate::support::{
    Authority, Behaviour, Cgroup, Client, Launch, Object, Origin, Server, Tree, can_connect,
    eventually, get, noise,
};

const MIB: usize = 1 << 20;

/// The memory of the cgroup.
const LIMIT: u64 = 64 << 20;

/// Clients wait since memory is short.
const WAITED: &str = "tidegate_refusals_total{kind=\"memory_limit\"}";
const SHRUNK: &str = "tidegate_memory_relief_total{action=\"cache_shrunk\"}";
const CLOSED: &str = "tidegate_connections_closed_for_room_total";
const STREAM_REFUSED: &str = "tidegate_memory_relief_total{action=\"stream_refused\"}";
const HOT: &str = "tidegate_cache_weight{table=\"hot\"}";
const HOT_MAX: &str = "tidegate_cache_weight_max{table=\"hot\"}";

/// A server in a cgroup with little memory, and its admin listener.
struct Small {
    server: Server,
    admin: SocketAddr,
    /// Dropped last.
    group: Cgroup,
}

impl Small {
    /// `None`, and a line, where no cgroup can be made.
    fn start(launch: impl FnOnce() -> Launch) -> Option<Self> {
        let group = Cgroup::of_memory(LIMIT)?;
        let server = group.holding(launch()).start();
        let admin = admin(&server);
        Some(Self {
            server,
            admin,
            group,
        })
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        Scrape::of(self.admin).value(sample)
    }

    /// Nobody was ended, and a new client is served, once there is room.
    #[track_caller]
    fn goes_on(self, target: &str, body: &[u8]) {
        assert_eq!(self.group.killed(), 0, "{}", self.server.log());
        assert!(self.server.get(target).body == body);
        self.server.stop();
    }
}

/// Many files of `length` bytes, named by their numbers.
fn files(count: usize, length: usize) -> (Tree, Vec<u8>) {
    let tree = Tree::new();
    let content = noise(length, 1);
    for number in 0..count {
        tree.write(&number.to_string(), &content);
    }
    (tree, content)
}

fn listening(more: &str) -> String {
    format!("{LISTEN}{more}\n")
}

#[test]
fn small_files_fit() {
    let (tree, content) = files(4000, 16_000);
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let mut client = small.server.connect();
    for number in 0..4000 {
        assert!(client.get(&format!("/{number}")).body == content);
    }
    eventually("files in memory", || small.value(HOT) > 10e6);
    small.goes_on("/1", &content);
}

#[test]
fn popular_files_fit() {
    const COUNT: usize = 120;
    let (tree, content) = (Tree::new(), noise(200 << 10, 1));
    for number in 0..COUNT {
        tree.write_at(&number.to_string(), &content, 1_600_000_000);
    }
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let mut client = small.server.connect();
    eventually("files in memory", || {
        for number in 0..COUNT {
            // More than make one popular.
            for _ in 0..40 {
                client.get_with(&format!("/{number}"), &["Range: bytes=0-0"]);
            }
            assert!(client.get(&format!("/{number}")).body == content);
        }
        small.value(HOT) > 10e6
    });
    small.goes_on("/1", &content);
}

/// Has the kernel forget the pages of a file, so that who reads it next is charged for them.
fn forget_pages(tree: &Tree, name: &str) {
    let file = File::open(tree.root().join(name)).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn downloads_of_many_files_that_nobody_reads_fit() {
    const FILES: usize = 60;
    const CLIENTS: usize = 600;
    let (tree, content) = (Tree::with("small", b"content"), noise(3 * MIB, 1));
    for number in 0..FILES {
        let name = number.to_string();
        tree.write(&name, &content);
        forget_pages(&tree, &name);
    }
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::connect_narrow(small.server.address);
            client.send(get(&format!("/{}", number % FILES)));
            client
        })
        .collect();
    // Without a bound 43 of them pin 62 MB of pages of files, and the server does nothing but look
    // for others.
    eventually("clients that wait", || small.value(WAITED) >= 1.0);
    let sockets = small.value("tidegate_memory_sockets_bytes");
    assert!((10e6..50e6).contains(&sockets), "{sockets}");
    // Who is in and reads has all of it.
    assert!(clients[0].response().body == content);
    drop(clients);
    small.goes_on("/small", b"content");
}

#[test]
fn idle_connections_fit() {
    const CLIENTS: usize = 4000;
    if !can_connect(CLIENTS) {
        return;
    }
    let tree = Tree::with("file", b"content");
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let ask = |_| {
        let mut client = small.server.connect();
        assert_eq!(client.get("/file").body, b"content");
        client
    };
    let clients: Vec<Client> = (0..CLIENTS).map(ask).collect();
    let closed = small.value("tidegate_connections_closed_for_room_total");
    assert!(closed > 1000.0, "{closed}");
    drop(clients);
    small.goes_on("/file", b"content");
}

#[test]
fn pipelined_requests_whose_responses_nobody_reads_fit() {
    let (tree, content) = files(1, 4000);
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let requests = get("/0").repeat(4000);
    let clients: Vec<TcpStream> = (0..600)
        .map(|_| {
            let mut client = TcpStream::connect(small.server.address).unwrap();
            client.set_nonblocking(true).unwrap();
            // As much as there is room for.
            let _ = client.write(requests.as_bytes());
            client
        })
        .collect();
    eventually("clients that wait", || small.value(WAITED) >= 1.0);
    let held = small.value("tidegate_memory_held_bytes{part=\"unsent\"}");
    assert!(held > 4e6, "{held}");
    drop(clients);
    small.goes_on("/0", &content);
}

#[test]
fn downloads_by_tls_that_nobody_reads_wait() {
    const CLIENTS: usize = 300;
    let tree = Tree::with("small", b"content");
    tree.write("large", &noise(32 * MIB, 1));
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    // In user space each holds 66 KiB.
    let launch = || Launch::secure(&tree, &listening(""), "ktls = \"off\"", &[&files]);
    let Some(small) = Small::start(launch) else {
        return;
    };
    let config = authority.client();
    let address = small.server.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut first = Client::secure(address, &config);
    assert_eq!(first.get("/small").body, b"content");
    let downloads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (config, is_over) = (Arc::clone(&config), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut client = Client::connect_narrow(address)
                    .with_tls(|stream| crate::support::secure(stream, &config, "localhost"));
                // Those that wait go on when the others have ended.
                client.send(get("/large"));
                while !is_over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .collect();
    eventually("clients that wait", || small.value(WAITED) >= 1.0);
    assert_eq!(small.group.killed(), 0);
    let held = small.value("tidegate_memory_held_bytes{part=\"tls\"}");
    assert!(held > 4e6, "{held}");
    is_over.store(true, Ordering::Relaxed);
    for download in downloads {
        download.join().unwrap();
    }
    let mut last = Client::secure(address, &config);
    assert_eq!(last.get("/small").body, b"content");
    assert_eq!(small.group.killed(), 0);
    drop((first, last));
    small.server.stop();
}

#[test]
fn streams_that_nobody_reads_fit() {
    let tree = Tree::with("small", b"content");
    tree.write("large", &noise(2 * MIB, 1));
    let launch = || Launch::run(&tree, &listening(""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let clients: Vec<Http2> = (0..100)
        .map(|_| {
            let closed = [(INITIAL_WINDOW, 0)];
            let mut client = Http2::connect_with(small.server.address, &closed);
            for _ in 0..100 {
                client.request("GET", "/large", &[]);
            }
            client
        })
        .collect();
    eventually("streams that are counted", || {
        small.value("tidegate_memory_held_bytes{part=\"http2\"}") > 1e6
    });
    drop(clients);
    small.goes_on("/small", b"content");
}

#[test]
fn objects_of_an_origin_fit() {
    let (origin, tree) = (Origin::start(), Tree::new());
    let object = |length| Object::noise(length, 1).field("Cache-Control", "max-age=3600");
    origin.put("/small", object(10));
    for number in 0..60 {
        origin.put(&format!("/{number}"), object(2 * MIB));
        let endless = format!("/chunked{number}");
        origin.put(&endless, object(4 * MIB));
        origin.behave(&endless, [Behaviour::Chunked]);
    }
    let launch = || {
        let cache = tree.base().join("cache");
        let disk = format!("[cache.disk]\npath = {cache:?}\nsize = \"1g\"\nslice = \"64k\"\n");
        let site = format!(
            "[[site]]\norigin = {{ http = \"http://{}\" }}",
            origin.address()
        );
        Launch::run_sites(&tree, &listening(&disk), &site)
    };
    let Some(small) = Small::start(launch) else {
        return;
    };
    // Responses without a length are read whole: not all of them have room at the same time.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let address = small.server.address;
        let ask =
            |target: String| scope.spawn(move || Client::connect(address).get(&target).status);
        let asked: Vec<_> = (0..60)
            .flat_map(|number| [ask(format!("/{number}")), ask(format!("/chunked{number}"))])
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let of = |status| statuses.iter().filter(|one| **one == status).count();
    assert!(of(200) >= 60 && of(200) + of(502) == 120, "{statuses:?}");
    assert!(of(502) > 0, "{statuses:?}");
    let small_object = small.server.get("/small").body;
    small.goes_on("/small", &small_object);
}

/// A process in the same cgroup that takes memory until it is dropped.
struct Neighbour(Child);

impl Neighbour {
    fn of(group: &Cgroup) -> Self {
        let [shell, rest @ ..] = group.entering();
        let mut command = Command::new(shell);
        // It keeps what it reads for the end of its input, which does not come.
        let all = LIMIT.to_string();
        command.args(rest).args(["tail", "-c", &all]);
        Self(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Takes another half of a MiB.
    fn take(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(&vec![1; MIB / 2]).unwrap();
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_another_process_takes_the_memory_caches_shrink_and_clients_wait() {
    let (tree, content) = files(1500, 16_000);
    let launch = || Launch::run(&tree, &listening("[timeouts]\nkeep-alive = \"50s\""), "");
    let Some(small) = Small::start(launch) else {
        return;
    };
    let mut client = small.server.connect();
    for number in 0..1500 {
        assert!(client.get(&format!("/{number}")).body == content);
    }
    let idle: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = small.server.connect();
            client.get("/1");
            client
        })
        .collect();
    eventually("files in memory", || small.value(HOT) > 10e6);
    let full = small.value(HOT);
    let mut neighbour = Neighbour::of(&small.group);
    eventually("a shortage", || {
        neighbour.take();
        // Longer than until the next reading.
        thread::sleep(Duration::from_millis(150));
        small.value("tidegate_memory_shortages_total") >= 1.0
    });
    eventually("caches that shrink", || small.value(HOT) < full / 2.0);
    assert!(small.value(SHRUNK) >= 1.0);
    assert_eq!(small.group.killed(), 0);
    drop(neighbour);
    eventually("the end of it", || {
        small.value("tidegate_memory_short") < 1.0
    });
    eventually("caches that grow", || {
        client.get("/7");
        small.value(HOT_MAX) > full
    });
    drop(idle);
    small.goes_on("/1", &content);
}

#[test]
fn at_nine_tenths_of_the_budget_new_clients_wait_and_come_in_later() {
    let (tree, content) = files(600, 16_000);
    let config =
        listening("[limits]\nmemory = \"32m\"\n[timeouts]\nheader = \"50s\"\nkeep-alive = \"50s\"");
    let server = Launch::run(&tree, &config, "").start();
    assert!(
        server
            .log()
            .contains("lowered to fit limits.memory (33554432 bytes)"),
        "{}",
        server.log()
    );
    let admin = admin(&server);
    let value = |sample: &str| Scrape::of(admin).value(sample);
    let mut first = server.connect();
    for number in 0..600 {
        assert!(first.get(&format!("/{number}")).body == content);
    }
    eventually("files in memory", || value(HOT) > 5e6);
    let full = value(HOT);
    let mut streams = Http2::connect_with(server.address, &[(INITIAL_WINDOW, 0)]);
    streams.request("GET", "/1", &[]);
    let beside = streams.request("HEAD", "/1", &[]);
    assert_eq!(streams.response(beside).status, 200);
    let idle: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            client.get("/1");
            client
        })
        .collect();
    // Heads that do not end, of 15 KB each: all together may hold 5.4 MB.
    let head = format!("GET /1 HTTP/1.1\r\nHost: test\r\nX: {}", "x".repeat(15_000));
    let mut holders: Vec<Client> = (0..450)
        .map(|_| {
            let mut holder = server.connect();
            holder.send(&head);
            holder
        })
        .collect();
    eventually("clients that wait", || value(WAITED) >= 1.0);
    eventually("caches that shrink", || {
        value(SHRUNK) >= 1.0 && value(HOT) < full / 2.0
    });
    eventually("idle connections that end", || value(CLOSED) >= 1.0);
    // One more waits, and is served once the others are gone.
    let mut newcomer = server.connect();
    newcomer.send(get("/1"));
    let connections = value("tidegate_connections{state=\"request\"}")
        + value("tidegate_connections{state=\"new\"}");
    assert!((200.0..450.0).contains(&connections), "{connections}");
    // Who is in goes on, with one stream at a time.
    holders[0].send("\r\n\r\n");
    assert!(holders[0].response().body == content);
    let beside = streams.request("HEAD", "/1", &[]);
    let refused = streams
        .response_or_reset(beside)
        .map(|response| response.status);
    assert_eq!(refused, Err(code::REFUSED_STREAM));
    assert!(value(STREAM_REFUSED) >= 1.0);
    drop(holders);
    assert!(newcomer.response().body == content);
    eventually("caches that may grow again", || {
        let connected = server.get("/1").body == content;
        connected && value(HOT_MAX) > full
    });
    drop((idle, streams));
    server.stop();
}
