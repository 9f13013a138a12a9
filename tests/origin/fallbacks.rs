//! A second origin, and a root beside the origin.

use super::{Mirror, PATIENT, PREFIX, SLICE, assert_hit, entry, fresh, whole};
use crate::support::{Behaviour, Origin, eventually, noise};

#[test]
fn another_origin_is_asked_while_the_first_fails() {
    let mirror = Mirror::with("/a", fresh(2 * SLICE, 1));
    mirror.put("/b", fresh(2 * SLICE, 2));
    let second = Origin::start();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        second.put(&format!("{PREFIX}/{name}"), fresh(2 * SLICE, seed));
    }
    let entries = [mirror.entry(PATIENT), entry("http", &second, PATIENT)];
    let server = mirror
        .launch_site(&format!("origin = [{}]\n", entries.join(", ")))
        .start();
    assert!(server.get("/a").body == noise(2 * SLICE, 1));
    // That it has none is an answer.
    assert_eq!(server.get("/c").status, 404);
    assert_eq!(second.requests().len(), 0);
    mirror.origin.behave_always([Behaviour::status(500)]);
    assert!(server.get("/b").body == noise(2 * SLICE, 2));
    mirror.origin.refuse();
    assert!(server.get("/d").body == noise(2 * SLICE, 4));
    mirror.origin.accept();
    mirror.origin.behave_always([]);
    mirror.origin.forget();
    let mut number = 0;
    eventually("the first origin is asked again", || {
        number += 1;
        let path = format!("/again-{number}");
        second.put(&format!("{PREFIX}{path}"), fresh(10, number));
        mirror.put(&path, fresh(10, number));
        assert_eq!(server.get(&path).body, noise(10, number));
        mirror.count(&path) > 0
    });
}

#[test]
fn nothing_is_served_if_both_fail() {
    let mirror = Mirror::new();
    let second = Origin::start();
    let entries = [mirror.entry(PATIENT), entry("http", &second, PATIENT)];
    let server = mirror
        .launch_site(&format!("origin = [{}]\n", entries.join(", ")))
        .start();
    mirror.origin.refuse();
    second.refuse();
    assert_eq!(server.get("/a").status, 502);
    second.put(&format!("{PREFIX}/a"), fresh(10, 1));
    second.accept();
    eventually("an object", || whole(&server, "/a") == Some(noise(10, 1)));
}

#[test]
fn the_root_comes_first() {
    let mirror = Mirror::with("/both", fresh(100, 1));
    mirror.put("/remote", fresh(2 * SLICE, 2));
    mirror.tree.write("both", b"local");
    mirror.tree.write("local", b"local");
    let site = format!("root = \"{}\"", mirror.tree.root().display());
    let server = mirror.launch(PATIENT, &site).start();
    for _ in 0..2 {
        for target in ["/both", "/local"] {
            let local = server.get(target);
            assert_eq!(local.body, b"local", "{target}");
            assert!(!local.has("age"), "{target}");
        }
        assert!(server.get("/remote").body == noise(2 * SLICE, 2));
        assert_eq!(server.get("/none").status, 404);
    }
    assert_hit(&server.get("/remote"));
    assert_eq!((mirror.count("/both"), mirror.count("/local")), (0, 0));
    mirror.origin.refuse();
    assert_eq!(server.get("/local").body, b"local");
    mirror.tree.write("new", b"new");
    eventually("a new file", || server.get("/new").body == b"new");
}

#[test]
fn two_sites_do_not_share_objects() {
    let mirror = Mirror::with("/a", fresh(100, 1));
    let second = Origin::start();
    second.put(&format!("{PREFIX}/a"), fresh(100, 2));
    let sites = format!(
        "[[site]]\nnames = [\"one.test\"]\norigin = {}\n\
         [[site]]\nnames = [\"two.test\"]\norigin = {}\n",
        mirror.entry(PATIENT),
        entry("http", &second, PATIENT)
    );
    let server = mirror.launch_sites(&sites).start();
    for _ in 0..2 {
        for (host, seed) in [("one", 1), ("two", 2)] {
            let response = server.get_with("/a", &[&format!("Host: {host}.test")]);
            assert_eq!(response.body, noise(100, seed), "{host}");
        }
    }
    assert_eq!((mirror.count("/a"), second.requests().len()), (1, 1));
}
