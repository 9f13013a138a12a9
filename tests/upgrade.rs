//! USR2: the binary on the disk takes the place of the running one, and no request fails.

use std::fs;
use std::io::{Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustls::HandshakeKind;

use crate::admin::{LISTEN, admin};
use crate::lifecycle::listeners;
use crate::support::http2::Http2;
use crate::support::{
    Authority, Client, Launch, Server, Tree, WATCHDOG, eventually, get, installed, mounts, noise,
    two_cores,
};
use crate::systemd::{Manager, notifying, passing};

/// More than the sockets between server and client hold.
const LENGTH: usize = 32 << 20;

/// The binary that the server of a test is started by: a link, so that it can be replaced.
fn link(tree: &Tree) -> PathBuf {
    let link = tree.base().join("bin");
    symlink(env!("CARGO_BIN_EXE_tidegate"), &link).expect("a link");
    link
}

/// Has another file in the place of `link`: a shell script.
fn replace(link: &Path, script: &str) {
    let next = link.with_extension("next");
    fs::write(&next, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&next, link).expect("a new binary");
}

/// A process that took over. Dropped: it is killed.
pub(crate) struct Successor(Pid);

impl Successor {
    /// The one that the `count`-th upgrade from the start of the log started.
    #[track_caller]
    fn nth(server: &Server, count: usize) -> Self {
        Self::told(server, "USR2: process ", count)
    }

    /// The one that took a reload over.
    #[track_caller]
    pub(crate) fn of_reload(server: &Server) -> Self {
        Self::told(server, "reload: process ", 0)
    }

    #[track_caller]
    fn told(server: &Server, line: &str, count: usize) -> Self {
        let mut id = None;
        eventually("a process that takes over", || {
            let log = server.log();
            let taken_over = |rest: &str| {
                let (id, rest) = rest.split_once(' ')?;
                rest.starts_with("serves; ")
                    .then(|| id.parse().expect("an id"))
            };
            id = log.split(line).skip(1).filter_map(taken_over).nth(count);
            id.is_some()
        });
        Self(id.and_then(Pid::from_raw).expect("it is there"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("a signal");
    }

    /// Stops it with TERM.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        eventually("its end", || self.is_gone());
    }

    /// Whether it has ended: the test may be the one that is to reap it, and is not.
    fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero()));
        test_kill_process(self.0).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Upgrades the server for the first time.
#[track_caller]
pub(crate) fn upgrade(server: &Server) -> Successor {
    server.signal(Signal::USR2);
    Successor::nth(server, 0)
}

/// Checks that whatever core and socket a connection meets, it is served.
#[track_caller]
fn serves(address: SocketAddr) {
    let mut clients: Vec<_> = (0..60).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/file").body, b"content");
    }
}

/// The processes that the launcher of `server` has started and that run.
fn started(server: &Server) -> Vec<String> {
    let launchers = children(server.id()).into_iter();
    let ids = launchers.filter_map(|id| id.parse().ok());
    ids.flat_map(children).collect()
}

