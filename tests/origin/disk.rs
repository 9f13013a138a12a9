//! The directory of the cache: after a crash, without room, and read-only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::process::Signal;

use super::{Mirror, PATIENT, SLICE, assert_hit, fresh};
use crate::support::{Server, Strace, eventually, get, installed, is_root, mounts, noise};

const LENGTH: usize = 3 * SLICE + 100;
/// The user of [`crate::support::Launch::unprivileged`].
const NOBODY: u32 = 65_534;

pub(super) fn kill(mut server: Server) {
    server.signal(Signal::KILL);
    server.wait();
}

#[test]
fn what_was_stored_outlives_a_crash() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    // What ended just before the crash may have to come again.
    eventually("a start without a request", || {
        let before = mirror.count("/a");
        let server = mirror.start();
        assert!(server.get("/a").body == noise(LENGTH, 1));
        let is_stored = mirror.count("/a") == before;
        if is_stored {
            assert_hit(&server.get("/a"));
        }
        kill(server);
        is_stored
    });
}

#[test]
fn a_crash_in_the_middle_of_a_fill_leaves_no_part_of_it() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let gate = crate::support::Gate::default();
    let stall = crate::support::Behaviour::StallBody(1000, gate.clone());
    mirror.behave("/a", [stall.at(SLICE as u64)]);
    let server = mirror.start();
    let mut client = server.connect();
    client.send(crate::support::get("/a"));
    gate.reached();
    kill(server);
    gate.open();
    mirror.behave("/a", []);
    let server = mirror.start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    server.stop();
}

#[test]
fn another_version_is_seen_after_a_restart() {
    let mirror = Mirror::with("/a", super::stale(LENGTH, 1, "x"));
    let server = mirror.start();
    server.get("/a");
    server.stop();
    mirror.put("/a", fresh(LENGTH, 2));
    assert!(mirror.start().get("/a").body == noise(LENGTH, 2));
}

#[test]
fn torn_and_foreign_files_are_no_objects() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let server = mirror.start();
    server.get("/a");
    server.stop();
    for_each_file(&mirror.cache(), &mut |file| {
        let content = fs::read(file).expect("a file");
        fs::write(file, &content[..content.len() / 2]).expect("a torn file");
    });
    fs::write(mirror.cache().join("foreign"), "foreign").expect("a file");
    assert!(mirror.start().get("/a").body == noise(LENGTH, 1));
}

#[test]
fn slices_of_another_length_are_not_mixed_up() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let server = mirror.start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    server.stop();
    let origin = format!("[[site]]\norigin = {}", mirror.entry(PATIENT));
    let server = mirror.launch_sliced(&origin, "128k").start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    server.stop();
    assert!(mirror.start().get("/a").body == noise(LENGTH, 1));
}

/// Calls `work` with each file below `directory`.
fn for_each_file(directory: &Path, work: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("its entry");
        let path = entry.path();
        match entry.file_type().expect("its type") {
            kind if kind.is_dir() => for_each_file(&path, work),
            kind if kind.is_file() => work(&path),
            _ => {}
        }
    }
}

/// Sets the mode of `directory` and of those below it.
fn set_mode(directory: &Path, mode: u32) {
    let permissions = fs::Permissions::from_mode(mode);
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("its entry").path();
        if path.is_dir() && !path.is_symlink() {
            set_mode(&path, mode);
        }
    }
    fs::set_permissions(directory, permissions).expect("a mode");
}

