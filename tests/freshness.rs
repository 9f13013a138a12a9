//! Files, variants and whole trees that change while they are served: what was looked up is trusted for
//! `cache.valid`, and then shows the change.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{
    Client, Launch, Server, Tree, eventually, get, installed, mounts, noise, request_with,
};

const SHORT: &str = "[cache]\nvalid = \"20ms\"";

/// Longer than any test.
const LONG: &str = "[cache]\nvalid = \"24h\"";

/// Releases that follow each other in [`a_swapped_release_shows_as_a_whole`].
const RELEASES: usize = 12;

#[test]
fn what_is_added_changed_and_removed_shows() {
    let tree = Tree::new();
    let server = Launch::run(&tree, SHORT, "").start();
    for size in [10, 100_000] {
        for target in ["/file", "/deep/down/file"] {
            let path = &target[1..];
            let body = || server.get(target).body;
            eventually("absent", || server.get(target).status == 404);
            tree.write(path, &noise(size, 1));
            eventually("added", || body() == noise(size, 1));
            tree.write(path, &noise(size + 1, 2));
            eventually("written in place", || body() == noise(size + 1, 2));
            tree.write("new", &noise(size, 3));
            fs::rename(tree.path("new"), tree.path(path)).unwrap();
            eventually("replaced", || body() == noise(size, 3));
            fs::remove_file(tree.path(path)).unwrap();
            eventually("removed", || server.get(target).status == 404);
        }
    }
}

#[test]
fn what_was_looked_up_is_trusted() {
    let tree = Tree::with("file", b"before");
    tree.write("large", &noise(100_000, 1));
    let server = Launch::run(&tree, LONG, "").start();
    let mut client = server.connect();
    assert_eq!(client.get("/file").body, b"before");
    assert!(client.get("/large").body == noise(100_000, 1));
    assert_eq!(client.get("/none").status, 404);
    for (path, content) in [
        ("file", &b"after"[..]),
        ("large", b"after"),
        ("none", b"after"),
    ] {
        tree.write("new", content);
        fs::rename(tree.path("new"), tree.path(path)).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(client.get("/file").body, b"before");
        assert!(client.get("/large").body == noise(100_000, 1));
        assert_eq!(client.get("/none").status, 404);
    }
}

#[test]
fn a_file_and_a_directory_may_take_each_others_place() {
    let tree = Tree::with("name", b"a file");
    let server = Launch::run(&tree, SHORT, "").start();
    for _ in 0..3 {
        eventually("a file", || server.get("/name").body == b"a file");
        fs::remove_file(tree.path("name")).unwrap();
        tree.write("name/index.html", b"an index");
        eventually("a directory", || {
            server.get("/name").status == 301 && server.get("/name/").body == b"an index"
        });
        fs::remove_dir_all(tree.path("name")).unwrap();
        eventually("nothing", || server.get("/name/").status == 404);
        tree.write("name", b"a file");
    }
}

#[test]
fn an_index_and_an_error_page_show_their_changes() {
    let tree = Tree::with("dir/second.html", b"second");
    let site = "index = [\"first.html\", \"second.html\"]\nerror-pages = { 404 = \"/404.html\" }";
    let server = Launch::run(&tree, SHORT, site).start();
    assert_eq!(server.get("/dir/").body, b"second");
    tree.write("dir/first.html", b"first");
    eventually("the better index", || server.get("/dir/").body == b"first");
    fs::remove_file(tree.path("dir/first.html")).unwrap();
    eventually("the other index", || server.get("/dir/").body == b"second");
    assert_eq!(server.get("/none").status, 404);
    for content in ["sorry", "really sorry"] {
        tree.write("404.html", content.as_bytes());
        eventually("the error page", || {
            let response = server.get("/none");
            assert_eq!(response.status, 404);
            response.body == content.as_bytes()
        });
    }
    fs::remove_file(tree.path("404.html")).unwrap();
    eventually("the plain answer", || {
        server.get("/none").body != b"really sorry"
    });
}

