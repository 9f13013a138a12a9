//! Rules about who may have which path, and what somebody tries who may not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{
    Client, Launch, Response, Server, Tree, eventually, installed, noise, request_with,
};

/// The client that the rules name.
const FRIEND: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

const SECRET: &str = "only for those who may";

/// The paths of the rules: all are protected in the same way.
const PROTECTED: [(&str, &str); 9] = [
    ("match = \"/db/**\"", ""),
    ("match = \"/{vault,vault/**}\"", ""),
    ("match = \"/dump.sql\"", ""),
    ("match = \"/only.txt.gz\"", ""),
    ("match = \"/dir/index.html\"", ""),
    ("match = \"/page.html\"", ""),
    ("match = \"/list/**\"", "except = [\"/list/open.txt\"]"),
    ("match = \"/UPPER/**\"", "ignore-case = true"),
    ("match = \"/mnt/x\"", ""),
];

/// A section for each of [`PROTECTED`], with `keys`.
fn sections(name: &str, keys: &str) -> String {
    let sections = PROTECTED
        .iter()
        .map(|(paths, more)| format!("[[site.{name}]]\n{paths}\n{more}\n{keys}\n"));
    sections.collect()
}

/// A site in which every protected file holds [`SECRET`].
fn tree() -> Tree {
    let tree = Tree::with("index.html", b"the application");
    let secrets = [
        "db/x",
        "db/x.gz",
        "db/index.html",
        "db/deep/y",
        "vault/index.htm",
        "vault/z",
        "dump.sql",
        "dump.sql.gz",
        "dump.sql.br",
        "dump.sql.gz.br",
        "dir/index.html",
        "dir/index.html.gz",
        "page.html",
        "page.html.gz",
        "list/secret-name",
        "upper/x",
        "mnt/x",
    ];
    for path in secrets {
        tree.write(path, SECRET.as_bytes());
    }
    // In gzip, but not compressed: [`SECRET`] is legible.
    tree.write("only.txt.gz", &stored(SECRET.as_bytes()));
    tree.write("list/open.txt", b"open");
    tree.write("403.html", b"the page for 403");
    tree.write("404.html", b"the page for 404");
    tree
}

/// The password of all of them is "secret": by `htpasswd -nbB -C 4` of Apache 2.4, and by
/// `argon2 saltysalt -id -t 1 -k 64 -p 1 -e` of Debian's argon2.
const USERS: &str = "# users
ann:$2y$04$vNRn6DdeOhrr5BRK36GuteHuWywI2Aqa50ASQeZIf6b2XKUNrqmqi
b\u{f6}b:$argon2id$v=19$m=64,t=1,p=1$c2FsdHlzYWx0$AVakNa2X9xWQmebN1fK7yBDk+f65i6OnGczlLtYyeqA
";

/// A user whose password, which is "secret", takes a while.
const SLOW: &str = "sam:$2y$06$auKlu/pdm7vFqXk4LQVPtu/.tXF.cFdVEeUmiH4siYfVnMVDXVxVm\n";

/// The same user with the password "changed".
const CHANGED: &str = "sam:$2y$04$Kf.L5kqr94qAoexdV3Ay3uJIc7ztWQYEIUubsZ893.nMqkxTaFg82\n";

/// The field for a name and a password (RFC 7617).
fn login(name: &str, password: &str) -> String {
    let bytes = format!("{name}:{password}").into_bytes();
    format!("Authorization: Basic {}", base64(&bytes))
}

fn ann() -> String {
    login("ann", "secret")
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let number = (0..3).fold(0, |number, at| {
            number << 8 | u32::from(group.get(at).copied().unwrap_or_default())
        });
        (0..4).map(move |digit| {
            let index = (number >> (18 - 6 * digit) & 63) as usize;
            if digit <= group.len() {
                char::from(DIGITS[index])
            } else {
                '='
            }
        })
    });
    groups.collect()
}

/// A gzip file with one stored block (RFC 1951, section 3.2.4; RFC 1952, section 2.2).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let shift = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    let crc = !bytes.iter().fold(u32::MAX, byte);
    let len = u16::try_from(bytes.len()).expect("a short text");
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    file.extend(len.to_le_bytes());
    file.extend((!len).to_le_bytes());
    file.extend(bytes);
    file.extend(crc.to_le_bytes());
    file.extend(u32::from(len).to_le_bytes());
    file
}

