//! A watchdog for tests that would hang. It runs on a thread of its own, so that it also ends those
//! that block their executor.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{fs, thread};

/// How long a test may take before it counts as hanging.
const WATCHDOG: Duration = Duration::from_mins(3);

/// Watches the test until the returned guard is dropped. If that takes too long, the state of the
/// process and of its rings is printed and the process aborted.
#[must_use = "the watch ends when it is dropped"]
pub(crate) fn watch() -> Sender<()> {
    let (sender, end) = channel();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if end.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            // Not by eprintln, which the harness catches.
            let text = format!("{name} hangs\n{}", state());
            let _ = std::io::stderr().write_all(text.as_bytes());
            std::process::abort();
        }
    });
    sender
}

/// What each thread of the process waits for, and the kernel's account of its rings and eventfds.
fn state() -> String {
    let of_each = |directory: &str, files: &[&str]| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let texts = entries.map(|entry| text(&entry.path(), files));
        texts.collect::<String>()
    };
    let threads = of_each("/proc/self/task", &["comm", "wchan", "syscall"]);
    let files = fs::read_dir("/proc/self/fdinfo").into_iter().flatten();
    let infos = files.flatten().map(|file| text(&file.path(), &[""]));
    let rings = infos.filter(|info| info.contains("SqHead") || info.contains("eventfd"));
    threads + &rings.collect::<String>()
}

/// What `files` in `directory` say; an empty name is the path itself.
fn text(directory: &Path, files: &[&str]) -> String {
    let path = |file: &&str| match *file {
        "" => directory.to_owned(),
        file => directory.join(file),
    };
    let texts = files
        .iter()
        .map(|file| fs::read_to_string(path(file)).unwrap_or_default());
    let texts: Vec<String> = texts.map(|text| text.trim_end().to_owned()).collect();
    format!("{}: {}\n", directory.display(), texts.join(" "))
}
