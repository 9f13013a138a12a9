//! Range requests (RFC 9110, section 14), of files sent from memory and of spliced ones.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{
    Client, Launch, Response, Server, Strace, Tree, content_range, eventually, get, installed,
    noise, request_with,
};

const LENGTH: usize = 1000;

/// Bytes of a file in many pipes.
const LARGE: usize = 3_000_000;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const DATE_SECONDS: u64 = 784_111_777;

/// Nothing is sent from memory.
const SPLICED: &str = "[io]\ninline-max = 0";

/// What a request with a Range is answered.
#[derive(Debug)]
enum Sent {
    Whole,
    One(Range<u64>),
    Many(&'static [Range<u64>]),
    Nothing,
}

use Sent::{Many, Nothing, One, Whole};

/// Values of Range, what is sent of [`LENGTH`] bytes, and why.
#[rustfmt::skip] // one row a line
const TABLE: &[(&str, Sent, &str)] = &[
    ("bytes=0-0", One(0..1), "14.1.2: ends are inclusive"),
    ("bytes=0-499", One(0..500), "14.1.2: the first half"),
    ("bytes=500-999", One(500..1000), "14.1.2: the second half"),
    ("bytes=999-999", One(999..1000), "14.1.2: the last byte"),
    ("bytes=0-999", One(0..1000), "14.1.2: all of it is a range too"),
    ("bytes=0-", One(0..1000), "14.1.2: to the end"),
    ("bytes=998-", One(998..1000), "14.1.2: to the end"),
    ("bytes=-1", One(999..1000), "14.1.2: the last byte"),
    ("bytes=-1000", One(0..1000), "14.1.2: a suffix as long as the file"),
    ("bytes=-5000", One(0..1000), "14.1.2: a longer suffix"),
    ("bytes=990-5000", One(990..1000), "14.1.2: the end is the file's"),
    ("bytes=990-99999999999999999999999999", One(990..1000), "14.1.2: beyond 64 bits"),
    ("bytes=-99999999999999999999999999", One(0..1000), "14.1.2: beyond 64 bits"),
    ("Bytes=1-2", One(1..3), "14.1: units have no case"),
    ("bytes=0-1,998-", Many(&[0..2, 998..1000]), "14.2: two"),
    ("bytes=-1,0-0", Many(&[999..1000, 0..1]), "15.3.7.2: in the order asked for"),
    ("bytes=0-0,2-2,4-4,6-6,8-8", Many(&[0..1, 2..3, 4..5, 6..7, 8..9]), "14.2: five"),
    ("bytes= 0-1 ,\t, 4-5", Many(&[0..2, 4..6]), "5.6.1: empty elements of a list"),
    ("bytes=0-4,3-9", One(0..10), "15.3.7.2: overlapping ones are one"),
    ("bytes=0-9,5-5,20-29,-10", Many(&[0..10, 20..30, 990..1000]), "15.3.7.2: one within another"),
    ("bytes=5000-,0-1", One(0..2), "15.3.7.2: one that is not satisfiable is left out"),
    ("bytes=1000-", Nothing, "15.5.17: behind the end"),
    ("bytes=1000-2000,3000-", Nothing, "15.5.17: none of them"),
    ("bytes=-0", Nothing, "14.1.2: a suffix of nothing"),
    ("bytes=99999999999999999999999999-", Nothing, "15.5.17: beyond 64 bits"),
    ("bytes=5-4", Whole, "14.1.1: invalid, so ignored"),
    ("bytes=0-1,5-4", Whole, "14.1.1: one invalid element"),
    ("bytes=", Whole, "14.1.1: nothing"),
    ("bytes=-", Whole, "14.1.1: no number"),
    ("bytes=a-b", Whole, "14.1.1: no numbers"),
    ("bytes=--1", Whole, "14.1.1: no number"),
    ("bytes=+1-2", Whole, "14.1.1: a sign"),
    ("bytes=0x0-0x1", Whole, "14.1.1: no digits"),
    ("bytes=1-2-3", Whole, "14.1.1: three numbers"),
    ("bytes=1.0-2", Whole, "14.1.1: no digits"),
    ("bytes 1-2", Whole, "14.1.1: no equals sign"),
    ("bytes", Whole, "14.1.1: no set"),
    ("1-2", Whole, "14.1.1: no unit"),
    ("items=0-1", Whole, "14.2: an unknown unit is ignored"),
    ("", Whole, "14.1.1: nothing"),
    ("bytes=0-600,100-700", Whole, "14.2: more in all than the file has"),
    ("bytes=0-,0-,0-,0-", Whole, "14.2: more in all than the file has"),
];

#[test]
fn ranges_in_memory() {
    check_table("");
}

#[test]
fn ranges_that_are_spliced() {
    check_table(SPLICED);
}

/// Checks [`TABLE`] on one connection.
fn check_table(config: &str) {
    let tree = Tree::new();
    let content = noise(LENGTH, 1);
    tree.write_at("file.css", &content, DATE_SECONDS);
    let server = Launch::run(&tree, config, "").start();
    let mut client = server.connect();
    for (value, sent, why) in TABLE {
        let response = client.get_with("/file.css", &[&format!("Range: {value}")]);
        let place = format!("{value:?} ({why}): {response:?}");
        check(&response, sent, &content, &place);
        assert!(!response.closes(), "{place}");
    }
    assert!(client.get("/file.css").body == content);
    server.stop();
}

/// Checks that `response` has `sent` of `content`, and says so.
#[track_caller]
fn check(response: &Response, sent: &Sent, content: &[u8], place: &str) {
    let length = content.len() as u64;
    let content_type = response.header("content-type");
    let range = response.header("content-range");
    match sent {
        Whole => {
            assert_eq!(response.status, 200, "{place}");
            assert_eq!(range, None, "{place}");
            assert!(response.body == content, "{place}");
        }
        One(wanted) => {
            assert_eq!(response.status, 206, "{place}");
            let range = content_range(range.expect("Content-Range"));
            assert_eq!(range, (wanted.clone(), length), "{place}");
            assert_eq!(content_type, Some("text/css; charset=utf-8"), "{place}");
            assert!(response.body == slice(content, wanted), "{place}");
        }
        Many(wanted) => {
            assert_eq!(response.status, 206, "{place}");
            // RFC 9110, section 15.3.7.2: it is in the parts alone.
            assert_eq!(range, None, "{place}");
            check_parts(response, wanted, content, place);
        }
        Nothing => {
            assert_eq!(response.status, 416, "{place}");
            let told = format!("bytes */{length}");
            assert_eq!(range, Some(told.as_str()), "{place}");
        }
    }
}

#[track_caller]
fn check_parts(response: &Response, wanted: &[Range<u64>], content: &[u8], place: &str) {
    let parts = response.parts();
    let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
    assert_eq!(ranges, wanted, "{place}");
    for part in parts {
        assert_eq!(part.length, content.len() as u64, "{place}");
        assert_eq!(part.content_type, "text/css; charset=utf-8", "{place}");
        assert!(part.body == slice(content, &part.range), "{place}");
    }
}

fn slice<'a>(content: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    &content[range.start as usize..range.end as usize]
}

