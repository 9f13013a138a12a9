//! A server that can start no more threads: what it needs is there from the start.

use std::ffi::OsString;
use std::fs::File;
use std::process::Command;
use std::time::SystemTime;

use rustix::fs::{Advice, fadvise, fsync};
use rustix::process::{Resource, getrlimit};

use crate::support::{Launch, Server, Tree, eventually, get, installed, is_root, noise};

const LEN: usize = 3_000_000;

/// How many threads the user of `server`, which runs as nobody, may have from here on for it to start one
/// more.
fn limit_threads(server: &Server, limit: &str) {
    let id = server.id().to_string();
    // The soft limit: it can be raised again.
    let limit = format!("--nproc={limit}:");
    let mut line = vec!["prlimit", "--pid", &id, &limit];
    if is_root() {
        let nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        line.splice(0..0, nobody);
    }
    let status = Command::new(line[0]).args(&line[1..]).status().unwrap();
    assert!(status.success(), "{line:?}: {status}");
}

#[test]
fn files_are_looked_up_and_read_from_the_disk_at_the_limit_of_threads() {
    if !installed("prlimit") || !installed("setpriv") {
        return;
    }
    let content = noise(LEN, 1);
    let tree = Tree::with("small", b"here");
    let names = ["cold-0", "cold-1", "cold-2"];
    for name in names {
        tree.write(name, &content);
        let file = File::open(tree.path(name)).unwrap();
        fsync(&file).unwrap();
        // Where it stays in memory (tmpfs) the lookups need a worker all the same.
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    limit_threads(&server, "1");
    let mut clients = names.map(|_| server.connect());
    for (client, name) in clients.iter_mut().zip(names) {
        client.send(get(&format!("/{name}")));
    }
    for (client, name) in clients.iter_mut().zip(names) {
        let response = client.response();
        assert_eq!(response.status, 200, "{name}");
        assert!(response.body == content, "{name}");
    }
    assert_eq!(server.get("/small").body, b"here");
    assert_eq!(server.get("/nothing").status, 404);
    server.stop();
}

#[test]
fn large_files_are_hashed_once_there_is_a_thread_for_it() {
    if !installed("prlimit") || !installed("setpriv") {
        return;
    }
    let tree = Tree::with("large", &noise(LEN, 1));
    tree.modified("large", SystemTime::UNIX_EPOCH);
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    limit_threads(&server, "1");
    let response = server.get("/large");
    assert_eq!((response.status, response.header("etag")), (200, None));
    let maximum = getrlimit(Resource::Nproc).maximum;
    let unlimited = maximum.map_or("unlimited".to_owned(), |maximum| maximum.to_string());
    limit_threads(&server, &unlimited);
    eventually("an ETag", || server.get("/large").has("etag"));
    server.stop();
}

#[test]
fn a_start_without_threads_says_so() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::new();
    let trace = tree.base().join("trace");
    let refused = "inject=clone3:error=EAGAIN:when=1+";
    let strace = ["strace", "-f", "-e", "trace=clone3", "-e", refused, "-o"];
    let output = Launch::serve(tree.root())
        .through(strace.map(OsString::from).into_iter().chain([trace.into()]))
        .output();
    output.refusal(1, &["cannot start", "thread"]);
}
