//! The access log: a line for each request, wherever it goes and whatever befalls it there.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{LISTEN, admin};
use crate::support::http2::Http2;
use crate::support::{
    Authority, Client, Launch, Server, Tree, eventually, get, mounts, noise, request_with,
};

/// Bytes of a file that no socket takes at once.
const LARGE: usize = 16 << 20;

/// The path of the log in all tests, relative to the configuration.
const PATH: &str = "access.log";

fn tree() -> Tree {
    let tree = Tree::with("small", b"content");
    tree.write("large", &noise(LARGE, 1));
    tree
}

/// A server whose log has `keys` besides its path.
fn logging(tree: &Tree, keys: &str) -> Server {
    start(tree, &format!("path = '{PATH}'\n{keys}"))
}

/// A server with these keys of its log.
fn start(tree: &Tree, keys: &str) -> Server {
    let config = format!("{LISTEN}[access-log]\n{keys}");
    Launch::run(tree, &config, "").start()
}

fn log(tree: &Tree) -> PathBuf {
    tree.base().join(PATH)
}

fn text(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8(text).expect("a log in UTF-8")
}

/// The lines of the log, once there are `count`; all of them are whole.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let mut read = String::new();
    eventually(&format!("{count} lines"), || {
        read = text(path);
        read.matches('\n').count() >= count
    });
    assert!(read.ends_with('\n'), "{read}");
    let lines: Vec<_> = read.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{read}");
    lines
}

/// The objects of a log in JSON.
#[track_caller]
fn objects(path: &Path, count: usize) -> Vec<Value> {
    let lines = lines(path, count);
    let parsed = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect(line));
    parsed.collect()
}

/// The number of lines that the server says it dropped.
#[track_caller]
fn dropped(server: &Server) -> u64 {
    let metrics = Client::connect(admin(server)).get("/metrics");
    let mut lines = metrics.text().lines();
    let count =
        lines.find_map(|line| line.strip_prefix("tidegate_access_log_lines_dropped_total "));
    count
        .and_then(|count| count.parse().ok())
        .expect("a counter")
}

/// A line without the time in brackets.
fn timeless(line: &str) -> String {
    let (before, rest) = line.split_once('[').expect("a time");
    let (time, after) = rest.split_once(']').expect("its end");
    let shape: String = time
        .chars()
        .map(|char| if char.is_ascii_digit() { '0' } else { char })
        .collect();
    assert!(
        shape.starts_with("00/") && shape.ends_with("/0000:00:00:00 +0000"),
        "{time}"
    );
    format!("{before}[]{after}")
}

#[test]
fn a_combined_line_is_that_of_nginx() {
    let tree = tree();
    let server = logging(&tree, "");
    let mut client = server.connect();
    let fields = [
        "Referer: http://a/",
        "User-Agent: x/1",
        "Authorization: Basic bWU6cHc=",
    ];
    client.ask("GET", "/small?a=b", &fields);
    client.ask("HEAD", "/none", &[]);
    client.ask("GET", "/large", &["Range: bytes=5-9"]);
    client.send(get("/small").repeat(3));
    for _ in 0..3 {
        assert_eq!(client.response().status, 200);
    }
    let lines = lines(&log(&tree), 6);
    let expected = [
        "127.0.0.1 - me [] \"GET /small?a=b HTTP/1.1\" 200 7 \"http://a/\" \"x/1\"",
        "127.0.0.1 - - [] \"HEAD /none HTTP/1.1\" 404 0 \"-\" \"-\"",
        "127.0.0.1 - - [] \"GET /large HTTP/1.1\" 206 5 \"-\" \"-\"",
        "127.0.0.1 - - [] \"GET /small HTTP/1.1\" 200 7 \"-\" \"-\"",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(timeless(line), expected);
    }
    let mode = log(&tree).metadata().expect("the log").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    server.stop();
}

