//! What a client should not send: each gets a clear answer or the end of its connection, never a byte from
//! outside of the root, and the server goes on.

use crate::support::{Client, Response, SECRET, Server, Tree, get, noise, request};

#[test]
fn malformed_heads_are_400() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    for head in [
        // Host: exactly one in HTTP/1.1.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        // The request line.
        "GET\r\nHost: test\r\n\r\n",
        "GET /\r\nHost: test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/x.y\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1 more\r\nHost: test\r\n\r\n",
        "G\u{1}T / HTTP/1.1\r\nHost: test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        // Field lines that servers read differently.
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nA: b\rc: d\r\n\r\n",
        // The end of the body is ambiguous.
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1, 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0x1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        refused(&server, head, &[400]);
    }
    still_serves(&server);
}

/// RFC 9110, section 9.3.2: a client of HEAD takes what follows the head for another response.
#[test]
fn a_refusal_of_head_has_no_content() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    let fields = "A: b\r\n".repeat(200);
    let many = format!("HEAD / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    #[rustfmt::skip] // one row a line
    let table = [
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost : test\r\n\r\n", 400),
        ("HEAD nothing HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: test\r\nExpect: x\r\n\r\n", 417),
        ("HEAD / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("HEAD / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        ("\r\nHEAD / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        (many.as_str(), 431),
    ];
    for (head, status) in table {
        let mut client = server.connect();
        client.send(head);
        let response = client.head();
        assert_eq!(response.status, status, "{head:?}");
        assert!(response.closes(), "{head:?}");
        client.finish_sending();
        client.ends();
    }
    still_serves(&server);
}

#[test]
fn targets_without_meaning_are_400() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    for target in [
        "nothing", "*", "/%", "/%4", "/%zz", "/%00", "http:///", "test:80",
    ] {
        let mut client = server.connect();
        client.send(get(target));
        let response = client.response();
        assert_eq!(response.status, 400, "{target}");
        goes_on_or_ends(&mut client, &response);
    }
}

#[test]
fn other_protocols_are_turned_away() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    refused(&server, "GET / HTTP/2.0\r\nHost: test\r\n\r\n", &[505]);
    for version in [
        "HTTP/01.01",
        "HTTP/1.10",
        "HTTP/ 1.1",
        "HTTP/11.1",
        "HTTP/1.",
        "HTTP/2",
    ] {
        refused(
            &server,
            &format!("GET / {version}\r\nHost: test\r\n\r\n"),
            &[400],
        );
    }
    for host in [
        "[zz::1]",
        "[t.example]",
        "[::1",
        "[v1]",
        "t.example:65536",
        "t.example:x",
        "u@t.example",
        "t%2eexample",
    ] {
        refused(
            &server,
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[400],
        );
        refused(
            &server,
            &format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[400],
        );
    }
    // Not the preface of HTTP/2.
    refused(&server, "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", &[505]);
    let unknown = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n";
    refused(&server, unknown, &[400, 501]);
    // The start of a TLS handshake.
    refused(
        &server,
        "\u{16}\u{3}\u{1}\u{1}\u{3f}\u{1}\0\u{1}\u{3b}\u{3}\u{3}\r\n\r\n",
        &[400],
    );
    still_serves(&server);
}

#[test]
fn too_large_heads_are_431() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    let long = "x".repeat(20_000);
    let value = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {long}\r\n\r\n");
    refused(&server, &value, &[431]);
    let without_end = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {long}{long}");
    refused(&server, &without_end, &[431]);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: test\r\n{}\r\n",
        "A: b\r\n".repeat(200)
    );
    refused(&server, &many, &[431]);
    refused(&server, &get(&format!("/{long}")), &[414, 431]);
    still_serves(&server);
}

#[test]
fn a_head_of_nearly_the_limit_is_served() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for length in [4000, 4096, 8000, 8192, 12_000, 16_000] {
        let filler = "x".repeat(length - 60);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nA: {filler}\r\n\r\n"
        ));
        assert_eq!(client.response().body, b"content", "{length}");
    }
    let many = "A: b\r\n".repeat(90);
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n"));
    assert_eq!(client.response().body, b"content");
}

#[test]
fn other_methods_are_refused() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get", "M-SEARCH",
    ] {
        let mut client = server.connect();
        client.send(request(method, "/"));
        let response = client.response();
        match response.status {
            405 => {
                let allow = response.header("allow").expect("Allow");
                assert!(
                    allow.contains("GET") && allow.contains("HEAD"),
                    "{method}: {allow}"
                );
            }
            status => assert_eq!(status, 501, "{method}"),
        }
        goes_on_or_ends(&mut client, &response);
    }
    let mut client = server.connect();
    client.send(request("CONNECT", "test:80"));
    let response = client.response();
    assert!(matches!(response.status, 400 | 405 | 501), "{response:?}");
    goes_on_or_ends(&mut client, &response);
}

/// A client may send what is meant for the tunnel before it knows that there is none.
#[test]
fn what_follows_connect_is_no_request() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    for fields in ["", "Content-Length: 0\r\n", "Connection: keep-alive\r\n"] {
        for version in ["1.0", "1.1"] {
            let mut client = server.connect();
            let connect = format!("CONNECT test:80 HTTP/{version}\r\nHost: test\r\n{fields}\r\n");
            client.send(connect + &get("/"));
            let response = client.response();
            assert_eq!(response.status, 405, "{fields}");
            assert!(response.closes(), "{fields}");
            client.finish_sending();
            client.ends();
        }
    }
}

