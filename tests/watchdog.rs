//! Shards that hang, or are refused calls: somebody notices, and the process ends where it must.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::admin::{LISTEN, admin};
use crate::support::{
    Client, Launch, Object, Origin, Server, Strace, Tree, WATCHDOG, eventually, installed, noise,
    request_with, skipped,
};

/// More than is kept in memory, so that it is sent by splice(2).
const LENGTH: usize = 300_000;

/// More than the buffers of a connection take.
const LARGER: usize = 16 << 20;

/// How many calls of `io_uring_enter(2)` are disturbed, one in each run: some rounds of sleep and work.
const CALLS: usize = 40;

const GET: &[u8] = b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

fn tree() -> Tree {
    Tree::with("large", &noise(LENGTH, 1))
}

fn server(tree: &Tree, watchdog: &str) -> Server {
    Launch::run(tree, &format!("watchdog = \"{watchdog}\"\n{LISTEN}"), "").start()
}

/// Has the shard hang in a call, until the strace is dropped; `None` where that cannot be.
fn hang(server: &Server) -> Option<(Strace, TcpStream)> {
    let strace = installed("strace")
        .then(|| Strace::inject(server, "splice", "delay_enter=600s:when=1"))
        .flatten()?;
    let mut client = TcpStream::connect(server.address).expect("a connection");
    client.write_all(GET).expect("a request");
    Some((strace, client))
}

/// The status of `path` of the admin listener, and its text.
fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let response = Client::connect(address).get(path);
    (response.status, response.text().to_owned())
}

#[track_caller]
fn becomes_stalled(address: SocketAddr) {
    for path in ["/healthz", "/readyz"] {
        eventually("503 that names the shard", || {
            ask(address, path) == (503, "shard 0 makes no progress\n".to_owned())
        });
    }
}

#[test]
fn a_shard_that_hangs_is_named_and_ends_the_process() {
    let tree = tree();
    let mut server = server(&tree, "20s");
    let address = admin(&server);
    let Some((strace, _client)) = hang(&server) else {
        return;
    };
    becomes_stalled(address);
    let line = "shard 0 made no progress for 20s (server.watchdog): its thread is in state ";
    eventually("the end", || server.log().contains(line));
    // The thread ends when it is no longer held.
    drop(strace);
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_shard_that_goes_on_after_all_is_well_again() {
    let tree = tree();
    let server = server(&tree, "off");
    let address = admin(&server);
    let Some((strace, _client)) = hang(&server) else {
        return;
    };
    becomes_stalled(address);
    let silent = |metrics: &str| !metrics.contains("shard_silence_seconds{shard=\"0\"} 0\n");
    assert!(silent(&ask(address, "/metrics").1));
    drop(strace);
    eventually("200", || ask(address, "/healthz").0 == 200);
    eventually("no silence", || !silent(&ask(address, "/metrics").1));
    assert_eq!(ask(address, "/readyz").0, 200);
    assert_eq!(server.get("/large").body.len(), LENGTH);
    server.stop();
}

#[test]
fn a_process_that_was_stopped_goes_on() {
    let tree = tree();
    let server = server(&tree, "4s");
    let address = admin(&server);
    for _ in 0..2 {
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(6));
        server.signal(Signal::CONT);
        assert_eq!(server.get("/large").body.len(), LENGTH);
        assert_eq!(ask(address, "/healthz").0, 200);
    }
    // Some questions later it is still there.
    thread::sleep(Duration::from_secs(5));
    server.stop();
}

#[test]
fn a_shard_that_has_ended_is_not_asked_while_another_lets_a_response_finish() {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return skipped("there is one core only");
    }
    let tree = Tree::with("large", &noise(LARGER, 1));
    let config = "watchdog = \"4s\"\ngraceful-timeout = \"1h\"\n[timeouts]\nsend-stall = \"1h\"";
    let launch = Launch::run(&tree, config, "").arguments(["--cores", "2"]);
    let mut server = launch.start();
    let mut client = Client::connect_narrow(server.address);
    client.send(GET);
    assert_eq!(client.head().content_length(), LARGER);
    client.body(1000);
    server.signal(Signal::TERM);
    // Longer than the watchdog waits for an answer.
    thread::sleep(Duration::from_secs(9));
    assert!(client.body(LARGER - 1000) == noise(LARGER, 1)[1000..]);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.log().contains("no progress"), "{}", server.log());
}

#[test]
fn a_shard_that_hangs_while_it_starts_ends_the_process() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    // The call from which on all are refused; it is another one at each start what that means.
    for call in [2, 8, 20] {
        let inject = format!("inject=io_uring_enter:error=EAGAIN:when={call}+");
        let strace = ["strace", "-f", "-q", "-o", "/dev/null", "-e", &inject];
        let launch = Launch::run(&tree, "watchdog = \"4s\"", "").through(strace);
        let code = match launch.start_or_refusal() {
            Ok(mut server) => server.wait().code(),
            Err(output) => output.status.code(),
        };
        assert_eq!(code, Some(1), "from call {call} on");
    }
}