#[test]
fn a_part_says_of_the_file_what_the_whole_does() {
    let tree = Tree::new();
    tree.write_at("file.css", &noise(LENGTH, 1), DATE_SECONDS);
    tree.write_at("file.css.gz", &noise(LENGTH, 2), DATE_SECONDS);
    let rule = "[[site.headers]]\nmatch = \"/**\"\n\
                set = { cache-control = \"max-age=60\", expires = \"0\" }";
    let server = Launch::run(&tree, "", rule).start();
    let mut client = server.connect();
    let full = client.get("/file.css");
    assert_eq!(full.header("accept-ranges"), Some("bytes"));
    for value in ["bytes=1-2", "bytes=1-2,5-6"] {
        let response = client.get_with("/file.css", &[&format!("Range: {value}")]);
        assert_eq!(response.status, 206, "{value}");
        // RFC 9110, section 15.3.7.
        for name in ["etag", "cache-control", "expires", "vary", "last-modified"] {
            assert!(full.has(name), "{name} in {full:?}");
            assert_eq!(response.list(name), full.list(name), "{value}: {name}");
        }
        assert!(response.has("date"), "{value}");
    }
}

#[test]
fn only_get_has_ranges() {
    let tree = Tree::with("file", &noise(LENGTH, 1));
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for value in ["bytes=0-0", "bytes=0-0,2-2", "bytes=5000-"] {
        let field = format!("Range: {value}");
        // RFC 9110, section 14.2.
        let response = client.ask("HEAD", "/file", &[&field]);
        assert_eq!(response.status, 200, "{value}");
        assert_eq!(response.content_length(), LENGTH, "{value}");
        let response = client.ask("POST", "/file", &[&field]);
        assert_eq!(response.status, 405, "{value}");
    }
}

