//! What a connection does between its first request and its end.

use std::thread;
use std::time::Duration;

use crate::support::{Client, Launch, Server, Tree, get, noise, request, request_with};

/// A tree with something of every size class.
fn mixed() -> Tree {
    let tree = Tree::new();
    tree.write("small", &noise(1000, 1));
    tree.write("middle", &noise(40_000, 2));
    tree.write("large", &noise(700_000, 3));
    tree.write("empty", b"");
    tree
}

#[test]
fn many_requests_share_a_connection() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for _ in 0..500 {
        let response = client.get("/small");
        assert!(response.body == noise(1000, 1));
        assert!(!response.closes());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    let round = ["/small", "/none", "/large", "/empty", "/middle", "/small"];
    let mut requests = String::new();
    for _ in 0..20 {
        for target in round {
            requests += &get(target);
        }
        requests += &request("HEAD", "/large");
    }
    client.send(requests);
    for _ in 0..20 {
        for target in round {
            let response = client.response();
            check(target, response.status, &response.body);
        }
        let head = client.head();
        assert_eq!(head.content_length(), 700_000);
    }
    assert_eq!(client.get("/empty").status, 200);
}

#[test]
fn pipelined_requests_may_be_cut_anywhere() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let requests = get("/small") + &get("/middle") + &request("HEAD", "/small") + &get("/none");
    for cut in 1..requests.len() {
        let (first, second) = requests.split_at(cut);
        let mut client = server.connect();
        client.send(first);
        // Lets the server see the first part alone, most of the time.
        thread::yield_now();
        client.send(second);
        assert!(client.response().body == noise(1000, 1), "cut at {cut}");
        assert!(client.response().body == noise(40_000, 2), "cut at {cut}");
        assert_eq!(client.head().content_length(), 1000, "cut at {cut}");
        assert_eq!(client.response().status, 404, "cut at {cut}");
    }
}

#[test]
fn a_head_may_come_a_byte_at_a_time() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in ["/small", "/large"] {
        for byte in get(target).bytes() {
            client.send([byte]);
            thread::sleep(Duration::from_millis(1));
        }
        let response = client.response();
        check(target, response.status, &response.body);
    }
}

#[test]
fn connection_close_ends_it() {
    let tree = mixed();
    let server = Server::serve(&tree);
    for target in ["/small", "/large", "/empty", "/none"] {
        let mut client = server.connect();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        let response = client.response();
        check(target, response.status, &response.body);
        assert!(response.closes(), "{target}");
        client.ends();
    }
}

#[test]
fn http_1_0_ends_it_unless_asked_to_stay() {
    let tree = mixed();
    let server = Server::serve(&tree);
    for target in ["/small", "/large", "/none"] {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        let response = client.response();
        check(target, response.status, &response.body);
        client.ends();
    }
    let mut client = server.connect();
    client.send("GET /small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    check("/small", response.status, &response.body);
    if response
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"))
    {
        check("/small", 200, &client.get("/small").body);
    } else {
        client.ends();
    }
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answers() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    client.send(get("/large") + &get("/small"));
    client.finish_sending();
    check("/large", 200, &client.response().body);
    check("/small", 200, &client.response().body);
    client.ends();
}

#[test]
fn targets_come_in_several_forms() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for target in [
        "http://test/small",
        "http://other.example:8080/small?query",
        "/small?a=/../b",
        "/./small",
        "/x/../small",
        "/%73mall",
    ] {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{target}");
        check("/small", 200, &response.body);
    }
    assert_eq!(server.get("*").status, 400);
}

#[test]
fn an_empty_line_before_a_request_is_forgiven() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for _ in 0..3 {
        client.send("\r\n");
        check("/small", 200, &client.get("/small").body);
    }
}

#[test]
fn a_slow_reader_gets_the_same_bytes() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let slow = |target: &'static str, seed| {
        let mut client = Client::connect_narrow(server.address);
        client.send(get(target));
        let length = client.head().content_length();
        let mut body = Vec::new();
        while body.len() < length {
            body.extend(client.body((length - body.len()).min(2000)));
            thread::sleep(Duration::from_micros(500));
        }
        assert!(body == noise(length, seed));
        check("/small", 200, &client.get("/small").body);
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| slow("/middle", 2));
            scope.spawn(|| slow("/large", 3));
        }
    });
}

#[test]
fn the_body_of_a_request_is_passed_over() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let inside = get("/middle");
    let length = inside.len();
    let bodies = [
        format!("Content-Length: {length}\r\n\r\n{inside}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inside}\r\n0\r\n\r\n"),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{length:X};a=b\r\n{inside}\r\n0\r\nTrailer: x\r\n\r\n"
        ),
        "Content-Length: 0\r\n\r\n".to_owned(),
    ];
    for body in &bodies {
        for (method, status) in [("POST", 405), ("GET", 200)] {
            let mut client = server.connect();
            client.send(format!(
                "{method} /small HTTP/1.1\r\nHost: test\r\n{body}{}",
                get("/large")
            ));
            let response = client.response();
            assert_eq!(response.status, status, "{method} {body:?}");
            after_a_body(&mut client, response.closes());
        }
    }
}

