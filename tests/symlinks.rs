//! Symbolic links: followed beneath the root, never, or wherever they lead.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Launch, SECRET, Server, Tree};

/// Targets, and which of the policies `beneath`, `never` and `follow` serve them.
#[rustfmt::skip] // one row a line
const TABLE: &[(&str, [bool; 3], &str)] = &[
    ("/file", [true, true, true], "no link"),
    ("/nested/file", [true, true, true], "no link"),
    ("/link", [true, false, true], "a link to a file"),
    ("/nested/up", [true, false, true], "a link to a link"),
    ("/directory/file", [true, false, true], "a link to a directory"),
    ("/directory/", [true, false, true], "a link to a directory, and its index"),
    ("/linked-index/", [true, false, true], "an index that is a link"),
    ("/out", [false, false, true], "a link out of the root"),
    ("/out-and-in", [false, false, true], "a link out of the root that comes back"),
    ("/out-directory/secret", [false, false, true], "a directory outside"),
    ("/absolute", [false, false, true], "an absolute link out of the root"),
    ("/absolute-in", [false, false, true], "an absolute link into the root"),
    ("/magic/file", [false, false, false], "a link of /proc that the kernel makes up"),
    ("/loop", [false, false, false], "a link to itself"),
    ("/dangling", [false, false, false], "a link to nothing"),
    ("/device", [false, false, false], "no regular file"),
];

#[test]
fn the_policy_decides() {
    let tree = links();
    for (at, policy) in ["beneath", "never", "follow"].into_iter().enumerate() {
        let server = with_policy(&tree, policy);
        let mut client = server.connect();
        for (target, served, why) in TABLE {
            let response = client.get(target);
            let place = format!("{policy} {target} ({why}): {response:?}");
            if served[at] {
                assert_eq!(response.status, 200, "{place}");
            } else {
                assert!(matches!(response.status, 403 | 404), "{place}");
                assert!(!response.text().contains(SECRET), "{place}");
            }
        }
        server.stop();
    }
}

#[test]
fn a_root_may_be_a_link_whatever_the_policy() {
    let tree = Tree::with("file", b"content");
    let link = tree.base().join("link");
    symlink(tree.root(), &link).unwrap();
    for policy in ["beneath", "never", "follow"] {
        let site = format!(
            "[[site]]\nroot = \"{}\"\nsymlinks = \"{policy}\"",
            link.display()
        );
        let server = Launch::run_sites(&tree, "", &site).start();
        assert_eq!(server.get("/file").body, b"content", "{policy}");
    }
}

#[test]
fn a_link_swapped_for_one_that_leads_out_shows_nothing() {
    let tree = links();
    let server = Launch::run(&tree, "[cache]\nvalid = \"0s\"", "").start();
    let mut client = server.connect();
    for _ in 0..100 {
        symlink("nested/file", tree.path("new")).unwrap();
        fs::rename(tree.path("new"), tree.path("link")).unwrap();
        assert_eq!(client.get("/link").body, b"inside");
        symlink("../secret", tree.path("new")).unwrap();
        fs::rename(tree.path("new"), tree.path("link")).unwrap();
        let response = client.get("/link");
        assert_eq!(response.status, 404, "{response:?}");
    }
}

#[test]
fn a_directory_exchanged_with_a_link_that_leads_out_at_full_speed_shows_nothing() {
    let tree = Tree::with("directory/file", b"inside");
    tree.write("directory/index.html", b"inside");
    let outside = tree.base().join("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["file", "index.html", "file.gz"] {
        fs::write(outside.join(name), SECRET).unwrap();
    }
    tree.link("link", "../outside");
    let more = "directory-listing = true\n[cache]\nvalid = \"0s\"";
    let server = Launch::run(&tree, "", more).start();
    let (done, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ok = thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (tree.path("directory"), tree.path("link"));
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("an exchange");
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut client = server.connect();
        let targets = [
            "/directory/file",
            "/directory/",
            "/link/file",
            "/link/",
            "/link",
        ];
        let answers = (0..4000).filter(|number| {
            let target = targets[number % targets.len()];
            let fields: &[&str] = if number % 3 == 0 {
                &["Accept-Encoding: gzip"]
            } else {
                &[]
            };
            let response = client.get_with(target, fields);
            let whole = String::from_utf8_lossy(&response.body);
            assert!(!whole.contains(SECRET), "{target}");
            response.status == 200
        });
        let count = answers.count();
        done.store(true, Ordering::Relaxed);
        count
    });
    assert!(ok > 0 && exchanges.into_inner() > 0);
    server.stop();
}

fn with_policy(tree: &Tree, policy: &str) -> Server {
    Launch::run(tree, "", &format!("symlinks = \"{policy}\"")).start()
}

fn links() -> Tree {
    let tree = Tree::with("nested/file", b"inside");
    tree.write("file", b"inside");
    tree.write("nested/index.html", b"index");
    fs::create_dir(tree.path("linked-index")).unwrap();
    for (path, target) in [
        ("link", "nested/file"),
        ("nested/up", "../link"),
        ("directory", "nested"),
        ("linked-index/index.html", "../file"),
        ("out", "../secret"),
        ("out-and-in", "../www/file"),
        ("out-directory", ".."),
        ("loop", "loop"),
        ("dangling", "nothing"),
        ("device", "/dev/zero"),
    ] {
        tree.link(path, target);
    }
    let absolute = |path: &str, target: &std::path::Path| {
        tree.link(
            path,
            target.to_str().expect("a temporary directory in UTF-8"),
        );
    };
    absolute("absolute", &tree.base().join("secret"));
    absolute("absolute-in", &tree.path("file"));
    let root = tree.root();
    let within = root.strip_prefix("/").expect("an absolute path");
    absolute(
        "magic",
        &std::path::Path::new("/proc/self/root").join(within),
    );
    tree
}
