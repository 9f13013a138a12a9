//! `tidegate doctor` fails exactly where `tidegate run` does not start.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{Authority, Launch, Tree, installed, is_root, key_pair, mounts, skipped};

/// Runs both commands with `config`, wrapped by `wrap`. Asserts that they agree, and that a refusal has
/// a bad line about `topic`, whose text the server prints, too. Returns whether the server starts.
#[track_caller]
fn agree(tree: &Tree, config: &str, topic: &str, wrap: impl Fn(Launch) -> Launch) -> bool {
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, config).unwrap();
    let launch = |command: &str| wrap(Launch::with([command, "--config"]).argument(&file));
    let doctor = launch("doctor").output();
    let bad = doctor.stdout.lines().find(|line| line.starts_with("bad "));
    match launch("run").start_or_refusal() {
        Ok(server) => {
            assert_eq!(doctor.status.code(), Some(0), "{doctor:?}");
            assert_eq!(bad, None, "{doctor:?}");
            server.stop();
            true
        }
        Err(run) => {
            assert_eq!(run.status.code(), Some(1), "{run:?}");
            assert_eq!(doctor.status.code(), Some(1), "{doctor:?}\n{run:?}");
            let line = bad.unwrap_or_default();
            let text = line.strip_prefix("bad ").unwrap_or_default().trim_start();
            let reason = text.strip_prefix(topic).unwrap_or_default().trim_start();
            assert!(!reason.is_empty(), "no {topic}: {doctor:?}");
            let message = run.stderr.lines().last().unwrap_or_default();
            let message = message.strip_prefix("tidegate: ").unwrap_or_default();
            // The server stops at the first thread that it cannot start.
            let is_same = topic == "threads" || reason.contains(message);
            assert!(is_same, "{reason} and {run:?}");
            false
        }
    }
}

/// A configuration for one core, a free port and the root of `tree`; `more` stands above the site.
fn config(tree: &Tree, more: &str) -> String {
    let root = tree.root();
    let root = root.display();
    format!(
        "[server]\ncores = 1\n[[listen]]\naddress = '127.0.0.1:0'\n{more}\n[[site]]\nroot = '{root}'\n"
    )
}

fn plain(launch: Launch) -> Launch {
    launch
}

#[test]
fn the_doctor_fails_where_the_configuration_cannot_be_served() {
    let tree = Tree::new();
    assert!(agree(&tree, &config(&tree, ""), "", plain));

    let cores = config(&tree, "").replace("cores = 1", "cores = 4096");
    assert!(!agree(&tree, &cores, "cores", plain));

    let root = "[[listen]]\naddress = '127.0.0.1:0'\n[[site]]\nroot = 'none'\n";
    assert!(!agree(&tree, root, "root", plain));

    let log = |path: &str| config(&tree, &format!("[access-log]\npath = '{path}'"));
    assert!(!agree(&tree, &log("none/access.log"), "access log", plain));
    if is_root() {
        let nobody = |launch: Launch| launch.unprivileged(&tree);
        assert!(!agree(&tree, &log("access.log"), "access log", nobody));
    }

    let authority = Authority::new();
    let files = authority.issue("site", &["a.test"]);
    fs::write(&files.key, key_pair().serialize_pem()).unwrap();
    let secure = config(&tree, &format!("tls = true\n{}", files.entry()));
    assert!(!agree(&tree, &secure, "certificate", plain));
}