#[test]
fn an_empty_file_has_no_ranges() {
    let tree = Tree::with("empty", b"");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    for value in [
        "bytes=0-",
        "bytes=-1",
        "bytes=0-0",
        "bytes=5-",
        "bytes=0-0,2-2",
    ] {
        let response = client.get_with("/empty", &[&format!("Range: {value}")]);
        assert_eq!(response.status, 200, "{value}");
        assert_eq!(response.content_length(), 0, "{value}");
    }
}

#[test]
fn ranges_of_what_is_not_there_are_not_there() {
    let tree = Tree::with("directory/index.html", b"index");
    let server = Server::serve(&tree);
    let mut client = server.connect();
    // RFC 9110, section 14.2: evaluated only where the answer would be 200.
    for (target, status) in [("/none", 404), ("/directory", 301)] {
        for value in ["bytes=0-0", "bytes=5000-"] {
            let response = client.get_with(target, &[&format!("Range: {value}")]);
            assert_eq!(response.status, status, "{target} {value}");
            assert!(!response.has("content-range"), "{target} {value}");
        }
    }
}

#[test]
fn two_range_fields_are_none() {
    let tree = Tree::with("file", &noise(LENGTH, 1));
    let server = Server::serve(&tree);
    let response = server.get_with("/file", &["Range: bytes=0-0", "Range: bytes=1-1"]);
    // RFC 9110, section 14.2: Range is no list, and may be ignored.
    assert_eq!(response.status, 200);
    assert!(response.body == noise(LENGTH, 1));
}

#[test]
fn a_bomb_of_ranges_is_the_whole_file() {
    let tree = Tree::with("file", &noise(LARGE, 1));
    // Configuration, and the most ascending and unordered ranges.
    let limits = [
        ("", 1024, 16),
        ("[limits]\nranges = 3", 3, 3),
        ("[limits]\nranges = 1", 1, 1),
        ("[limits]\nranges-unordered = 5", 1024, 5),
    ];
    for (config, most, unordered) in limits {
        let server = Launch::run(&tree, config, "").start();
        let mut client = server.connect();
        for (count, status) in [(1, 206), (most, 206), (most + 1, 200)] {
            let response = client.get_with("/file", &[&singles(0..count)]);
            assert_eq!(response.status, status, "{count} of {most}");
        }
        for (count, status) in [(unordered, 206), (unordered + 1, 200), (1000, 200)] {
            let response = client.get_with("/file", &[&singles((0..count).rev())]);
            assert_eq!(response.status, status, "{count} of {unordered} backwards");
        }
        // RFC 9110, section 14.2: many small ones, in any order, all overlapping.
        let same = format!("Range: bytes={}", vec!["0-"; 1000].join(","));
        assert!(client.get_with("/file", &[&same]).body == noise(LARGE, 1));
    }
}

