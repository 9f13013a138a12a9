//! The network between tidegate and its origin is slow, cuts connections, goes silent and comes
//! back. Local
//! files of the same server are answered all the while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{IMPATIENT, Mirror, PATIENT, PREFIX, SLICE, fresh, stale, whole};
use crate::support::{Outcome, Random, Relay, Response, Server, Wire, ask, eventually, get, noise};

const LENGTH: usize = 3 * SLICE + 100;
/// The local file.
const LOCAL: &[u8] = b"local";

/// An origin behind a relay, and a server of both it and of local files.
struct Stage {
    server: Server,
    relay: Relay,
    mirror: Mirror,
}

impl Stage {
    fn set(keys: &str) -> Self {
        let mirror = Mirror::with("/a", fresh(LENGTH, 1));
        mirror.tree.write("local", LOCAL);
        let relay = Relay::start(mirror.origin.address());
        let site = format!(
            "root = \"{}\"\norigin = {{ http = \"http://{}{PREFIX}\", {keys} }}",
            mirror.tree.root().display(),
            relay.address()
        );
        let server = mirror.launch_site(&site).start();
        Self {
            server,
            relay,
            mirror,
        }
    }

    #[track_caller]
    fn local_is_well(&self) {
        ask_local(self.server.address);
    }

    #[track_caller]
    fn is_right(&self, target: &str, seed: u64) {
        assert!(whole(&self.server, target) == Some(noise(LENGTH, seed)));
    }

    fn ask(&self, target: &str, seed: u64) -> Outcome {
        ask_noise(self.server.address, target, seed)
    }

    /// Waits until the origin is asked again with success.
    #[track_caller]
    fn recovers(&self, target: &str, seed: u64) {
        self.relay.set(Wire::Open);
        eventually("the object", || self.ask(target, seed) == Outcome::Whole);
    }
}

fn ask_noise(address: SocketAddr, target: &str, seed: u64) -> Outcome {
    let body = noise(LENGTH, seed);
    let expected = |at: u64, bytes: &[u8]| body[at as usize..].starts_with(bytes);
    ask(address, target, LENGTH as u64, &expected)
}

fn ask_local(address: SocketAddr) {
    let is_local = |at: u64, bytes: &[u8]| LOCAL[at as usize..].starts_with(bytes);
    let outcome = ask(address, "/local", LOCAL.len() as u64, &is_local);
    assert_eq!(outcome, Outcome::Whole, "the local file");
}

#[test]
fn a_slow_network_harms_nothing() {
    let stage = Stage::set(PATIENT);
    stage.relay.set(Wire::Slow(Duration::from_millis(5)));
    let mut client = stage.server.connect();
    client.send(get("/a"));
    for _ in 0..5 {
        stage.local_is_well();
    }
    assert!(client.response().body == noise(LENGTH, 1));
}

#[test]
fn one_connection_that_ends_anywhere_is_not_seen() {
    let slice = SLICE as u64;
    // Before the head, in it, and in the body of a slice; the next one comes on the same
    // connection.
    for bytes in [
        0,
        1,
        20,
        150,
        400,
        10_000,
        slice,
        slice + 150,
        slice + 400,
        slice + 10_000,
    ] {
        let stage = Stage::set(PATIENT);
        stage.relay.set(Wire::CutOne(bytes));
        assert_eq!(stage.ask("/a", 1), Outcome::Whole, "after {bytes} bytes");
        stage.local_is_well();
    }
}

#[test]
fn what_had_come_before_a_cut_is_not_asked_for_again() {
    let stage = Stage::set(PATIENT);
    stage.relay.set(Wire::CutOne(20_000));
    stage.is_right("/a", 1);
    let slices = stage.mirror.origin.slices(&super::at("/a"));
    let continued: Vec<_> = slices
        .iter()
        .filter(|range| range.start % SLICE as u64 != 0)
        .collect();
    assert_eq!(continued.len(), 1, "{slices:?}");
    assert!((19_000..20_000).contains(&continued[0].start), "{slices:?}");
}

/// Checks the answer if nothing can be had.
#[track_caller]
fn assert_refused(response: &Response, status: u16) {
    assert_eq!(response.status, status);
    assert_eq!(response.header("retry-after"), Some("5"));
}

