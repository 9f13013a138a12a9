//! HUP: the configuration is read again, checked, and applied with no connection lost.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES;

use super::support::{Authority, Client, Launch, Output, Server, Tree, eventually, get};

pub(crate) const APPLIED: &str = "the configuration is applied";
const REFUSED: &str = "not reloaded: ";

/// Sends HUP and waits until one more line has `text`.
#[track_caller]
pub(crate) fn hup(server: &Server, text: &str) {
    let count = || server.log().matches(text).count();
    let before = count();
    server.signal(Signal::HUP);
    eventually(text, || count() > before);
}

/// Replaces the configuration file of a server that [`Launch::run`] started.
fn rewrite(tree: &Tree, config: &str, site: &str) {
    drop(Launch::run(tree, config, site));
}

#[test]
fn a_site_is_replaced_for_the_next_request_of_an_idle_connection() {
    let tree = Tree::with("file", b"first");
    std::fs::create_dir(tree.base().join("other")).unwrap();
    std::fs::write(tree.base().join("other/file"), "second").unwrap();
    let server = Launch::run(&tree, "", "").start();
    let mut kept = server.connect();
    assert_eq!(kept.get("/file").body, b"first");
    let other = tree.base().join("other");
    let site = format!(
        "[[site]]\nroot = \"{}\"\n[[site.headers]]\nmatch = \"/**\"\nset = {{ x-a = \"b\" }}\n\
         [[site.mount]]\nat = \"/m\"\nroot = \"{}\"\n[[site.redirects]]\nfrom = \"/r\"\nto = \"/file\"\n",
        other.display(),
        tree.root().display(),
    );
    drop(Launch::run_sites(&tree, "", &site));
    hup(&server, APPLIED);
    let response = kept.get("/file");
    assert_eq!(response.body, b"second");
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(kept.get("/m/file").body, b"first");
    assert_eq!(kept.get("/r").status, 301);
    assert_eq!(server.get("/file").body, b"second");
    server.stop();
}

#[test]
fn limits_and_timeouts_are_replaced() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    assert!(!server.get("/file").closes());
    let limits = "[limits]\nrequests-per-connection = 1\nheader-bytes = \"1k\"\n\
                  [timeouts]\nheader = \"100ms\"";
    rewrite(&tree, limits, "");
    hup(&server, APPLIED);
    assert!(server.get("/file").closes());
    let long = format!("X: {}", "x".repeat(2000));
    assert_eq!(server.get_with("/file", &[&long]).status, 431);
    // It would wait for 10 seconds by the timeouts of before, which is no assertion.
    server.connect().ends();
    server.stop();
}

#[test]
fn what_needs_a_restart_is_told_and_the_rest_applied() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    rewrite(
        &tree,
        "[io]\npipe-size = \"64k\"\nrecv-buffers = 64",
        "charset = \"\"",
    );
    hup(&server, APPLIED);
    let log = server.log();
    for line in [
        "io.pipe-size: \"64k\" needs a restart; it stays \"512k\"",
        "io.recv-buffers: 64 needs a restart; it stays 1024",
    ] {
        assert!(log.contains(line), "{log}");
    }
    tree.write("page.html", b"x");
    let page = server.get("/page.html");
    assert_eq!(page.header("content-type"), Some("text/html"));
    server.stop();
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told_with_its_line() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    let file = tree.base().join("tidegate.toml");
    let file = file.display();
    for (config, site, reason) in [
        ("x = [", "", format!("{file}:6: missing comma")),
        (
            "nonsense = 1",
            "",
            format!("{file}:3: server.nonsense: unknown key"),
        ),
        ("", "index = 5", format!("{file}:10: site.index: ")),
        (
            "[tls]\nclient-ca = 'none.pem'\nclient-auth = 'require'\n\
             certificates = [{ cert = 'none.pem', key = 'none.key' }]",
            "",
            format!("{file}:6: tls.certificates.cert: "),
        ),
    ] {
        rewrite(&tree, config, site);
        hup(&server, REFUSED);
        let log = server.log();
        assert!(
            log.contains(&format!("{REFUSED}{reason}")),
            "{reason} in {log}"
        );
        assert_eq!(server.get("/file").body, b"content");
    }
    drop(Launch::run_sites(&tree, "", "[[site]]\nroot = 'none'"));
    hup(&server, REFUSED);
    let reason = format!("{REFUSED}{file}:9: site.root: cannot serve");
    server.logs(&reason);
    std::fs::remove_file(tree.base().join("tidegate.toml")).unwrap();
    hup(&server, REFUSED);
    assert!(
        server.log().contains("tidegate.toml: No such file"),
        "{}",
        server.log()
    );
    assert_eq!(server.get("/file").body, b"content");
    assert!(!server.log().contains(APPLIED));
    server.stop();
}

