//! `tidegate compress`: the command, from its flags to its exit status. What it writes into a tree is tested
//! where that is decided, in crates/compress.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Tree, eventually, noise};

/// Something that compresses well.
fn text(bytes: usize) -> Vec<u8> {
    let lines = (0_u32..).map(|n| format!("{n:x}: {:x}\n", n.wrapping_mul(2_654_435_761)));
    lines.flat_map(String::into_bytes).take(bytes).collect()
}

fn command(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("compress").arg(root).args(args).env_clear();
    command
}

fn compress(root: &Path, args: &[&str]) -> Output {
    command(root, args).output().unwrap()
}

/// The lines printed, their columns set off by one space.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect()
}

fn variants(root: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let extension = path.extension().and_then(OsStr::to_str);
            extension.is_some_and(|extension| ["br", "gz", "zst"].contains(&extension))
        })
        .collect();
    paths.sort();
    paths
}

fn drafts(root: &Path) -> usize {
    let entries = fs::read_dir(root).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let drafts = names.filter(|name| name.as_encoded_bytes().starts_with(b".tidegate-compress-"));
    drafts.count()
}

#[test]
fn it_tells_what_was_saved_and_what_was_left_out() {
    let tree = Tree::with("page.html", &text(4096));
    tree.write("photo.jpg", &text(4096));
    tree.write("small.css", b"a{}");
    tree.write("noise.txt", &noise(4096, 1));
    let args = ["--codings", "gzip,br", "--level", "fast"];
    let output = compress(&tree.root(), &args);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        lines(&output.stderr),
        [""; 0],
        "no bar where there is no terminal"
    );
    let [br, gz] = ["page.html.br", "page.html.gz"].map(|name| tree.path(name));
    assert_eq!(variants(&tree.root()), [br.clone(), gz.clone()]);
    let row = |token: &str, path: &Path| {
        let after = fs::metadata(path).unwrap().len();
        let saved = 100.0 * (1.0 - after as f64 / 4096.0);
        let after = format!("{:.2} KiB", after as f64 / 1024.0);
        format!("{token} 1 4.00 KiB {after} {saved:.1} % 0 1 0")
    };
    let head = "coding written before after saved fresh no gain removed";
    let left_out = "left out: 1 of a type that does not compress, 1 smaller than 256 bytes";
    let expected = [head, &row("br", &br), &row("gzip", &gz), left_out];
    assert_eq!(lines(&output.stdout), expected);
    let again = lines(&compress(&tree.root(), &args).stdout);
    assert_eq!(again[1], "br 0 0 B 0 B - 1 1 0");
}

#[test]
fn a_dry_run_names_what_it_would_write() {
    let tree = Tree::with("page.html", &text(4096));
    let output = compress(&tree.root(), &["--codings", "zstd", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0));
    let line = &lines(&output.stdout)[0];
    let expected = format!(
        "would write {}: 4096 bytes become ",
        tree.path("page.html.zst").display()
    );
    assert!(line.starts_with(&expected), "{line}");
    assert_eq!(variants(&tree.root()).len(), 0);
}

#[test]
fn what_fails_is_named_and_the_rest_goes_on() {
    let tree = Tree::with("a.css", &text(4096));
    tree.write("b.css", &text(4096));
    fs::create_dir(tree.path("a.css.br")).unwrap();
    let output = compress(&tree.root(), &["--codings", "br", "--level", "fast"]);
    assert_eq!(output.status.code(), Some(1));
    let path = tree.path("a.css");
    let expected = format!(
        "tidegate: {}: cannot make its .br variant: what is in its place is no regular file",
        path.display()
    );
    assert_eq!(
        lines(&output.stderr),
        [expected.as_str(), "tidegate: 1 failure"]
    );
    assert!(tree.path("b.css.br").is_file());
}