#[test]
fn variants_come_and_go() {
    let tree = Tree::with("file.js", b"plain");
    let server = Launch::run(&tree, SHORT, "").start();
    let coding = || {
        let response = server.get_with("/file.js", &["Accept-Encoding: br, gzip"]);
        assert_eq!(response.status, 200);
        response.header("content-encoding").unwrap_or("").to_owned()
    };
    assert_eq!(coding(), "");
    tree.write("file.js.gz", b"compressed");
    eventually("the variant", || coding() == "gzip");
    tree.write("file.js.br", b"better compressed");
    eventually("the better variant", || coding() == "br");
    assert!(server.get("/file.js").has("vary"));
    fs::remove_file(tree.path("file.js.br")).unwrap();
    eventually("the other variant", || coding() == "gzip");
    tree.modified("file.js", SystemTime::now() + Duration::from_secs(5));
    eventually("the file, now that the variant is older", || {
        coding().is_empty()
    });
    tree.write("file.js.gz", b"compressed again");
    tree.modified("file.js.gz", SystemTime::now() + Duration::from_secs(5));
    eventually("the variant, made again", || coding() == "gzip");
    fs::remove_file(tree.path("file.js")).unwrap();
    eventually("nothing", || {
        server
            .get_with("/file.js", &["Accept-Encoding: gzip"])
            .status
            == 404
    });
}

/// ext4 with inodes of 128 bytes, which have no room for more than whole seconds.
#[test]
fn a_change_within_one_second_shows_where_times_are_in_seconds() {
    let tree = Tree::new();
    let image = tree.base().join("image");
    let script = format!(
        "truncate -s 16m {image}; mkfs.ext4 -q -F -I 128 {image} >&2; mount -o loop {image} {root}",
        image = image.display(),
        root = tree.root().display()
    );
    if !installed("mkfs.ext4") || !mounts(&script) {
        return;
    }
    let server = Launch::run(&tree, SHORT, "").mounted(&script).start();
    for (number, size) in [10, 10_000, 100_000, 3_000_000].into_iter().enumerate() {
        // On a busy machine a second may pass between the two.
        let mut names = (0..100).map(|attempt| format!("{number}-{attempt}"));
        let (name, known) = names
            .find_map(|name| {
                let path = server.sees(&tree.path(&name));
                fs::write(&path, noise(size, 1)).unwrap();
                let first = fs::metadata(&path).unwrap().modified().unwrap();
                // Longer than a tick of the kernel's clock.
                thread::sleep(Duration::from_millis(50));
                let known = server.get(&format!("/{name}"));
                assert!(known.body == noise(size, 1), "{size}");
                fs::write(&path, noise(size, 2)).unwrap();
                let second = fs::metadata(&path).unwrap().modified().unwrap();
                (first == second).then_some((name, known))
            })
            .expect("two changes within a second");
        // What is sent from the file itself shows at once, and its tag when it is looked at again.
        eventually(&format!("the second of {size} bytes, with its tag"), || {
            let now = server.get(&format!("/{name}"));
            now.has("etag")
                && now.header("etag") != known.header("etag")
                && now.body == noise(size, 2)
        });
    }
}

/// The same with times of modification that a tool sets: a client that asks by date alone gets what it
/// has not.
#[test]
fn a_change_within_one_second_that_keeps_its_time_has_no_date() {
    let tree = Tree::new();
    let image = tree.base().join("image");
    let script = format!(
        "truncate -s 16m {image}; mkfs.ext4 -q -F -I 128 {image} >&2; mount -o loop {image} {root}",
        image = image.display(),
        root = tree.root().display()
    );
    if !installed("mkfs.ext4") || !mounts(&script) {
        return;
    }
    let server = Launch::run(&tree, SHORT, "").mounted(&script).start();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (number, size) in [10, 100_000, 3_000_000].into_iter().enumerate() {
        // When its state was changed, in seconds.
        let write = |name: &str, seed| {
            let path = server.sees(&tree.path(name));
            fs::write(&path, noise(size, seed)).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
            file.metadata().unwrap().ctime()
        };
        // On a busy machine a second may pass between the two.
        let mut names = (0..100).map(|attempt| format!("{number}-{attempt}"));
        let (name, known) = names
            .find_map(|name| {
                let first = write(&name, 1);
                let known = server.get(&format!("/{name}"));
                assert!(known.body == noise(size, 1), "{size}");
                (first == write(&name, 2)).then_some((name, known))
            })
            .expect("two changes within a second");
        let target = format!("/{name}");
        eventually(&format!("the second of {size} bytes, with its tag"), || {
            let now = server.get(&target);
            now.has("etag")
                && now.header("etag") != known.header("etag")
                && now.body == noise(size, 2)
        });
        if let Some(date) = known.header("last-modified") {
            let since = format!("If-Modified-Since: {date}");
            let response = server.get_with(&target, &[&since]);
            assert_eq!(response.status, 200, "{size}");
        }
    }
}

