//! tidegate is killed at random moments, and starts again with what its cache has then.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::disk::kill;
use super::{Mirror, SLICE, assert_hit, fresh};
use crate::support::{Behaviour, Outcome, Random, ask, eventually, noise};

/// Of the objects that are new in each round.
const LENGTHS: [usize; 5] = [1000, SLICE, SLICE + 1, 3 * SLICE + 100, 12 * SLICE];
const CLIENTS: usize = 4;
/// The latest moment of a kill after the first request.
const LIFE: Duration = Duration::from_millis(400);

/// An object, and what it has to be.
struct Known {
    path: String,
    body: Vec<u8>,
}

impl Known {
    /// A new one at the origin.
    fn put(mirror: &Mirror, round: usize, kind: usize) -> Self {
        let seed = (round * LENGTHS.len() + kind) as u64;
        let path = format!("/{seed}");
        mirror.put(&path, fresh(LENGTHS[kind], seed));
        Self {
            path,
            body: noise(LENGTHS[kind], seed),
        }
    }

    fn ask(&self, address: SocketAddr) -> Outcome {
        let expected = |at: u64, bytes: &[u8]| self.body[at as usize..].starts_with(bytes);
        ask(address, &self.path, self.body.len() as u64, &expected)
    }
}

/// What clients got in all rounds.
#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    cut: AtomicUsize,
}

/// Clients ask for old and for new objects until the server is killed at a random moment.
fn round(mirror: &Mirror, objects: &[Known], random: &mut Random, tally: &Tally) {
    let server = mirror.start();
    let address = server.address;
    let is_killed = AtomicBool::new(false);
    let new = objects.len() - LENGTHS.len();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut random = Random::seeded(random.next());
            let is_killed = &is_killed;
            scope.spawn(move || {
                while !is_killed.load(Ordering::SeqCst) {
                    let first = if random.below(2) == 0 { 0 } else { new };
                    let number = first + random.below((objects.len() - first) as u64) as usize;
                    match objects[number].ask(address) {
                        Outcome::Whole => tally.whole.fetch_add(1, Ordering::Relaxed),
                        outcome if is_killed.load(Ordering::SeqCst) => {
                            assert!(
                                matches!(outcome, Outcome::Cut(_) | Outcome::Nothing),
                                "{outcome:?}"
                            );
                            tally.cut.fetch_add(1, Ordering::Relaxed)
                        }
                        outcome => panic!("{outcome:?} before the kill"),
                    };
                }
            });
        }
        thread::sleep(Duration::from_micros(random.below(LIFE.as_micros() as u64)));
        is_killed.store(true, Ordering::SeqCst);
        kill(server);
    });
}

/// How many slices there are, and how many of them were not in the cache after the last kill.
fn killed(rounds: usize) -> (usize, usize) {
    let mut random = Random::new();
    let mirror = Mirror::new();
    // Slow enough that slices are on their way at each moment.
    let trickle = Behaviour::Trickle(16 * 1024, Duration::from_millis(2));
    mirror.origin.behave_always([trickle]);
    let mut objects = Vec::new();
    let tally = Tally::default();
    for number in 0..rounds {
        objects.extend((0..LENGTHS.len()).map(|kind| Known::put(&mirror, number, kind)));
        round(&mirror, &objects, &mut random, &tally);
    }
    let asked = mirror.origin.requests().len();
    mirror.origin.forget();
    let server = mirror.start();
    for object in &objects {
        assert_eq!(
            object.ask(server.address),
            Outcome::Whole,
            "{}",
            object.path
        );
    }
    let slices: usize = (objects.iter())
        .map(|object| object.body.len().div_ceil(SLICE))
        .sum();
    let missing = mirror.origin.requests().len();
    server.stop();
    // What ended just before the stop may have to come again.
    eventually("a start without a request", || {
        mirror.origin.forget();
        let server = mirror.start();
        let responses = objects.iter().map(|object| server.get(&object.path));
        let responses: Vec<_> = responses.collect();
        for (response, object) in responses.iter().zip(&objects) {
            assert!(response.body == object.body, "{}", object.path);
        }
        server.stop();
        let is_stored = mirror.origin.requests().is_empty();
        if is_stored {
            responses.iter().for_each(assert_hit);
        }
        is_stored
    });
    println!(
        "{rounds} kills: {} bodies whole, {} cut, none wrong; {asked} requests of the origin; of \
         {slices} slices {missing} were missing after the last kill; then {} hits",
        tally.whole.into_inner(),
        tally.cut.into_inner(),
        objects.len()
    );
    (slices, missing)
}

#[test]
fn a_few_kills_leave_nothing_wrong() {
    killed(5);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_kills_leave_nothing_wrong() {
    let (slices, missing) = killed(100);
    assert!(missing < slices / 2, "{missing} of {slices}");
}