#[test]
fn the_doctor_fails_where_an_address_is_taken() {
    let tree = Tree::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let with = |address: &str| config(&tree, "").replace("127.0.0.1:0", address);
    assert!(!agree(&tree, &with(&address), "listen", plain));
    let admin = config(&tree, &format!("[admin]\nlisten = '{address}'"));
    assert!(!agree(&tree, &admin, "listen", plain));
    assert!(!agree(&tree, &with("192.0.2.1:0"), "listen", plain));
    assert!(!agree(&tree, &with("none.invalid:80"), "listen", plain));
    let used = tree.base().join("used.sock");
    let _listener = UnixListener::bind(&used).unwrap();
    let unix = |path: &Path| with(&format!("unix:{}", path.display()));
    assert!(!agree(&tree, &unix(&used), "listen", plain));
    let free = tree.base().join("free.sock");
    fs::write(tree.base().join("tidegate.toml"), unix(&free)).unwrap();
    let doctor = Launch::with(["doctor"]).argument(tree.base().join("tidegate.toml"));
    doctor.output().success();
    assert!(!free.exists(), "nothing is left");
    // What overrides the file.
    let free = |launch: Launch| launch.arguments(["--listen", "127.0.0.1:0"]);
    assert!(agree(&tree, &with(&address), "", free));
    if is_root() {
        let nobody = |launch: Launch| launch.unprivileged(&tree);
        agree(&tree, &with("127.0.0.1:3"), "listen", nobody);
    }
}

#[test]
fn the_doctor_fails_at_limits_that_are_too_low() {
    let tree = Tree::new();
    let text = config(&tree, "");
    let descriptors = |launch: Launch| launch.limited("-n 24");
    assert!(!agree(&tree, &text, "descriptors", descriptors));
    let memory = |launch: Launch| launch.limited("-l 64");
    assert!(!agree(&tree, &text, "memlock", memory));
    if !is_root() {
        skipped("needs root, to run as users of their own");
        return;
    }
    // As many threads as the user may have, around the least with which a server starts, 13. With
    // these it has none to print its addresses.
    let mut starts = 0;
    for threads in [2, 5, 8, 10, 12, 14, 15] {
        let id = (54_400 + threads).to_string();
        let limit = format!("--nproc={threads}");
        let few = |launch: Launch| launch.through(["prlimit", &limit]).user(&tree, &id);
        starts += usize::from(agree(&tree, &text, "threads", few));
    }
    assert_eq!(starts, 2);
}

#[test]
fn the_doctor_fails_where_io_uring_is_forbidden() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::new();
    let text = config(&tree, "");
    for error in ["EPERM", "ENOSYS", "ENOMEM"] {
        let inject = format!("inject=io_uring_setup:error={error}");
        let refused = |launch: Launch| {
            launch
                .through(["strace", "-f", "-qq", "-o", "/dev/null"])
                .through(["-e", "trace=io_uring_setup", "-e", &inject])
        };
        assert!(!agree(&tree, &text, "io_uring", refused), "{error}");
    }
    if !mounts("true") {
        return;
    }
    tree.write("../disabled", b"2\n");
    let disabled = tree.base().join("disabled");
    let script = format!(
        "mount --bind {} /proc/sys/kernel/io_uring_disabled",
        disabled.display()
    );
    let off = |launch: Launch| {
        launch
            .through(["strace", "-f", "-qq", "-o", "/dev/null"])
            .through(["-e", "trace=io_uring_setup"])
            .through(["-e", "inject=io_uring_setup:error=EPERM"])
            .mounted(&script)
    };
    assert!(!agree(&tree, &text, "io_uring", off));
}

#[test]
fn the_report_is_json_for_programs() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, config(&tree, "")).unwrap();
    let report = Launch::with(["doctor", "--json"]).argument(&file).output();
    let list: Vec<serde_json::Value> = serde_json::from_str(&report.success()).unwrap();
    let topics: Vec<&str> = list
        .iter()
        .filter_map(|one| one["topic"].as_str())
        .collect();
    for topic in [
        "kernel",
        "cores",
        "io_uring",
        "ring pipe",
        "listen",
        "backlog",
        "file system",
    ] {
        assert!(topics.contains(&topic), "no {topic} in {topics:?}");
    }
    for one in &list {
        assert!(
            ["good", "fair"].contains(&one["grade"].as_str().unwrap()),
            "{one}"
        );
        assert!(
            one["text"].is_string() && one.as_object().unwrap().len() == 3,
            "{one}"
        );
    }
}
