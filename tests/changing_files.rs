//! Files that change while they are sent. What counts is framing: either exactly the bytes that the head
//! promised, or the end of the connection.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{
    Client, Launch, Response, Server, Tree, eventually, get, installed, mounts, noise,
};

/// Far more than the sockets between server and client hold.
const LENGTH: usize = 32 * 1024 * 1024;

/// What the client reads before the file changes.
const BEFORE: usize = 64 * 1024;

#[test]
fn a_file_removed_while_it_is_sent_is_sent_to_its_end() {
    let content = noise(LENGTH, 1);
    let (tree, server, mut client) = in_the_middle(&content);
    fs::remove_file(tree.path("big")).unwrap();
    assert!(client.body(LENGTH - BEFORE) == content[BEFORE..]);
    eventually("404 for a file that is gone", || {
        server.get("/big").status == 404
    });
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn a_file_replaced_while_it_is_sent_is_sent_as_it_was() {
    let content = noise(LENGTH, 2);
    let (tree, server, mut client) = in_the_middle(&content);
    tree.write("new", b"the new content");
    fs::rename(tree.path("new"), tree.path("big")).unwrap();
    assert!(client.body(LENGTH - BEFORE) == content[BEFORE..]);
    eventually("the new content", || {
        server.get("/big").body == b"the new content"
    });
    assert_eq!(client.get("/small").body, b"small");
}

#[test]
fn a_file_truncated_while_it_is_sent_ends_the_connection() {
    let content = noise(LENGTH, 3);
    let (tree, server, mut client) = in_the_middle(&content);
    // What follows on the connection must not be taken for the missing bytes.
    client.send(get("/small"));
    let file = File::options().write(true).open(tree.path("big")).unwrap();
    file.set_len(BEFORE as u64).unwrap();
    let rest = client.rest();
    assert!(rest.len() < LENGTH - BEFORE, "{} bytes", rest.len());
    // Pages on their way to the socket are the file's own, and truncating may fill them with zeros.
    let mut pairs = rest.iter().zip(&content[BEFORE..]);
    assert!(pairs.all(|(got, was)| got == was || *got == 0));
    // Until the file is looked up again, a response may promise the old length and be cut short.
    eventually("the new length", || {
        let mut client = server.connect();
        client.send(get("/big"));
        let response = client.response_or_end();
        response.is_some_and(|response| response.body == content[..BEFORE])
    });
}

#[test]
fn a_file_that_grows_while_it_is_sent_keeps_the_promised_length() {
    let content = noise(LENGTH, 4);
    let (tree, server, mut client) = in_the_middle(&content);
    let mut file = File::options().append(true).open(tree.path("big")).unwrap();
    file.write_all(b"and more").unwrap();
    assert!(client.body(LENGTH - BEFORE) == content[BEFORE..]);
    assert_eq!(client.get("/small").body, b"small");
    eventually("the new length", || {
        server.get("/big").body.len() == LENGTH + b"and more".len()
    });
}

#[test]
fn a_small_file_that_changes_length_never_breaks_the_framing() {
    let tree = Tree::with("small", b"");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for length in [9000, 10, 16384, 0, 3000, 1, 16385, 2] {
        tree.write("small", &noise(length, 7));
        for _ in 0..20 {
            // The server may end the connection when the file is not what its head said.
            let Some(response) = ask(&mut client) else {
                client = server.connect();
                continue;
            };
            assert_eq!(response.status, 200);
            assert!(noise(response.body.len(), 7) == response.body, "{length}");
        }
    }
}

#[test]
fn a_file_that_is_gone_is_closed_though_nobody_asks_for_it() {
    let tree = Tree::new();
    for name in ["removed", "replaced", "kept", "dir/file", "coded"] {
        tree.write(name, &noise(100_000, 1));
    }
    tree.write("coded.gz", &noise(50_000, 2));
    // Nothing else closes it while the test runs.
    let server = Launch::run(&tree, "[cache]\nidle = \"24h\"", "").start();
    let open = |name: &str| server.open_files(&tree.path(name).display().to_string());
    for name in ["removed", "replaced", "kept", "dir/file", "coded"] {
        let accept = ["Accept-Encoding: gzip"];
        assert_eq!(server.get_with(&format!("/{name}"), &accept).status, 200);
        assert!(open(name) > 0, "{name}");
    }
    fs::remove_file(tree.path("removed")).unwrap();
    tree.write("new", &noise(100_000, 3));
    fs::rename(tree.path("new"), tree.path("replaced")).unwrap();
    fs::remove_dir_all(tree.path("dir")).unwrap();
    fs::remove_file(tree.path("coded.gz")).unwrap();
    eventually("all closed but one", || {
        server.open_files(&tree.root().join("").display().to_string()) == 1
    });
    assert_eq!(open("kept"), 1);
}

/// A response that is on its way keeps its file, and nothing else does.
#[test]
fn a_file_removed_while_it_is_sent_is_closed_at_its_end() {
    let content = noise(LENGTH, 5);
    let (tree, server, mut client) = in_the_middle(&content);
    let open = || server.open_files(&tree.path("big").display().to_string());
    fs::remove_file(tree.path("big")).unwrap();
    assert!(client.body(LENGTH - BEFORE) == content[BEFORE..]);
    eventually("closed", || open() == 0);
}

#[test]
fn a_release_that_was_removed_is_let_go_though_nobody_asks() {
    let tree = Tree::new();
    for name in ["one", "two"] {
        tree.write(&format!("{name}/large"), &noise(100_000, 1));
        tree.write(&format!("{name}/small"), b"small");
    }
    let current = tree.path("current");
    symlink("one", &current).unwrap();
    let site = format!("[[site]]\nroot = {current:?}");
    let server = Launch::run_sites(&tree, "[cache]\nidle = \"24h\"", &site).start();
    assert_eq!(server.get("/small").body, b"small");
    assert!(server.get("/large").body == noise(100_000, 1));
    let open = |name: &str| server.open_files(&tree.path(name).display().to_string());
    // The root and the file.
    assert_eq!(open("one"), 2);
    symlink("two", tree.path("new")).unwrap();
    fs::rename(tree.path("new"), &current).unwrap();
    fs::remove_dir_all(tree.path("one")).unwrap();
    eventually("all of it closed", || open("one") == 0);
    assert_eq!(open("two"), 1);
    assert_eq!(server.get("/small").body, b"small");
}

#[test]
fn a_volume_whose_files_nobody_asks_for_can_be_unmounted() {
    let tree = Tree::with("small", b"small");
    fs::create_dir(tree.path("volume")).unwrap();
    let volume = tree.path("volume");
    let script = format!("mount -t tmpfs none {}", volume.display());
    if !installed("nsenter") || !mounts(&script) {
        return;
    }
    let config = "[cache]\nidle = \"1s\"";
    let server = Launch::run(&tree, config, "directory-listing = true")
        .mounted(&script)
        .start();
    fs::create_dir(server.sees(&volume).join("dir")).unwrap();
    for (name, size) in [("small", 100), ("large", 100_000), ("dir/file", 100_000)] {
        fs::write(server.sees(&volume).join(name), noise(size, 1)).unwrap();
        let response = server.get(&format!("/volume/{name}"));
        assert!(response.body == noise(size, 1), "{name}");
    }
    assert_eq!(server.get("/volume/dir/").status, 200);
    let namespace = format!("--mount=/proc/{}/ns/mnt", server.id());
    let unmount = || {
        let mut line = Command::new("nsenter");
        let output = line.arg(&namespace).arg("umount").arg(&volume).output();
        output.expect("nsenter").status.success()
    };
    eventually("unmounted", unmount);
    assert_eq!(server.get("/volume/large").status, 404);
    assert_eq!(server.get("/small").body, b"small");
}

fn ask(client: &mut Client) -> Option<Response> {
    client.try_send(get("/small")).ok()?;
    client.response_or_end()
}

/// A server with the file `big`, which holds `content`, and a client that has read [`BEFORE`] bytes of it.
fn in_the_middle(content: &[u8]) -> (Tree, Server, Client) {
    let tree = Tree::with("big", content);
    tree.write("small", b"small");
    let server = Server::serve(&tree);
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    assert_eq!(client.head().content_length(), LENGTH);
    assert!(client.body(BEFORE) == content[..BEFORE]);
    (tree, server, client)
}