/// A Range of one byte at each tenth.
fn singles(places: impl Iterator<Item = usize>) -> String {
    let ranges: Vec<_> = places.map(|at| format!("{0}-{0}", at * 10)).collect();
    format!("Range: bytes={}", ranges.join(","))
}

/// What zsync (20), zchunk (255) and electron-updater (1,000 at a time) ask for.
#[test]
fn a_thousand_ranges_are_as_many_parts() {
    let tree = Tree::new();
    for (path, length, config) in [
        ("small.css", 12_000, ""),
        ("memory.css", 700_000, "[io]\ninline-max = '1m'"),
        ("large.css", LARGE, "[limits]\nheader-bytes = '32k'"),
    ] {
        let content = noise(length, 5);
        tree.write_at(path, &content, DATE_SECONDS);
        let server = Launch::run(&tree, config, "").start();
        let mut client = server.connect();
        for count in [17, 20, 255, 1000, 1024] {
            let step = (length / count) as u64;
            let ranges: Vec<_> = (0..count as u64)
                .map(|at| at * step..at * step + 7)
                .collect();
            let texts: Vec<_> = ranges
                .iter()
                .map(|range| format!("{}-{}", range.start, range.end - 1))
                .collect();
            let field = format!("Range: bytes={}", texts.join(", "));
            let response = client.get_with(&format!("/{path}"), &[&field]);
            assert_eq!(response.status, 206, "{path}: {count}");
            check_parts(&response, &ranges, &content, &format!("{path}: {count}"));
        }
        assert_eq!(client.get("/none").status, 404, "{path}");
    }
}

#[test]
fn if_range_decides_between_part_and_whole() {
    let tree = Tree::new();
    for config in ["", SPLICED] {
        tree.write("file", &noise(LENGTH, 1));
        let time = SystemTime::UNIX_EPOCH + Duration::new(DATE_SECONDS, 5);
        tree.modified("file", time);
        tree.write_at("whole-second", &noise(LENGTH, 1), DATE_SECONDS);
        let server = Launch::run(&tree, config, "").start();
        let mut client = server.connect();
        let tag = client.get("/file").etag().to_owned();
        // RFC 9110, section 13.1.5: a time that a tool may have set is no strong validator.
        let fields = ["Range: bytes=1-2", &format!("If-Range: {DATE}")];
        assert_eq!(client.get_with("/whole-second", &fields).status, 200);
        #[rustfmt::skip] // one row a line
        let table = [
            (tag.clone(), 206, "13.1.5: the same tag"),
            (format!("W/{tag}"), 200, "13.1.5: strong comparison"),
            ("\"other\"".to_owned(), 200, "13.1.5: another tag"),
            (format!("{tag}, {tag}"), 200, "13.1.5: no list"),
            ("*".to_owned(), 200, "13.1.5: no star"),
            (DATE.to_owned(), 206, "13.1.5: the same date"),
            ("Sun, 06 Nov 1994 08:49:36 GMT".to_owned(), 200, "13.1.5: an earlier one"),
            ("Sun, 06 Nov 1994 08:49:38 GMT".to_owned(), 200, "13.1.5: a later one is no match"),
            ("yesterday".to_owned(), 200, "13.1.5: neither tag nor date"),
            (String::new(), 200, "13.1.5: nothing"),
        ];
        for (validator, status, why) in table {
            let condition = format!("If-Range: {validator}");
            for range in ["Range: bytes=1-2", "Range: bytes=1-2,5-6"] {
                let response = client.get_with("/file", &[range, &condition]);
                assert_eq!(response.status, status, "{validator} ({why})");
            }
            // Where the range is to be ignored, so is that it is not satisfiable.
            let status = if status == 206 { 416 } else { 200 };
            let response = client.get_with("/file", &["Range: bytes=5000-", &condition]);
            assert_eq!(response.status, status, "{validator} ({why})");
            let response = client.get_with("/file", &[&condition]);
            assert_eq!(response.status, 200, "{validator} without a Range");
        }
    }
}