/// Each round is one look that all share, whoever comes first.
#[test]
fn a_crowd_after_a_quiet_time_sees_what_is_there_now() {
    const CLIENTS: usize = 40;
    let tree = Tree::with("file", b"round 0");
    let server = Launch::run(&tree, "[cache]\nvalid = \"50ms\"", "").start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for round in 1..6 {
        let expected = format!("round {round}");
        tree.write("new", expected.as_bytes());
        fs::rename(tree.path("new"), tree.path("file")).unwrap();
        thread::sleep(Duration::from_millis(200));
        for client in &mut clients {
            client.send(get("/file"));
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), expected);
        }
    }
}

#[test]
fn a_swapped_release_shows_as_a_whole() {
    let tree = Tree::new();
    for number in 0..RELEASES {
        release(&tree, number);
    }
    let current = tree.base().join("current");
    symlink("releases/0", &current).unwrap();
    let site = format!("[[site]]\nroot = \"{}\"", current.display());
    let server = Launch::run_sites(&tree, SHORT, &site).start();
    let address = server.address;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| watch(address, &over)))
            .collect();
        for number in 1..RELEASES {
            let new = tree.base().join("new");
            symlink(format!("releases/{number}"), &new).unwrap();
            fs::rename(&new, &current).unwrap();
            eventually(&format!("release {number}"), || {
                shown(&server, "/a") == number
            });
            // Nothing of another release, nor anything that this one does not have.
            for target in ["/a", "/b", "/large", "/deep/"] {
                assert_eq!(shown(&server, target), number, "{target}");
            }
            assert_eq!(server.get(&format!("/only-{number}")).status, 200);
            assert_eq!(server.get(&format!("/only-{}", number - 1)).status, 404);
        }
        over.store(true, Ordering::Relaxed);
        for watcher in watchers {
            watcher.join().expect("no release that comes back");
        }
    });
    server.stop();
}

/// Asks for files of a release until it is over, and checks that none is older than the one before it.
fn watch(address: SocketAddr, over: &AtomicBool) {
    let mut client = Client::connect(address);
    let mut newest = 0;
    let targets = ["/a", "/large", "/b", "/deep/", "/a"];
    while !over.load(Ordering::Relaxed) {
        client.send(targets.map(get).concat());
        for target in targets {
            let number = number(&mut client);
            assert!(number >= newest, "{target} of {number} behind {newest}");
            newest = number;
        }
        // Variants are of the release, too.
        client.send(request_with("GET", "/b", &["Accept-Encoding: gzip"]));
        let coded = number(&mut client);
        assert!(coded >= newest, "a variant of {coded} behind {newest}");
        newest = coded;
    }
}

/// Files that all tell the number of their release.
fn release(tree: &Tree, number: usize) {
    let directory = tree.base().join("releases").join(number.to_string());
    fs::create_dir_all(directory.join("deep")).unwrap();
    let text = format!("{number} ");
    for name in ["a", "b", "b.gz", "deep/index.html"] {
        fs::write(directory.join(name), &text).unwrap();
    }
    fs::write(directory.join(format!("only-{number}")), &text).unwrap();
    fs::write(directory.join("large"), text.repeat(50_000)).unwrap();
}

/// The number of the release that the next response is of, which must be of it from end to end.
#[track_caller]
fn number(client: &mut Client) -> usize {
    let response = client.response();
    assert_eq!(response.status, 200, "{response:?}");
    let text = response.text();
    let number = text.split(' ').next().expect("a number");
    assert!(text.split_terminator(' ').all(|one| one == number), "mixed");
    number.parse().expect("a number")
}