/// The ids of the children of process `id`.
fn children(id: u32) -> Vec<String> {
    let output = Command::new("ps")
        .args(["-o", "pid=", "--ppid", &id.to_string()])
        .output()
        .expect("ps");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_new_process_serves_and_the_old_one_ends() {
    let tree = Tree::with("file", b"content");
    tree.write("big", &noise(LENGTH, 1));
    let mut server = Launch::run(&tree, LISTEN, "").binary(link(&tree)).start();
    let admin = admin(&server);
    let mut idle = server.connect();
    assert_eq!(idle.get("/file").body, b"content");
    let mut fresh = server.connect();
    let mut download = Client::connect_narrow(server.address);
    download.send(get("/big"));
    download.head();
    let successor = upgrade(&server);
    // The new process prints its address, too.
    let mut lines = iter::repeat_with(|| server.next_line());
    let line = lines.find(|line| line.starts_with("listening on "));
    assert_eq!(
        line,
        Some(format!("listening on http://{}", server.address))
    );
    serves(server.address);
    assert_eq!(Client::connect(admin).get("/readyz").status, 200);
    // The old one answers on the connections that it has, once each.
    for client in [&mut idle, &mut fresh] {
        let response = client.get("/file");
        assert_eq!(response.body, b"content");
        assert!(response.closes());
        client.ends();
    }
    assert!(download.body(LENGTH) == noise(LENGTH, 1));
    drop(download);
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    serves(server.address);
    assert_eq!(Client::connect(admin).get("/readyz").status, 200);
    successor.stop();
    assert!(TcpStream::connect(server.address).is_err());
}

/// Asks for the file on one connection until `done`, and on a new one when the server closes.
/// Counts the requests that were answered.
fn load(connect: impl Fn() -> Client, keep_alive: bool, count: &AtomicUsize, done: &AtomicBool) {
    let mut client = connect();
    while !done.load(Ordering::Relaxed) {
        let response = client.get("/file");
        assert_eq!(response.body, b"content", "{response:?}");
        let count = count.fetch_add(1, Ordering::Relaxed);
        if !keep_alive || response.closes() {
            client = connect();
        } else if count.is_multiple_of(50) {
            // The connection becomes idle.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The same by HTTP/2, on one connection until the server wants another.
fn load_http2(connect: impl Fn() -> Http2, count: &AtomicUsize, done: &AtomicBool) {
    let mut client = connect();
    while !done.load(Ordering::Relaxed) {
        let streams = [(); 3].map(|()| client.request("GET", "/file", &[]));
        for stream in streams {
            assert_eq!(client.response(stream).body, b"content");
        }
        let count = count.fetch_add(streams.len(), Ordering::Relaxed);
        if !client.goaways.is_empty() {
            client.ends();
            client = connect();
        } else if count.is_multiple_of(50) {
            // The connection becomes idle.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn no_request_fails_while_it_is_upgraded_again_and_again() {
    if two_cores().is_none() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let root = tree.root();
    let sites = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\ntls = true\n{}[[site]]\nroot = \"{}\"",
        files.entry(),
        root.display()
    );
    let launch = Launch::run_sites(&tree, "graceful-timeout = \"10s\"", &sites);
    let mut server = launch.arguments(["--cores", "2"]).start();
    let (plain, secure) = (server.address, server.next_address());
    let config = authority.client();
    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = thread::scope(|scope| {
        for keep_alive in [true, false] {
            let (count, done, config) = (&count, &done, &config);
            scope.spawn(move || load(|| Client::connect(plain), keep_alive, count, done));
            scope.spawn(move || load(|| Client::secure(secure, config), keep_alive, count, done));
        }
        scope.spawn(|| load_http2(|| Http2::connect(plain), &count, &done));
        scope.spawn(|| load_http2(|| Http2::secure(secure, &config), &count, &done));
        // Whatever fails below, the clients come to their end.
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut last = Successor(Pid::from_raw(server.id().cast_signed()).expect("an id"));
            for number in 0..4 {
                last.signal(Signal::USR2);
                let next = Successor::nth(&server, number);
                // The one before goes on until its connections have ended.
                std::mem::forget(std::mem::replace(&mut last, next));
                let wanted = 700 * (number + 1);
                eventually("requests", || count.load(Ordering::Relaxed) > wanted);
            }
            last
        }));
        done.store(true, Ordering::Relaxed);
        end.expect("upgrades")
    });
    last.stop();
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn sessions_resume() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", "", &[&files]).start();
    let config = authority.client();
    let kind = || {
        let mut client = Client::secure(server.address, &config);
        assert_eq!(client.get("/file").body, b"content");
        client.tls().handshake_kind()
    };
    assert_eq!(kind(), Some(HandshakeKind::Full));
    let _successor = upgrade(&server);
    for _ in 0..5 {
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_connection_that_waits_is_served_by_the_new_process() {
    let tree = Tree::with("file", b"content");
    tree.write("big", &noise(LENGTH, 1));
    let config = "graceful-timeout = \"1h\"\n[timeouts]\nsend-stall = \"1h\"\n\
                  [limits]\nconnections-per-core = 5";
    let server = Launch::run(&tree, config, "").start();
    let stalled: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address);
            client.send(get("/big"));
            client.head();
            client
        })
        .collect();
    // There is no room for it, and it is not accepted.
    let mut waiting = server.connect();
    waiting.send(get("/file"));
    let successor = upgrade(&server);
    assert_eq!(waiting.response().body, b"content");
    drop(stalled);
    successor.stop();
}

#[test]
fn a_binary_that_does_not_serve_changes_nothing() {
    for (script, reason) in [
        ("exit 3", "has ended (exit status: 3)"),
        ("kill -SEGV $$", "has ended (signal: 11 (SIGSEGV)"),
        (
            "exec sleep 600",
            "did not serve in time (server.upgrade-timeout), and was killed",
        ),
        ("exec sleep 600 < /dev/null", "was killed: "),
        ("", "has ended (exit status: 0)"),
    ] {
        let tree = Tree::with("file", b"content");
        let link = link(&tree);
        let launch = Launch::run(&tree, "upgrade-timeout = \"2s\"", "").binary(&link);
        let server = launch.start();
        replace(&link, script);
        server.signal(Signal::USR2);
        eventually(reason, || {
            let log = server.log();
            log.contains(reason) && log.contains("; this process serves on")
        });
        serves(server.address);
        eventually("no child", || started(&server).is_empty());
        server.stop();
    }
}

#[test]
fn a_binary_that_is_missing_or_refuses_the_config_changes_nothing() {
    let tree = Tree::with("file", b"content");
    let link = link(&tree);
    let server = Launch::run(&tree, "", "").binary(&link).start();
    fs::remove_file(&link).expect("a link");
    server.signal(Signal::USR2);
    eventually("a line", || server.log().contains("USR2: cannot start "));
    serves(server.address);
    symlink(env!("CARGO_BIN_EXE_tidegate"), &link).expect("a link");
    let config = tree.base().join("tidegate.toml");
    let good = fs::read_to_string(&config).expect("the config");
    fs::write(&config, good.replace("cores", "kores")).expect("a config");
    server.signal(Signal::USR2);
    eventually("a line", || {
        server.log().contains("has ended (exit status: 1)")
    });
    server.logs("server.kores");
    serves(server.address);
    fs::write(&config, good).expect("a config");
    let successor = upgrade(&server);
    serves(server.address);
    successor.stop();
}

#[test]
fn one_at_a_time_and_none_during_a_stop() {
    let tree = Tree::with("file", b"content");
    tree.write("big", &noise(LENGTH, 1));
    let link = link(&tree);
    let config =
        "upgrade-timeout = \"1h\"\ngraceful-timeout = \"1h\"\n[timeouts]\nsend-stall = \"1h\"";
    let mut server = Launch::run(&tree, config, "").binary(&link).start();
    replace(&link, "exec sleep 600");
    server.signal(Signal::USR2);
    eventually("a child", || !started(&server).is_empty());
    server.signal(Signal::USR2);
    let refused = "USR2: refused, since an upgrade is under way";
    eventually("a refusal", || server.log().contains(refused));
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    client.head();
    // A stop ends the upgrade, too.
    server.signal(Signal::TERM);
    eventually("no child", || started(&server).is_empty());
    server.signal(Signal::USR2);
    let refused = "USR2: refused, since the server stops";
    eventually("a refusal", || server.log().contains(refused));
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_new_process_has_its_own_cores_and_listeners() {
    if two_cores().is_none() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    let port = server.address.port();
    let path = tree.base().join("tidegate.toml");
    let config = fs::read_to_string(&path).expect("the config");
    let second = "[[listen]]\naddress = \"127.0.0.2:0\"\n";
    let mut last = Successor(Pid::from_raw(server.id().cast_signed()).expect("an id"));
    for (number, (cores, more, sockets)) in [("2", second, 2), ("1", "", 2), ("2", "", 2)]
        .into_iter()
        .enumerate()
    {
        let text = config.replace("cores = 1", &format!("cores = {cores}"));
        fs::write(&path, format!("{text}{more}")).expect("a config");
        last.signal(Signal::USR2);
        let next = Successor::nth(&server, number);
        std::mem::forget(std::mem::replace(&mut last, next));
        eventually("its listeners", || listeners(port) == sockets);
        serves(server.address);
    }
    last.stop();
}

#[test]
fn a_unix_socket_keeps_its_file() {
    let tree = Tree::with("file", b"content");
    let path = tree.base().join("sock");
    let sites = format!(
        "[[listen]]\naddress = \"unix:{}\"\n[[site]]\nroot = \"{}\"",
        path.display(),
        tree.root().display()
    );
    let mut server = Launch::run_sites(&tree, "", &sites).start();
    let asks = || {
        let mut client = UnixStream::connect(&path).expect("a connection");
        client.set_read_timeout(Some(WATCHDOG)).expect("a timeout");
        let request = "GET /file HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).expect("a request");
        let mut response = String::new();
        client.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("content"), "{response}");
    };
    asks();
    let successor = upgrade(&server);
    asks();
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    asks();
    successor.stop();
    assert!(!path.exists());
}

#[test]
fn the_control_socket_goes_over() {
    let tree = Tree::with("file", b"content");
    let control = tree.base().join("control");
    let more = format!("control = \"{}\"", control.display());
    let mut server = Launch::run(&tree, &more, "").start();
    let reload = || {
        let command = Launch::with(["reload"]).argument(tree.base().join("tidegate.toml"));
        assert_eq!(command.output().success(), "the configuration is applied\n");
    };
    reload();
    let successor = upgrade(&server);
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    reload();
    successor.stop();
    assert!(!control.exists());
}

#[test]
fn a_reload_during_an_upgrade_is_the_new_process_s() {
    let tree = Tree::with("file", b"content");
    let (link, go) = (link(&tree), tree.base().join("go"));
    let control = tree.base().join("control");
    let more = format!("control = \"{}\"", control.display());
    let server = Launch::run(&tree, &more, "").binary(&link).start();
    let script = format!(
        "until [ -e '{}' ]; do sleep 0.05; done; exec '{}' \"$@\"",
        go.display(),
        env!("CARGO_BIN_EXE_tidegate")
    );
    replace(&link, &script);
    server.signal(Signal::USR2);
    eventually("a child", || !started(&server).is_empty());
    server.signal(Signal::HUP);
    let waits = |demand| {
        server
            .log()
            .contains(&format!("{demand}: the reload waits for the upgrade"))
    };
    eventually("a line", || waits("HUP"));
    let successor = thread::scope(|scope| {
        let command = Launch::with(["reload"]).argument(tree.base().join("tidegate.toml"));
        let command = scope.spawn(|| command.output());
        eventually("another line", || waits("tidegate reload"));
        assert!(!server.log().contains("reading the configuration"));
        fs::write(&go, "").expect("a file");
        let output = command.join().expect("its output");
        output.refusal(1, &["serves since an upgrade: ask again"]);
        Successor::nth(&server, 0)
    });
    // The new process has not read what changed since its start.
    let applied = "the configuration is applied";
    eventually(applied, || server.log().contains(applied));
    successor.stop();
}

#[test]
fn what_has_the_place_of_the_control_socket_is_not_removed() {
    let tree = Tree::with("file", b"content");
    let control = tree.base().join("control");
    let more = format!("control = \"{}\"", control.display());
    let server = Launch::run(&tree, &more, "").start();
    fs::remove_file(&control).expect("the socket");
    fs::write(&control, "precious").expect("a file");
    let path = tree.base().join("tidegate.toml");
    let checked = Launch::with(["check"]).argument(&path).output();
    checked.refusal(1, &["tidegate.toml:3: server.control: ", "no socket"]);
    server.signal(Signal::USR2);
    let line = "server.control: cannot listen on ";
    eventually(line, || server.log().contains(line));
    eventually("the end of the upgrade", || {
        server.log().contains("; this process serves on")
    });
    assert_eq!(fs::read(&control).expect("the file"), b"precious");
    // Another server's socket.
    fs::remove_file(&control).expect("the file");
    let _other = UnixListener::bind(&control).expect("a socket");
    server.signal(Signal::USR2);
    eventually("a second line", || server.log().matches(line).count() == 2);
    assert!(UnixStream::connect(&control).is_ok());
    serves(server.address);
    server.stop();
    assert!(control.exists());
}

#[test]
fn the_control_socket_gets_another_path() {
    let tree = Tree::with("file", b"content");
    let (first, second) = (tree.base().join("first"), tree.base().join("second"));
    let config = |path: &Path| format!("control = \"{}\"", path.display());
    let server = Launch::run(&tree, &config(&first), "").start();
    drop(Launch::run(&tree, &config(&second), ""));
    let successor = upgrade(&server);
    eventually("the second", || second.exists());
    assert!(!first.exists());
    successor.stop();
    assert!(!second.exists());
}

#[test]
fn the_sockets_of_a_service_manager_go_on_and_it_is_told() {
    if !installed("python3") {
        return;
    }
    let tree = Tree::with("file", b"content");
    let (manager, socket) = Manager::new(&tree);
    let launch = notifying(Launch::serve(tree.root()), &socket);
    let mut server = passing("plain", 1, launch).start();
    assert_eq!(manager.message(), "READY=1\nSTATUS=Serving");
    let successor = upgrade(&server);
    assert_eq!(
        manager.message(),
        format!("MAINPID={}", successor.0.as_raw_nonzero())
    );
    assert_eq!(manager.message(), "READY=1\nSTATUS=Serving");
    assert_eq!(server.wait_beside_successor().code(), Some(0));
    serves(server.address);
    assert_eq!(listeners(server.address.port()), 1);
    successor.stop();
}

#[test]
fn nothing_else_is_inherited() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, LISTEN, "").start();
    let open = |id: String| {
        let links = fs::read_dir(format!("/proc/{id}/fd")).expect("open files");
        let links = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        let mut kinds: Vec<String> = links
            .map(|link| {
                link.to_string_lossy()
                    .split('[')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        kinds.sort();
        kinds
    };
    let other = Launch::run(&tree, LISTEN, "").start();
    let successor = upgrade(&server);
    let id = successor.0.as_raw_nonzero().to_string();
    eventually("the same kinds of files", || {
        open(id.clone()) == open(other.id().to_string())
    });
    successor.stop();
}

/// Process 1 of a container that [`Launch::through`] `unshare` started.
struct ProcessOne(Server, Pid);

impl ProcessOne {
    #[track_caller]
    fn start(launch: Launch) -> Self {
        let line = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let unshare = launch.through(line).start();
        let id = children(unshare.id()).pop();
        let id = id.and_then(|id| Pid::from_raw(id.parse().ok()?));
        Self(unshare, id.expect("process 1"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.1, signal).expect("a signal");
    }

    /// Waits for the `number`-th upgrade of the container after USR2.
    #[track_caller]
    fn upgrade(&self, number: usize) {
        self.signal(Signal::USR2);
        eventually("an upgrade", || {
            self.0.log().matches("serves; this one").count() == number
        });
        serves(self.0.address);
    }

    #[track_caller]
    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.0.wait().code(), Some(0));
        assert!(TcpStream::connect(self.0.address).is_err());
    }
}

#[test]
fn process_1_stays_until_its_successor_ends() {
    if !mounts("true") {
        return;
    }
    let tree = Tree::with("file", b"content");
    let one = ProcessOne::start(Launch::serve(tree.root()));
    // The second upgrade is the successor's.
    one.upgrade(1);
    one.upgrade(2);
    one.stop();
}

#[test]
fn process_1_passes_signals_on_while_its_connections_end() {
    if !mounts("true") {
        return;
    }
    let tree = Tree::with("file", b"content");
    let log = tree.base().join("access.log");
    let config = format!(
        "graceful-timeout = \"1h\"\n[timeouts]\nkeep-alive = \"1h\"\n\
         [access-log]\npath = \"{}\"",
        log.display()
    );
    let one = ProcessOne::start(Launch::run(&tree, &config, ""));
    let mut idle = one.0.connect();
    assert_eq!(idle.get("/file").body, b"content");
    one.upgrade(1);
    fs::rename(&log, log.with_extension("1")).expect("a rotation");
    one.signal(Signal::USR1);
    eventually("a line of the new process", || {
        serves(one.0.address);
        fs::read_to_string(&log).is_ok_and(|text| text.contains("/file"))
    });
    one.upgrade(2);
    one.stop();
    drop(idle);
}
