//! The command line of the real binary, short of serving.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, io};

const FILE: &str = "\
[server]
cores = 2

[[listen]]
address = \"127.0.0.1:1\"

[[site]]
root = \".\"
";

/// Runs the binary in `directory` with no environment but `env`.
fn tidegate(directory: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(directory)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    for command in ["config", "doctor"] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg(command)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(stderr(&output), "", "{command}");
    }
}

#[test]
fn flag_wins_over_environment_over_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("t.toml"), FILE).unwrap();
    let file = &["config", "--config", "t.toml"][..];
    let flags = &["--listen", "127.0.0.1:3", "--cores", "0-1"][..];
    let env = &[
        ("TIDEGATE_LISTEN", "127.0.0.1:2,[::1]:2"),
        ("TIDEGATE_CORES", "auto"),
    ][..];
    let flagged = [file, flags].concat();
    let rows = [
        (file, &[][..], "cores = 2", &["127.0.0.1:1"][..]),
        (file, env, "cores = \"auto\"", &["127.0.0.1:2", "[::1]:2"]),
        (&flagged, env, "cores = \"0-1\"", &["127.0.0.1:3"]),
        (&flagged, &[], "cores = \"0-1\"", &["127.0.0.1:3"]),
    ];
    for (args, env, cores, addresses) in rows {
        let text = stdout(&tidegate(directory.path(), args, env));
        assert!(text.contains(cores), "{args:?} {env:?}\n{text}");
        let found = text
            .lines()
            .filter_map(|line| line.strip_prefix("address = "));
        let found: Vec<&str> = found.map(|value| value.trim_matches('"')).collect();
        assert_eq!(found, addresses, "{args:?} {env:?}");
    }
}

#[test]
fn the_effective_config_is_a_config() {
    let directory = tempfile::tempdir().unwrap();
    let defaults = tidegate(directory.path(), &["config"], &[]);
    assert!(stdout(&defaults).contains("root = \".\""));
    fs::write(directory.path().join("t.toml"), &defaults.stdout).unwrap();
    let env = &[("TIDEGATE_CONFIG", "t.toml")];
    let again = tidegate(directory.path(), &["config"], env);
    let root = directory.path().canonicalize().unwrap();
    let expected = stdout(&defaults).replace("\".\"", &format!("\"{}\"", root.display()));
    assert_eq!(stdout(&again), expected);
    let check = tidegate(directory.path(), &["check"], env);
    assert_eq!(stdout(&check), "t.toml: ok\n");
    assert_eq!(
        (stderr(&check).as_str(), check.status.code()),
        ("", Some(0))
    );
}

#[test]
fn check_says_where_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let rows = [
        (
            "[[site]]\nrot = '.'\n",
            "t.toml:2: site.rot: unknown key; did you mean `site.root`?\n",
        ),
        ("[[site]\n", "t.toml:1: "),
        (
            "\n[[site]]\nroot = 'none'\n",
            "t.toml:3: site.root: cannot serve none: No such file or directory (os error 2)\n",
        ),
    ];
    for (text, expected) in rows {
        fs::write(directory.path().join("t.toml"), text).unwrap();
        let output = tidegate(directory.path(), &["check", "--config", "t.toml"], &[]);
        assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
        assert_eq!(
            (stdout(&output).as_str(), output.status.code()),
            ("", Some(1))
        );
    }
}

#[test]
fn a_config_that_is_refused_keeps_run_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("t.toml"), "[limits]\nheaders = 0\n").unwrap();
    let rows = [
        (
            "none.toml",
            "tidegate: none.toml: No such file or directory (os error 2)\n",
        ),
        (
            "t.toml",
            "tidegate: t.toml:1: site.root: required: write [[site]] and the directory to serve\n\
                    tidegate: t.toml:2: limits.headers: 0 is outside 1 to 100: the parser has room for 100 fields\n",
        ),
    ];
    for (file, expected) in rows {
        let output = tidegate(directory.path(), &["run", "--config", file], &[]);
        assert_eq!(stderr(&output), expected);
        assert_eq!(
            (stdout(&output).as_str(), output.status.code()),
            ("", Some(1))
        );
    }
}

#[test]
fn help_has_examples_and_version_has_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let rows: &[&[&str]] = &[
        &["--help"],
        &["serve", "--help"],
        &["run", "--help"],
        &["check", "--help"],
        &["config", "--help"],
    ];
    for args in rows {
        let output = tidegate(directory.path(), args, &[]);
        assert!(
            stdout(&output).contains("Examples:\n  tidegate "),
            "{args:?}"
        );
        assert_eq!(output.status.code(), Some(0));
    }
    let output = tidegate(directory.path(), &["--version"], &[]);
    assert_eq!(
        stdout(&output),
        format!("tidegate {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let output = tidegate(directory.path(), &["run"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--config <FILE>"));
    let env = &[("TIDEGATE_LISTEN", "nowhere")];
    let output = tidegate(directory.path(), &["serve"], env);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("`nowhere` has no port"),
        "{}",
        stderr(&output)
    );
}

/// The file as an argument, behind `--config`, and from the environment, which is the weakest.
#[test]
fn a_configuration_file_is_named_in_three_ways() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("t.toml"), FILE).unwrap();
    let rows = [
        (&["check", "t.toml"][..], &[][..]),
        (&["check", "--config", "t.toml"], &[]),
        (&["check"], &[("TIDEGATE_CONFIG", "t.toml")]),
        (&["check", "t.toml"], &[("TIDEGATE_CONFIG", "none.toml")]),
        (
            &["check", "--config", "t.toml"],
            &[("TIDEGATE_CONFIG", "none.toml")],
        ),
    ];
    for (args, env) in rows {
        let output = tidegate(directory.path(), args, env);
        assert_eq!(stdout(&output), "t.toml: ok\n", "{args:?} {env:?}");
    }
    let from_file = tidegate(directory.path(), &["config", "t.toml"], &[]);
    assert!(stdout(&from_file).contains("cores = 2"));
    let doctor = tidegate(directory.path(), &["doctor", "none.toml"], &[]);
    assert!(stderr(&doctor).starts_with("tidegate: none.toml: No such file"));
    for command in ["run", "check", "config", "doctor"] {
        let args = &[command, "t.toml", "--config", "u.toml"];
        let output = tidegate(directory.path(), args, &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr(&output).contains("cannot be used with"), "{command}");
    }
    for env in [&[][..], &[("TIDEGATE_CONFIG", "")]] {
        let output = tidegate(directory.path(), &["check"], env);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("write tidegate check FILE"));
    }
}
