//! A standard error, or a standard output, that takes nothing: the server serves and stops all the
//! same.

use std::fs::{self, File, OpenOptions, Permissions, set_permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::admin::admin;
use crate::support::{Client, Launch, Server, Tree, eventually, installed, skipped};

/// A named pipe with both ends open in this process.
struct Pipe {
    path: PathBuf,
    ends: File,
}

impl Pipe {
    /// An empty one.
    fn new(tree: &Tree) -> Self {
        let path = tree.base().join("pipe");
        let made = Command::new("mkfifo").arg("-m666").arg(&path).status();
        assert!(made.expect("mkfifo").success(), "a pipe");
        let ends = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .expect("the pipe");
        Self { path, ends }
    }

    /// One that takes no more.
    fn full(tree: &Tree) -> Self {
        let mut pipe = Self::new(tree);
        for piece in [&[b'x'; 4096][..], b"x"] {
            while pipe.ends.write(piece).is_ok() {}
        }
        pipe
    }

    /// What is in it.
    fn read(&mut self) -> String {
        let mut bytes = Vec::new();
        let end = self.ends.read_to_end(&mut bytes).expect_err("an end");
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        String::from_utf8(bytes).expect("text")
    }
}

/// A tree with a file, and one that only root can read.
fn tree() -> Tree {
    let tree = Tree::with("file", b"content");
    tree.write("locked", b"content");
    set_permissions(tree.root().join("locked"), Permissions::from_mode(0o000))
        .expect("permissions");
    tree
}

/// A server of `tree` for which `redirection` stands at the end of the shell's line; `$0` is
/// `path`.
fn redirected(tree: &Tree, redirection: &str, path: &str) -> Launch {
    let script = format!("exec \"$@\" {redirection}");
    Launch::serve_on("1", tree.root())
        .through(["sh", "-c", &script, path])
        .unprivileged(tree)
}

/// Has the shard and the main thread log, and checks that both go on and that the server ends well.
#[track_caller]
fn serves_and_stops(mut server: Server) {
    for _ in 0..3 {
        assert_eq!(server.get("/locked").status, 403);
        server.signal(Signal::HUP);
        assert_eq!(server.get("/file").body, b"content");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_standard_error_that_cannot_be_written_ends_nothing() {
    for redirection in ["2>/dev/full", "2>&-", "2</dev/null"] {
        serves_and_stops(redirected(&tree(), redirection, "sh").start());
    }
}

#[test]
fn a_log_as_large_as_a_file_may_be_ends_nothing() {
    let tree = tree();
    let log = tree.base().join("log");
    // The unit of `ulimit -f` is 512 bytes or 1,024.
    fs::write(&log, [b'x'; 1024]).expect("a log");
    set_permissions(&log, Permissions::from_mode(0o666)).expect("permissions");
    let path = log.to_str().expect("a path");
    let server = redirected(&tree, "2>>\"$0\"", path).limited("-f 1").start();
    serves_and_stops(server);
    assert_eq!(fs::metadata(&log).expect("the log").len(), 1024);
}

#[test]
fn a_reader_of_the_log_that_goes_away_ends_nothing() {
    let tree = tree();
    let pipe = Pipe::new(&tree);
    let path = pipe.path.to_str().expect("a path");
    let server = redirected(&tree, "2>\"$0\"", path).start();
    drop(pipe);
    serves_and_stops(server);
}

#[test]
fn a_reader_of_the_log_that_stalls_holds_up_nothing() {
    let tree = tree();
    let pipe = Pipe::full(&tree);
    let path = pipe.path.to_str().expect("a path");
    serves_and_stops(redirected(&tree, "2>\"$0\"", path).start());
}

#[test]
fn a_reader_of_the_log_that_stalled_is_told_all() {
    let tree = tree();
    let mut pipe = Pipe::full(&tree);
    let path = pipe.path.to_str().expect("a path");
    let server = redirected(&tree, "2>\"$0\"", path).start();
    assert_eq!(server.get("/locked").status, 403);
    let mut log = String::new();
    eventually("the line of a look-up that failed", || {
        log += &pipe.read();
        log.contains("cannot look up")
    });
    server.stop();
}

#[test]
fn an_error_that_ends_the_server_does_not_wait_for_the_log() {
    let tree = tree();
    let pipe = Pipe::full(&tree);
    let path = pipe.path.to_str().expect("a path");
    let output = redirected(&tree, "2>\"$0\"", path)
        .arguments(["--listen", "192.0.2.1:0"])
        .output();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_panic_does_not_wait_for_the_log() {
    if !installed("strace") {
        return;
    }
    let tree = tree();
    let pipe = Pipe::full(&tree);
    let path = pipe.path.to_str().expect("a path");
    // An error that no ring has: the shard panics at it.
    let inject = "inject=io_uring_enter:error=EDOM:when=100+";
    let launch = Launch::serve_on("1", tree.root())
        .through(["strace", "-f", "-qqq", "-o", "/dev/null", "-e", inject])
        .through(["sh", "-c", "exec \"$@\" 2>\"$0\"", path]);
    let mut server = match launch.start_or_refusal() {
        Ok(server) => server,
        Err(output) => return skipped(format_args!("strace is not permitted: {output:?}")),
    };
    let mut connections = Vec::new();
    eventually("the end of a server whose ring fails", || {
        connections.extend(TcpStream::connect(server.address));
        server.has_ended()
    });
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_standard_output_that_takes_nothing_holds_up_nothing() {
    for redirection in ["1>\"$0\"", "1>/dev/full", "1>&-"] {
        let tree = tree();
        let pipe = Pipe::full(&tree);
        let config = "[admin]\nlisten = \"127.0.0.1:0\"\n";
        // What the server itself prints is lost: its admin listener tells that it serves.
        let script = format!("echo listening on http://127.0.0.1:1; exec \"$@\" {redirection}");
        let path = pipe.path.to_str().expect("a path");
        let mut server = Launch::run(&tree, config, "")
            .through(["sh", "-c", &script, path])
            .start();
        eventually("the admin listener", || server.log().contains("admin on"));
        let address = admin(&server);
        eventually("200", || {
            Client::connect(address).get("/readyz").status == 200
        });
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{redirection}");
    }
}

#[test]
fn directives_of_logs_that_are_none_are_told() {
    let tree = tree();
    for redirection in ["", "2>/dev/full"] {
        let launch = redirected(&tree, redirection, "sh").through(["env", "RUST_LOG=info,a=b=c"]);
        let server = launch.start();
        if redirection.is_empty() {
            eventually("a warning", || server.log().contains("a=b=c"));
        }
        serves_and_stops(server);
    }
}