/// Sites that look for files in every way there is.
const WAYS: [&str; 9] = [
    "",
    "encoded-slash = \"decode\"",
    "index = [\"index.html\", \"index.htm\"]\ndirectory-listing = true",
    "index = [\"index.htm\"]\ntry-files = [\"$path/\", \"$path\", \"$path.html\", \"$path/index.htm\"]",
    "spa-fallback = \"/page.html\"",
    "try-files = [\"$path\", \"/dump.sql\"]",
    "try-files = [\"$path\", \"/list/\"]\ndirectory-listing = true",
    "hidden-files = true\nprecompressed = [\"gzip\", \"br\"]\ncompressed-only = \"decompress\"",
    "error-pages = { 403 = \"/403.html\", 404 = \"/404.html\" }\nsymlinks = \"follow\"",
];

/// Spellings of protected paths, and paths that lead to protected files.
const SPELLINGS: [&str; 58] = [
    "/db/",
    "/db/x",
    "//db/x",
    "///db///x",
    "/db//x",
    "/db/x/",
    "/db/./x",
    "/./db/x",
    "/db/../db/x",
    "/list/../db/x",
    "/list/../../db/x",
    "/list/%2e%2e/db/x",
    "/list/.%2e/db/x",
    "/list/%2e./db/x",
    "/%64b/x",
    "/%64%62/%78",
    "/db%2Fx",
    "/db%2fx",
    "/db%5Cx",
    "/db\\x",
    "/%2Fdb/x",
    "/list%2F..%2Fdb%2Fx",
    "/list/..%2Fdb/x",
    "/db%00/x",
    "/db/x%00",
    "/db%252Fx",
    "/db;/x",
    "/db/x;a",
    "/db/x?y",
    "/db?/x",
    "http://test/db/x",
    "HTTP://other/db/x",
    "/db/x.gz",
    "/db/deep/y",
    "/db/deep/../x",
    "/db",
    "/vault",
    "/vault/",
    "/vault/z",
    "/dump.sql",
    "/dump.sql.gz",
    "/dump.sql.br",
    "/dump.sql.gz.br",
    "/only.txt",
    "/only.txt.gz",
    "/dir",
    "/dir/",
    "/dir/index.html",
    "/dir/index.html.gz",
    "/page",
    "/page.html",
    "/page.html.gz",
    "/list",
    "/list/",
    "/list/secret-name",
    "/upper/x",
    "/none",
    "/.well-known/acme-challenge/none",
];

/// Fields of a request that change what is sent.
const FIELDS: [&[&str]; 6] = [
    &["Accept-Encoding: identity"],
    &[
        "Accept-Encoding: gzip, br",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ],
    &["Accept: application/json", "Accept-Encoding: identity"],
    &["Range: bytes=0-3", "Accept-Encoding: identity"],
    &["If-Match: \"none\"", "Accept-Encoding: identity"],
    &["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"],
];

/// Checks that a client at `from` never gets [`SECRET`], and that nothing tells it whether a file is
/// there. First `friend` asks with `password`, so the server keeps the file in memory.
#[track_caller]
fn nothing_gets_past(
    server: &Server,
    way: &str,
    from: [u8; 4],
    friend: &mut Client,
    password: &[&str],
) {
    let mut client = Client::connect_from(from, server.address);
    for target in SPELLINGS {
        for fields in FIELDS {
            let response = friend.get_with(target, &[fields, password].concat());
            let is_served = response.status < 500 && response.status != 401;
            assert!(is_served, "{way:?} {target}: {response:?}");
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                check_refused(way, target, &client.ask(method, target, fields));
            }
        }
    }
}

#[track_caller]
fn check_refused(way: &str, target: &str, response: &Response) {
    let text = String::from_utf8_lossy(&response.body);
    let is_secret = text.contains(SECRET) || text.contains("secret-name");
    assert!(!is_secret, "{way:?} {target}: {response:?}");
    // Its index alone is protected.
    let redirects = response.header("location").filter(|to| *to != "/dir/");
    assert!(redirects.is_none(), "{way:?} {target}: {response:?}");
    // No validators of a secret, no length of one.
    let is_file = ["etag", "last-modified", "content-range"]
        .iter()
        .any(|name| response.has(name));
    let is_open = ["the application", "open"].contains(&&*text) || response.status == 304;
    assert!(!is_file || is_open, "{way:?} {target}: {response:?}");
    assert_ne!(response.status, 304, "{way:?} {target}: {response:?}");
    assert_ne!(response.status, 412, "{way:?} {target}: {response:?}");
}

