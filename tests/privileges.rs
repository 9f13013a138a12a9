//! What a server gives up before it serves, and what works nevertheless: by the launcher, or by a new process.
//! That what is forbidden fails from inside is tried in crates/server/src/privilege.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustls::ClientConfig;

use crate::support::{
    Authority, Client, Files, Launch, Server, Tree, eventually, is_root, skipped,
};
use crate::upgrade::{Successor, upgrade};

/// The keys of [server] with which root becomes nobody.
const NOBODY: &str = "user = \"65534\"\ngroup = \"65534\"";

/// Whether a server of this test may change its user.
fn root() -> bool {
    if !is_root() {
        skipped("needs root, to become another user");
    }
    is_root()
}

/// The values of a field in the status of each thread of process `id`. Threads of the kernel come and go.
fn fields(id: u32, name: &str) -> BTreeSet<String> {
    let all = fs::read_dir(format!("/proc/{id}/task")).expect("threads");
    let texts = all.filter_map(|one| fs::read_to_string(one.ok()?.path().join("status")).ok());
    let texts: Vec<_> = texts.collect();
    assert!(texts.len() > 4, "all threads");
    let value = |text: &String| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        value.expect(name).trim_end().to_owned()
    };
    texts.iter().map(value).collect()
}

fn only(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

#[track_caller]
fn check_bounds(id: u32) {
    assert_eq!(fields(id, "NoNewPrivs"), only("1"));
    assert_eq!(fields(id, "Seccomp"), only("2"));
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("limits");
    let dumps = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let dumps: Vec<_> = dumps.expect("a limit").split_whitespace().skip(4).collect();
    assert!(dumps[0] == "0" || dumps[0] == "1", "{dumps:?}");
}

#[track_caller]
fn check_nobody(id: u32) {
    check_bounds(id);
    for name in ["Uid", "Gid"] {
        assert_eq!(fields(id, name), only("65534\t65534\t65534\t65534"));
    }
    assert_eq!(fields(id, "Groups"), only("65534"));
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields(id, name), only("0000000000000000"), "{name}");
    }
}

/// The launcher of process `id`.
#[track_caller]
fn launcher(id: u32) -> Pid {
    let children = format!("/proc/{id}/task/{id}/children");
    let children = fs::read_to_string(children).expect("children");
    let is_launcher = |child: &&str| {
        fs::read_to_string(format!("/proc/{child}/comm"))
            .is_ok_and(|name| name == "tidegate-launch\n")
    };
    let mut found = None;
    eventually("a launcher", || {
        found = children
            .split_whitespace()
            .find(is_launcher)
            .map(str::to_owned);
        found.is_some()
    });
    let id = found.and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
    id.expect("a process")
}

fn is_gone(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero()));
    test_kill_process(id).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn every_thread_has_given_its_rights_up() {
    let tree = Tree::with("file", b"content");
    let server = Launch::serve_on("1", tree.root()).start();
    assert_eq!(server.get("/file").body, b"content");
    check_bounds(server.id());
    server.stop();
}

#[test]
fn each_bound_can_be_switched_off() {
    let tree = Tree::with("file", b"content");
    let off = "[sandbox]\nlandlock = false\nseccomp = false\ncore-dumps = true";
    let server = Launch::run(&tree, off, "").limited("-S -c 7").start();
    assert_eq!(server.get("/file").body, b"content");
    assert_eq!(fields(server.id(), "Seccomp"), only("0"));
    server.stop();
}

#[test]
fn root_becomes_another_user_and_cannot_go_back() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    tree.write("closed", b"of root");
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(tree.path("closed"), closed).unwrap();
    let server = Launch::run(&tree, NOBODY, "").start();
    check_nobody(server.id());
    assert_eq!(server.get("/file").body, b"content");
    assert_eq!(server.get("/closed").status, 403);
    // So does its successor, which root's launcher started.
    let successor = upgrade(&server);
    assert_eq!(server.get("/file").body, b"content");
    check_nobody(successor.id());
    successor.stop();
}

