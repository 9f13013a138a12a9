//! Hosts and containers that give little, or show little of themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{
    Cgroup, Launch, Tree, eventually, installed, is_root, noise, skipped, two_cores,
};

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
    server.logs("worth 1 of them");
    server.stop();
}

#[test]
fn small_files_stay_within_the_memory_of_the_cgroup() {
    const FILES: usize = 4000;
    let Some(group) = Cgroup::of_memory(48 << 20) else {
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
    assert_eq!(group.killed(), 0);
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

/// Runs what follows behind a seccomp filter that answers the calls of io_uring, 425 to 427 on all
/// architectures, with EPERM, as the default profiles of Docker and containerd do (seccomp(2)).
const FILTER: &str = "
import ctypes, os, struct, sys
load, ge, gt, ret = 0x20, 0x35, 0x25, 0x06
program = [(load, 0, 0, 0), (ge, 0, 2, 425), (gt, 1, 0, 427), (ret, 0, 0, 0x50001), (ret, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in program))
header = ctypes.create_string_buffer(struct.pack('HL', len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.addressof(header), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
";

#[test]
fn without_the_profile_the_error_says_what_to_allow() {
    if !installed("python3") {
        return;
    }
    let tree = Tree::new();
    let words = [
        "io_uring is forbidden here (io_uring_setup: Operation not permitted (os error 1))",
        "the seccomp profile of this container or service does not allow",
        "io_uring_setup, io_uring_enter and io_uring_register; allow the three in it",
    ];
    let filtered = |launch: Launch| launch.through(["python3", "-c", FILTER]).output();
    filtered(Launch::serve(tree.root())).refusal(1, &words);
    let doctor = filtered(Launch::with(["doctor"]));
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    let bad = doctor.stdout.lines().find(|line| line.starts_with("bad "));
    assert!(
        words.iter().all(|word| bad.unwrap().contains(word)),
        "{doctor:?}"
    );
    let page = read("docs/containers.md").replace('\n', " ");
    assert!(
        page.contains(words[0]) && page.contains(words[1]),
        "the page quotes it"
    );
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    fs::read_to_string(path).unwrap()
}

/// The calls that config/containers/seccomp.json lets through, or answers with ENOSYS.
fn allowed() -> BTreeSet<String> {
    let profile: serde_json::Value =
        serde_json::from_str(&read("config/containers/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let names = rules.flat_map(|rule| rule["names"].as_array().unwrap());
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_profile_allows_every_call_of_the_server() {
    let allowed = allowed();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(call), "{call}");
    }
    for call in ["mount", "bpf", "unshare", "keyctl", "reboot"] {
        assert!(!allowed.contains(call), "{call}");
    }
    if !installed("strace") {
        return;
    }
    let tree = Tree::with("small", b"here");
    tree.write("large", &noise(3_000_000, 1));
    tree.write("directory/file", b"");
    let log = tree.base().join("calls");
    let server = Launch::serve(tree.root())
        .argument("--directory-listing")
        .through(["strace", "-D", "-f", "-qq", "-o"])
        .through([&log])
        .start();
    for path in ["/small", "/large", "/directory/", "/none"] {
        server.get(path);
    }
    server.stop();
    let calls = || fs::read_to_string(&log).unwrap();
    eventually("the last call", || calls().contains(" exit_group("));
    let text = calls();
    let names = text.lines().filter_map(|line| {
        let (call, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let is_name = call
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        is_name.then_some(call)
    });
    let names: BTreeSet<&str> = names.collect();
    assert!(
        names.contains("io_uring_enter") && names.contains("sendto"),
        "{names:?}"
    );
    let refused: Vec<_> = names
        .iter()
        .filter(|name| !allowed.contains(**name))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn the_configuration_of_the_fleet_for_kubernetes_is_right() {
    let map = read("config/kubernetes/fleet/configmap.yaml");
    let (_, text) = map.split_once("tidegate.toml: |\n").unwrap();
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, text.replace("\n    ", "\n").trim_start()).unwrap();
    let effective = Launch::with(["config"]).argument(&file).output().success();
    let set = read("config/kubernetes/fleet/statefulset.yaml");
    let services = read("config/kubernetes/fleet/service.yaml");
    for (key, line) in [
        ("address = \"[::]:8080\"", "containerPort: 8080"),
        ("listen = \"[::]:8081\"", "containerPort: 8081"),
        ("listen = \"[::]:9900\"", "containerPort: 9900"),
        (
            "path = \"/var/cache/tidegate/cache\"",
            "mountPath: /var/cache/tidegate",
        ),
        (
            "token = \"/run/secrets/fleet/token\"",
            "mountPath: /run/secrets/fleet",
        ),
        // preStop takes 5 s more.
        (
            "drain-delay = \"10s\"\ngraceful-timeout = \"30s\"",
            "terminationGracePeriodSeconds: 50",
        ),
    ] {
        assert!(effective.contains(key), "{key} in {effective}");
        assert!(set.contains(line), "{line}");
    }
    assert!(effective.contains("assets-peers:8081"), "{effective}");
    assert!(services.contains("name: assets-peers") && services.contains("port: 8081"));
}

#[test]
fn the_configuration_of_the_example_for_kubernetes_is_right() {
    let map = read("config/kubernetes/configmap.yaml");
    let (_, text) = map.split_once("tidegate.toml: |\n").unwrap();
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, text.replace("\n    ", "\n").trim_start()).unwrap();
    let effective = Launch::with(["config"]).argument(&file).output().success();
    let deployment = read("config/kubernetes/deployment.yaml");
    for (key, line) in [
        ("address = \"[::]:8080\"", "containerPort: 8080"),
        ("listen = \"[::]:9900\"", "containerPort: 9900"),
        // preStop takes 5 s more.
        (
            "drain-delay = \"10s\"\ngraceful-timeout = \"30s\"",
            "terminationGracePeriodSeconds: 50",
        ),
    ] {
        assert!(effective.contains(key), "{key} in {effective}");
        assert!(deployment.contains(line), "{line}");
    }
}