/// A server that looks for files in a way, with a directory at /mnt and these sections.
fn server(tree: &Tree, way: &str, sections: &str) -> Server {
    let mount = tree.base().join("mounted");
    fs::create_dir_all(&mount).unwrap();
    fs::write(mount.join("x"), SECRET).unwrap();
    let mount = format!(
        "[[site.mount]]\nat = \"/mnt\"\nroot = \"{}\"\n",
        mount.display()
    );
    Launch::run(tree, "", &format!("{way}\n{mount}{sections}")).start()
}

/// Checks what is served to a friend with `password`, and to a stranger.
#[track_caller]
fn friends_alone_are_served(server: &Server, way: &str, password: &[&str], status: u16) {
    let mut friend = Client::connect_from(FRIEND, server.address);
    for target in ["/db/x", "/mnt/x", "/upper/x", "/db/x"] {
        let response = friend.get_with(target, password);
        assert_eq!(response.text(), SECRET, "{way} {target}");
    }
    nothing_gets_past(server, way, STRANGER, &mut friend, password);
    let mut stranger = Client::connect_from(STRANGER, server.address);
    assert_eq!(stranger.get("/mnt/x").status, status, "{way}");
    assert_eq!(
        stranger.get("/index.html").text(),
        "the application",
        "{way}"
    );
    assert_eq!(stranger.get("/list/open.txt").text(), "open", "{way}");
}

#[test]
fn no_spelling_gets_past_an_access_rule() {
    for way in WAYS {
        let tree = tree();
        let server = server(&tree, way, &sections("access", "allow = [\"127.0.0.1\"]"));
        friends_alone_are_served(&server, way, &[], 403);
        server.stop();
    }
}

#[test]
fn no_spelling_gets_past_a_password() {
    for way in WAYS {
        let tree = tree();
        fs::write(tree.base().join("users"), USERS).unwrap();
        let server = server(&tree, way, &sections("auth", "users = \"users\""));
        friends_alone_are_served(&server, way, &[&ann()], 401);
        server.stop();
    }
}

/// A server with one rule for /a/**, and what `site` adds.
fn with_rule(tree: &Tree, keys: &str, site: &str) -> Server {
    let rule = format!("{site}\n[[site.access]]\nmatch = \"/a/**\"\n{keys}");
    Launch::run(tree, "", &rule).start()
}

#[test]
fn a_refused_client_gets_403_with_the_page_of_the_site() {
    let tree = tree();
    tree.write("a/x", b"x");
    let pages = "error-pages = { 403 = \"/403.html\" }";
    let server = with_rule(&tree, "deny = [\"127.0.0.2\"]", pages);
    let mut stranger = Client::connect_from(STRANGER, server.address);
    for target in ["/a/x", "/a/none", "/a/"] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let fields = ["If-None-Match: *", "Content-Length: 0"];
            let response = stranger.ask(method, target, &fields);
            assert_eq!(response.status, 403, "{method} {target}: {response:?}");
            let expected = if method == "HEAD" {
                ""
            } else {
                "the page for 403"
            };
            assert_eq!(response.text(), expected, "{method} {target}");
        }
    }
    // What cannot be decoded has no path that a rule could be for.
    assert_eq!(stranger.get("/a/%zz").status, 400);
    assert_eq!(stranger.ask("OPTIONS", "*", &[]).status, 204);
    let mut friend = Client::connect_from(FRIEND, server.address);
    assert_eq!(friend.get("/a/x").text(), "x");
    assert_eq!(friend.get("/a/none").status, 404);
    assert_eq!(friend.ask("OPTIONS", "/a/x", &[]).status, 204);
    let plain = with_rule(&tree, "deny = [\"127.0.0.2\"]", "");
    let mut stranger = Client::connect_from(STRANGER, plain.address);
    assert!(
        stranger
            .get("/a/x")
            .text()
            .contains("<h1>403 Forbidden</h1>")
    );
}

#[test]
fn requests_behind_each_other_are_told_apart() {
    let tree = tree();
    tree.write("a/x", b"x");
    let server = with_rule(&tree, "allow = [\"127.0.0.1\"]", "");
    let all: String = ["/", "/a/x", "/", "/a/x", "/403.html"]
        .map(|target| request_with("GET", target, &[]))
        .concat();
    for (ip, status) in [(FRIEND, 200), (STRANGER, 403), (FRIEND, 200)] {
        let mut client = Client::connect_from(ip, server.address);
        client.send(&all);
        let statuses: Vec<_> = (0..5).map(|_| client.response().status).collect();
        assert_eq!(statuses, [200, status, 200, status, 200]);
    }
}