#[test]
fn a_json_line_is_an_object() {
    let tree = tree();
    tree.write("text.html", &b"a".repeat(2000));
    let server = logging(&tree, "format = 'json'");
    server.connect().ask("GET", "/small", &["User-Agent: x"]);
    let [object] = &objects(&log(&tree), 1)[..] else {
        panic!("one line");
    };
    let rows = [
        ("remote_addr", "\"127.0.0.1\""),
        ("host", "\"test.localhost\""),
        ("scheme", "\"http\""),
        ("request_method", "\"GET\""),
        ("request_uri", "\"/small\""),
        ("server_protocol", "\"HTTP/1.1\""),
        ("status", "200"),
        ("body_bytes_sent", "7"),
        ("complete", "true"),
        ("cold", "false"),
        ("http_user_agent", "\"x\""),
        ("ssl_protocol", "\"\""),
    ];
    for (name, expected) in rows {
        assert_eq!(object[name].to_string(), expected, "{name}");
    }
    let number = |name: &str| object[name].as_f64().expect(name);
    assert!(number("bytes_sent") > 100.0);
    assert!(number("first_byte_time") <= number("request_time"));
    assert!(number("request_time") > 0.0, "{object}");
    assert!(number("msec") > 1.6e9);
}

#[test]
fn json_of_ones_own_is_valid_without_values() {
    let tree = tree();
    let socket = tree.base().join("socket");
    let format = "{\"port\":$server_port,\"rtt\": $tcpinfo_rtt,\"age\":[$sent_http_age,$status],\
                  \"name\":\"$server_port\",\"last\":$http_x}";
    let config = format!(
        "[[listen]]\naddress = \"unix:{}\"\n[access-log]\npath = '{PATH}'\nformat = '{format}'\n\
         [[site]]\nroot = \"{}\"",
        socket.display(),
        tree.root().display()
    );
    let server = Launch::run_sites(&tree, "", &config).start();
    assert_eq!(Client::connect_unix(&socket).get("/small").status, 200);
    server.get("/small");
    let [unix, tcp] = &objects(&log(&tree), 2)[..] else {
        panic!("two lines");
    };
    let expected = "{\"age\":[null,200],\"last\":null,\"name\":\"\",\"port\":null,\"rtt\":null}";
    assert_eq!(unix.to_string(), expected);
    assert!(tcp["port"].is_u64() && tcp["rtt"].is_u64(), "{tcp}");
}

/// What a format of one's own writes of one request.
#[track_caller]
fn values(server: &Server, tree: &Tree, request: &str) -> Vec<String> {
    let before = text(&log(tree)).lines().count();
    let mut client = server.connect();
    client.send(request);
    client.response();
    let lines = lines(&log(tree), before + 1);
    lines[before].split('|').map(str::to_owned).collect()
}

#[test]
fn a_format_of_ones_own_has_every_value() {
    let tree = Tree::new();
    tree.write("b c.html", &b"a".repeat(2000));
    tree.write("b c.html.gz", &b"a".repeat(1000));
    let format = "$scheme|$host|$uri|$args|$server_protocol|$coding|$sent_http_content_type|\
         $sent_http_content_length|$sent_http_x_none|$request_length|$connection_requests|\
         $server_addr|$server_port|$remote_port|$pid|$core|$request_completion|$tcpinfo_snd_cwnd|\
         $tcpinfo_total_retrans|$http_x_a|$server_name|$$|$ssl_cipher";
    let config = format!("{LISTEN}[access-log]\npath = '{PATH}'\nformat = '{format}'");
    let server = Launch::run(&tree, &config, "names = ['one.test', 'two.test']").start();
    let fields = [
        "Host: TWO.test:80",
        "Accept-Encoding: gzip",
        "X-A: 1",
        "X-A: 2",
    ];
    let request = request_with("GET", "/x/../b%20c.html?q=1&r", &fields);
    let values = values(&server, &tree, &request);
    let port = server.address.port().to_string();
    let length = request.len().to_string();
    let pid = server.id().to_string();
    let expected = [
        "http",
        "two.test",
        "/b c.html",
        "q=1&r",
        "HTTP/1.1",
        "gzip",
        "text/html; charset=utf-8",
        "1000",
        "-",
        &length,
        "1",
        "127.0.0.1",
        &port,
        "",
        &pid,
        "",
        "OK",
        "",
        "0",
        "1",
        "one.test",
        "$",
        "-",
    ];
    for (number, (value, expected)) in values.iter().zip(expected).enumerate() {
        if expected.is_empty() {
            assert!(value.parse::<u64>().is_ok(), "{number}: {value}");
        } else {
            assert_eq!(value, expected, "{number}");
        }
    }
    assert_eq!(values.len(), expected.len());
}

