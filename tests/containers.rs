//! Hosts and containers that give little, or show little of themselves.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};

use super::support::{Launch, Tree, is_root, noise, skipped, two_cores};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs what follows after a program of the shell that ends with it.
fn shell(launch: Launch, script: &str) -> Launch {
    let script = format!("{script} && exec \"$@\"");
    launch.through(["sh", "-c", &script, "sh"])
}

/// What runs a program with a mount table of its own; `None`, and a line, where that is forbidden.
fn own_mounts() -> Option<[&'static str; 2]> {
    let allowed = Command::new("unshare").args(["-m", "true"]).status();
    if allowed.is_ok_and(|status| status.success()) {
        return Some(["unshare", "-m"]);
    }
    skipped("`unshare -m` is not installed or not allowed");
    None
}

/// A cgroup for one server. Removed when it is dropped, which is after the server's end.
struct Cgroup(PathBuf);

impl Cgroup {
    /// With `limits` of version 2 or 1, files and what to write to them; `None`, and a line, where no such cgroup
    /// can be made.
    fn new(controller: &str, limits: [(&str, &str); 2]) -> Option<Self> {
        let name = format!("tidegate-test-{controller}-{}", process::id());
        for (parent, (file, value)) in ["", controller].into_iter().zip(limits) {
            let path = PathBuf::from(CGROUPS).join(parent).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self(path);
            if group.0.join("cgroup.procs").exists() && fs::write(group.0.join(file), value).is_ok()
            {
                return Some(group);
            }
        }
        skipped(format_args!(
            "no cgroup with the {controller} controller can be made"
        ));
        None
    }

    fn holding(&self, launch: Launch) -> Launch {
        let file = self.0.join("cgroup.procs");
        shell(launch, &format!("echo $$ > {}", file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_cores_are_found_where_sys_is_hidden() {
    let Some(own_mounts) = own_mounts() else {
        return;
    };
    let tree = Tree::with("file", b"content");
    for hidden in ["/sys", "/proc"] {
        let launch = Launch::serve(tree.root()).through(own_mounts);
        let server = shell(launch, &format!("mount -t tmpfs none {hidden}")).start();
        assert_eq!(server.get("/file").body, b"content", "without {hidden}");
        server.stop();
    }
}

#[test]
fn a_cpu_quota_bounds_the_cores() {
    let quotas = [("cpu.max", "50000 100000"), ("cpu.cfs_quota_us", "50000")];
    if two_cores().is_none() {
        return;
    }
    let Some(group) = Cgroup::new("cpu", quotas) else {
        return;
    };
    let report = group.holding(Launch::with(["doctor"])).output().stdout;
    assert!(
        report.contains("good  cores        one shard on each of "),
        "{report}"
    );
    assert!(report.contains("the cgroup is worth 1 of "), "{report}");

    let tree = Tree::with("file", b"content");
    let server = group.holding(Launch::serve_on("2", tree.root())).start();
    assert!(server.log().contains("worth 1 of them"), "{}", server.log());
    server.stop();
}

#[test]
fn small_files_stay_within_the_memory_of_the_cgroup() {
    const FILES: usize = 4000;
    let limit = (48 << 20).to_string();
    let limits = [("memory.max", &*limit), ("memory.limit_in_bytes", &*limit)];
    let Some(group) = Cgroup::new("memory", limits) else {
        return;
    };
    let tree = Tree::new();
    let content = noise(16_000, 1);
    for number in 0..FILES {
        tree.write(&number.to_string(), &content);
    }
    let server = group.holding(Launch::serve(tree.root())).start();
    let log = server.log();
    assert!(
        log.contains("memory limit of the cgroup (50331648 bytes)"),
        "{log}"
    );
    let mut client = server.connect();
    for number in 0..FILES {
        assert!(
            client.get(&format!("/{number}")).body == content,
            "{number}"
        );
    }
    server.stop();
}

#[test]
fn queues_are_as_long_as_may_be_locked() {
    if !is_root() {
        skipped("needs root, to run as a user who has locked nothing");
        return;
    }
    let tree = Tree::with("file", b"content");
    let one_core = Launch::serve(tree.root())
        .limited("-l 512")
        .user(&tree, "54321");
    let server = one_core.start();
    assert_eq!(server.get("/file").body, b"content");
    server.stop();

    if two_cores().is_none() {
        return;
    }
    let two_cores = Launch::serve_on("2", tree.root()).limited("-l 512");
    match two_cores.user(&tree, "54322").start_or_refusal() {
        // A kernel that does not count the queues of rings.
        Ok(server) => assert_eq!(server.get("/file").body, b"content"),
        Err(output) => {
            let words = [
                "RLIMIT_MEMLOCK is too small",
                "(2)",
                "524288",
                "679936",
                "1261568",
            ];
            output.refusal(1, &words);
        }
    }
}

#[test]
fn a_lack_of_memory_is_not_blamed_on_a_limit() {
    if !super::support::installed("strace") {
        return;
    }
    if !is_root() {
        skipped("needs root, to be refused memory by strace");
        return;
    }
    let tree = Tree::new();
    let output = Launch::serve(tree.root())
        .through([
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=io_uring_setup",
        ])
        .through(["-e", "inject=io_uring_setup:error=ENOMEM"])
        .output();
    output.refusal(1, &["not enough memory", "RLIMIT_MEMLOCK is not the cause"]);
}
