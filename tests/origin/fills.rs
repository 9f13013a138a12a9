//! A slice is asked for once, and served while it comes.

use std::thread;
use std::time::Duration;

use super::{IMPATIENT, Mirror, PATIENT, SLICE, fresh, whole};
use crate::support::{Behaviour, Gate, Object, Server, eventually, get, noise, two_cores};

/// Fewer slices than the requests after which a late one is sent twice.
const SLICES: usize = 12;
const LENGTH: usize = SLICES * SLICE;
const CLIENTS: usize = 16;

/// The numbers of all slices.
fn all() -> Vec<u64> {
    (0..SLICES as u64).collect()
}

/// A server on two cores, if there are two.
fn start(mirror: &Mirror) -> Option<Server> {
    let [first, second] = two_cores()?;
    let cores = format!("{first},{second}");
    Some(
        mirror
            .launch(PATIENT, "")
            .arguments(["--cores", &cores])
            .start(),
    )
}

#[test]
fn many_clients_ask_for_each_slice_once() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    mirror.behave("/a", [Behaviour::Delay(Duration::from_millis(30))]);
    let Some(server) = start(&mirror) else { return };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = server.connect();
            scope.spawn(move || assert!(client.get("/a").body == noise(LENGTH, 1)));
        }
    });
    assert_eq!(mirror.slices("/a"), all());
}

#[test]
fn many_clients_of_different_ranges_ask_for_each_slice_once() {
    let mirror = Mirror::with("/a", fresh(LENGTH, 1));
    mirror.behave("/a", [Behaviour::Delay(Duration::from_millis(30))]);
    let Some(server) = start(&mirror) else { return };
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = server.connect();
            scope.spawn(move || {
                let first = number % SLICES * SLICE + 100;
                let last = (first + 2 * SLICE).min(LENGTH) - 1;
                let part = client.get_with("/a", &[&format!("Range: bytes={first}-{last}")]);
                assert!(part.body == noise(LENGTH, 1)[first..=last]);
            });
        }
    });
    assert_eq!(mirror.slices("/a"), all());
}

/// A server, and an origin that stalls in the middle of /a.
fn stalled_half_way() -> (Mirror, Server, Gate) {
    let mirror = Mirror::with("/a", fresh(SLICE, 1));
    let gate = Gate::default();
    mirror.behave("/a", [Behaviour::StallBody(SLICE / 2, gate.clone())]);
    let server = mirror.start();
    (mirror, server, gate)
}

#[test]
fn what_has_come_of_a_stalled_fill_is_served() {
    let (mirror, server, gate) = stalled_half_way();
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send(get("/a"));
        assert_eq!(client.head().content_length(), SLICE);
        assert!(client.body(SLICE / 2) == noise(SLICE, 1)[..SLICE / 2]);
        gate.reached();
    }
    let part = server.get_with("/a", &["Range: bytes=100-199"]);
    assert!(part.body == noise(SLICE, 1)[100..200]);
    gate.open();
    for client in &mut clients {
        assert!(client.body(SLICE / 2) == noise(SLICE, 1)[SLICE / 2..]);
    }
    assert_eq!(mirror.count("/a"), 1);
}

#[test]
fn a_fill_outlives_the_client_that_began_it() {
    let (mirror, server, gate) = stalled_half_way();
    let mut first = server.connect();
    first.send(get("/a"));
    gate.reached();
    let mut second = server.connect();
    second.send(get("/a"));
    second.head();
    first.reset();
    second.body(SLICE / 2);
    gate.open();
    assert!(second.body(SLICE / 2) == noise(SLICE, 1)[SLICE / 2..]);
    assert!(server.get("/a").body == noise(SLICE, 1));
    assert_eq!(mirror.count("/a"), 1);
}

#[test]
fn a_stalled_origin_delays_nothing_else() {
    let mirror = Mirror::with("/hot", fresh(3 * SLICE, 1));
    mirror.put("/cold", fresh(3 * SLICE, 2));
    let server = mirror.start();
    server.get("/hot");
    let (head, body) = (Gate::default(), Gate::default());
    let mut waiting = Vec::new();
    for number in 0..8 {
        let path = format!("/stalled-{number}");
        mirror.put(&path, fresh(3 * SLICE, 3));
        mirror.behave(
            &path,
            [match number % 2 {
                0 => Behaviour::StallHead(head.clone()),
                _ => Behaviour::StallBody(100, body.clone()),
            }],
        );
        let mut client = server.connect();
        client.send(get(&path));
        waiting.push(client);
    }
    head.reached();
    body.reached();
    assert!(server.get("/hot").body == noise(3 * SLICE, 1));
    assert!(server.get("/cold").body == noise(3 * SLICE, 2));
    assert_eq!(server.get("/none").status, 404);
    head.open();
    body.open();
    for client in &mut waiting {
        assert!(client.response().body == noise(3 * SLICE, 3));
    }
}

#[test]
fn a_body_that_comes_in_drops_arrives() {
    let mirror = Mirror::with("/a", fresh(2 * SLICE, 1));
    mirror.behave("/a", [Behaviour::Trickle(3000, Duration::from_millis(1))]);
    let server = mirror.start();
    assert!(server.get("/a").body == noise(2 * SLICE, 1));
}

#[test]
fn a_body_that_breaks_off_is_continued() {
    for behaviour in [Behaviour::Reset(20_000), Behaviour::EndEarly(20_000)] {
        for first in [0, SLICE] {
            let mirror = Mirror::with("/a", fresh(3 * SLICE, 1));
            // The rest begins elsewhere.
            mirror.behave("/a", [behaviour.clone().at(first as u64)]);
            let server = mirror.start();
            assert!(
                server.get("/a").body == noise(3 * SLICE, 1),
                "{behaviour:?} at {first}"
            );
        }
    }
}

#[test]
fn a_body_that_never_comes_to_its_end_is_none() {
    let gate = Gate::default();
    for behaviour in [
        Behaviour::Reset(10_000),
        Behaviour::EndEarly(10_000),
        Behaviour::StallBody(10_000, gate.clone()),
    ] {
        let mirror = Mirror::with("/a", fresh(2 * SLICE, 1));
        let server = mirror.launch(IMPATIENT, "").start();
        mirror.behave("/a", [behaviour.clone()]);
        assert_eq!(whole(&server, "/a"), None, "{behaviour:?}");
        mirror.behave("/a", []);
        // A request may yet join a fill that stalls.
        eventually("the object", || {
            whole(&server, "/a") == Some(noise(2 * SLICE, 1))
        });
    }
}

#[test]
fn what_must_not_be_stored_is_passed_on_whole() {
    let mirror = Mirror::new();
    let object = Object::noise(3 * SLICE + 5, 1).field("Cache-Control", "no-store");
    mirror.put("/a", object);
    let server = mirror.start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = server.connect();
            scope.spawn(move || assert!(client.get("/a").body == noise(3 * SLICE + 5, 1)));
        }
    });
    let part = server.get_with("/a", &["Range: bytes=100000-140000"]);
    assert!(part.body == noise(3 * SLICE + 5, 1)[100_000..140_001]);
}
