//! The commands beside serving.

use std::fs;

use crate::support::{Launch, Tree};

#[test]
fn the_version_is_printed() {
    let version = Launch::with(["--version"]).output().success();
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_has_every_command_and_an_example() {
    let help = Launch::with(["--help"]).output().success();
    for word in ["serve", "run", "check", "config", "tidegate serve "] {
        assert!(help.contains(word), "no {word} in {help}");
    }
    for command in ["serve", "run", "check", "config"] {
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
        "pipe-size = \"256k\"",
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
