//! From the start on several cores to the stop in the middle of downloads.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::admin::admin;
use crate::support::{
    Client, Launch, Question, Remote, Server, Tree, eventually, get, noise, skipped, two_cores,
};

/// More than the sockets between server and client hold.
const LENGTH: usize = 32 * 1024 * 1024;

/// The connections that the one core of a server with the config [`full`] has room for.
const FULL: usize = 5;

/// Requests that stop in the middle: of a head, and of a body.
const HALVES: [&str; 2] = [
    "GET /file HTTP/1.1\r\nHo",
    "GET /file HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345",
];

#[test]
fn a_stop_lets_downloads_finish() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let tree = Tree::with("big", &noise(LENGTH, 1));
        // Neither an idle nor a fresh connection ends by its own time.
        let config = "graceful-timeout = \"1h\"\n[timeouts]\nheader = \"1h\"\nkeep-alive = \"1h\"";
        let mut server = Launch::run(&tree, config, "").start();
        let mut idle = server.connect();
        idle.get("/none");
        let mut fresh = server.connect();
        let mut clients: Vec<_> = (0..3).map(|_| in_the_middle(&server)).collect();
        server.signal(signal);
        idle.ends();
        fresh.ends();
        refuses_connections(&server);
        for client in &mut clients {
            assert!(client.body(LENGTH - 1000) == noise(LENGTH, 1)[1000..]);
            client.ends();
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_stop_of_an_idle_server_is_clean() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let tree = Tree::new();
        let mut server = Server::serve(&tree);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        assert!(!server.log().contains("panicked"));
    }
}

#[test]
fn a_stop_waits_no_longer_than_it_may() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let mut server = Launch::run(&tree, &patient("1s"), "").start();
    let mut stalled = in_the_middle(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(stalled.rest().len() < LENGTH - 1000);
}

#[test]
fn a_second_signal_stops_at_once() {
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ] {
        let tree = Tree::with("big", &noise(LENGTH, 1));
        let mut server = Launch::run(&tree, &patient("1h"), "").start();
        let mut idle = server.connect();
        idle.get("/none");
        let mut stalled = in_the_middle(&server);
        server.signal(first);
        // Once this is over the first signal was seen, so that the second is not merged with it.
        idle.ends();
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0));
        assert!(stalled.rest().len() < LENGTH - 1000);
    }
}

#[test]
fn a_full_core_stops_when_its_time_is_over() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let mut server = Launch::run(&tree, &full("1s"), "").start();
    let mut stalled: Vec<_> = (0..FULL).map(|_| in_the_middle(&server)).collect();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    for client in &mut stalled {
        assert!(client.rest().len() < LENGTH - 1000);
    }
}

