//! The commands beside serving.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::{Authority, Launch, Tree, key_pair};

#[test]
fn the_version_is_printed() {
    let version = Launch::with(["--version"]).output().success();
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_has_every_command_and_an_example() {
    let help = Launch::with(["--help"]).output().success();
    for word in [
        "serve",
        "run",
        "check",
        "config",
        "doctor",
        "tidegate serve ",
    ] {
        assert!(help.contains(word), "no {word} in {help}");
    }
    for command in ["serve", "run", "check", "config", "doctor"] {
        let help = Launch::with([command, "--help"]).output().success();
        assert!(help.contains(&format!("tidegate {command}")), "{help}");
    }
}

#[test]
fn wrong_usage_is_exit_status_2() {
    let lines: [&[&str]; 6] = [
        &["launch"],
        &["serve", "--no-such-flag"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--cores", "3-1"],
        &["run"],
        &["check"],
    ];
    for line in lines {
        Launch::with(line.iter().copied())
            .output()
            .refusal(2, &["--help"]);
    }
}

#[test]
fn flags_and_words_of_other_servers_are_answered_with_what_there_is() {
    let tree = Tree::with("cdn.toml", b"");
    tree.write("page.html", b"");
    let root = tree.root();
    let directory = root.to_str().unwrap();
    let (file, page) = (root.join("cdn.toml"), root.join("page.html"));
    let (file, page) = (file.to_str().unwrap(), page.to_str().unwrap());
    let port = "127.0.0.1:0";
    let rows: &[(&[&str], i32, &str)] = &[
        (&["run", "--port", "80"], 2, "write --listen 127.0.0.1:8080"),
        (&["run", "-p", "80"], 2, "write --listen 127.0.0.1:8080"),
        (&["serve", "--tls"], 2, "[[tls.certificates]]"),
        (&["serve", "--gzip"], 2, "tidegate compress DIR"),
        (&["serve", "--log-level", "debug"], 2, "RUST_LOG=debug"),
        (&["serve", "--config", "x"], 2, "tidegate run FILE"),
        (&["run", "--daemon"], 2, "systemd"),
        (&[directory], 2, "to serve this directory: tidegate serve"),
        (&[file], 2, "to serve as this file says: tidegate run"),
        (
            &["serve", "--listen", port, file],
            1,
            "not a directory (os error 20); `tidegate run ",
        ),
        (
            &["serve", "--listen", port, page],
            1,
            "not a directory (os error 20); a directory is served: `tidegate serve ",
        ),
        (
            &["serve", "--listen", port, "~/www"],
            1,
            "no shell expands ~ here",
        ),
        (
            &["serve", "--listen", port, "~nobody/www"],
            1,
            "no shell expands ~nobody here",
        ),
        (
            &["serve", "--listen", port, "$HOME/www"],
            1,
            "no shell expands $home here: write /",
        ),
        (
            &["serve", "--listen", "8080"],
            2,
            "write 127.0.0.1:8080 for this host alone",
        ),
        (
            &["serve", "--listen", "/run/x.sock"],
            2,
            "`/run/x.sock` is a path: write unix:/run/x.sock",
        ),
        (
            &["serve", "--listen", "http://a:80/x"],
            2,
            "`a:80/x` has a path: write a:80",
        ),
        (
            &["serve", "--listen", "::1:8080"],
            2,
            "in brackets, such as [::1]:8080",
        ),
        (&["serve", "--listen", "[::1]"], 2, "`[::1]` has no port"),
        (&["serve", "--listen", "0.0.0.0"], 2, "such as 0.0.0.0:8080"),
        (
            &["serve", "--listen", "1.2.3.4:99999"],
            2,
            "`99999` is not a port",
        ),
    ];
    for (line, code, expected) in rows {
        let output = Launch::with(line.iter().copied()).output();
        output.refusal(*code, &[expected]);
    }
}

#[test]
fn what_was_given_is_printed_without_control_characters() {
    let tree = Tree::new();
    let file = tree.base().join("\u{202e}\u{1b}[31m.toml");
    let path = file.to_str().unwrap();
    fs::write(
        &file,
        "[[site]]\n\"\\u001b[31m\u{2066}\" = '\u{200b}'\nroot = \"\\u001b[2J\"\n",
    )
    .unwrap();
    let lines: &[&[&str]] = &[
        &["check", path],
        &["run", path],
        &["serve", "--listen", "127.0.0.1:0", "/\u{1b}[31m\u{202e}"],
        &["serve", "--\u{1b}[31m"],
        &["serve", "--a\u{202e}"],
        &["\u{1b}]0;x\u{7}"],
        &["compress", "/\u{1b}[31m\u{202e}"],
        &["doctor", "/none\u{1b}[31m\u{202e}"],
    ];
    for line in lines {
        let output = Launch::with(line.iter().copied()).output();
        assert_ne!(output.status.code(), Some(0), "{line:?}");
        let unsafe_chars = ['\u{1b}', '\u{7}', '\u{202e}', '\u{2066}', '\u{200b}'];
        assert!(
            !output.stderr.contains(unsafe_chars),
            "{line:?}: {:?}",
            output.stderr
        );
        assert!(
            output.stderr.contains("\\u{"),
            "{line:?}: {:?}",
            output.stderr
        );
    }
}

#[test]
fn check_tells_right_from_wrong() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    let check = || Launch::with(["check", "--config"]).argument(&file).output();
    fs::write(&file, format!("[[site]]\nroot = {:?}\n", tree.root())).unwrap();
    assert_eq!(check().status.code(), Some(0));
    fs::write(
        &file,
        "[[site]]\nroot = \"/\"\n\n[limits]\nheader-bytes = 0\nheaders = 0\n",
    )
    .unwrap();
    let output = check();
    // Every problem, not only the first.
    let first = format!("{}:5: limits.header-bytes: ", file.display());
    let second = format!("{}:6: limits.headers: ", file.display());
    output.refusal(1, &[&first, &second]);
}

#[test]
fn a_config_may_be_a_pipe_but_has_an_end() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, format!("[[site]]\nroot = {:?}\n", tree.root())).unwrap();
    // What a shell makes of `--config <(...)` is a pipe, too.
    let script = format!("cat '{}' | \"$0\" \"$@\"", file.display());
    let output = Launch::with(["check", "--config", "/dev/stdin"])
        .through(["sh", "-c", &script])
        .output();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let output = Launch::with(["check", "-"])
        .through(["sh", "-c", &script])
        .output();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let output = Launch::with(["check", "--config", "/dev/zero"]).output();
    output.refusal(1, &["/dev/zero: larger than 16 MiB"]);
}

