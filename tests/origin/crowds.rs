//! Crowds that ask for one cold object: the origin has to send it once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Mirror, PREFIX, fresh};
use crate::admin::{LISTEN, admin};
use crate::metrics::Scrape;
use crate::support::{
    Launch, Object, Server, can_connect, crowd, is_made_up, made_up, noise, two_cores,
};

const MIB: u64 = 1 << 20;
/// The origin is never late: what is, is so by the load that this makes.
const KEYS: &str = "first-byte-timeout = \"5m\", stall-timeout = \"5m\"";

/// Between two small objects: a twentieth of all requests may be doubled.
const PAUSE: Duration = Duration::from_millis(100);

/// A crowd, and what it asks for.
struct Case {
    clients: usize,
    length: u64,
    slice: u64,
}

impl Case {
    /// Serves the crowd, and beside it cold small objects, one after the other.
    fn run(&self) {
        let Self {
            clients, length, ..
        } = *self;
        let Some([first, second]) = two_cores() else {
            return;
        };
        if !can_connect(clients) {
            return;
        }
        let large = Object::made_up(length).field("Cache-Control", "max-age=36000");
        let mirror = Mirror::with("/large", large);
        let config = format!(
            "[cache.disk]\npath = \"{}\"\nsize = \"4g\"\nslice = \"{}k\"\n{LISTEN}",
            mirror.cache().display(),
            self.slice / 1024
        );
        let site = format!("[[site]]\norigin = {}", mirror.entry(KEYS));
        let launch = Launch::run_sites(&mirror.tree, &config, &site);
        let cores = format!("{first},{second}");
        let server = launch.arguments(["--cores", &cores]).start();
        let (received, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let began = Instant::now();
        let mut times = Vec::new();
        thread::scope(|scope| {
            let crowd = scope.spawn(|| {
                let address = server.address;
                crowd(clients, address, "/large", length, &is_made_up, &received);
                is_over.store(true, Ordering::Relaxed);
            });
            while received.load(Ordering::Relaxed) == 0 && !crowd.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
            loop {
                times.push(small(&mirror, &server, times.len() as u64));
                if crowd.is_finished() {
                    break;
                }
                thread::sleep(PAUSE);
            }
        });
        assert!(is_over.load(Ordering::Relaxed));
        let took = began.elapsed();
        let doubled = self.assert_asked_once(&mirror, hedges(&mirror, &server));
        assert_eq!(received.load(Ordering::Relaxed), clients as u64 * length);
        times.sort_unstable();
        println!(
            "{clients} clients, {} MiB each: {took:.1?}; requests for {} slices that were \
             doubled: {doubled}; \
             {} cold small objects beside them: median {:.1?}, at most {:.1?}",
            length / MIB,
            length.div_ceil(self.slice),
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1],
        );
    }

    /// Checks that each slice was asked for once, but for `hedges` that were late. How many those
    /// were.
    fn assert_asked_once(&self, mirror: &Mirror, hedges: u64) -> u64 {
        let mut asked = BTreeMap::new();
        for range in mirror.origin.slices(&super::at("/large")) {
            assert_eq!(range.start % self.slice, 0, "{range:?}: continued");
            *asked.entry(range.start / self.slice).or_insert(0) += 1;
        }
        let slices = self.length.div_ceil(self.slice);
        let all: Vec<u64> = (0..slices).collect();
        assert_eq!(asked.keys().copied().collect::<Vec<_>>(), all);
        let doubled = mirror.count("/large") as u64 - slices;
        asked.retain(|_, count| *count > 1);
        assert!(doubled <= hedges, "{hedges} hedges, {asked:?}");
        let requests = mirror.origin.requests().len() as u64;
        assert!(hedges * 20 <= requests, "{hedges} of {requests}");
        doubled
    }
}

/// How many requests were sent beside a late one.
fn hedges(mirror: &Mirror, server: &Server) -> u64 {
    let url = format!("http://{}{PREFIX}", mirror.origin.address());
    let name = format!("tidegate_origin_hedges_total{{origin=\"{url}\"}}");
    Scrape::of(admin(server)).value(&name) as u64
}

/// Asks for a small object that nobody asked for before; how long that takes.
fn small(mirror: &Mirror, server: &Server, seed: u64) -> Duration {
    let path = format!("/small-{seed}");
    mirror.put(&path, fresh(1000, seed));
    let asked = Instant::now();
    assert!(server.get(&path).body == noise(1000, seed));
    asked.elapsed()
}

#[test]
fn what_is_made_up_depends_on_its_place() {
    let all = made_up(0..20_000);
    assert_eq!(all.len(), 20_000);
    for range in [0..1, 5..4096, 4096..8192, 4000..13_000, 16_000..20_000] {
        let (start, end) = (range.start as usize, range.end as usize);
        assert!(made_up(range.clone()) == all[start..end]);
        assert!(is_made_up(range.start, &all[start..end]));
        assert!(!is_made_up(range.start + 4096, &all[start..]));
        assert!(!is_made_up(range.start + 1, &all[start..]));
    }
}

#[test]
fn two_hundred_clients() {
    Case {
        clients: 200,
        length: 2 * MIB,
        slice: MIB / 4,
    }
    .run();
}

#[test]
#[ignore = "80 GB and 20,000 descriptors"]
fn ten_thousand_clients() {
    Case {
        clients: 10_000,
        length: 8 * MIB,
        slice: MIB / 4,
    }
    .run();
}

#[test]
#[ignore = "20 GB, and 1 GiB of disk"]
fn a_large_object() {
    Case {
        clients: 20,
        length: 1024 * MIB,
        slice: 4 * MIB,
    }
    .run();
}