#[test]
fn ranges_of_a_large_file_are_its_bytes() {
    let content = noise(LARGE, 3);
    let tree = Tree::with("large", &content);
    let server = Server::serve(&tree);
    let mut client = server.connect();
    let last = LARGE - 1;
    // Around pages, pipes and the end.
    let edges = [
        0, 1, 4095, 4096, 4097, 65_535, 65_536, 262_143, 262_144, 1_000_001, last,
    ];
    for (at, start) in edges.into_iter().enumerate() {
        for end in edges[at..].iter().copied() {
            let response = client.get_with("/large", &[&format!("Range: bytes={start}-{end}")]);
            assert_eq!(response.status, 206, "{start}-{end}");
            assert!(response.body == content[start..=end], "{start}-{end}");
        }
    }
    let many = "Range: bytes=0-65535,70000-70000,262143-1000000,-70000";
    let response = client.get_with("/large", &[many]);
    let parts = response.parts();
    assert_eq!(parts.len(), 4);
    for part in parts {
        assert!(
            part.body == slice(&content, &part.range),
            "{:?}",
            part.range
        );
    }
    assert_eq!(client.get("/none").status, 404);
}

#[test]
fn a_slow_reader_gets_the_same_parts() {
    let content = noise(LARGE, 4);
    let tree = Tree::with("large", &content);
    let server = Server::serve(&tree);
    let field = "Range: bytes=5-999999,1000001-1000001,1000009-2999990";
    let mut client = Client::connect_narrow(server.address);
    client.send(request_with("GET", "/large", &[field]) + &get("/none"));
    let mut response = client.head();
    let length = response.content_length();
    while response.body.len() < length {
        let piece = client.body((length - response.body.len()).min(30_000));
        response.body.extend(piece);
        std::thread::yield_now();
    }
    let parts = response.parts();
    assert_eq!(parts.len(), 3);
    for part in parts {
        assert!(
            part.body == slice(&content, &part.range),
            "{:?}",
            part.range
        );
    }
    assert_eq!(client.response().status, 404);
}

#[test]
fn ranges_of_a_sparse_file() {
    const MIB: u64 = 1024 * 1024;
    // Beyond what 32 bits can count.
    for length in [300 * MIB, 5 * 1024 * MIB] {
        let tree = Tree::with("sparse", b"");
        let file = File::options()
            .read(true)
            .write(true)
            .open(tree.path("sparse"))
            .unwrap();
        file.set_len(length).unwrap();
        for (seed, offset) in [0, MIB, length / 2 - 5, length - 70_000]
            .into_iter()
            .enumerate()
        {
            file.write_all_at(&noise(70_000, seed as u64), offset)
                .unwrap();
        }
        let server = Server::serve(&tree);
        let mut client = server.connect();
        let half = length / 2;
        for (value, range) in [
            (
                format!("{}-{}", half - 100_000, half + 99_999),
                half - 100_000..half + 100_000,
            ),
            ("-100000".to_owned(), length - 100_000..length),
            (format!("{}-", length - MIB), length - MIB..length),
            (
                format!("{}-{}", half, half + 64 * MIB),
                half..half + 64 * MIB + 1,
            ),
        ] {
            client.send(request_with(
                "GET",
                "/sparse",
                &[&format!("Range: bytes={value}")],
            ));
            let head = client.head();
            assert_eq!(head.status, 206, "{value}");
            let told = content_range(head.header("content-range").unwrap());
            assert_eq!(told, (range.clone(), length), "{value}");
            assert_eq!(
                head.content_length() as u64,
                range.end - range.start,
                "{value}"
            );
            same_bytes(&mut client, &file, range);
        }
        let field = format!("Range: bytes=0-99999,{}-{},-80000", half - 9, half + 70_000);
        let response = client.get_with("/sparse", &[&field]);
        let parts = response.parts();
        assert_eq!(parts.len(), 3);
        for part in parts {
            assert!(
                part.body == bytes_at(&file, &part.range),
                "{:?}",
                part.range
            );
        }
        let whole = client.ask("HEAD", "/sparse", &[]);
        assert_eq!(whole.content_length() as u64, length);
    }
}