#[test]
fn no_path_leads_outside_of_the_root() {
    let tree = Tree::with("nested/index.html", b"content");
    std::fs::create_dir(tree.base().join("www-beside")).unwrap();
    std::fs::write(tree.base().join("www-beside/secret"), SECRET).unwrap();
    tree.link("out", "..");
    tree.link("nested/out", "../..");
    tree.link("to-secret", "../secret");
    let absolute = tree.base().join("secret");
    let absolute = absolute.to_str().expect("a temporary directory in UTF-8");
    tree.link("absolute", absolute);
    let server = Server::serve(&tree);
    let ups = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "..%00",
        "..;",
        "..%20",
        "...",
        "%u002e%u002e",
        "out",
    ];
    let separators = [
        "/", "%2f", "%2F", "\\", "%5c", "%252f", "%c0%af", "//", "/./", "%00/",
    ];
    let mut targets: Vec<String> = Vec::new();
    for up in ups {
        for separator in separators {
            for below in ["secret", "www-beside/secret", "www/../secret"] {
                targets.push(format!("/{up}{separator}{below}"));
                targets.push(format!("/nested/{up}{separator}{up}{separator}{below}"));
                targets.push(format!(
                    "/nested{separator}{up}{separator}{up}{separator}{below}"
                ));
                targets.push(format!("http://test/{up}{separator}{below}"));
            }
            let far = format!("{up}{separator}").repeat(20);
            targets.push(format!("/{far}{}", &absolute[1..]));
            targets.push(format!("{separator}{far}{absolute}"));
        }
    }
    for target in [
        "/to-secret",
        "/absolute",
        "/nested/out/secret",
        "/www-beside/secret",
        "/-beside/secret",
    ] {
        targets.push(target.to_owned());
    }
    for prefix in [
        "",
        "/",
        "//",
        "/%2f",
        "file://",
        "http://test",
        "/proc/self/root",
        "/dev/fd/0/..",
    ] {
        targets.push(format!("{prefix}{absolute}"));
    }
    for target in &targets {
        let mut client = server.connect();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        let answer = client.rest();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(SECRET), "{target}: {answer}");
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 404 "];
        assert!(
            refused.iter().any(|line| answer.starts_with(line)),
            "{target}: {answer}"
        );
    }
    assert_eq!(server.get("/nested/").body, b"content");
}

#[test]
fn noise_does_no_harm() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    for seed in 0..150 {
        let length = 1 + usize::from(noise(2, seed)[0]) * 40;
        answer_to_anything(&server, &noise(length, seed));
    }
    still_serves(&server);
}

#[test]
fn requests_with_wrong_bytes_do_no_harm() {
    let tree = Tree::with("index.html", b"content");
    let server = Server::serve(&tree);
    let body = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let valid = get("/")
        + &format!("POST /a%20b HTTP/1.1\r\nHost: test\r\n{body}\r\n3\r\nabc\r\n0\r\n\r\n");
    for seed in 1..400 {
        let mut bytes = valid.clone().into_bytes();
        let dice = noise(9, seed);
        for change in dice.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            match change[2] % 4 {
                0 => bytes[at] = change[2],
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n\0 :%"[usize::from(change[2]) / 4 % 6]),
            }
            if bytes.len() < 2 {
                break;
            }
        }
        answer_to_anything(&server, &bytes);
    }
    still_serves(&server);
}

#[test]
fn resets_in_the_middle_do_no_harm() {
    let tree = Tree::with("big", &noise(8 << 20, 1));
    let server = Server::serve(&tree);
    let idle = server.sockets();
    for length in [0, 1, 100, 100_000, 4_000_000] {
        for sent in ["", "GET", "GET /big HTTP/1.1\r\nHost: t\r\n\r\n"] {
            let mut client = Client::connect_narrow(server.address);
            client.send(sent);
            if sent.len() > 3 && length > 0 {
                assert_eq!(client.head().status, 200);
                client.body(length);
            }
            client.reset();
        }
    }
    server.wait_for_sockets(idle);
    assert!(server.get("/big").body == noise(8 << 20, 1));
}

/// Checks that `head` is answered with one of `statuses`, and that the connection ends then.
#[track_caller]
fn refused(server: &Server, head: &str, statuses: &[u16]) {
    let mut client = server.connect();
    // It may be refused before all of it is sent.
    let _ = client.try_send(head);
    let shown = &head[..head.len().min(200)];
    let Some(response) = client.response_or_end() else {
        panic!("no answer to {shown:?}");
    };
    assert!(
        statuses.contains(&response.status),
        "{} for {shown:?}",
        response.status
    );
    assert!(response.closes(), "{shown:?}");
    client.finish_sending();
    client.ends();
}

/// Checks that the connection is as `response` says: over, or good for another request.
#[track_caller]
fn goes_on_or_ends(client: &mut Client, response: &Response) {
    if response.closes() {
        client.finish_sending();
        client.ends();
    } else {
        assert_eq!(client.get("/").body, b"content");
    }
}

/// Sends `bytes` and reads until the server ends the connection.
fn answer_to_anything(server: &Server, bytes: &[u8]) {
    let mut client = server.connect();
    let _ = client.try_send(bytes);
    client.finish_sending();
    client.rest();
}

#[track_caller]
fn still_serves(server: &Server) {
    assert_eq!(server.get("/").body, b"content");
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}