#[test]
fn rules_hold_before_those_that_answer_and_redirect() {
    let tree = tree();
    let more = "[[site.redirects]]\nfrom = \"/a/old\"\nto = \"/a/new\"\n\
                [[site.respond]]\nmatch = \"/a/gone\"\nstatus = 410\n";
    let server = with_rule(&tree, "deny = [\"127.0.0.2\"]", more);
    for (target, friendly) in [("/a/old", 301), ("/a/gone", 410)] {
        let mut stranger = Client::connect_from(STRANGER, server.address);
        let refused = stranger.get(target);
        assert_eq!((refused.status, refused.header("location")), (403, None));
        assert_eq!(server.get(target).status, friendly, "{target}");
    }
}

#[test]
fn challenges_of_a_certificate_authority_are_reachable() {
    let tree = tree();
    tree.write(".well-known/acme-challenge/token", b"a token");
    tree.write(".well-known/other", b"other");
    tree.link(".well-known/acme-challenge/dir", "../../db");
    let rules = "spa-fallback = \"/page.html\"\n[[site.access]]\nmatch = \"/**\"\ndeny = [\"all\"]";
    let server = Launch::run(&tree, "", rules).start();
    let navigate = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    let rows = [
        ("/.well-known/acme-challenge/token", 200),
        ("/.well-known/acme-challenge/none", 403),
        ("/.well-known/acme-challenge/../other", 403),
        ("/.well-known/acme-challenge/..%2Fother", 403),
        ("/.well-known/acme-challenge", 403),
        ("/.well-known/other", 403),
        ("/", 403),
    ];
    for (target, status) in rows {
        assert_eq!(
            server.connect().get_with(target, &navigate).status,
            status,
            "{target}"
        );
    }
}

#[test]
fn another_name_of_a_file_is_another_path() {
    let tree = tree();
    symlink("db", tree.path("link")).unwrap();
    let server = Launch::run(&tree, "", &sections("access", "deny = [\"all\"]")).start();
    assert_eq!(server.get("/link/x").text(), SECRET);
    assert_eq!(server.get("/db/x").status, 403);
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
    let tree = tree();
    let listen = "[[listen]]\naddress = \"[::]:0\"\n";
    for (clients, status) in [
        ("127.0.0.0/8", 200),
        ("::ffff:127.0.0.1", 200),
        ("::/0", 403),
    ] {
        let rule = format!("[[site.access]]\nmatch = \"/**\"\nallow = [\"{clients}\"]");
        let server = Launch::run(&tree, listen, &rule).start();
        let port = server.address.port();
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        assert_eq!(client.get("/").status, status, "{clients}");
    }
}

/// A server with a password for /a/**, where x is, and what `site` adds.
fn with_password(tree: &Tree, users: &str, site: &str) -> Server {
    tree.write("a/x", b"the text of x");
    fs::write(tree.base().join("users"), users).unwrap();
    let rule = "[[site.auth]]\nmatch = \"/a/**\"\nusers = \"users\"\nrealm = \"the a\"";
    let launch = Launch::run(tree, "", &format!("{site}\n{rule}"));
    launch
        .through(["env", "RUST_LOG=tidegate_server=trace"])
        .start()
}

/// `tidegate sign` with the key that [`with_key`] wrote, for a path as it stands.
#[track_caller]
fn signed(tree: &Tree, path: &str, more: &[&str]) -> String {
    let launch = Launch::with(["sign", "--key-file"]).argument(tree.base().join("video.key"));
    let launch = launch.arguments([path, "--expires", "1h"]).arguments(more);
    launch.output().success().trim_end().to_owned()
}