/// Reads `range` from `client` and compares it with `file`.
#[track_caller]
fn same_bytes(client: &mut Client, file: &File, range: Range<u64>) {
    let mut at = range.start;
    while at < range.end {
        let piece = at..range.end.min(at + (1 << 20));
        let got = client.body((piece.end - piece.start) as usize);
        assert!(got == bytes_at(file, &piece), "{piece:?}");
        at = piece.end;
    }
}

fn bytes_at(file: &File, range: &Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)
        .expect("the file's bytes");
    bytes
}

#[test]
fn no_byte_of_a_part_passes_through_the_process() {
    const PART: usize = 10_000_000;
    // One-byte looks at what is in the page cache, heads, and what wakes threads.
    const COPIED_MAX: usize = 64 * 1024;
    if !installed("strace") {
        return;
    }
    let content = noise(PART, 1).repeat(4);
    let tree = Tree::with("large", &content);
    let server = Server::serve(&tree);
    let Some(strace) = Strace::attach(&server, &tree) else {
        return;
    };
    let mut client = server.connect();
    let field = format!("Range: bytes=1-{PART},{}-{}", 2 * PART, 3 * PART - 1);
    let response = client.get_with("/large", &[&field]);
    for part in response.parts() {
        assert!(
            part.body == slice(&content, &part.range),
            "{:?}",
            part.range
        );
    }
    let moved = strace.stop(server);
    assert!(moved.spliced >= 2 * PART, "{moved:?}");
    assert!(moved.copied < COPIED_MAX, "{moved:?}");
}

#[test]
fn a_file_truncated_between_parts_ends_the_connection() {
    const HALF: usize = 16 * 1024 * 1024;
    let content = noise(2 * HALF, 5);
    let tree = Tree::with("big", &content);
    let server = Server::serve(&tree);
    let mut client = Client::connect_narrow(server.address);
    let field = format!("Range: bytes=0-{},{}-", HALF - 1, HALF + 1);
    client.send(request_with("GET", "/big", &[&field]));
    let length = client.head().content_length();
    client.body(64 * 1024);
    // What follows on the connection must not be taken for the missing bytes.
    client.send(get("/none"));
    let file = File::options().write(true).open(tree.path("big")).unwrap();
    file.set_len(64 * 1024).unwrap();
    let rest = client.rest();
    assert!(rest.len() < length - 64 * 1024, "{} bytes", rest.len());
    // Until the file is looked up again, its old length may be told.
    eventually("the new length", || {
        let mut client = server.connect();
        client.send(request_with("GET", "/big", &["Range: bytes=100000-"]));
        let response = client.response_or_end();
        response.is_some_and(|response| response.header("content-range") == Some("bytes */65536"))
    });
}

#[test]
fn curl_resumes_a_download() {
    if !installed("curl") {
        return;
    }
    let content = noise(LARGE, 6);
    let tree = Tree::with("large", &content);
    let server = Server::serve(&tree);
    let got = tree.base().join("got");
    for had in [0, 1, 4096, 1_234_567, LARGE - 1] {
        std::fs::write(&got, &content[..had]).unwrap();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
            .args(["--max-time", "60", "--continue-at", "-", "--output"])
            .arg(&got)
            .arg(format!("http://{}/large", server.address))
            .output()
            .expect("curl");
        assert!(output.status.success(), "{had}: {output:?}");
        assert!(std::fs::read(&got).unwrap() == content, "{had}");
    }
}