#[test]
fn a_download_goes_on_across_reloads() {
    let tree = Tree::new();
    tree.write("big", &vec![7; 32 << 20]);
    let server = Launch::run(&tree, "", "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    let head = client.head();
    for index in ["a.html", "b.html"] {
        rewrite(&tree, "", &format!("index = ['{index}']"));
        hup(&server, APPLIED);
    }
    std::fs::remove_file(tree.path("big")).unwrap();
    assert_eq!(server.get("/big").status, 404);
    assert_eq!(client.body_of(&head).len(), 32 << 20);
    server.stop();
}

/// Replaces the configuration file by one that listens on these addresses alone.
fn listen_on(tree: &Tree, addresses: &[&str]) {
    let root = tree.root();
    let mut text = format!(
        "[server]\ncores = 2\n[[site]]\nroot = '{}'\n",
        root.display()
    );
    for address in addresses {
        text.extend(["[[listen]]\naddress = \"", address, "\"\n"]);
    }
    std::fs::write(tree.base().join("tidegate.toml"), text).unwrap();
}

fn serve_file(tree: &Tree) -> Launch {
    Launch::with(["run"]).argument(tree.base().join("tidegate.toml"))
}

/// The address that the log says is listened on since a reload.
fn added(server: &Server) -> SocketAddr {
    let log = server.log();
    let line = log.rsplit_once("listening on http://").expect("a line").1;
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_listener_is_added_and_another_removed() {
    let tree = Tree::new();
    tree.write("big", &vec![7; 16 << 20]);
    tree.write("file", b"content");
    listen_on(&tree, &["127.0.0.1:0"]);
    let server = serve_file(&tree).start();
    let mut kept = server.connect();
    kept.get("/file");
    // 127.0.0.1:0 is the listener that is there; its port is not picked again.
    listen_on(&tree, &["127.0.0.1:0", "127.0.0.2:0"]);
    hup(&server, APPLIED);
    let second = added(&server);
    assert_eq!(server.get("/file").body, b"content");
    for _ in 0..8 {
        assert_eq!(Client::connect(second).get("/file").body, b"content");
    }
    let mut idle = Client::connect(second);
    idle.get("/file");
    let mut begun = Client::connect(second);
    let mut slow = Client::connect_narrow(second);
    slow.send(get("/big"));
    let head = slow.head();
    // Until it is accepted by a core, it waits in the backlog of one.
    begun.send("GET /file HTTP/1.1\r\n");

    listen_on(&tree, &["127.0.0.1:0"]);
    hup(&server, "no longer listening on http://127.0.0.2");
    idle.ends();
    begun.send("Host: x\r\n\r\n");
    let response = begun.response();
    assert_eq!(response.body, b"content");
    assert!(response.closes());
    assert_eq!(slow.body_of(&head).len(), 16 << 20);
    slow.ends();
    eventually("the port is closed", || {
        std::net::TcpStream::connect(second).is_err()
    });
    assert_eq!(kept.get("/file").body, b"content");
    assert!(!kept.get("/file").closes());
    server.stop();
}

#[test]
fn an_address_is_widened_where_it_listens_already() {
    let tree = Tree::with("file", b"content");
    listen_on(&tree, &["127.0.0.1:0"]);
    let server = serve_file(&tree).start();
    let port = server.address.port();
    let mut kept = server.connect();
    kept.get("/file");
    let all = format!("0.0.0.0:{port}");
    listen_on(&tree, &[&all]);
    hup(&server, APPLIED);
    let other: SocketAddr = format!("127.0.0.3:{port}").parse().unwrap();
    assert_eq!(Client::connect(other).get("/file").body, b"content");
    eventually("one listener for each core", || {
        let answers = (0..20).map(|_| server.get("/file").body == b"content");
        answers.filter(|answer| *answer).count() == 20
    });
    assert!(!kept.get("/file").closes(), "its address is served");
    server.stop();
}

#[test]
fn a_port_in_use_changes_nothing() {
    let tree = Tree::with("file", b"content");
    listen_on(&tree, &["127.0.0.1:0"]);
    let server = serve_file(&tree).start();
    listen_on(&tree, &["127.0.0.1:0", "127.0.0.4:0", "192.0.2.1:80"]);
    hup(&server, REFUSED);
    let line = "tidegate.toml:10: listen.address: cannot listen on 192.0.2.1:80";
    server.logs(line);
    assert!(!server.log().contains("listening on http://127.0.0.4"));
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

#[test]
fn tls_is_replaced_for_new_connections() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let first = authority.issue("first", &["localhost"]);
    let second = authority.issue("second", &["second.test"]);
    let server = Launch::secure(&tree, "", "", &[&first]).start();
    let config = authority.client();
    let mut kept = Client::secure(server.address, &config);
    assert!(!kept.get("/file").has("strict-transport-security"));
    let names = |name: &str| {
        let mut client = Client::secure_as(server.address, &authority.client(), name);
        client.get("/file");
        let version = client.tls().protocol_version().unwrap();
        (
            client.tls().peer_certificates().unwrap()[0].to_vec(),
            version,
        )
    };
    let before = names("localhost");
    let tls = "min-version = \"1.3\"\nhsts = \"max-age=1\"";
    drop(Launch::secure(&tree, "", tls, &[&first, &second]));
    hup(&server, APPLIED);
    assert_eq!(names("localhost"), before);
    assert_ne!(names("second.test").0, before.0);
    assert!(kept.get("/file").has("strict-transport-security"));
    let suites = DEFAULT_CIPHER_SUITES.iter().copied();
    let suites: Vec<_> = suites.filter(|suite| suite.tls13().is_none()).collect();
    let old = authority.client_with(&suites, None);
    let is_refused = |config| {
        let mut client = Client::secure(server.address, config);
        let sent = client.try_send(get("/file")).ok();
        sent.and_then(|()| client.response_or_refusal()).is_none()
    };
    assert!(is_refused(&old));

    let tls = format!(
        "client-auth = \"require\"\nclient-ca = '{}'",
        authority.file().display()
    );
    drop(Launch::secure(&tree, "", &tls, &[&first]));
    hup(&server, APPLIED);
    // A session that began without a client certificate does not resume.
    assert!(is_refused(&config));
    assert_eq!(kept.get("/file").body, b"content");
    server.stop();
}

#[test]
fn a_listener_begins_to_speak_tls() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("first", &["localhost"]);
    // The process that serves reaches them only if it knew of them at its start.
    let server = Launch::run(&tree, &files.entry(), "").start();
    let mut plain = server.connect();
    plain.get("/file");
    drop(Launch::secure(&tree, "", "", &[&files]));
    hup(&server, APPLIED);
    let mut client = Client::secure(server.address, &authority.client());
    assert_eq!(client.get("/file").body, b"content");
    assert_eq!(plain.get("/file").body, b"content");
    assert_eq!(server.get("/file").status, 400);
    rewrite(&tree, "", "");
    hup(&server, APPLIED);
    assert_eq!(server.get("/file").body, b"content");
    assert_eq!(client.get("/file").body, b"content");
    server.stop();
}

#[test]
fn listeners_on_ports_that_the_system_picked_stay_what_they_are() {
    let tree = Tree::with("file", b"content");
    let authority = Authority::new();
    let files = authority.issue("first", &["localhost"]);
    // The first speaks TLS, and the section that follows it does not.
    let launch = Launch::secure(&tree, "", "", &[&files]);
    let config = tree.base().join("tidegate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let plain = "[[listen]]\naddress = \"127.0.0.1:0\"\n\n[tls]";
    std::fs::write(&config, text.replace("[tls]", plain)).unwrap();
    let server = launch.start();
    let plain = server.next_address();
    for _ in 0..2 {
        let mut secure = Client::secure(server.address, &authority.client());
        assert_eq!(secure.get("/file").body, b"content");
        assert_eq!(Client::connect(plain).get("/file").body, b"content");
        hup(&server, APPLIED);
    }
    server.stop();
}

/// Asks on kept and new connections, plain and with TLS, until `done`. The number of answers.
fn load(address: SocketAddr, secure: Option<&Arc<ClientConfig>>, done: &AtomicBool) -> usize {
    let connect = || match secure {
        Some(config) => Client::secure(address, config),
        None => Client::connect(address),
    };
    let (mut answers, mut kept) = (0, connect());
    while !done.load(Ordering::Relaxed) {
        for client in [&mut kept, &mut connect()] {
            let response = client.get(["/file", "/big"][answers % 2]);
            assert_eq!(response.status, 200);
            assert!(!response.closes());
            answers += 1;
        }
    }
    answers
}

#[test]
fn no_request_fails_during_reloads() {
    let tree = Tree::with("file", b"content");
    tree.write("big", &vec![7; 200_000]);
    let authority = Authority::new();
    let files = authority.issue("first", &["localhost"]);
    for secure in [false, true] {
        let write = |number: u32| {
            let site = format!("index = ['{number}.html']\n");
            let cache = format!("graceful-timeout = \"{number}s\"\n[cache]\nvalid = \"{number}s\"");
            let root = tree.root();
            let site = format!("[[site]]\nroot = '{}'\n{site}", root.display());
            if secure {
                let tls = format!("hsts = \"max-age={number}\"\n");
                let entry = files.entry();
                let sites = format!("tls = true\n[tls]\n{tls}\n{entry}\n{site}");
                Launch::run_sites(&tree, &cache, &sites)
            } else {
                Launch::run_sites(&tree, &cache, &site)
            }
        };
        let server = write(1).start();
        let config = secure.then(|| authority.client());
        let (address, done) = (server.address, AtomicBool::new(false));
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| load(address, config.as_ref(), &done)))
                .collect();
            for number in 1..=50 {
                drop(write(1 + number % 3));
                hup(&server, APPLIED);
            }
            done.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().expect("every answer") > 50);
            }
        });
        server.stop();
    }
}