/// Writes a key that nobody else may read.
fn with_key(tree: &Tree) {
    let path = tree.base().join("video.key");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn no_spelling_gets_past_a_signature() {
    for way in WAYS {
        let tree = tree();
        with_key(&tree);
        let server = server(&tree, way, &sections("signed", "keys = [\"video.key\"]"));
        let mut friend = server.connect();
        for target in ["/db/x", "/%64b//x", "/mnt/x", "/upper/x"] {
            let url = signed(&tree, target, &[]);
            assert_eq!(friend.get(&url).text(), SECRET, "{way} {url}");
            // The same path in another spelling, and another path.
            let query = url.split_once('?').unwrap().1;
            let other = format!("//.{}?{query}", target.replace('x', "%78"));
            assert_eq!(friend.get(&other).text(), SECRET, "{way} {other}");
            check_refused(way, &url, &friend.get(&format!("/db/deep/y?{query}")));
        }
        let mut stranger = server.connect();
        for target in SPELLINGS {
            for fields in FIELDS {
                check_refused(way, target, &stranger.get_with(target, fields));
            }
        }
        server.stop();
    }
}

#[test]
fn a_signed_url_is_for_a_path_a_time_and_an_address() {
    let tree = tree();
    with_key(&tree);
    tree.write("v/a b.ts", b"a segment");
    tree.write("v/\u{fc} #<1>.ts", b"a segment");
    tree.write("v/c.ts", b"another");
    let rule = "[[site.signed]]\nmatch = \"/v/**\"\nkeys = [\"video.key\"]";
    let server = Launch::run(&tree, "", rule).start();
    let get = |target: &str| server.get(target).status;
    let url = signed(&tree, "/v/a%20b.ts", &[]);
    assert_eq!(server.get(&url).text(), "a segment");
    // What a URL cannot hold is encoded.
    for (typed, start) in [
        ("/v/a b.ts", "/v/a%20b.ts?"),
        ("/v/\u{fc} #<1>.ts", "/v/%C3%BC%20%23%3C1%3E.ts?"),
        ("/v/a b.ts?x=y z", "/v/a%20b.ts?x=y%20z&"),
    ] {
        let url = signed(&tree, typed, &[]);
        assert!(url.starts_with(start), "{url}");
        assert_eq!(server.get(&url).text(), "a segment", "{url}");
    }
    assert_eq!(get(&url.replace("%20", "%2520")), 403);
    assert_eq!(get(&url.replace("a%20b", "c")), 403);
    assert_eq!(get(&format!("{url}&x=y")), 200);
    assert_eq!(get("/v/a%20b.ts"), 403);
    assert_eq!(get("/v/none"), 403);
    assert_eq!(server.connect().ask("HEAD", &url, &[]).status, 200);
    assert_eq!(server.connect().ask("OPTIONS", "/v/c.ts", &[]).status, 403);
    // The vector of docs/signed-urls.md, which expires in 2033, and one that has expired.
    let vector = "/v/c.ts?expires=1&signature=V7ByeDJnANTtjYMgmXlgddX474EWtOeqd82JTLoaZHQ";
    assert_eq!(get(vector), 410);
    let prefix = signed(&tree, "/v/", &["--prefix"]);
    let query = prefix.split_once('?').unwrap().1;
    assert_eq!(get(&format!("/v/c.ts?{query}")), 200);
    assert_eq!(get(&format!("/v/none?{query}")), 404);
    let bound = signed(
        &tree,
        "/v/c.ts",
        &["--address", "127.0.0.1", "--key-id", "video"],
    );
    for (ip, status) in [(FRIEND, 200), (STRANGER, 403)] {
        let mut client = Client::connect_from(ip, server.address);
        assert_eq!(client.get(&bound).status, status, "{bound}");
    }
}

#[test]
fn sign_takes_the_key_of_the_configuration() {
    let tree = tree();
    with_key(&tree);
    tree.write("v/c.ts", b"another");
    let rule = "[[site.signed]]\nmatch = \"/v/**\"\nkeys = [\"video.key\"]";
    let server = Launch::run(&tree, "", rule).start();
    let file = tree.base().join("tidegate.toml");
    let sign = |url: &str, more: &[&str]| {
        let launch = Launch::with(["sign", "--expires", "90s", "--config"]).argument(&file);
        launch.argument(url).arguments(more).output()
    };
    let url = sign("http://test/v/c.ts?a=b", &[]).success();
    assert_eq!(server.get(url.trim_end()).text(), "another");
    sign("/open", &[]).refusal(1, &["no [[site.signed]] of the site is for /open"]);
    sign(url.trim_end(), &[]).refusal(1, &["signed already"]);
    sign("/v/c.ts", &["--prefix"]).refusal(1, &["a prefix ends in a slash"]);
    sign("/v/c.ts", &["--key-id", "none"]).refusal(1, &["there is no key none"]);
    fs::set_permissions(
        tree.base().join("video.key"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    sign("/v/c.ts", &[]).refusal(1, &["video.key: all users have access to it", "chmod o="]);
    let check = Launch::with(["check"]).argument(&file).output();
    check.refusal(
        1,
        &[":12: site.signed.keys: ", "all users have access to it"],
    );
}

#[test]
fn bodies_of_some_paths_are_paced_by_the_kernel() {
    if !installed("ss") {
        return;
    }
    let tree = Tree::with("fast/x", &noise(8 << 20, 1));
    tree.write("slow/x", &noise(8 << 20, 2));
    tree.write("slow/small", b"small");
    let rule = "[[site.pace]]\nmatch = \"/slow/**\"\nrate = \"64m\"";
    let server = Launch::run(&tree, "", rule).start();
    let mut client = server.connect();
    let paced = Some("536870912bps".to_owned());
    for (target, expected) in [("/fast/x", None), ("/slow/x", paced), ("/fast/x", None)] {
        client.send(request_with("GET", target, &[]));
        let head = client.head();
        let _ = client.body(1 << 20);
        assert_eq!(pacing_rate_max(&server, &client), expected, "{target}");
        let _ = client.body(head.content_length() - (1 << 20));
    }
    assert_eq!(client.get("/slow/small").text(), "small");
}

/// The rate to which the kernel limits the server's end of the connection of `client`; `None`
/// without a limit.
fn pacing_rate_max(server: &Server, client: &Client) -> Option<String> {
    let [src, dst] = [server.address, client.address()].map(|address| address.to_string());
    let output = Command::new("ss")
        .args(["-tinH", "src", &src, "dst", &dst])
        .output()
        .expect("ss");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rate) = text
        .split_once("pacing_rate ")
        .unwrap_or_else(|| panic!("{text}"));
    let rate = rate.split_whitespace().next().unwrap_or_default();
    Some(rate.split_once('/')?.1.to_owned())
}

#[test]
fn only_users_with_their_password_are_served() {
    let tree = tree();
    let server = with_password(&tree, USERS, "");
    let huge = format!("Authorization: Basic {}", "A".repeat(12 << 10));
    let rows = [
        (ann(), 200),
        (login("b\u{f6}b", "secret"), 200),
        (ann().replace("Basic", "bASIC"), 200),
        (ann().replace("Authorization", "aUTHORIZATION"), 200),
        (login("ann", "secre"), 401),
        (login("ann", "secret "), 401),
        (login("ann", ""), 401),
        (login("Ann", "secret"), 401),
        (login("", "secret"), 401),
        (login("", ""), 401),
        (login("none", "secret"), 401),
        (login("ann", "secret\0"), 401),
        (login("ann:secret", ""), 401),
        (ann().replace("Basic ", ""), 401),
        (ann().replace("Basic", "Bearer"), 401),
        (ann() + "=", 401),
        (ann() + ", Basic AAAA", 401),
        (format!("{}\r\n{}", ann(), login("ann", "x")), 401),
        (format!("Authorization:\r\n{}", ann()), 401),
        ("Authorization:".to_owned(), 401),
        ("Authorization: Basic \u{e4}\u{f6}".to_owned(), 401),
        ("Authorization: Basic ====".to_owned(), 401),
        ("X-Authorization: x".to_owned(), 401),
        (huge, 401),
        (ann(), 200),
    ];
    for (field, status) in rows {
        // On one connection, and again.
        let mut client = server.connect();
        for _ in 0..2 {
            let response = client.get_with("/a/x", &[&field]);
            assert_eq!(response.status, status, "{field}: {response:?}");
            let asked = response.header("www-authenticate");
            let expected = "Basic realm=\"the a\", charset=\"UTF-8\"";
            assert_eq!(asked, (status == 401).then_some(expected), "{field}");
        }
    }
    let huge = format!("Authorization: Basic {}", "A".repeat(20 << 10));
    assert_eq!(server.connect().get_with("/a/x", &[&huge]).status, 431);
    // What needs no password takes none.
    assert_eq!(
        server.connect().get_with("/", &[&login("ann", "x")]).status,
        200
    );
    let log = server.log();
    assert!(
        log.contains("user=\"ann\"") && log.contains("user=\"b\u{f6}b\""),
        "{log}"
    );
    assert!(log.contains("wrong names or passwords"), "{log}");
    assert!(!log.contains("secre"), "{log}");
}

#[test]
fn what_a_user_gets_is_for_no_shared_cache() {
    let tree = tree();
    let public = "[[site.headers]]\nmatch = \"/**\"\ncache = \"immutable\"";
    for site in ["", public] {
        let server = with_password(&tree, USERS, site);
        let ann = ann();
        let etag = server.connect().get_with("/a/x", &[&ann]).etag().to_owned();
        let same = format!("If-None-Match: {etag}");
        let rows: [(&str, &[&str], u16); 5] = [
            ("/a/x", &[&ann], 200),
            ("/a/x", &[&ann, &same], 304),
            ("/a/x", &[&ann, "Range: bytes=1-2"], 206),
            ("/a/none", &[&ann], 404),
            ("/a", &[&ann], 404),
        ];
        for (target, fields, status) in rows {
            let response = server.connect().get_with(target, fields);
            assert_eq!(response.status, status, "{target}");
            let is_private = response
                .list("cache-control")
                .contains(&"private".to_owned());
            assert_eq!(is_private, target != "/a", "{target} {response:?}");
        }
        let open = server.get("/");
        assert!(!open.list("cache-control").contains(&"private".to_owned()));
    }
}

#[test]
fn methods_and_preflights_with_a_password() {
    let tree = tree();
    let cors = "error-pages = { 401 = \"/403.html\" }\n[site.cors]\norigins = [\"https://a.test\"]";
    let server = with_password(&tree, USERS, cors);
    let ann = ann();
    let origin = "Origin: https://a.test";
    let preflight = "Access-Control-Request-Method: GET";
    let header = "Access-Control-Request-Headers: authorization";
    let rows: [(&str, &[&str], u16); 10] = [
        ("HEAD", &[], 401),
        ("HEAD", &[&ann], 200),
        ("POST", &[], 401),
        ("POST", &[&ann], 405),
        ("BREW", &[&ann], 501),
        ("OPTIONS", &[], 401),
        ("OPTIONS", &[origin], 401),
        ("OPTIONS", &[&ann], 204),
        ("OPTIONS", &[origin, preflight, header], 204),
        ("GET", &[origin, preflight], 401),
    ];
    for (method, fields, status) in rows {
        let response = server.connect().ask(method, "/a/x", fields);
        assert_eq!(response.status, status, "{method} {fields:?}: {response:?}");
        let has_page = response.text() == "the page for 403";
        assert_eq!(
            has_page,
            status == 401 && method != "HEAD",
            "{method} {fields:?}"
        );
        assert_eq!(
            response.has("www-authenticate"),
            status == 401,
            "{method} {fields:?}"
        );
        let readable = fields.contains(&origin);
        assert_eq!(
            response.has("access-control-allow-origin"),
            readable,
            "{method} {fields:?}"
        );
    }
    let allowed = server
        .connect()
        .ask("OPTIONS", "/a/x", &[origin, preflight, header]);
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("authorization")
    );
}

#[test]
fn requests_behind_each_other_have_their_own_passwords() {
    let tree = tree();
    let server = with_password(&tree, USERS, "");
    let (ann, wrong) = (ann(), login("ann", "wrong"));
    let rows: [(&[&str], u16); 6] = [
        (&[&wrong], 401),
        (&[&ann], 200),
        (&[], 401),
        (&[&ann], 200),
        (&[&wrong], 401),
        (&[&ann], 200),
    ];
    for _ in 0..2 {
        let all = rows
            .map(|(fields, _)| request_with("GET", "/a/x", fields))
            .concat();
        let mut client = server.connect();
        client.send(&all);
        assert_eq!(
            rows.map(|_| client.response().status),
            rows.map(|(_, status)| status)
        );
    }
}

#[test]
fn a_flood_of_wrong_passwords_stalls_nobody() {
    let tree = tree();
    let users = format!("{USERS}{SLOW}");
    let server = with_password(&tree, &users, "");
    let known = server.connect().get_with("/a/x", &[&ann()]);
    assert_eq!(known.status, 200);
    // More than may wait, from few addresses and from many.
    let flood: Vec<_> = (0..300)
        .map(|number: u16| {
            let ip = [127, 0, 1, if number < 100 { 1 } else { (number / 4) as u8 }];
            let mut client = Client::connect_from(ip, server.address);
            let fields = [login("sam", &number.to_string())];
            client.send(request_with("GET", "/a/x", &[&fields[0]]));
            client
        })
        .collect();
    let mut friend = server.connect();
    for _ in 0..100 {
        assert_eq!(friend.get_with("/a/x", &[&ann()]).status, 200);
        assert_eq!(friend.get("/").status, 200);
    }
    let mut statuses = [0; 2];
    for mut client in flood.into_iter().take(100) {
        let response = client.response();
        match response.status {
            401 => statuses[0] += 1,
            503 => {
                assert!(response.has("retry-after"));
                statuses[1] += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(statuses.iter().all(|count| *count > 0), "{statuses:?}");
    eventually("a new user", || {
        let response = server
            .connect()
            .get_with("/a/x", &[&login("b\u{f6}b", "secret")]);
        response.status == 200
    });
}

/// Asks for what only a user may have, on all connections at once; the statuses that came.
fn statuses(clients: &mut [Client], login: &str) -> BTreeSet<u16> {
    for client in &mut *clients {
        client.send(request_with("GET", "/a/x", &[login]));
    }
    let statuses = clients.iter_mut().map(|client| client.response().status);
    statuses.collect()
}

#[test]
fn a_reload_under_authenticated_load_turns_nobody_away() {
    let tree = tree();
    let server = with_password(&tree, SLOW, "");
    let sam = login("sam", "secret");
    // More than may wait. All of them have the same login, which is verified once.
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    assert_eq!(statuses(&mut clients, &sam), [200].into());
    let reloads = || server.log().matches("the configuration is applied").count();
    for users in [SLOW.to_owned(), format!("{USERS}{SLOW}")] {
        fs::write(tree.base().join("users"), users).unwrap();
        let before = reloads();
        server.signal(Signal::HUP);
        eventually("the reload", || {
            assert_eq!(statuses(&mut clients, &sam), [200].into());
            reloads() > before
        });
        assert_eq!(statuses(&mut clients, &sam), [200].into());
    }
    // A new password ends what was remembered of the old one.
    fs::write(tree.base().join("users"), CHANGED).unwrap();
    server.signal(Signal::HUP);
    eventually("the new password", || {
        statuses(&mut clients, &sam) == [401].into()
    });
    let changed = login("sam", "changed");
    assert_eq!(statuses(&mut clients, &changed), [200].into());
}

#[test]
fn the_users_are_read_again_at_a_reload() {
    let tree = tree();
    let server = with_password(&tree, USERS, "");
    assert_eq!(server.connect().get_with("/a/x", &[&ann()]).status, 200);
    // A file that cannot be used changes nothing.
    let others = USERS.replace("ann:", "sam:");
    for (users, status) in [("ann:secret\n", 200), (&*others, 401)] {
        fs::write(tree.base().join("users"), users).unwrap();
        server.signal(Signal::HUP);
        let reloads = ["in clear text", "user=\"sam\""];
        eventually("the reload", || {
            let _ = server
                .connect()
                .get_with("/a/x", &[&login("sam", "secret")]);
            reloads.iter().any(|text| server.log().contains(text))
        });
        eventually("the new users", || {
            let response = server.connect().get_with("/a/x", &[&ann()]);
            response.status == status
        });
    }
    let sam = login("sam", "secret");
    assert_eq!(server.connect().get_with("/a/x", &[&sam]).status, 200);
}

#[test]
fn a_file_of_users_that_cannot_be_used_keeps_the_server_from_starting() {
    let tree = tree();
    let users = tree.base().join("users");
    let site = "[[site.auth]]\nmatch = \"/a/**\"\nusers = \"users\"";
    let rows: [(&str, &[&str]); 4] = [
        (
            "ann:secret\n",
            &[
                "users:1: the password of `ann` is in clear text",
                "htpasswd -B",
            ],
        ),
        (
            "\nann:$apr1$a$b\n",
            &["users:2: the password of `ann` is hashed with MD5"],
        ),
        ("", &["users: has no users"]),
        ("-", &["users: cannot be read: No such file"]),
    ];
    for (text, words) in rows {
        match text {
            "-" => fs::remove_file(&users).unwrap(),
            text => fs::write(&users, text).unwrap(),
        }
        let place = [":12: site.auth.users: "];
        let words = [&place, words].concat();
        let refused = Launch::run(&tree, "", site)
            .start_or_refusal()
            .err()
            .expect("a refusal");
        refused.refusal(1, &words);
        let file = tree.base().join("tidegate.toml");
        Launch::with(["check"])
            .argument(file)
            .output()
            .refusal(1, &words);
    }
}