#[test]
fn the_effective_config_is_a_config() {
    let tree = Tree::new();
    let file = tree.base().join("tidegate.toml");
    let config = || {
        Launch::with(["config", "--config"])
            .argument(&file)
            .output()
    };
    let site = format!("[[site]]\nroot = {:?}\n", tree.root());
    fs::write(&file, format!("[timeouts]\nheader = \"7s\"\n\n{site}")).unwrap();
    let effective = config().success();
    for line in [
        "header = \"7s\"",
        "keep-alive = \"75s\"",
        "[io]",
        "pipe-size = \"512k\"",
    ] {
        assert!(effective.contains(line), "no {line} in {effective}");
    }
    fs::write(&file, &effective).unwrap();
    assert_eq!(config().success(), effective);
}

#[test]
fn the_default_config_is_printed() {
    let effective = Launch::with(["config"]).output().success();
    assert!(effective.contains("cores = \"auto\""), "{effective}");
}

#[test]
fn the_doctor_tells_what_the_host_offers() {
    let report = Launch::with(["doctor"]).output().success();
    for topic in [
        "kernel",
        "io_uring",
        "ring pipe",
        "ring recv",
        "cores",
        "memlock",
        "threads",
        "descriptors",
        "pipes",
        "backlog",
        "kernel TLS",
    ] {
        let is_told = |line: &str| {
            let (grade, rest) = line.split_once(' ').unwrap();
            ["good", "fair"].contains(&grade) && rest.trim_start().starts_with(topic)
        };
        assert!(report.lines().any(is_told), "no {topic} in {report}");
    }
    assert!(!report.contains("certificate"), "{report}");
}

#[test]
fn the_doctor_tells_when_certificates_expire_and_what_would_keep_the_server_from_starting() {
    let tree = Tree::new();
    let authority = Authority::new();
    let files = authority.issue("site", &["a.test", "*.a.test"]);
    let file = tree.base().join("tidegate.toml");
    let doctor = |head: &str| {
        let (root, certificate) = (tree.root(), files.entry());
        let text = format!("{head}\n{certificate}\n[[site]]\nroot = {root:?}\n");
        fs::write(&file, text).unwrap();
        Launch::with(["doctor", "--config"])
            .argument(&file)
            .output()
    };
    let report = doctor("").success();
    let path = files.cert.display();
    let expected = format!("good  certificate  {path}: ECDSA for a.test *.a.test, ");
    assert!(report.contains(&expected), "{report}");
    assert!(report.ends_with(" days left\n"), "{report}");

    let key = key_pair();
    let soon = authority.sign(&["a.test"], &key, |params| {
        params.not_after = (SystemTime::now() + Duration::from_hours(36)).into();
    });
    fs::write(&files.cert, soon).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let report = doctor("").success();
    assert!(report.contains("fair  certificate"), "{report}");
    assert!(report.ends_with(" 1 days left\n"), "{report}");

    fs::write(&files.key, key_pair().serialize_pem()).unwrap();
    let output = doctor("[server]\ncores = 4096");
    assert_eq!(output.status.code(), Some(1));
    let report = output.stdout;
    assert!(report.contains("bad   cores        4096 cores"), "{report}");
    assert!(
        report.contains("bad   certificate") && report.contains("does not fit"),
        "{report}"
    );
}

#[test]
fn the_short_flags_are_those_that_people_expect() {
    let tree = Tree::with("a.txt", b"abc");
    let root = tree.root();
    let root = root.to_str().unwrap();
    assert_eq!(
        Launch::with(["-V"]).output().success(),
        Launch::with(["--version"]).output().success()
    );
    let help = Launch::with(["serve", "-h"]).output().success();
    assert!(help.contains("-p, --port <PORT>"), "{help}");
    let file = tree.base().join("tidegate.toml");
    fs::write(&file, format!("[[site]]\nroot = {root:?}\n")).unwrap();
    let said = Launch::with(["check", "-c", file.to_str().unwrap()])
        .output()
        .success();
    assert!(said.ends_with(": ok\n"), "{said}");
    // A flag overrides the environment.
    let server = Launch::with(["serve", "-p", "0", "--cores", "1", root])
        .through(["env", "TIDEGATE_LISTEN=127.0.0.1:1"])
        .start();
    assert_eq!(server.get("/a.txt").body, b"abc");
    server.stop();
}
