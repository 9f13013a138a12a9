//! Records the system calls of a server, or injects faults into them.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::{Server, Tree, eventually, skipped};

/// A strace of a server's calls that move bytes, and of [`OTHERS`].
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
    /// Kept open: strace ends when it cannot write to it.
    stderr: BufReader<ChildStderr>,
}

/// Calls that move no bytes of a response.
const OTHERS: [&str; 3] = ["setsockopt", "io_uring_enter", "vmsplice"];

/// A system call that has returned.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The text between the parentheses.
    pub(crate) arguments: String,
    /// Not negative.
    pub(crate) result: usize,
}

/// Bytes moved, by the kind of call.
#[derive(Debug)]
pub(crate) struct Moved {
    /// From one descriptor to another within the kernel.
    pub(crate) spliced: usize,
    /// In or out of the process.
    pub(crate) copied: usize,
}

impl Strace {
    /// Attaches to `server`, which serves `tree`; reports a skipped test and returns `None` where that is not
    /// permitted.
    pub(crate) fn attach(server: &Server, tree: &Tree) -> Option<Self> {
        let log = tree.base().join("strace");
        let calls = "trace=read,pread64,readv,preadv,preadv2,write,pwrite64,writev,pwritev,pwritev2,\
                     sendto,sendmsg,sendmmsg,splice,vmsplice,setsockopt,io_uring_enter";
        Self::run(server, &["-s", "0", "-e", calls], log)
    }

    /// Attaches to see what is sent and spliced, with every `call` returning `delay` late, as strace writes it.
    pub(crate) fn attach_with_delay(
        server: &Server,
        tree: &Tree,
        call: &str,
        delay: &str,
    ) -> Option<Self> {
        let log = tree.base().join("strace");
        let inject = format!("inject={call}:delay_exit={delay}");
        let options = ["-s", "0", "-e", "trace=sendto,splice", "-e", &inject];
        Self::run(server, &options, log)
    }

    /// Attaches to `server` and injects `inject` into `call`; reports a skipped test and returns `None` where
    /// that is not permitted.
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
            skipped(line.trim_end());
            return None;
        }
        assert!(line.contains("attached"), "{line}");
        Some(strace)
    }

    /// Stops the server, and returns how many bytes it moved.
    pub(crate) fn stop(self, server: Server) -> Moved {
        let calls = self.calls(server);
        let (spliced, copied): (Vec<_>, Vec<_>) = calls
            .iter()
            .filter(|call| !OTHERS.contains(&call.name.as_str()))
            .partition(|call| call.name == "splice");
        let sum = |calls: &[&Call]| calls.iter().map(|call| call.result).sum();
        Moved {
            spliced: sum(&spliced),
            copied: sum(&copied),
        }
    }

    /// Stops the server, and returns its successful calls in the order in which they returned.
    pub(crate) fn calls(mut self, server: Server) -> Vec<Call> {
        server.stop();
        eventually("the end of strace", || {
            self.child.try_wait().expect("a status").is_some()
        });
        let log = fs::read_to_string(&self.log).expect("the calls");
        let mut begun = HashMap::new();
        let lines = log.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter_map(|(thread, text)| whole(thread, text.trim_start(), &mut begun))
            .filter_map(|text| call(&text))
            .collect()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a call that has returned; `begun` keeps the first half of unfinished ones by thread.
fn whole<'a>(thread: &'a str, text: &str, begun: &mut HashMap<&'a str, String>) -> Option<String> {
    if let Some(text) = text.strip_suffix(" <unfinished ...>") {
        begun.insert(thread, text.to_owned());
        return None;
    }
    match text.strip_prefix("<... ") {
        Some(rest) => {
            let (_name, end) = rest.split_once("resumed>")?;
            Some(begun.remove(thread)? + end)
        }
        None => Some(text.to_owned()),
    }
}

/// The call in a line of strace; `None` where it failed.
fn call(text: &str) -> Option<Call> {
    let (left, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = left.split_once('(')?;
    // A note on an injected fault follows in parentheses.
    let result = result.split(' ').next()?;
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.trim_end().trim_end_matches(')').to_owned(),
        result: result.parse().ok()?,
    })
}