#[test]
fn a_failure_comes_with_its_cause() {
    let tree = Tree::new();
    let name = format!("{}.css", "n".repeat(251));
    tree.write(&name, &text(4096));
    let output = compress(&tree.root(), &["--codings", "br"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "tidegate: {}: cannot make its .br variant: File name too long (os error 36)",
        tree.path(&name).display()
    );
    assert_eq!(lines(&output.stderr)[0], expected);
}

#[test]
fn without_a_directory_it_says_so() {
    let tree = Tree::new();
    let output = compress(&tree.path("none"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "tidegate: cannot compress the files in {}: No such file or directory (os error 2)",
        tree.path("none").display()
    );
    assert_eq!(lines(&output.stderr), [expected]);
}

/// A run that has begun to write a variant, and will be at it for long.
fn busy(tree: &Tree) -> Child {
    tree.write("long.txt", &text(16 << 20));
    // Whoever runs the tests in the background of a shell has INT ignored, which is inherited.
    let mut heeding = Command::new("env");
    let child = heeding
        .arg("--default-signal=INT,TERM,HUP")
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg("compress")
        .arg(tree.root())
        .args(["--codings", "zstd", "--jobs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("a variant to be begun", || drafts(&tree.root()) == 1);
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_stops_it_and_nothing_is_left() {
    for stop in [Signal::INT, Signal::TERM, Signal::HUP] {
        let tree = Tree::new();
        let child = busy(&tree);
        signal(&child, stop);
        let output = child.wait_with_output().unwrap();
        let expected = "tidegate: stopped by a signal; what is written is whole";
        assert_eq!(lines(&output.stderr), [expected]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(drafts(&tree.root()), 0);
        assert_eq!(variants(&tree.root()).len(), 0);
    }
}

/// As nohup has it.
#[test]
fn a_signal_that_is_ignored_at_the_start_stops_nothing() {
    let tree = Tree::new();
    tree.write("long.txt", &text(4 << 20));
    let mut shell = Command::new("/bin/sh");
    let script = "trap '' HUP; exec \"$0\" compress \"$1\" --codings zstd --jobs 1";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_tidegate")]);
    shell.arg(tree.root()).stdout(Stdio::null());
    let mut child = shell.spawn().unwrap();
    eventually("a variant to be begun", || drafts(&tree.root()) == 1);
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(variants(&tree.root()), [tree.path("long.txt.zst")]);
}

/// From the files to what a client gets: a release, and back to the one before it.
#[test]
fn after_a_roll_back_variants_are_of_what_is_there() {
    let tree = Tree::new();
    let release = |bytes: usize, seconds| {
        tree.write("a.css", &text(bytes));
        let file = File::options().write(true).open(tree.path("a.css"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.unwrap().set_modified(time).unwrap();
    };
    release(8192, 2_000_000);
    assert_eq!(compress(&tree.root(), &[]).status.code(), Some(0));
    release(4096, 1_000_000);
    let output = compress(&tree.root(), &["--codings", "gzip"]);
    assert!(lines(&output.stdout)[1].starts_with("gzip 1 4.00 KiB"));
    let unpacked = Command::new("gzip")
        .args(["-dc", "a.css.gz"])
        .current_dir(tree.root())
        .output();
    assert_eq!(unpacked.unwrap().stdout, text(4096));
}

#[test]
fn two_runs_at_once_do_not_get_in_each_others_way() {
    let tree = Tree::new();
    for number in 0..100 {
        tree.write(&format!("{number}.css"), &text(2048));
    }
    let args = ["--level", "fast", "--force", "--jobs", "2"];
    for _ in 0..3 {
        let run = || command(&tree.root(), &args).stdout(Stdio::null()).spawn();
        let mut runs = [run().unwrap(), run().unwrap()];
        let codes = runs.each_mut().map(|run| run.wait().unwrap().code());
        assert_eq!(codes, [Some(0), Some(0)]);
    }
    assert_eq!(variants(&tree.root()).len(), 300);
}

#[test]
fn what_a_kill_leaves_is_hidden_and_goes_with_the_next_run() {
    let tree = Tree::new();
    let child = busy(&tree);
    signal(&child, Signal::KILL);
    child.wait_with_output().unwrap();
    assert_eq!((drafts(&tree.root()), variants(&tree.root()).len()), (1, 0));
    fs::remove_file(tree.path("long.txt")).unwrap();
    let output = compress(&tree.root(), &[]);
    let last = lines(&output.stdout).pop();
    let expected = "removed: 1 left by runs that were killed";
    assert_eq!(last.as_deref(), Some(expected));
    assert_eq!(drafts(&tree.root()), 0);
}

#[test]
fn more_threads_than_any_host_has_cores_are_refused() {
    let tree = Tree::with("page.html", &text(4096));
    for jobs in ["0", "1025", "99999999", "many"] {
        let output = compress(&tree.root(), &["--jobs", jobs]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("from 1 to 1024"), "{message}");
    }
    assert_eq!(variants(&tree.root()), Vec::<PathBuf>::new());
    let output = compress(&tree.root(), &["--jobs", "1024"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(variants(&tree.root()).len(), 3);
}