#[track_caller]
fn shown(server: &Server, target: &str) -> usize {
    let mut client = server.connect();
    client.send(get(target));
    number(&mut client)
}

#[test]
fn a_root_that_vanishes_is_404_and_comes_back() {
    let tree = Tree::with("file", b"content");
    tree.write("large", &noise(100_000, 1));
    let away = tree.base().join("away");
    let site = format!("[[site]]\nroot = \"{}\"", tree.root().display());
    let server = Launch::run_sites(&tree, "[cache]\nvalid = \"5ms\"", &site).start();
    let targets = ["/file", "/large", "/", "/none"];
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/file").body, b"content");
        assert!(client.get("/large").body == noise(100_000, 1));
        fs::rename(tree.root(), &away).unwrap();
        eventually("no root", || {
            targets
                .iter()
                .all(|target| client.get(target).status == 404)
        });
        fs::rename(&away, tree.root()).unwrap();
        eventually("the root", || client.get("/file").body == b"content");
        eventually("all of it", || {
            client.get("/large").body == noise(100_000, 1)
        });
    }
    server.stop();
}

#[test]
fn a_vanished_root_is_logged_once() {
    let tree = Tree::with("file", b"content");
    let away = tree.base().join("away");
    let site = format!("[[site]]\nroot = \"{}\"", tree.root().display());
    let server = Launch::run_sites(&tree, "[cache]\nvalid = \"2ms\"", &site).start();
    let mut client = server.connect();
    let name = tree.root().display().to_string();
    // What is warned of at the start may be looked for when it has gone already.
    let mentions = || {
        let log = server.log();
        let lines = log.lines().filter(|line| line.contains("vanished"));
        lines.filter(|line| line.contains(&name)).count()
    };
    let silent = mentions();
    fs::rename(tree.root(), &away).unwrap();
    eventually("no root", || client.get("/file").status == 404);
    eventually("a line in the log", || mentions() > silent);
    // Many times as long as an answer is trusted.
    for _ in 0..100 {
        assert_eq!(client.get("/file").status, 404);
        thread::sleep(Duration::from_millis(2));
    }
    eventually("a line of it", || mentions() > silent);
    assert_eq!(mentions(), silent + 1, "{}", server.log());
    fs::rename(&away, tree.root()).unwrap();
    eventually("the root", || client.get("/file").status == 200);
}

#[test]
fn a_root_replaced_by_a_file_is_404_and_comes_back() {
    let tree = Tree::with("file", b"content");
    let away = tree.base().join("away");
    let site = format!("[[site]]\nroot = \"{}\"", tree.root().display());
    let server = Launch::run_sites(&tree, SHORT, &site).start();
    assert_eq!(server.get("/file").body, b"content");
    fs::rename(tree.root(), &away).unwrap();
    fs::write(tree.root(), b"not a directory").unwrap();
    eventually("no root", || server.get("/file").status == 404);
    assert_eq!(server.get("/").status, 404);
    fs::remove_file(tree.root()).unwrap();
    fs::create_dir(tree.root()).unwrap();
    fs::write(tree.root().join("file"), b"another").unwrap();
    eventually("another root", || server.get("/file").body == b"another");
}

#[test]
fn one_site_does_not_lose_what_another_lost() {
    let tree = Tree::new();
    tree.write("one/file", b"one");
    tree.write("two/file", b"two");
    let site = |name: &str| {
        format!(
            "[[site]]\nnames = [\"{name}\"]\nroot = \"{}\"\n",
            tree.path(name).display()
        )
    };
    let server = Launch::run_sites(&tree, SHORT, &(site("one") + &site("two"))).start();
    let ask = |host: &str| server.get_with("/file", &[&format!("Host: {host}")]);
    assert_eq!(ask("one").body, b"one");
    assert_eq!(ask("two").body, b"two");
    rename(&tree.path("one"), &tree.path("away"));
    eventually("no root", || ask("one").status == 404);
    assert_eq!(ask("two").body, b"two");
    rename(&tree.path("away"), &tree.path("one"));
    eventually("the root", || ask("one").body == b"one");
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("another name");
}