#[test]
fn a_full_core_stops_at_a_second_signal() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let mut server = Launch::run(&tree, &full("1h"), "").start();
    let mut stalled: Vec<_> = (0..FULL).map(|_| in_the_middle(&server)).collect();
    // There is no room for these, before the stop or after it.
    let waiting: Vec<_> = (0..FULL).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    // No connection shows that the first signal was seen.
    eventually("the first signal is seen", || {
        server.log().contains("stopping")
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    for client in &mut stalled {
        assert!(client.rest().len() < LENGTH - 1000);
    }
    drop(waiting);
}

#[test]
fn a_client_that_waits_for_room_is_answered_before_a_stop() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    tree.write("file", b"content");
    let mut server = Launch::run(&tree, &full("1h"), "").start();
    let mut downloads: Vec<_> = (0..FULL).map(|_| in_the_middle(&server)).collect();
    let mut waiting = server.connect();
    waiting.send(get("/file"));
    server.signal(Signal::TERM);
    assert_eq!(waiting.response().body, b"content");
    waiting.ends();
    for client in &mut downloads {
        client.body(LENGTH - 1000);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_core_full_of_idle_connections_stops_at_once() {
    let tree = Tree::with("file", b"content");
    let mut server = Launch::run(&tree, &full("1h"), "").start();
    let mut idle: Vec<_> = (0..FULL).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/file").body, b"content");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    for client in &mut idle {
        client.ends();
    }
}

#[test]
fn a_stop_waits_for_half_a_request_no_longer_than_it_may() {
    let tree = Tree::with("file", b"content");
    for half in HALVES {
        let config = "graceful-timeout = \"1s\"\n[timeouts]\nheader = \"1h\"";
        let mut server = Launch::run(&tree, config, "").start();
        let mut client = halfway(&server, half);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{half}");
        client.ends();
    }
}

#[test]
fn half_a_request_may_become_whole_during_a_stop() {
    let tree = Tree::with("file", b"content");
    let mut server = Launch::run(&tree, "graceful-timeout = \"1h\"", "").start();
    let mut idle = server.connect();
    idle.get("/none");
    let mut client = halfway(&server, HALVES[0]);
    server.signal(Signal::TERM);
    idle.ends();
    client.send("st: test\r\n\r\n");
    let response = client.response();
    assert_eq!(response.body, b"content");
    assert!(response.closes());
    client.ends();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_stop_lets_a_download_finish_that_others_wait_behind() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    tree.write("file", b"content");
    let mut server = Launch::run(&tree, "graceful-timeout = \"1h\"", "").start();
    let mut idle = server.connect();
    idle.get("/none");
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big") + &get("/file").repeat(3));
    assert_eq!(client.head().content_length(), LENGTH);
    server.signal(Signal::TERM);
    idle.ends();
    assert!(client.body(LENGTH) == noise(LENGTH, 1));
    // Those behind it are answered or not, and never in part.
    let mut answered = 0;
    while let Some(response) = client.response_or_end() {
        assert_eq!(response.body, b"content");
        answered += 1;
    }
    assert!(answered <= 3);
    client.ends();
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn every_core_listens_and_every_connection_is_served() {
    let Some([first, second]) = two_cores() else {
        return;
    };
    let content = noise(100_000, 2);
    let tree = Tree::with("file", &content);
    for cores in ["2".to_owned(), format!("{first},{second}")] {
        let server = Launch::serve_on(&cores, tree.root()).start();
        assert_eq!(listeners(server.address.port()), 2, "--cores {cores}");
        let serve = || {
            let connect = |_| Client::connect(server.address);
            let mut clients: Vec<_> = (0..50).map(connect).collect();
            for _ in 0..5 {
                for client in &mut clients {
                    client.send(get("/file"));
                }
                for client in &mut clients {
                    assert!(client.response().body == content);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(serve);
            }
        });
        server.stop();
    }
}

#[test]
fn a_stop_reaches_every_core() {
    if two_cores().is_none() {
        return;
    }
    let tree = Tree::with("big", &noise(LENGTH, 3));
    let mut server = Launch::serve_on("2", tree.root()).start();
    let mut clients: Vec<_> = (0..8).map(|_| in_the_middle(&server)).collect();
    let mut idle: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.get("/none");
    }
    server.signal(Signal::TERM);
    for client in &mut idle {
        client.ends();
    }
    refuses_connections(&server);
    for client in &mut clients {
        assert!(client.body(LENGTH - 1000) == noise(LENGTH, 3)[1000..]);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn several_addresses_are_served_and_printed() {
    let tree = Tree::with("file", b"content");
    let mut server = Launch::serve(tree.root())
        .arguments(["--listen", "127.0.0.2:0"])
        .start();
    let second = server.next_address();
    assert_ne!(server.address, second);
    for address in [server.address, second] {
        assert_eq!(
            Client::connect(address).get("/file").body,
            b"content",
            "{address}"
        );
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_user_who_is_not_root_serves_every_file() {
    let tree = Tree::new();
    let sizes = [0, 1, 16_384, 16_385, 262_144, 262_145, 5_000_000];
    for size in sizes {
        tree.write(&size.to_string(), &noise(size, 4));
    }
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    let serve = || {
        let mut client = Client::connect(server.address);
        for size in sizes {
            assert!(
                client.get(&format!("/{size}")).body == noise(size, 4),
                "{size}"
            );
        }
    };
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(serve);
        }
    });
    server.stop();
}

#[test]
fn nothing_is_logged_for_requests() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    client.get("/file");
    // Lines come in order: what was logged before the one of a HUP is here with it.
    let lines_with = |hangups| {
        server.signal(Signal::HUP);
        eventually("the line of a HUP", || {
            server.log().matches("HUP: ").count() == hangups
        });
        server.log().matches("INFO").count() + server.log().matches("WARN").count()
    };
    let before = lines_with(1);
    for _ in 0..50 {
        client.get("/file");
        client.get("/none");
    }
    assert_eq!(lines_with(2), before + 1);
}

#[test]
fn signals_that_mean_nothing_do_not_end_it() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    // ALRM, STKFLT, VTALRM, PROF, IO, PWR (as on x86 and ARM), and real-time ones.
    for signal in [14, 16, 26, 27, 29, 30, 34, 37, 64] {
        send(&server, signal);
        let line = format!("signal={signal}");
        eventually("a line of it", || {
            let log = server.log();
            log.contains("is ignored") && log.contains(&line)
        });
        assert_eq!(server.get("/file").body, b"content", "{signal}");
    }
    server.stop();
}

#[test]
fn a_hup_says_that_there_is_no_configuration_to_read() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    server.signal(Signal::HUP);
    eventually("a line of it", || {
        server
            .log()
            .contains("there is no configuration file to read again")
    });
    server.stop();
}