#[test]
fn a_user_that_cannot_be_taken_on_is_refused() {
    let tree = Tree::new();
    let refused = |config: &str, words: &[&str]| {
        let file = tree.base().join("tidegate.toml");
        drop(Launch::run(&tree, config, ""));
        let check = Launch::with(["check"]).argument(&file).output();
        check.refusal(1, words);
        Launch::run(&tree, config, "").output().refusal(1, words);
    };
    refused(
        "user = \"no such user\"",
        &["server.user", "this host has no user `no such user`"],
    );
    refused(
        "user = \"root\"\ngroup = \"no such group\"",
        &["server.group", "this host has no group `no such group`"],
    );
    refused(
        "user = \"64999\"",
        &["no account 64999", "set server.group"],
    );
    let launch = Launch::run(&tree, "user = \"64999\"\ngroup = \"64999\"", "").unprivileged(&tree);
    launch.output().refusal(
        1,
        &[
            "cannot become `64999`",
            "start the server as root, or as that user",
        ],
    );
}

fn shown(address: SocketAddr, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut client = Client::secure(address, config);
    assert_eq!(client.get("/file").body, b"content");
    client.tls().peer_certificates().expect("a certificate")[0].to_vec()
}

/// A certificate whose directory nobody but root can enter.
fn issued_by_root() -> (Authority, Files) {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(files.key.parent().unwrap(), closed).unwrap();
    (authority, files)
}

#[test]
fn keys_of_root_are_read_and_renewed_after_the_change_of_the_user() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let (authority, files) = issued_by_root();
    let server = Launch::secure(&tree, NOBODY, "", &[&files]).start();
    check_nobody(server.id());
    let first = shown(server.address, &authority.client());
    authority.issue("server", &["localhost"]);
    server.signal(Signal::HUP);
    eventually("another certificate", || {
        shown(server.address, &authority.client()) != first
    });
    let second = shown(server.address, &authority.client());
    // Without a signal: the files are looked at from time to time.
    authority.issue("server", &["localhost"]);
    eventually("a third certificate", || {
        shown(server.address, &authority.client()) != second
    });
    server.stop();
}

#[test]
fn a_reload_with_another_key_of_root_s_is_a_new_process_s() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let (authority, files) = issued_by_root();
    let server = Launch::secure(&tree, NOBODY, "", &[&files]).start();
    let first = shown(server.address, &authority.client());
    let other = authority.issue("other", &["localhost"]);
    drop(Launch::secure(&tree, NOBODY, "", &[&other]));
    server.signal(Signal::HUP);
    let successor = Successor::of_reload(&server);
    eventually("the other certificate", || {
        shown(server.address, &authority.client()) != first
    });
    check_nobody(successor.id());
    successor.stop();
}

#[test]
fn a_reload_with_another_log_in_a_directory_of_root_is_a_new_process_s() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let config = |name: &str| {
        let log = tree.base().join(name);
        format!("{NOBODY}\n[access-log]\npath = \"{}\"", log.display())
    };
    let server = Launch::run(&tree, &config("first.log"), "").start();
    drop(Launch::run(&tree, &config("second.log"), ""));
    server.signal(Signal::HUP);
    let successor = Successor::of_reload(&server);
    eventually("a line", || {
        server.get("/file");
        let text = fs::read_to_string(tree.base().join("second.log"));
        text.is_ok_and(|text| text.contains("/file"))
    });
    successor.stop();
}