#[test]
fn no_client_can_forge_a_line() {
    let tree = tree();
    for format in ["combined", "json"] {
        let path = log(&tree);
        let _ = fs::remove_file(&path);
        let server = logging(&tree, &format!("format = '{format}'"));
        let hostile = [
            "a\" 200 1 \"-\" \"-",
            "\u{1}\u{1b}[2J\\",
            "\u{7f}\t\u{e4}\u{2028}",
            "\"},{\"status\":0",
        ];
        for value in hostile {
            let mut client = server.connect();
            client.send(request_with(
                "GET",
                "/small",
                &[&format!("User-Agent: {value}")],
            ));
            client.response_or_end();
        }
        let raw: [&[u8]; 3] = [
            b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nUser-Agent: \xc3\xff\r\n\r\n",
            b"GET /\"\x1b\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\"\\ \r\n\r\n",
        ];
        for bytes in raw {
            let mut client = server.connect();
            client.send(bytes);
            client.response_or_end();
        }
        let lines = lines(&path, hostile.len() + raw.len());
        for line in lines {
            assert!(!line.contains(|char: char| char.is_control()), "{line}");
            if format == "json" {
                let object: Value = serde_json::from_str(&line).expect(&line);
                assert!(object["status"].as_u64() > Some(100), "{line}");
            } else {
                assert!(line.is_ascii(), "{line}");
                assert_eq!(line.matches('"').count(), 6, "{line}");
            }
        }
        server.stop();
    }
}

