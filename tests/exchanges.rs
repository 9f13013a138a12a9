//! Each request with its response ends in one place, which knows all of it. At the level `trace` it
//! logs a line, by which it is seen here.

use crate::support::{Client, Launch, Server, Tree, eventually, request, request_with};

/// Bytes of a file that no socket takes at once.
const LARGE: usize = 16 << 20;

fn server(tree: &Tree) -> Server {
    Launch::serve_on("1", tree.root())
        .through(["env", "RUST_LOG=tidegate_server=trace"])
        .start()
}

fn tree() -> Tree {
    let tree = Tree::with("small", b"content");
    tree.write("large", &vec![b'x'; LARGE]);
    tree
}

/// The lines of the exchanges that have ended, without what differs from run to run.
fn exchanges(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once(": exchange "));
    lines.map(|(_, fields)| fields.to_owned()).collect()
}

/// The next exchange to end, the `number`-th, has all of `fields`.
#[track_caller]
fn ends_with(server: &Server, number: usize, fields: &[&str]) {
    eventually("an exchange has ended", || exchanges(server).len() > number);
    let line = &exchanges(server)[number];
    for field in fields {
        assert!(line.contains(field), "{field}: {line}");
    }
}

#[test]
fn an_exchange_knows_its_status_and_its_bytes() {
    let tree = tree();
    let server = server(&tree);
    let mut client = server.connect();
    let ip = client.address().ip();
    let get = client.get("/small");
    let tag = format!("If-None-Match: {}", get.etag());
    let requests = [
        (request("GET", "/small"), "status=200"),
        (request("HEAD", "/small"), "status=200"),
        (request_with("GET", "/small", &[&tag]), "status=304"),
        (request("GET", "/none"), "status=404"),
        (request("POST", "/small"), "status=405"),
        (request("GET", "/large"), "status=200"),
        (
            request_with("GET", "/large", &["Range: bytes=0-0,-1"]),
            "status=206",
        ),
    ];
    for (number, (request, status)) in requests.iter().enumerate() {
        let mut one = server.connect();
        one.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        let bytes = format!("bytes={} ", one.rest().len());
        let fields = ["Http11", "site=0 ", status, &bytes, "complete=true"];
        ends_with(&server, number + 1, &fields);
    }
    ends_with(&server, 0, &[&format!("client={ip} ")]);
}

#[test]
fn a_request_that_is_refused_is_one() {
    let tree = tree();
    let server = server(&tree);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(client.response().status, 400);
    ends_with(&server, 0, &["status=400", "complete=true"]);
}

#[test]
fn an_exchange_ends_with_its_client() {
    let tree = tree();
    let server = server(&tree);
    let mut client = Client::connect_narrow(server.address);
    client.send(request("GET", "/large"));
    client.head();
    assert_eq!(exchanges(&server), [""; 0], "it goes on");
    client.reset();
    ends_with(&server, 0, &["status=200", "complete=false"]);
}