#[test]
fn a_server_that_drains_serves_and_is_not_ready() {
    let tree = Tree::with("file", b"content");
    tree.write("big", &noise(LENGTH, 1));
    let config = "drain-delay = \"1h\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    let mut server = Launch::run(&tree, config, "").start();
    let address = admin(&server);
    let ready = || Client::connect(address).get("/readyz").status;
    assert_eq!(ready(), 200);
    let mut idle = server.connect();
    idle.get("/file");
    server.signal(Signal::TERM);
    eventually("503", || ready() == 503);
    let response = idle.get("/file");
    assert_eq!(response.body, b"content");
    assert!(!response.closes());
    assert_eq!(server.get("/file").body, b"content");
    // The next one does not wait for responses either.
    let mut stalled = in_the_middle(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(stalled.rest().len() < LENGTH - 1000);
}

#[test]
fn a_drain_ends_by_itself_and_lets_responses_finish() {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    let config = "drain-delay = \"500ms\"\ngraceful-timeout = \"1h\"";
    let mut server = Launch::run(&tree, config, "").start();
    let mut idle = server.connect();
    idle.get("/none");
    let mut client = in_the_middle(&server);
    server.signal(Signal::TERM);
    idle.ends();
    refuses_connections(&server);
    assert!(client.body(LENGTH - 1000) == noise(LENGTH, 1)[1000..]);
    client.ends();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_ends_a_start_that_hangs() {
    let tree = Tree::new();
    let mount = tree.base().join("remote");
    fs::create_dir(&mount).expect("a directory");
    // Dropped after the file system, which it hangs in.
    let mut server;
    let remote = match Remote::mount(&mount) {
        Ok(remote) => remote,
        Err(reason) => return skipped(reason),
    };
    remote.hold(Question::Attributes);
    let site = format!("[[site]]\nroot = \"{}\"", mount.display());
    // It never says where it listens, since its root is never open.
    let script = "echo listening on http://127.0.0.1:1; exec \"$@\"";
    server = Launch::run_sites(&tree, "", &site)
        .through(["sh", "-c", script, "sh"])
        .start();
    remote.asked(Question::Attributes);
    server.signal(Signal::TERM);
    // The thread that hangs is not the server's to end.
    eventually("the end of all threads but one", || server.is_ending());
    remote.answer();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_files_that_hang() {
    for question in [
        Question::Lookup,
        Question::Attributes,
        Question::Read,
        Question::Flush,
    ] {
        for (timeout, signals) in [("500ms", 1), ("1h", 2)] {
            let tree = Tree::with("near", b"content");
            fs::create_dir(tree.path("far")).expect("a directory");
            // Dropped after the file system, which it hangs in.
            let mut server;
            let remote = match Remote::mount(&tree.path("far")) {
                Ok(remote) => remote,
                Err(reason) => return skipped(reason),
            };
            let config = format!("graceful-timeout = \"{timeout}\"");
            server = Launch::run(&tree, &config, "directory-listing = true").start();
            remote.hold(question);
            // More than are answered at a time, so some wait in the kernel and some in the file
            // system.
            let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
            for (number, client) in clients.iter_mut().enumerate() {
                let size = ["small", "large"][number % 2];
                client.send(get(&format!("/far/{size}-{number}")));
            }
            remote.asked(question);
            for line in ["stopping", "stopping now"].iter().take(signals) {
                server.signal(Signal::TERM);
                eventually(line, || server.log().contains(line));
            }
            eventually("the end of all that does not hang", || server.is_ending());
            remote.answer();
            assert_eq!(server.wait().code(), Some(0), "{question:?} {timeout}");
        }
    }
}

/// Sends the signal with this number.
fn send(server: &Server, signal: i32) {
    let number = format!("-{signal}");
    let id = server.id().to_string();
    let sent = Command::new("kill").arg(number).arg(id).status();
    assert!(sent.expect("kill").success(), "signal {signal}");
}

/// A config that leaves stalled clients to the end of the server, which may take `graceful_timeout`.
fn patient(graceful_timeout: &str) -> String {
    format!("graceful-timeout = \"{graceful_timeout}\"\n[timeouts]\nsend-stall = \"1h\"")
}

/// The config [`patient`] with room for [`FULL`] connections.
fn full(graceful_timeout: &str) -> String {
    let patient = patient(graceful_timeout);
    format!("{patient}\n[limits]\nconnections-per-core = {FULL}")
}

/// A client from which the server has received a request, which was answered, and `half` of another one.
fn halfway(server: &Server, half: &str) -> Client {
    let mut client = server.connect();
    // In one segment, so that the answer tells that the half is there too.
    client.send(get("/file") + half);
    assert_eq!(client.response().body, b"content");
    if half.contains("\r\n\r\n") {
        assert_eq!(client.response().body, b"content");
    }
    client
}

/// A client that has read the head of `/big` and the first 1000 bytes of its body.
fn in_the_middle(server: &Server) -> Client {
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    client.body(1000);
    client
}

/// Waits until nobody listens at the server's address.
#[track_caller]
fn refuses_connections(server: &Server) {
    eventually("connections are refused", || {
        TcpStream::connect(server.address).is_err()
    });
}

/// How many sockets listen at `port` of 127.0.0.1.
pub(crate) fn listeners(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let local = format!("0100007F:{port:04X}");
    // The columns are: number, local address, remote address, state; 0A is LISTEN.
    let listens = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[1] == local && columns[3] == "0A"
    };
    table.lines().filter(listens).count()
}