#[test]
fn a_body_too_large_to_pass_over_ends_the_connection() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    client.send("POST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n");
    client.send(noise(200_000, 9));
    let response = client.response();
    assert_eq!(response.status, 405);
    assert!(response.closes());
    // The answer is not lost to a reset although this side goes on sending.
    client.finish_sending();
    client.ends();
}

#[test]
fn an_answer_waits_for_a_client_that_sends_all_of_a_large_body_first() {
    const LENGTH: usize = 10_000_000;
    let tree = mixed();
    let server = Server::serve(&tree);
    let body = noise(LENGTH, 9);
    for (method, status) in [("POST", 405), ("PUT", 405), ("GET", 200)] {
        let mut client = server.connect();
        let head = format!("Host: test\r\nContent-Length: {LENGTH}\r\n\r\n");
        client.send(format!("{method} /small HTTP/1.1\r\n{head}"));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.status, status, "{method}");
        assert!(response.closes(), "{method}");
        client.ends();
    }
}

#[test]
fn a_chunked_body_without_end_ends_the_connection() {
    let tree = mixed();
    let server = Server::serve(&tree);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let sent = (0..1000)
        .take_while(|_| client.try_send(&chunk).is_ok())
        .count();
    assert!(sent < 1000, "65 MB of a body were taken");
}

#[test]
fn an_expectation_does_not_hold_the_answer_back() {
    let tree = mixed();
    let server = Server::serve(&tree);
    for method in ["POST", "GET"] {
        let mut client = server.connect();
        let head = "Host: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.send(format!("{method} /small HTTP/1.1\r\n{head}"));
        let mut response = client.head();
        if response.status == 100 {
            client.send("12345");
            response = client.head();
        }
        assert!(matches!(
            (method, response.status),
            ("POST", 405) | ("GET", 200) | (_, 417)
        ));
        client.body(response.content_length());
        if response.closes() {
            client.finish_sending();
            client.ends();
        }
    }
}

#[test]
fn a_connection_has_a_last_request() {
    let tree = mixed();
    let limits = "[limits]\nrequests-per-connection = 3";
    let server = Launch::run(&tree, limits, "").start();
    let mut client = server.connect();
    client.send(get("/small").repeat(5));
    for last in [false, false, true] {
        let response = client.response();
        check("/small", response.status, &response.body);
        assert_eq!(response.closes(), last);
    }
    client.ends();
}

/// RFC 9112, section 9.6: to close with bytes unread, or before they come, would reset the connection
/// and take from the client what it has not read of its response.
#[test]
fn the_last_response_survives_requests_that_come_behind_it() {
    let content = noise(500_000, 1);
    let tree = Tree::with("file", &content);
    let server = Launch::run(&tree, "[limits]\nrequests-per-connection = 1", "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/file"));
    // Time for the server to have sent all and to be done with it.
    thread::sleep(Duration::from_millis(300));
    client.send(get("/file"));
    let response = client.response();
    assert!(response.closes() && response.body == content);
    client.ends();
}

/// Closing a socket with unread bytes sends a reset, which may overtake the
/// response.
#[test]
fn what_comes_behind_the_last_request_makes_no_reset() {
    let server = Server::serve(&mixed());
    for behind in [1, 64 * 1024, 4 * 1024 * 1024] {
        let mut client = server.connect();
        let mut bytes = request_with("GET", "/", &["Connection: close"]).into_bytes();
        bytes.resize(bytes.len() + behind, b'x');
        client.send(bytes);
        client.finish_sending();
        assert!(client.response().closes());
        assert!(!client.ends_with_reset(), "{behind}");
    }
}

/// Checks the response to `target` of the tree [`mixed`].
#[track_caller]
fn check(target: &str, status: u16, body: &[u8]) {
    let expected = match target {
        "/small" => noise(1000, 1),
        "/middle" => noise(40_000, 2),
        "/large" => noise(700_000, 3),
        "/empty" => Vec::new(),
        _ => return assert_eq!(status, 404, "{target}"),
    };
    assert_eq!(status, 200, "{target}");
    assert!(body == expected, "{target}");
}

/// Checks that what follows a request with a body is the answer to `/large`, or the end of the connection
/// when the head before said so.
#[track_caller]
fn after_a_body(client: &mut Client, closed: bool) {
    if closed {
        client.ends();
    } else {
        check("/large", 200, &client.response().body);
    }
}