#[test]
fn a_configuration_of_standard_input_has_no_upgrade() {
    let tree = Tree::with("file", b"content");
    drop(Launch::run(&tree, "", ""));
    let file = tree.base().join("tidegate.toml");
    // A new process reads what the one that asks for it passes.
    let read = format!("exec \"$@\" < '{}'", file.display());
    let launch = Launch::with(["run", "/dev/stdin"]).through(["sh", "-c", &read, "sh"]);
    let server = launch.start();
    server.logs("no upgrade by USR2");
    server.signal(Signal::USR2);
    server.logs("the launcher was not told that it may");
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

#[test]
fn the_directory_of_the_cache_is_the_user_s_and_can_be_entered() {
    if !root() {
        return;
    }
    for sandbox in ["", "[sandbox]\nlandlock = false\n"] {
        let tree = Tree::with("file", b"content");
        let cache = tree.base().join("above/cache");
        let disk = format!("[cache.disk]\npath = \"{}\"\n", cache.display());
        let server = Launch::run(&tree, &format!("{NOBODY}\n{sandbox}{disk}"), "").start();
        let found = fs::metadata(&cache).expect("a cache");
        assert_eq!((found.mode() & 0o777, found.uid()), (0o700, 65534));
        let above = fs::metadata(cache.parent().unwrap()).unwrap();
        assert_eq!((above.mode() & 0o777, above.uid()), (0o755, 0));
        server.stop();
    }
}

#[test]
fn logs_are_opened_again_in_a_directory_of_root() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let log = tree.base().join("access.log");
    let config = format!("{NOBODY}\n[access-log]\npath = \"{}\"", log.display());
    let server = Launch::run(&tree, &config, "").start();
    for turn in ["1", "2"] {
        let has_line = || {
            server.get(&format!("/file?{turn}"));
            fs::read_to_string(&log).is_ok_and(|text| text.contains(&format!("/file?{turn}")))
        };
        eventually("a line", has_line);
        assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o640);
        fs::rename(&log, log.with_extension(turn)).unwrap();
        server.signal(Signal::USR1);
        eventually("a new file", || log.exists());
    }
    // A link in its place would have root write anywhere.
    fs::remove_file(&log).unwrap();
    tree.write("precious", b"");
    std::os::unix::fs::symlink(tree.path("precious"), &log).unwrap();
    server.signal(Signal::USR1);
    server.logs("cannot open");
    server.get("/file?3");
    assert_eq!(fs::metadata(tree.path("precious")).unwrap().len(), 0);
    server.stop();
}

#[test]
fn sockets_in_a_directory_of_root_are_made_and_removed() {
    if !root() {
        return;
    }
    let tree = Tree::with("file", b"content");
    let (socket, control) = (tree.base().join("socket"), tree.base().join("control"));
    let sites = format!(
        "[[listen]]\naddress = \"unix:{}\"\n[[site]]\nroot = \"{}\"\n",
        socket.display(),
        tree.root().display()
    );
    let config = format!("{NOBODY}\ncontrol = \"{}\"", control.display());
    let server = Launch::run_sites(&tree, &config, &sites).start();
    for (path, mode) in [(&socket, 0o660), (&control, 0o600)] {
        let found = fs::metadata(path).unwrap();
        assert_eq!(
            (found.mode() & 0o777, found.uid()),
            (mode, 65534),
            "{path:?}"
        );
    }
    let file = tree.base().join("tidegate.toml");
    Launch::with(["reload"]).argument(&file).output().success();
    let successor = upgrade(&server);
    eventually("the control socket of the new process", || {
        let output = Launch::with(["reload"]).argument(&file).output();
        output.status.success()
    });
    successor.stop();
    assert!(!socket.exists() && !control.exists());
}

#[test]
fn a_reload_that_leads_elsewhere_is_a_new_process_s_and_refuses_nobody() {
    let tree = Tree::with("file", b"first");
    let elsewhere = Tree::with("file", b"second");
    let server = Launch::run(&tree, "", "").start();
    let address = server.address;
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let load = thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !is_done.load(Ordering::Relaxed) {
            let response = Client::connect(address).get("/file");
            assert_eq!(response.status, 200);
            seen.insert(response.body);
        }
        seen
    });
    let sites = format!("[[site]]\nroot = \"{}\"\n", elsewhere.root().display());
    drop(Launch::run_sites(&tree, "", &sites));
    server.signal(Signal::HUP);
    let successor = Successor::of_reload(&server);
    server.logs("is outside of what this process was started for");
    eventually("the other root", || server.get("/file").body == b"second");
    done.store(true, Ordering::Relaxed);
    let seen = load.join().expect("no connection is refused");
    assert_eq!(seen.len(), 2);
    successor.stop();
}