/// Memory in KiB, descriptors and threads of the server.
fn resources(server: &Server) -> (u64, usize, usize) {
    let of = |name: &str| format!("/proc/{}/{name}", server.id());
    let status = std::fs::read_to_string(of("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    let count = |name| std::fs::read_dir(of(name)).unwrap().count();
    (kib.parse().unwrap(), count("fd"), count("task"))
}

#[test]
fn many_reloads_leave_nothing_behind() {
    let tree = Tree::with("file", b"content");
    let root = tree.root();
    let root = root.display();
    let right = |number: u32| format!("[[site]]\nroot = '{root}'\nindex = ['{number}.html']");
    let wrong = ["[[site]]\nroot = 'none'", "[[site]", "[[site]]\nrot = 1"];
    let server = Launch::run_sites(&tree, "", &right(0)).start();
    let mut kept = server.connect();
    let mut reload = |number: u32| {
        let wrong = wrong.get(number as usize % 4);
        let sites = wrong.map_or_else(|| right(number), ToString::to_string);
        drop(Launch::run_sites(&tree, "", &sites));
        hup(&server, if wrong.is_some() { REFUSED } else { APPLIED });
        assert_eq!(kept.get("/file").body, b"content");
    };
    (0..100).for_each(&mut reload);
    let before = resources(&server);
    (0..400).for_each(&mut reload);
    eventually("the descriptors and threads of before", || {
        let after = resources(&server);
        (after.1, after.2) <= (before.1, before.2)
    });
    let after = resources(&server);
    assert!(after.0 < before.0 + 2048, "{before:?} {after:?}");
    server.stop();
}

/// The output of `tidegate reload` for the configuration file of `tree`.
fn reload(tree: &Tree) -> Output {
    Launch::with(["reload"])
        .argument(tree.base().join("tidegate.toml"))
        .output()
}

#[test]
fn the_command_tells_the_outcome() {
    let tree = Tree::with("file", b"content");
    let control = tree.base().join("control");
    let config = |more: &str| format!("control = '{}'\n{more}", control.display());
    let server = Launch::run(&tree, &config(""), "").start();
    let mode = std::fs::metadata(&control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    rewrite(&tree, &config("[limits]\nrequests-per-connection = 1"), "");
    assert_eq!(reload(&tree).success(), "the configuration is applied\n");
    assert!(server.get("/file").closes());

    rewrite(&tree, &config("[io]\npipe-size = '64k'"), "");
    let output = reload(&tree);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output
            .stderr
            .starts_with("io.pipe-size: \"64k\" needs a restart"),
        "{output:?}"
    );

    rewrite(&tree, &config("nonsense = 1"), "");
    reload(&tree).refusal(1, &["tidegate.toml:4: server.nonsense: unknown key"]);
    let site = "[[site]]\nroot = 'none'";
    drop(Launch::run_sites(&tree, &config(""), site));
    reload(&tree).refusal(1, &["tidegate.toml:10: site.root: cannot serve"]);
    server.logs(":10: site.root: cannot serve");
    assert_eq!(server.get("/file").body, b"content");

    rewrite(&tree, "", "");
    reload(&tree).refusal(1, &["server.control is not set"]);
    Launch::with(["reload"])
        .output()
        .refusal(2, &["no configuration file"]);
    rewrite(&tree, &config(""), "");
    server.stop();
    assert!(!control.exists());
    reload(&tree).refusal(1, &["no server answers on"]);
}

#[test]
fn clients_that_hang_do_not_keep_the_command_out() {
    let tree = Tree::with("file", b"content");
    let control = tree.base().join("control");
    let config = format!("control = '{}'", control.display());
    let server = Launch::run(&tree, &config, "").start();
    let hanging: Vec<_> = (0..8)
        .map(|_| UnixStream::connect(&control).unwrap())
        .collect();
    eventually("room for a client", || reload(&tree).status.success());
    for mut client in hanging {
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer);
        assert_eq!(answer, "");
    }
    let mut stranger = UnixStream::connect(&control).unwrap();
    stranger.write_all(b"stop\n").unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("refused\nunknown command"), "{answer}");
    // A live socket is not taken from its server.
    let other = Launch::run(&tree, &config, "").output();
    other.refusal(1, &["server.control: cannot listen on", "in use"]);
    assert!(reload(&tree).status.success());
    server.stop();
}

