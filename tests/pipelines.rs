//! Requests of every kind behind each other on one connection: each is answered as if it were alone.

use crate::support::{Client, Launch, Response, Server, Tree, get, noise, request_with};

const SITE: &str = r#"
directory-listing = true
spa-fallback = "/app.html"
error-pages = { 404 = "/404.html" }

[[site.headers]]
match = "/**"
set = { cache-control = "max-age=60" }

[[site.redirects]]
from = "/old/*"
to = "/new/$1"

[site.cors]
origins = ["https://a.example"]
"#;

/// A request: method, target, fields, and the status that it leads to.
type Request = (&'static str, &'static str, &'static [&'static str], u16);

#[rustfmt::skip] // one row a line
const REQUESTS: &[Request] = &[
    ("GET", "/small.js", &[], 200),
    ("HEAD", "/small.js", &["Accept-Encoding: br"], 200),
    ("GET", "/small.js", &["Accept-Encoding: br"], 200),
    ("GET", "/large.js", &["Accept-Encoding: gzip"], 200),
    ("GET", "/large.js", &[], 200),
    ("GET", "/large.js", &["Range: bytes=5-70000"], 206),
    ("GET", "/large.js", &["Range: bytes=5-70000,80000-80000,-5"], 206),
    ("GET", "/small.js", &["Range: bytes=0-0,5-9"], 206),
    ("HEAD", "/large.js", &["Range: bytes=5-70000"], 200),
    ("GET", "/small.js", &["Range: bytes=999999-"], 416),
    ("GET", "/small.js", &["If-None-Match: *"], 304),
    ("GET", "/large.js", &["If-Match: \"other\"", "Range: bytes=0-0"], 412),
    ("GET", "/dir", &[], 301),
    ("GET", "/old/x?y", &[], 301),
    ("GET", "/dir/", &[], 200),
    ("GET", "/dir/", &["Accept: application/json"], 200),
    ("HEAD", "/dir/", &[], 200),
    ("GET", "/none.js", &[], 404),
    ("HEAD", "/none.js", &[], 404),
    ("GET", "/route", &["Sec-Fetch-Mode: navigate"], 200),
    ("GET", "/empty", &[], 200),
    ("GET", "/empty", &["Range: bytes=0-"], 200),
    ("OPTIONS", "/small.js", &["Origin: https://a.example", "Access-Control-Request-Method: GET"], 204),
    ("OPTIONS", "*", &[], 204),
    ("GET", "/large.js", &["Origin: https://a.example"], 200),
    ("POST", "/small.js", &["Content-Length: 0"], 405),
    ("BREW", "/small.js", &[], 501),
    ("GET", "/%zz", &[], 400),
];

#[test]
fn each_request_of_a_pipeline_is_answered_as_if_alone() {
    let tree = mixed();
    for config in [
        "",
        "[io]\ninline-max = \"1m\"",
        "[io]\ninline-max = 0\n[cache]\nhot-bytes-per-core = 0\nvalid = \"0s\"",
    ] {
        let server = Launch::run(&tree, config, SITE).start();
        let alone = alone(&server);
        for seed in 0..8 {
            let order: Vec<_> = noise(150, seed)
                .into_iter()
                .map(|byte| usize::from(byte) % REQUESTS.len())
                .collect();
            let mut client = server.connect();
            client.send(
                order
                    .iter()
                    .map(|at| text(&REQUESTS[*at]))
                    .collect::<String>(),
            );
            for at in order {
                same(&mut client, at, &alone);
            }
        }
        server.stop();
    }
}

#[test]
fn a_pipeline_may_be_cut_anywhere() {
    let tree = mixed();
    let server = Launch::run(&tree, "", SITE).start();
    let alone = alone(&server);
    let order = [7, 10, 2, 12, 14, 22, 9, 17];
    let requests: String = order.iter().map(|at| text(&REQUESTS[*at])).collect();
    for cut in 1..requests.len() {
        let (first, second) = requests.split_at(cut);
        let mut client = server.connect();
        client.send(first);
        // Lets the server see the first part alone, most of the time.
        std::thread::yield_now();
        client.send(second);
        for at in order {
            same(&mut client, at, &alone);
        }
    }
}

#[test]
fn many_clients_get_what_each_asked_for() {
    let tree = mixed();
    let server = Launch::run(&tree, "", SITE).start();
    let alone = alone(&server);
    std::thread::scope(|scope| {
        for start in 0..6 {
            let (address, alone) = (server.address, &alone);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for step in 0..4 * REQUESTS.len() {
                    let at = (start * 5 + step) % REQUESTS.len();
                    client.send(text(&REQUESTS[at]));
                    same(&mut client, at, alone);
                }
            });
        }
    });
    server.stop();
}

#[test]
fn requests_go_on_behind_each_kind_of_answer() {
    let tree = mixed();
    let server = Launch::run(&tree, "", SITE).start();
    for request in REQUESTS {
        let mut client = server.connect();
        client.send(text(request) + &get("/small.js"));
        match request.0 {
            "HEAD" => client.head(),
            _ => client.response(),
        };
        assert!(client.response().body == noise(1000, 1), "{request:?}");
    }
}

/// The answer to each of [`REQUESTS`] on a connection of its own.
fn alone(server: &Server) -> Vec<Response> {
    let ask = |request: &Request| {
        let (method, target, fields, status) = request;
        let response = server.connect().ask(method, target, fields);
        assert_eq!(response.status, *status, "{request:?}");
        assert!(!response.closes(), "{request:?}");
        response
    };
    // What is found now is in the caches for the second time.
    for request in REQUESTS {
        ask(request);
    }
    REQUESTS.iter().map(ask).collect()
}

fn text((method, target, fields, _): &Request) -> String {
    request_with(method, target, fields)
}

/// Reads the answer to the request with this number and compares it with the one it had alone.
#[track_caller]
fn same(client: &mut Client, at: usize, alone: &[Response]) {
    let request = &REQUESTS[at];
    let response = match request.0 {
        "HEAD" => client.head(),
        _ => client.response(),
    };
    let expected = &alone[at];
    assert_eq!(response.status, request.3, "{request:?}");
    let is_multipart = |response: &Response| {
        let content_type = response.header("content-type");
        content_type.is_some_and(|value| value.starts_with("multipart/"))
    };
    if is_multipart(expected) {
        // The boundary is another one each time.
        assert!(response.parts() == expected.parts(), "{request:?}");
        return;
    }
    assert_eq!(
        response.steady_headers(),
        expected.steady_headers(),
        "{request:?}"
    );
    assert!(response.body == expected.body, "{request:?}");
}

fn mixed() -> Tree {
    let tree = Tree::new();
    tree.write("small.js", &noise(1000, 1));
    tree.write("small.js.br", &noise(500, 2));
    tree.write("large.js", &noise(100_000, 3));
    tree.write("large.js.gz", &noise(50_000, 4));
    tree.write("empty", b"");
    tree.write("app.html", b"the application");
    tree.write("404.html", b"nothing here");
    tree.fill("dir", (0..300).map(|number| number.to_string()));
    tree
}