/// Asks for the file three times, with the shard asleep before each; whether the server is there to
/// the end.
#[track_caller]
fn serves(server: &Server, what: &str) -> bool {
    (0..3).all(|_| {
        thread::sleep(Duration::from_millis(30));
        let answer = TcpStream::connect(server.address).and_then(|mut client| {
            client.set_read_timeout(Some(WATCHDOG))?;
            client.write_all(GET)?;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer)?;
            Ok(answer)
        });
        let hangs = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!answer.as_ref().is_err_and(hangs), "{what}: it hangs");
        answer.is_ok_and(|answer| answer.len() > LENGTH)
    })
}

/// glommio's rings are refused calls as the op ring is, and it panics at some of these: then the
/// process ends. It never hangs, whichever call it was.
#[test]
fn a_refused_call_of_the_ring_hangs_nothing() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    for error in ["error=EAGAIN", "delay_exit=150ms"] {
        let mut running = server(&tree, "off");
        for call in 1..=CALLS {
            let what = format!("{error}:when={call}");
            let Some(strace) = Strace::inject(&running, "io_uring_enter", &what) else {
                return;
            };
            if !serves(&running, &what) {
                assert_eq!(running.wait().code(), Some(1), "{what}");
                let log = running.log();
                // strace that is ended within a call leaves an ENOSYS, which the op ring names.
                assert!(log.contains("io_uring_enter"), "{log}");
                running = server(&tree, "off");
            }
            drop(strace);
        }
    }
}

#[test]
fn a_panic_of_the_main_thread_ends_the_process() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    let log = tree.base().join("access.log");
    let config = format!("{LISTEN}\n[access-log]\npath = \"{}\"", log.display());
    // The main thread wakes the shards by these, every two seconds.
    let strace = "strace -f -q -o /dev/null -P anon_inode:[eventfd] -e inject=write:error=EIO";
    let launch = Launch::run(&tree, &config, "");
    let mut server = launch.through(strace.split(' ')).start();
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("thread 'main' panicked"));
}

#[test]
fn a_stop_is_heeded_whatever_call_about_it_fails() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    for (call, fault) in [
        // The thread that receives signals cannot read what tells of them.
        ("recvfrom", "error=ENOMEM:when=1+"),
        // The handler cannot tell of one.
        ("sendto", "error=ENOBUFS:when=1+"),
        // The main thread cannot wake the shard at once.
        ("write", "error=ENOMEM:when=1"),
        // The shard cannot read what wakes it.
        ("read", "error=EIO:when=1+"),
        ("read", "error=EINTR:when=1"),
    ] {
        let mut server = server(&tree, "off");
        let Some(strace) = Strace::inject(&server, call, fault) else {
            return;
        };
        server.signal(Signal::TERM);
        let code = server.wait().code();
        assert_eq!(code, Some(0), "{call} {fault}: {}", server.log());
        drop(strace);
    }
}

/// A server of `tree`, with listings, and of an origin that has an object.
fn with_origin(tree: &Tree) -> (Origin, Server) {
    let origin = Origin::start();
    origin.put("/object", Object::new("content"));
    let site = format!(
        "directory-listing = true\norigin = {{ http = \"http://{}\" }}",
        origin.address()
    );
    let cache = tree.base().join("cache");
    let disk = format!(
        "[cache.disk]\npath = \"{}\"\nsize = \"1g\"",
        cache.display()
    );
    let server = Launch::run(tree, &disk, &site).start();
    (origin, server)
}

#[test]
fn an_origin_is_asked_though_no_thread_can_be_started() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::new();
    let (_origin, server) = with_origin(&tree);
    let Some(_strace) = Strace::inject(&server, "clone3", "error=EAGAIN:when=1+") else {
        return;
    };
    let response = server.get_with("/object", &["Connection: close"]);
    assert_eq!(response.status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Threads beside the shards tell these by a byte that something is there for them. One that was not
/// sent would let everybody wait for ever who waits for an origin, or for a directory.
#[test]
fn what_other_threads_have_done_is_heard_of_though_the_call_that_tells_fails() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::with("listed/entry", b"");
    let (_origin, server) = with_origin(&tree);
    // Of each thread, whichever it is.
    let Some(_strace) = Strace::inject(&server, "sendto", "error=ENOBUFS:when=1..3") else {
        return;
    };
    for target in ["/object", "/listed/"] {
        for _ in 0..8 {
            // The shard's own send may fail, which ends the connection.
            let mut client = server.connect();
            client.send(request_with("GET", target, &["Connection: close"]));
            client.rest();
        }
        let response = server.get_with(target, &["Connection: close"]);
        assert_eq!(response.status, 200, "{target}");
    }
}
