//! A server that can start no more threads: what it needs is there from the start.

use std::fs::File;
use std::process::Command;

use rustix::fs::{Advice, fadvise, fsync};

use crate::support::{Launch, Server, Tree, get, installed, is_root, noise};

const LEN: usize = 3_000_000;

/// From here on the kernel refuses each further thread to `server`, which runs as nobody.
fn forbid_threads(server: &Server) {
    let id = server.id().to_string();
    let mut line = vec!["prlimit", "--pid", &id, "--nproc=1"];
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
        // Where it stays in memory (tmpfs) the look-ups need a worker all the same.
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    let server = Launch::serve(tree.root()).unprivileged(&tree).start();
    forbid_threads(&server);
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
