//! Answers of several pieces, multipart bodies and listings, on connections that stall, break off or are
//! stopped.

use rustix::process::Signal;

use crate::support::{
    Client, Launch, Response, Server, Tree, eventually, get, noise, request_with,
};

/// More than the sockets between server and client hold before the client reads.
const LENGTH: usize = 24 * 1024 * 1024;

/// Enough for a listing that is more than that, too.
const FILES: usize = 14_000;

const RANGES: &str = "Range: bytes=1-12000000,12000002-12000005,12000007-";

const SITE: &str = "directory-listing = true";

#[test]
fn a_stop_lets_them_finish() {
    let tree = tree();
    let mut server = serve(&tree, "");
    let mut clients = [begun(&server, "/big"), begun(&server, "/dir/")];
    server.signal(Signal::TERM);
    eventually("no new connections", || {
        std::net::TcpStream::connect(server.address).is_err()
    });
    for (client, response) in &mut clients {
        finish(client, response);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_reader_that_stalls_is_cut() {
    let tree = tree();
    let server = serve(&tree, "[timeouts]\nsend-stall = \"200ms\"");
    let idle = server.sockets();
    let stalled = [begun(&server, "/big"), begun(&server, "/dir/")];
    server.wait_for_sockets(idle);
    drop(stalled);
    assert_eq!(server.get("/small").body, b"small");
}

#[test]
fn readers_that_stall_hold_no_copy_of_a_file_in_memory() {
    const CLIENTS: usize = 48;
    /// More of the file than the server's end of a connection takes.
    const TIMES: usize = 8;
    const LENGTH: usize = 1 << 20;
    /// What they have yet to take of the file would be more.
    const GROWTH_MAX_KIB: u64 = 12 * 1024;
    let tree = Tree::with("file", &noise(LENGTH, 1));
    let server = Launch::run(&tree, "[io]\ninline-max = \"1m\"", "").start();
    for _ in 0..2 {
        assert!(server.get("/file").body == noise(LENGTH, 1));
    }
    let before = server.memory_peak_kib();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect_narrow(server.address))
        .collect();
    for client in &mut clients {
        client.send(get("/file").repeat(TIMES));
    }
    for client in &mut clients {
        client.head();
        // Others are served meanwhile.
        assert_eq!(server.get("/none").status, 404);
    }
    let grown = server.memory_peak_kib() - before;
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    for client in &mut clients {
        assert!(client.body(LENGTH) == noise(LENGTH, 1));
        for _ in 1..TIMES {
            assert!(client.response().body == noise(LENGTH, 1));
        }
    }
}

#[test]
fn readers_that_leave_leave_nothing_open() {
    let tree = tree();
    let server = serve(&tree, "");
    let idle = server.sockets();
    for round in 0..4 {
        let clients = [begun(&server, "/big"), begun(&server, "/dir/")];
        for (at, (client, _)) in clients.into_iter().enumerate() {
            if (round + at) % 2 == 0 {
                client.reset();
            }
        }
        server.wait_for_sockets(idle);
    }
    let root = tree.root();
    let root = root.to_str().expect("a temporary directory in UTF-8");
    // The root, and the three files.
    eventually("no more files than there are", || {
        server.open_files(root) <= 4
    });
    let (mut client, response) = begun(&server, "/big");
    finish(&mut client, &response);
}

#[test]
fn a_client_that_ends_its_side_gets_all_of_them() {
    let tree = tree();
    let server = serve(&tree, "");
    for target in ["/big", "/dir/"] {
        let mut client = server.connect();
        client.send(request(target) + &get("/small"));
        client.finish_sending();
        let response = client.head();
        finish(&mut client, &response);
        assert_eq!(client.response().body, b"small", "{target}");
        client.ends();
    }
}

#[test]
fn they_may_be_the_last_of_a_connection() {
    let tree = tree();
    let last = serve(&tree, "[limits]\nrequests-per-connection = 1");
    let usual = serve(&tree, "");
    for target in ["/big", "/dir/"] {
        for (server, field) in [(&last, "X: y"), (&usual, "Connection: close")] {
            let mut client = server.connect();
            let fields = [RANGES, field];
            client.send(request_with("GET", target, &fields));
            let response = client.head();
            assert!(response.closes(), "{target} {field}");
            finish(&mut client, &response);
            client.ends();
        }
    }
}

#[test]
fn each_has_its_time_and_so_have_those_behind_it() {
    let tree = tree();
    // A time for heads and idle connections that is over long before the bodies are read.
    let server = serve(
        &tree,
        "[timeouts]\nheader = \"50ms\"\nkeep-alive = \"50ms\"",
    );
    for target in ["/big", "/dir/"] {
        let (mut client, response) = begun(&server, target);
        std::thread::sleep(std::time::Duration::from_millis(200));
        // It was sent before the time was over.
        finish(&mut client, &response);
    }
}

#[test]
fn more_of_them_than_there_are_pipes() {
    let tree = tree();
    let server = serve(&tree, "[io]\npipes-per-core = 1");
    let mut clients: Vec<_> = (0..6)
        .map(|at| begun(&server, ["/big", "/dir/"][at % 2]))
        .collect();
    for (client, response) in &mut clients {
        finish(client, response);
    }
}

#[test]
fn files_with_variants_keep_no_more_open_than_they_may() {
    const OPEN_MAX: usize = 16;
    let tree = Tree::new();
    for number in 0..60 {
        for (at, extension) in ["", ".br", ".zst", ".gz"].into_iter().enumerate() {
            let seed = (number * 4 + at) as u64;
            tree.write(&format!("{number}{extension}"), &noise(20_000, seed));
        }
    }
    let config = format!("[cache]\nopen-files-per-core = {OPEN_MAX}");
    let server = serve(&tree, &config);
    let mut client = server.connect();
    for number in 0..60 {
        for (at, coding) in ["identity", "br", "zstd", "gzip"].into_iter().enumerate() {
            let accept = format!("Accept-Encoding: {coding}");
            let response = client.get_with(&format!("/{number}"), &[&accept]);
            let seed = (number * 4 + at) as u64;
            assert!(response.body == noise(20_000, seed), "{number} {coding}");
        }
    }
    let root = tree.root();
    let root = root.to_str().expect("a temporary directory in UTF-8");
    // The root itself is open, too.
    let open = server.open_files(root);
    assert!(open <= OPEN_MAX + 1, "{open}");
}

/// The tree with `big`, `small` and the directory `dir`.
fn tree() -> Tree {
    let tree = Tree::with("big", &noise(LENGTH, 1));
    tree.write("small", b"small");
    tree.fill(
        "dir",
        (0..FILES).map(|number| format!("{number:06}{:x<114}", "")),
    );
    tree
}

fn serve(tree: &Tree, config: &str) -> Server {
    Launch::run(tree, config, SITE).start()
}

fn request(target: &str) -> String {
    request_with("GET", target, &[RANGES])
}

/// A client that has read the head of the answer for `target` and nothing more.
fn begun(server: &Server, target: &str) -> (Client, Response) {
    let mut client = server.connect();
    client.send(request(target));
    let response = client.head();
    (client, response)
}

/// Reads the rest of an answer and checks it.
#[track_caller]
fn finish(client: &mut Client, head: &Response) {
    if head.status == 206 {
        let body = client.body(head.content_length());
        let headers = head.headers.clone();
        let response = Response {
            status: 206,
            headers,
            body,
        };
        let content = noise(LENGTH, 1);
        let parts = response.parts();
        assert_eq!(parts.len(), 3);
        for part in parts {
            let range = part.range.start as usize..part.range.end as usize;
            assert!(part.body == content[range], "{:?}", part.range);
        }
    } else {
        let body = client.chunked_body();
        let page = String::from_utf8(body).expect("a page in UTF-8");
        assert_eq!(page.matches("<data value=").count(), FILES);
        assert!(page.trim_end().ends_with("</html>"));
    }
}