#[test]
fn signals_during_the_start_neither_end_it_nor_are_lost() {
    let tree = Tree::with("file", b"content");
    let id_file = tree.base().join("id");
    let script = format!("echo $$ > '{}'; exec \"$@\"", id_file.display());
    let launch = Launch::run(&tree, "", "").through(["sh", "-c", &script, "sh"]);
    let config = tree.base().join("tidegate.toml");
    let text = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    let signals = [Signal::HUP, Signal::USR1, Signal::USR2];
    // The start waits until somebody writes.
    let made = Command::new("mkfifo").arg(&config).status();
    assert!(made.expect("mkfifo").success(), "a pipe");
    let server = std::thread::scope(|scope| {
        let started = scope.spawn(|| launch.start());
        let mut id = None;
        eventually("a process that takes signals", || {
            let text = std::fs::read_to_string(&id_file).unwrap_or_default();
            id = text.trim().parse().ok();
            id.is_some_and(|id| signals.iter().all(|signal| catches(id, *signal)))
        });
        let id = id.and_then(Pid::from_raw).unwrap();
        for signal in signals {
            kill_process(id, signal).unwrap();
        }
        let mut pipe = OpenOptions::new().write(true).open(&config).unwrap();
        pipe.write_all(&text).unwrap();
        // The start reads to the end of the pipe. The reload that follows must find the file.
        let next = config.with_extension("next");
        std::fs::write(&next, &text).unwrap();
        std::fs::rename(&next, &config).unwrap();
        drop(pipe);
        started.join().unwrap()
    });
    eventually(APPLIED, || server.log().contains(APPLIED));
    assert!(
        server
            .log()
            .contains("USR2: refused, since the server starts")
    );
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

/// Whether process `id` has a handler for `signal`.
fn catches(id: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal.as_raw() - 1) != 0)
}
