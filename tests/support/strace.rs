//! Watches the system calls of a server, or disturbs them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::{Server, Tree, eventually};

/// A strace that writes down the calls of a server that move bytes.
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
    /// Kept open: strace ends when it cannot say something.
    stderr: BufReader<ChildStderr>,
}

/// How many bytes went which way.
#[derive(Debug)]
pub(crate) struct Moved {
    /// From one descriptor to another within the kernel.
    pub(crate) spliced: usize,
    /// In or out of the process.
    pub(crate) copied: usize,
}

impl Strace {
    /// Attaches to `server`, which serves `tree`; `None`, and says so, where that is not permitted.
    pub(crate) fn attach(server: &Server, tree: &Tree) -> Option<Self> {
        let log = tree.base().join("strace");
        let calls = "trace=read,pread64,readv,preadv,preadv2,write,pwrite64,writev,pwritev,pwritev2,\
                     sendto,sendmsg,sendmmsg,splice";
        Self::run(server, &["-s", "0", "-e", calls], log)
    }

    /// Attaches to `server`, to do as `inject` says to `call`; `None`, and says so, where that is not
    /// permitted.
    pub(crate) fn inject(server: &Server, call: &str, inject: &str) -> Option<Self> {
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:{inject}");
        Self::run(server, &["-e", &trace, "-e", &inject], "/dev/null".into())
    }

    fn run(server: &Server, options: &[&str], log: PathBuf) -> Option<Self> {
        let mut child = Command::new("strace")
            .args(["-f", "-p", &server.id().to_string()])
            .args(options)
            .arg("-o")
            .arg(&log)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        let stderr = child.stderr.take().expect("standard error is piped");
        let mut strace = Self {
            child,
            log,
            stderr: BufReader::new(stderr),
        };
        let mut line = String::new();
        // Its first line; it says no more than a pipe holds.
        let read = strace.stderr.read_line(&mut line);
        read.expect("a line of strace");
        if line.contains("not permitted") {
            println!("skipped: {line}");
            return None;
        }
        assert!(line.contains("attached"), "{line}");
        Some(strace)
    }

    /// Stops the server, and tells what it moved.
    pub(crate) fn stop(mut self, server: Server) -> Moved {
        server.stop();
        eventually("the end of strace", || {
            self.child.try_wait().expect("a status").is_some()
        });
        let log = fs::read_to_string(&self.log).expect("the calls");
        let (spliced, copied): (Vec<_>, Vec<_>) = log
            .lines()
            .filter_map(moved)
            .partition(|(call, _)| *call == "splice");
        let sum = |calls: &[(&str, usize)]| calls.iter().map(|(_, bytes)| bytes).sum();
        Moved {
            spliced: sum(&spliced),
            copied: sum(&copied),
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The call in a line of strace, and the bytes that it moved; `None` where it did not end or failed.
fn moved(line: &str) -> Option<(&str, usize)> {
    let (left, result) = line.rsplit_once(" = ")?;
    let (_thread, call) = left.split_once(' ')?;
    let call = call.trim_start();
    let call = call.strip_prefix("<... ").unwrap_or(call);
    let name = call.split(['(', ' ']).next()?;
    Some((name, result.trim().parse().ok()?))
}
