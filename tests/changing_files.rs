//! Files that change while they are sent. What counts is framing: either exactly the bytes that the head
//! promised, or the end of the connection.

use std::fs::{self, File};
use std::io::Write;

use crate::support::{Client, Response, Server, Tree, eventually, get, noise};

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