#[test]
fn requests_that_are_refused_have_a_line() {
    let tree = tree();
    let config = format!(
        "[timeouts]\nheader = '200ms'\n[access-log]\npath = '{PATH}'\n\
         format = '$status $request_method $request_uri $request $complete'"
    );
    let server = Launch::run(&tree, &config, "").start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let mut slow = server.connect();
    slow.send("GET /slow HTTP/1.1\r\nHos");
    assert_eq!(slow.response().status, 408);
    server.connect().ask("BREW", "/pot", &[]);
    let lines = lines(&log(&tree), 3);
    let expected = [
        "400 - - GET / HTTP/1.1 true",
        "408 - - GET /slow HTTP/1.1 true",
        "501 BREW /pot BREW /pot HTTP/1.1 true",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_long_value_is_cut() {
    let tree = tree();
    let server = logging(&tree, "format = 'json'");
    let long = "\\\"".repeat(3000);
    server.connect().ask(
        "GET",
        "/small",
        &[&format!("User-Agent: {long}"), &format!("Referer: {long}")],
    );
    server.connect().get("/small");
    let objects = objects(&log(&tree), 2);
    let length = |name: &str| objects[0][name].as_str().expect(name).len();
    assert_eq!(length("http_referer"), 4096);
    assert!((1..4096).contains(&length("http_user_agent")));
    assert!(lines(&log(&tree), 2)[0].len() < 24 * 1024);
    assert_eq!(objects[1]["http_user_agent"], "");
}

#[test]
fn each_site_has_its_own_log_or_none() {
    let tree = tree();
    let root = tree.root();
    let root = root.display();
    let config = "[access-log]\npath = 'access.log'\nformat = '$host $status'";
    let sites = format!(
        "[[site]]\nroot = '{root}'\n\
         [[site]]\nnames = ['off.test']\nroot = '{root}'\n[site.access-log]\npath = ''\n\
         [[site]]\nnames = ['own.test']\nroot = '{root}'\n[site.access-log]\npath = 'own.log'\n\
         [[site]]\nnames = ['same.test']\nroot = '{root}'\n[site.access-log]\nformat = 's $host'\n"
    );
    let server = Launch::run_sites(&tree, config, &sites).start();
    for host in ["a.test", "off.test", "own.test", "same.test"] {
        server
            .connect()
            .ask("GET", "/small", &[&format!("Host: {host}")]);
    }
    server.stop();
    assert_eq!(text(&log(&tree)), "a.test 200\ns same.test\n");
    assert_eq!(text(&tree.base().join("own.log")), "own.test 200\n");
}

#[test]
fn a_line_may_depend_on_the_status_and_on_chance() {
    let tree = tree();
    let server = logging(&tree, "format = '$status'\nonly = ['4xx', '304']");
    let mut client = server.connect();
    let tag = client.get("/small").etag().to_owned();
    client.ask("GET", "/small", &[&format!("If-None-Match: {tag}")]);
    client.get("/none");
    client.ask("BREW", "/small", &[]);
    server.stop();
    assert_eq!(text(&log(&tree)), "304\n404\n");

    fs::remove_file(log(&tree)).expect("the log");
    let server = logging(&tree, "format = '$status'\nsample = 0.25");
    let mut client = server.connect();
    for _ in 0..40 {
        client.send(get("/small").repeat(50));
        for _ in 0..50 {
            client.response();
        }
    }
    server.stop();
    let count = text(&log(&tree)).lines().count();
    assert!((300..700).contains(&count), "{count} of 2000");
}

#[test]
fn a_large_response_has_its_line_at_its_end() {
    let tree = tree();
    let server = logging(&tree, "format = 'json'");
    File::open(tree.path("large"))
        .expect("the file")
        .sync_all()
        .expect("on disk");
    let advice = rustix::fs::Advice::DontNeed;
    let file = File::open(tree.path("large")).expect("the file");
    rustix::fs::fadvise(&file, 0, None, advice).expect("advice");
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/large"));
    thread::sleep(Duration::from_millis(700));
    assert_eq!(text(&log(&tree)), "", "it has not ended");
    assert_eq!(client.response().body.len(), LARGE);
    let object = &objects(&log(&tree), 1)[0];
    assert_eq!(object["body_bytes_sent"], LARGE);
    assert_eq!(object["complete"], true);
    assert!(object["request_time"].as_f64() > Some(0.7), "{object}");
    assert!(object["first_byte_time"].as_f64() < Some(0.7), "{object}");
}

#[test]
fn a_client_that_leaves_has_a_line_that_says_so() {
    let tree = tree();
    let server = logging(&tree, "format = 'json'");
    let mut client = Client::connect_narrow(server.address);
    client.send(request_with("GET", "/large", &["User-Agent: leaves"]));
    thread::sleep(Duration::from_millis(100));
    drop(client);
    let object = &objects(&log(&tree), 1)[0];
    assert_eq!(object["status"], 200);
    assert_eq!(object["complete"], false);
    assert_eq!(object["remote_addr"], "127.0.0.1");
    assert_eq!(object["http_user_agent"], "leaves");
    assert!(
        object["body_bytes_sent"].as_u64() < Some(LARGE as u64),
        "{object}"
    );
}

#[test]
fn tls_is_in_the_line() {
    let tree = tree();
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let config = format!(
        "[access-log]\npath = '{PATH}'\nformat = '$scheme $ssl_protocol $ssl_cipher $ssl_server_name $ssl_alpn_protocol $status'"
    );
    let server = Launch::secure(&tree, &config, "", &[&files]).start();
    for target in ["/small", "/large"] {
        Client::secure(server.address, &authority.client()).get(target);
    }
    for line in lines(&log(&tree), 2) {
        let suite = line.strip_prefix("https TLSv1.3 TLS_AES_");
        assert!(
            suite.is_some_and(|rest| rest.ends_with(" localhost http/1.1 200")),
            "{line}"
        );
    }
}

#[test]
fn http2_is_in_the_line() {
    let tree = tree();
    let format =
        "format = '$request|$server_protocol|$status|$host|$connection_requests|$http_cookie'";
    let server = logging(&tree, format);
    let mut client = Http2::connect(server.address);
    client.get("/small?q=1");
    client.ask("HEAD", "/large", &[("cookie", "a=1"), ("cookie", "b=2")]);
    client.ask("POST", "/none", &[]);
    assert_eq!(
        lines(&log(&tree), 3),
        [
            "GET /small?q=1 HTTP/2.0|HTTP/2.0|200|test|1|-",
            "HEAD /large HTTP/2.0|HTTP/2.0|200|test|2|a=1; b=2",
            "POST /none HTTP/2.0|HTTP/2.0|405|test|3|-",
        ]
    );
}

#[test]
fn serve_shows_a_line_for_each_request() {
    let tree = tree();
    let server = Launch::serve(tree.root()).argument("--log").start();
    server.get("/small");
    server.get("/none");
    eventually("two lines", || {
        let log = server.log();
        let line = |status, path, bytes| {
            let start = format!("127.0.0.1 {status} GET http://test.localhost{path} {bytes} 0.");
            log.lines()
                .any(|line| line.starts_with(&start) && line.ends_with('s'))
        };
        line(200, "/small", 7) && log.contains("127.0.0.1 404 GET http://test.localhost/none ")
    });
    assert!(server.next_line().starts_with("serving "));
}

/// Starts a server with its standard output at `path`, opened by the shell as `redirect` says. What
/// it prints at the start is on standard error then.
fn start_with_output(tree: &Tree, format: &str, redirect: &str, path: &Path) -> Server {
    let config = format!("{LISTEN}[access-log]\npath = '-'\nformat = '{format}'");
    let script = format!(
        "exec 8>&1 9>&2; exec \"$@\" {redirect}'{}' \
         2> >(tee /dev/fd/9 | grep --line-buffered ^listening >&8)",
        path.display()
    );
    Launch::run(tree, &config, "")
        .through(["bash", "-c", &script, "bash"])
        .start()
}

#[test]
fn standard_output_can_be_the_log_and_has_nothing_else() {
    let tree = tree();
    let path = log(&tree);
    let server = start_with_output(&tree, "line $status", ">", &path);
    server.get("/small");
    assert_eq!(lines(&path, 1), ["line 200"]);
    server.stop();
}

/// Asks for a small file until told to stop, and counts the responses.
fn load(address: SocketAddr, stop: &AtomicBool, count: &AtomicUsize) {
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        client.send(get("/small").repeat(16));
        for _ in 0..16 {
            assert_eq!(client.response().status, 200);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_rotation_under_load_loses_no_line() {
    let tree = tree();
    let config = format!("[access-log]\npath = '{PATH}'\nformat = '$status $request'");
    let limits = "[limits]\nrequests-per-connection = 1000000000\n";
    let config = format!("{LISTEN}{limits}{config}");
    let server = Launch::run(&tree, &config, "").start();
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = server.address;
    let rotated = |number: usize| tree.base().join(format!("access.log.{number}"));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| load(address, &stop, &count));
        }
        for number in 0..10 {
            thread::sleep(Duration::from_millis(150));
            fs::rename(log(&tree), rotated(number)).expect("a rotation");
            server.signal(Signal::USR1);
            eventually("a new file", || log(&tree).exists());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(dropped(&server), 0);
    server.stop();
    let mut total = text(&log(&tree));
    for number in 0..10 {
        let part = text(&rotated(number));
        assert!(part.is_empty() || part.ends_with('\n'), "{number}");
        total += &part;
    }
    let lines: Vec<_> = total.lines().collect();
    assert!(lines.iter().all(|line| *line == "200 GET /small HTTP/1.1"));
    assert_eq!(lines.len(), count.into_inner());
}

#[test]
fn a_file_that_is_truncated_goes_on_at_its_start() {
    let tree = tree();
    let server = logging(&tree, "format = '$status'");
    server.get("/small");
    lines(&log(&tree), 1);
    File::options()
        .write(true)
        .truncate(true)
        .open(log(&tree))
        .expect("copytruncate");
    server.get("/none");
    assert_eq!(lines(&log(&tree), 1), ["404"]);
}

#[test]
fn a_stop_writes_what_waits() {
    let tree = tree();
    for signal in [Signal::TERM, Signal::INT] {
        let _ = fs::remove_file(log(&tree));
        let mut server = logging(&tree, "format = '$status $complete'");
        for _ in 0..5 {
            server.get("/small");
        }
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(text(&log(&tree)), "200 true\n".repeat(5));
    }
}

#[test]
fn a_response_that_a_stop_cuts_off_has_a_line() {
    let tree = tree();
    let config = format!(
        "graceful-timeout = '0s'\n[access-log]\npath = '{PATH}'\nformat = '$status $complete'"
    );
    let mut server = Launch::run(&tree, &config, "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/large"));
    thread::sleep(Duration::from_millis(200));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(text(&log(&tree)), "200 false\n");
}

#[test]
fn a_path_that_cannot_be_opened_refuses_the_start() {
    let tree = tree();
    fs::create_dir(tree.base().join("directory")).expect("a directory");
    let rows = [
        (
            "none/access.log",
            "none/access.log: No such file or directory",
            "its directory must exist",
        ),
        (
            "directory",
            "directory: Is a directory",
            "name a file in it",
        ),
        (
            "secret/access.log",
            "secret/access.log: Not a directory",
            "",
        ),
    ];
    for (path, reason, remedy) in rows {
        let config = format!("[access-log]\npath = '{path}'");
        for command in ["run", "check"] {
            let launch = Launch::run(&tree, &config, "");
            let launch = if command == "check" {
                Launch::with(["check"]).argument(tree.base().join("tidegate.toml"))
            } else {
                launch
            };
            let output = launch.output();
            let words = [
                "tidegate.toml:4: access-log.path: cannot open",
                reason,
                remedy,
            ];
            output.refusal(1, &words);
        }
        assert!(!tree.base().join("none").exists());
    }
    let config = "[access-log]\npath = 'new.log'";
    drop(Launch::run(&tree, config, ""));
    let check = Launch::with(["check"]).argument(tree.base().join("tidegate.toml"));
    check.output().success();
    assert!(
        !tree.base().join("new.log").exists(),
        "a check makes no file"
    );
}

#[test]
fn a_removed_directory_is_written_to_once_it_is_back() {
    let tree = tree();
    let directory = tree.base().join("logs");
    fs::create_dir(&directory).expect("a directory");
    let path = directory.join("access.log");
    let server = start(&tree, "path = 'logs/access.log'\nformat = '$status'");
    server.get("/small");
    lines(&path, 1);
    fs::remove_dir_all(&directory).expect("no directory");
    server.signal(Signal::USR1);
    server.get("/none");
    eventually("a report", || {
        server.log().contains("cannot write the access log")
    });
    server.logs("its directory must exist");
    assert_eq!(server.get("/small").status, 200);
    fs::create_dir(&directory).expect("a directory again");
    assert_eq!(lines(&path, 2), ["404", "200"]);
    eventually("a report", || {
        server.log().contains("the access log is written again")
    });
    assert_eq!(dropped(&server), 0);
    server.stop();
}

/// Requests whose lines do not fit into the buffer of a core.
#[track_caller]
fn overflow(server: &Server) {
    let agent = format!("User-Agent: {}", "a".repeat(4000));
    let request = request_with("GET", "/small", &[&agent]);
    let mut client = server.connect();
    for _ in 0..300 {
        client.send(request.repeat(10));
        for _ in 0..10 {
            assert_eq!(client.response().status, 200);
        }
    }
}

#[test]
fn a_full_disk_stops_nothing_and_lines_go_on_whole_once_there_is_room() {
    let tree = tree();
    let disk = tree.base().join("disk");
    fs::create_dir(&disk).expect("a directory");
    let script = format!(
        "mount -t tmpfs -o size=256k,mode=777 tmpfs '{}'",
        disk.display()
    );
    if !mounts(&script) {
        return;
    }
    let config = format!(
        "{LISTEN}[access-log]\npath = 'disk/access.log'\nformat = '$status $http_user_agent <'"
    );
    let server = Launch::run(&tree, &config, "").mounted(&script).start();
    let path = server.sees(&disk.join("access.log"));
    overflow(&server);
    eventually("a report", || {
        let log = server.log();
        log.contains("cannot write the access log") && log.contains("the access log loses lines")
    });
    assert!(dropped(&server) > 0);
    assert_eq!(server.log().matches("loses lines").count(), 1);
    // Room: the file goes, and with it what was written.
    let torn = text(&path);
    assert!(torn.len() > 200 << 10, "{}", torn.len());
    fs::rename(&path, path.with_extension("old")).expect("a rotation");
    fs::remove_file(path.with_extension("old")).expect("room");
    server.get("/none");
    eventually("whole lines", || {
        let lines = text(&path);
        lines.starts_with("200 a") && lines.len() > 100 << 10
    });
    for line in text(&path).lines().filter(|line| line.ends_with('<')) {
        assert!(
            line.starts_with("200 a") || line.starts_with("404 -"),
            "{line}"
        );
        assert_eq!(line.matches('<').count(), 1);
    }
    server.stop();
}

#[test]
fn a_device_that_is_full_stops_nothing() {
    let tree = tree();
    let server = start(&tree, "path = '/dev/full'");
    overflow(&server);
    eventually("a report", || {
        server.log().contains("No space left on device")
    });
    assert!(dropped(&server) > 0);
    server.stop();
}

/// Requests with a line each that no disk takes.
fn lose_lines(server: &Server, count: usize) {
    for _ in 0..count {
        assert_eq!(server.get("/small").status, 200);
    }
}

#[test]
fn lines_that_are_lost_when_a_log_ends_are_counted_and_told() {
    let tree = tree();
    // The other site's is in the directory of the next log, which is in reach then.
    let other = format!(
        "[[site]]\nnames = ['b.test']\nroot = '{}'\n[site.access-log]\npath = 'other.log'",
        tree.root().display()
    );
    let config = format!("{LISTEN}[access-log]\npath = '/dev/full'");
    let server = Launch::run(&tree, &config, &other).start();
    lose_lines(&server, 7);
    drop(Launch::run(
        &tree,
        &format!("{LISTEN}[access-log]\npath = 'access.log'"),
        "",
    ));
    server.signal(Signal::HUP);
    eventually("the end of the old log", || {
        server
            .log()
            .contains("the access log ends, and lines of it are lost")
    });
    server.logs("lost=7");
    assert_eq!(dropped(&server), 7);
    server.stop();
}

#[test]
fn lines_that_are_lost_at_the_stop_are_told() {
    let tree = tree();
    let mut server = start(&tree, "path = '/dev/full'");
    lose_lines(&server, 5);
    server.signal(Signal::TERM);
    server.wait();
    server.logs("lost=5");
}

fn fifo(tree: &Tree) -> PathBuf {
    let path = tree.base().join("pipe");
    let made = Command::new("mkfifo").arg("-m666").arg(&path).status();
    assert!(made.expect("mkfifo").success(), "a pipe");
    path
}

#[test]
fn a_pipe_that_nobody_reads_stops_nothing_and_goes_on_with_a_reader() {
    let tree = tree();
    let path = fifo(&tree);
    let server = start(
        &tree,
        "path = 'pipe'\nformat = '<$status $http_user_agent>'",
    );
    overflow(&server);
    eventually("a report", || {
        server.log().contains("the access log loses lines")
    });
    let lost = dropped(&server);
    assert!(lost > 0);
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .expect("the pipe");
    let mut read = Vec::new();
    server.get("/none");
    eventually("the last line", || {
        let _ = reader.read_to_end(&mut read);
        read.ends_with(b"<404 ->\n")
    });
    let read = String::from_utf8(read).expect("text");
    let whole =
        |line: &str| line == "<404 ->" || (line.starts_with("<200 a") && line.ends_with('>'));
    assert!(read.lines().all(whole));
    assert_eq!(read.lines().count() as u64 + dropped(&server), 3001);
    // A reader that leaves ends nothing either.
    drop(reader);
    server.get("/small");
    server.stop();
}

#[test]
fn a_stalled_pipe_does_not_hold_up_the_log_of_another_site() {
    let tree = tree();
    fifo(&tree);
    let root = tree.root();
    let root = root.display();
    let sites = format!(
        "[[site]]\nroot = '{root}'\n\
         [[site]]\nnames = ['other.test']\nroot = '{root}'\n[site.access-log]\npath = '{PATH}'\nformat = '$status'\n"
    );
    let config =
        format!("{LISTEN}[access-log]\npath = 'pipe'\nformat = '$status $http_user_agent'");
    let server = Launch::run_sites(&tree, &config, &sites).start();
    overflow(&server);
    server.connect().ask("GET", "/small", &["Host: other.test"]);
    assert_eq!(lines(&log(&tree), 1), ["200"]);
    server.stop();
}

#[test]
fn a_standard_output_that_takes_nothing_stops_nothing() {
    let tree = tree();
    let path = fifo(&tree);
    // Opened to read as well, so that the shell waits for no reader.
    let server = start_with_output(&tree, "$status $http_user_agent", "1<>", &path);
    overflow(&server);
    eventually("a report", || {
        server.log().contains("the access log loses lines")
    });
    assert_eq!(server.get("/small").status, 200);
    server.stop();
}

#[test]
fn usr1_without_a_log_says_so() {
    let tree = tree();
    let server = Server::serve(&tree);
    server.signal(Signal::USR1);
    eventually("a line", || {
        server.log().contains("no log files to open again")
    });
    assert_eq!(server.get("/small").status, 200);
    server.stop();
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest() {
    let tree = tree();
    let config = "[access-log]\nformat = '$remote_addr $stauts'";
    let output = Launch::run(&tree, config, "").output();
    output.refusal(1, &["tidegate.toml:4: access-log.format: `$stauts`: unknown variable; did you mean `$status`?"]);
}

#[test]
fn a_reload_changes_the_logs() {
    let tree = tree();
    let log_to = |path: &str| format!("[access-log]\npath = '{path}'\nformat = '{path} $status'");
    let server = Launch::run(&tree, &log_to("one.log"), "").start();
    let file = tree.base().join("tidegate.toml");
    let text_of = |path: &str| text(&tree.base().join(path));
    let original = text(&file);
    server.get("/small");
    for (path, reply) in [
        ("two.log", "the configuration is applied"),
        ("none/three.log", "its directory must exist"),
    ] {
        fs::write(&file, original.replace("one.log", path)).expect("a configuration");
        server.signal(Signal::HUP);
        eventually("the reload", || server.log().contains(reply));
        server.get("/none");
    }
    eventually("the first file is closed", || {
        let files = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("descriptors");
        let mut names = files.flatten().flat_map(|fd| fs::read_link(fd.path()));
        !names.any(|name| name.ends_with("one.log"))
    });
    server.stop();
    assert_eq!(text_of("one.log"), "one.log 200\n");
    assert_eq!(text_of("two.log"), "two.log 404\n".repeat(2));
}