#[test]
fn a_directory_that_became_read_only_stops_nothing() {
    let mirror = Mirror::with("/before", fresh(LENGTH, 1));
    mirror.put("/after", fresh(LENGTH, 2));
    fs::create_dir(mirror.cache()).expect("a directory");
    if is_root() {
        chown(mirror.cache(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    let launch = mirror.launch(PATIENT, "").unprivileged(&mirror.tree);
    let server = launch.start();
    assert!(server.get("/before").body == noise(LENGTH, 1));
    set_mode(&mirror.cache(), 0o555);
    for _ in 0..2 {
        assert!(server.get("/after").body == noise(LENGTH, 2));
        assert!(server.get("/before").body == noise(LENGTH, 1));
    }
    set_mode(&mirror.cache(), 0o755);
    assert!(server.get("/after").body == noise(LENGTH, 2));
}

#[test]
fn a_full_disk_stops_nothing() {
    const OBJECTS: u64 = 10;
    let mirror = Mirror::new();
    for seed in 0..OBJECTS {
        mirror.put(&format!("/{seed}"), fresh(LENGTH, seed));
    }
    fs::create_dir(mirror.cache()).expect("a directory");
    let cache = mirror.cache();
    let script = format!(
        "mount -t tmpfs -o size=512k,mode=777 tmpfs '{}'",
        cache.display()
    );
    if !mounts(&script) {
        return;
    }
    let server = mirror.launch(PATIENT, "").mounted(&script).start();
    for _ in 0..2 {
        for seed in 0..OBJECTS {
            assert!(
                server.get(&format!("/{seed}")).body == noise(LENGTH, seed),
                "{seed}"
            );
        }
    }
    server.stop();
}

/// Waits until `/a` is on the disk, and forgets what the origin was asked for.
fn store(mirror: &Mirror, server: &Server, length: usize) {
    assert!(server.get("/a").body == noise(length, 1));
    eventually("a hit", || {
        mirror.origin.forget();
        assert!(server.get("/a").body == noise(length, 1));
        mirror.count("/a") == 0
    });
}

#[test]
fn a_slice_that_cannot_be_read_any_more_cuts_a_body_and_is_fetched_again() {
    if !installed("strace") {
        return;
    }
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let server = mirror.start();
    store(&mirror, &server, LENGTH);
    // Each slice goes into a pipe, and from there to the socket: the second one is not read.
    let Some(strace) = Strace::inject(&server, "splice", "error=EIO:when=3") else {
        return;
    };
    let mut client = server.connect();
    client.send(get("/a"));
    assert_eq!(client.head().content_length(), LENGTH);
    assert!(client.rest() == noise(SLICE, 1));
    server.logs("response cut short");
    drop(strace);
    assert_eq!(mirror.count("/a"), 0);
    assert!(server.get("/a").body == noise(LENGTH, 1));
    assert_eq!(mirror.slices("/a"), [1]);
    for _ in 0..2 {
        assert!(server.get("/a").body == noise(LENGTH, 1));
    }
    assert_eq!(mirror.count("/a"), 1);
}

#[test]
fn an_object_of_one_slice_that_cannot_be_read_any_more_is_fetched_again() {
    const LONG: usize = 500_000;
    if !installed("strace") {
        return;
    }
    let mirror = Mirror::with("/a", fresh(LONG, 1));
    let site = format!("[[site]]\norigin = {}", mirror.entry(PATIENT));
    let server = mirror.launch_sliced(&site, "1m").start();
    store(&mirror, &server, LONG);
    let Some(strace) = Strace::inject(&server, "splice", "error=EIO:when=1") else {
        return;
    };
    let mut client = server.connect();
    client.send(get("/a"));
    assert_eq!(client.head().content_length(), LONG);
    assert_eq!(client.rest(), b"");
    server.logs("response cut short");
    drop(strace);
    // Until it is noticed that the file is gone, it is sent as long as it can be read.
    eventually("another request", || {
        assert!(server.get("/a").body == noise(LONG, 1));
        mirror.count("/a") == 1
    });
}

#[test]
fn what_cannot_be_opened_after_a_start_is_fetched_again() {
    if !installed("strace") {
        return;
    }
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    let server = mirror.start();
    store(&mirror, &server, LENGTH);
    server.stop();
    let server = mirror.start();
    let Some(strace) = Strace::inject(&server, "pread64", "error=EIO") else {
        return;
    };
    assert!(server.get("/a").body == noise(LENGTH, 1));
    // What is stored now is not readable either, and may be asked for again.
    let mut asked = mirror.slices("/a");
    asked.dedup();
    assert_eq!(asked, [0, 1, 2, 3]);
    drop(strace);
    store(&mirror, &server, LENGTH);
}

#[test]
fn an_upgrade_goes_on_with_the_cache() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    mirror.put("/b", fresh(LENGTH, 2));
    let server = mirror.start();
    assert!(server.get("/a").body == noise(LENGTH, 1));
    let successor = crate::upgrade::upgrade(&server);
    assert!(server.get("/a").body == noise(LENGTH, 1));
    for _ in 0..2 {
        assert!(server.get("/b").body == noise(LENGTH, 2));
    }
    assert_hit(&server.get("/b"));
    let slices = LENGTH.div_ceil(SLICE);
    assert_eq!(mirror.count("/b"), slices);
    assert_eq!(
        mirror.slices("/a").len(),
        slices,
        "what was stored is not asked for again"
    );
    successor.stop();
}