#[test]
fn connections_that_all_end_are_a_bad_gateway_or_cut_a_body() {
    let stage = Stage::set(IMPATIENT);
    for bytes in [0, 1, 20] {
        stage.relay.set(Wire::Cut(bytes));
        assert_refused(&stage.server.get("/a"), 502);
        stage.local_is_well();
    }
    for bytes in [1000, 10_000, 30_000] {
        stage.relay.set(Wire::Cut(bytes));
        let outcome = stage.ask("/a", 1);
        assert!(matches!(outcome, Outcome::Cut(_)), "{bytes}: {outcome:?}");
        stage.local_is_well();
    }
    stage.recovers("/a", 1);
}

#[test]
fn a_silent_network_is_a_timeout_and_a_closed_one_a_bad_gateway() {
    let stage = Stage::set(IMPATIENT);
    for round in 0..3 {
        stage.relay.set(Wire::Silent);
        assert_refused(&stage.server.get("/a"), 504);
        stage.local_is_well();
        stage.relay.set(Wire::Closed);
        assert_refused(&stage.server.get("/a"), 502);
        stage.local_is_well();
        let path = format!("/{round}");
        stage.mirror.put(&path, fresh(LENGTH, round));
        stage.recovers(&path, round);
    }
    stage.recovers("/a", 1);
}

#[test]
fn a_silence_in_the_middle_ends_a_body_short() {
    let stage = Stage::set("first-byte-timeout = \"2s\", stall-timeout = \"300ms\"");
    let mut client = stage.server.connect();
    stage.relay.set(Wire::Slow(Duration::from_millis(100)));
    client.send(get("/a"));
    assert_eq!(client.head().content_length(), LENGTH);
    stage.relay.set(Wire::Silent);
    stage.local_is_well();
    let body = client.rest();
    assert!(body.len() < LENGTH && noise(LENGTH, 1).starts_with(&body));
    stage.recovers("/a", 1);
}

#[test]
fn stored_objects_are_sent_whatever_the_network_does() {
    let stage = Stage::set(IMPATIENT);
    stage
        .mirror
        .put("/stale", stale(LENGTH, 2, "stale-if-error=3600"));
    stage
        .mirror
        .put("/strict", stale(LENGTH, 3, "must-revalidate"));
    for (target, seed) in [("/a", 1), ("/stale", 2), ("/strict", 3)] {
        stage.is_right(target, seed);
    }
    for (wire, status) in [
        (Wire::Silent, 504),
        (Wire::Cut(0), 502),
        (Wire::Closed, 502),
    ] {
        stage.relay.set(wire);
        for _ in 0..2 {
            stage.is_right("/a", 1);
            stage.is_right("/stale", 2);
            assert_refused(&stage.server.get("/strict"), status);
            stage.local_is_well();
        }
    }
    stage.recovers("/strict", 3);
}

#[test]
fn no_byte_is_wrong_in_any_weather() {
    const CLIENTS: u64 = 3;
    const CHANGES: u64 = 40;
    const OBJECTS: u64 = 100;
    let (whole, cut, refused) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
    let mut random = Random::new();
    let stage = Stage::set(IMPATIENT);
    for seed in 0..OBJECTS {
        // Of two kinds: those that may be used when they are stale, and those that stay fresh.
        let object = match seed % 2 {
            0 => stale(LENGTH, seed, "stale-if-error=3600"),
            _ => fresh(LENGTH, seed),
        };
        stage.mirror.put(&format!("/{seed}"), object);
    }
    let (address, is_over) = (stage.server.address, AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut random = Random::seeded(random.next());
            let is_over = &is_over;
            let (whole, cut, refused) = (&whole, &cut, &refused);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = random.below(OBJECTS);
                    match ask_noise(address, &format!("/{seed}"), seed) {
                        Outcome::Whole => whole.fetch_add(1, Ordering::Relaxed),
                        Outcome::Cut(_) => cut.fetch_add(1, Ordering::Relaxed),
                        Outcome::Status(502..=504, true) => refused.fetch_add(1, Ordering::Relaxed),
                        outcome => panic!("/{seed}: {outcome:?}"),
                    };
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ask_local(address);
                thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..CHANGES {
            stage.relay.set(match random.below(6) {
                0 => Wire::Open,
                1 => Wire::Slow(Duration::from_millis(1 + random.below(20))),
                2 => Wire::Cut(random.below(2 * SLICE as u64)),
                3 => Wire::CutOne(random.below(2 * SLICE as u64)),
                4 => Wire::Silent,
                _ => Wire::Closed,
            });
            thread::sleep(Duration::from_millis(random.below(150)));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for seed in 0..OBJECTS {
        stage.recovers(&format!("/{seed}"), seed);
    }
    println!("{whole:?} bodies whole, {cut:?} cut, {refused:?} answers 502 to 504");
}