#[test]
fn a_reload_that_leads_elsewhere_and_fails_changes_nothing() {
    let tree = Tree::with("file", b"first");
    let elsewhere = Tree::new();
    let control = tree.base().join("control");
    let config = format!("control = \"{}\"", control.display());
    let server = Launch::run(&tree, &config, "").start();
    // The new process finds a root that is none.
    let sites = format!(
        "[[site]]\nroot = \"{}\"\n[[site]]\nnames = [\"a.test\"]\nroot = \"{}\"\n",
        elsewhere.root().display(),
        elsewhere.root().join("none").display()
    );
    drop(Launch::run_sites(&tree, &config, &sites));
    let file = tree.base().join("tidegate.toml");
    let output = Launch::with(["reload"]).argument(&file).output();
    output.refusal(1, &["has ended", "its lines are above"]);
    assert!(server.log().contains("not reloaded: "), "{}", server.log());
    assert_eq!(server.get("/file").body, b"first");
    server.stop();
}

#[test]
fn a_killed_server_leaves_no_launcher() {
    let tree = Tree::new();
    let mut server = Server::serve(&tree);
    let launcher = launcher(server.id());
    server.signal(Signal::KILL);
    server.wait();
    eventually("the launcher's end", || is_gone(launcher));
}

#[test]
fn the_end_of_the_launcher_is_told_and_the_server_goes_on() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let launcher = launcher(server.id());
    // Signals of a terminal or a service are the server's.
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
    ] {
        kill_process(launcher, signal).unwrap();
    }
    kill_process(launcher, Signal::KILL).unwrap();
    server.logs("the launcher, process ");
    server.signal(Signal::USR2);
    server.logs("the launcher has ended: restart the server; this process serves on");
    assert_eq!(server.get("/file").body, b"content");
    server.stop();
}

#[test]
fn the_launcher_is_the_server_s_alone() {
    let output = Launch::with(["launcher"]).output();
    output.refusal(1, &["only the server starts a launcher"]);
    // The server's user has no access to its memory, though it is the same.
    let tree = Tree::new();
    let server = Launch::serve_on("1", tree.root())
        .unprivileged(&tree)
        .start();
    let memory = format!("/proc/{}/mem", launcher(server.id()).as_raw_nonzero());
    eventually("memory of root's", || {
        fs::metadata(&memory).is_ok_and(|found| found.uid() == 0)
    });
    server.stop();
}

#[test]
fn a_crash_leaves_no_dump() {
    let tree = Tree::new();
    for (config, has_limit) in [("", true), ("[sandbox]\ncore-dumps = true", false)] {
        let launch = Launch::run(&tree, config, "").through(["prlimit", "--core=77:77"]);
        let mut server = launch.start();
        let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let is_kept = line.unwrap().contains(" 77 ");
        assert_eq!(is_kept, !has_limit, "{line:?}");
        server.signal(Signal::ABORT);
        let status = server.wait();
        if has_limit {
            assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&status));
        }
    }
}

#[test]
fn the_doctor_shows_each_bound() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    let lines = |config: &str| {
        drop(Launch::run(&tree, config, ""));
        Launch::with(["doctor"]).argument(&file).output().stdout
    };
    let report = lines("");
    let line = |report: &str, topic: &str| {
        let mut lines = report.lines();
        let found = lines.find(|line| line.split_whitespace().nth(1) == Some(topic));
        found
            .unwrap_or_else(|| panic!("no {topic}: {report}"))
            .to_owned()
    };
    assert!(
        line(&report, "seccomp").contains("another one was refused"),
        "{report}"
    );
    assert!(
        report.contains("core dumps   of this server none is made"),
        "{report}"
    );
    assert!(
        report.contains("the op ring takes nothing else"),
        "{report}"
    );
    if is_root() {
        assert!(
            line(&report, "user").contains("root serves: set server.user"),
            "{report}"
        );
        let nobody = lines(NOBODY);
        assert!(line(&nobody, "user").starts_with("good"), "{nobody}");
    }
    let landlock = line(&report, "landlock");
    let base = tree.base().display().to_string();
    assert!(
        landlock.contains("this kernel has none") || landlock.contains(&base),
        "{landlock}"
    );
    let report = lines("[sandbox]\nlandlock = false\nseccomp = false\ncore-dumps = true");
    for topic in ["landlock", "seccomp", "core"] {
        assert!(line(&report, topic).starts_with("fair"), "{report}");
    }
}
