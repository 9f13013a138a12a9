//! A site with an origin: which objects it asks for, stores and serves.

mod changes;
mod crowds;
mod disk;
mod errors;
mod fallbacks;
mod fills;
mod fleet;
mod freshness;
mod hits;
mod keys;
mod kills;
mod operations;
mod own;
mod protocols;
mod purges;
mod ranges;
mod s3;
mod stale;
mod variants;
mod wires;

use std::path::PathBuf;

use crate::support::{Behaviour, Launch, Object, Origin, Request, Response, Server, Tree};

/// Bytes of a slice.
const SLICE: usize = 64 << 10;

/// Where the objects are at the origin.
const PREFIX: &str = "/bucket";

/// Nothing of the origin is late, and what it lacks is remembered.
const PATIENT: &str = "first-byte-timeout = \"1m\", stall-timeout = \"1m\", negative = \"1h\"";

/// Whatever is late is so at once.
const IMPATIENT: &str =
    "first-byte-timeout = \"300ms\", stall-timeout = \"300ms\", negative = \"1h\"";

/// An origin, and what a server of its objects needs.
struct Mirror {
    origin: Origin,
    tree: Tree,
}

impl Mirror {
    fn new() -> Self {
        Self {
            origin: Origin::start(),
            tree: Tree::new(),
        }
    }

    /// One with an object.
    fn with(path: &str, object: Object) -> Self {
        let mirror = Self::new();
        mirror.put(path, object);
        mirror
    }

    fn put(&self, path: &str, object: Object) {
        self.origin.put(&at(path), object);
    }

    fn behave(&self, path: &str, behaviours: impl Into<Vec<Behaviour>>) {
        self.origin.behave(&at(path), behaviours);
    }

    fn count(&self, path: &str) -> usize {
        self.origin.count(&at(path))
    }

    fn asked(&self, path: &str) -> Vec<Request> {
        self.origin.asked(&at(path))
    }

    /// The numbers of the slices that were asked for, sorted.
    fn slices(&self, path: &str) -> Vec<u64> {
        let ranges = self.origin.slices(&at(path)).into_iter();
        let mut numbers: Vec<_> = ranges.map(|range| range.start / SLICE as u64).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The directory of the cache.
    fn cache(&self) -> PathBuf {
        self.tree.base().join("cache")
    }

    /// The origin with these `keys`, as a value of the config file.
    fn entry(&self, keys: &str) -> String {
        entry("http", &self.origin, keys)
    }

    /// A server of the origin with these `keys`; `site` is added to the site.
    fn launch(&self, keys: &str, site: &str) -> Launch {
        self.launch_site(&format!("origin = {}\n{site}", self.entry(keys)))
    }

    /// A server of the site `site`.
    fn launch_site(&self, site: &str) -> Launch {
        self.launch_sites(&format!("[[site]]\n{site}"))
    }

    /// A server of `sites`, which start in the table of the listener.
    fn launch_sites(&self, sites: &str) -> Launch {
        self.launch_with("", sites)
    }

    /// The same with slices of `slice` bytes.
    fn launch_sliced(&self, sites: &str, slice: &str) -> Launch {
        self.launch_sections("", sites, slice)
    }

    /// The same with further sections.
    fn launch_with(&self, sections: &str, sites: &str) -> Launch {
        self.launch_sections(sections, sites, "64k")
    }

    fn launch_sections(&self, sections: &str, sites: &str, slice: &str) -> Launch {
        let cache = self.cache();
        let config = format!(
            "[cache.disk]\npath = \"{}\"\nsize = \"1g\"\nslice = \"{slice}\"\n{sections}",
            cache.display()
        );
        Launch::run_sites(&self.tree, &config, sites)
    }

    #[track_caller]
    fn start(&self) -> Server {
        self.launch(PATIENT, "").start()
    }
}

/// An origin of the kind `kind` as a value of the config file.
fn entry(kind: &str, origin: &Origin, keys: &str) -> String {
    format!(
        "{{ {kind} = \"http://{}{PREFIX}\", {keys} }}",
        origin.address()
    )
}

/// The path at the origin of what a client finds at `path`.
fn at(path: &str) -> String {
    format!("{PREFIX}{path}")
}

/// An object that stays fresh.
fn fresh(length: usize, seed: u64) -> Object {
    Object::noise(length, seed).field("Cache-Control", "max-age=36000")
}

/// An object that is stale at once, and further directives for it.
fn stale(length: usize, seed: u64, directives: &str) -> Object {
    Object::noise(length, seed).field("Cache-Control", &format!("max-age=0, {directives}"))
}

/// The parameters of Cache-Status (RFC 9211).
#[track_caller]
fn cache_status(response: &Response) -> Vec<&str> {
    let value = response.header("cache-status");
    let value = value.unwrap_or_else(|| panic!("no Cache-Status: {:?}", response.headers));
    let mut parameters = value.split(';').map(str::trim);
    assert_eq!(parameters.next(), Some("tidegate"), "{value}");
    parameters.collect()
}

/// Checks that a response came from the cache.
#[track_caller]
fn assert_hit(response: &Response) {
    let status = cache_status(response);
    assert!(status.contains(&"hit"), "{status:?}");
    assert!(response.has("age"), "{:?}", response.headers);
}

/// Checks that the origin was asked for a response, for this reason.
#[track_caller]
fn assert_forwarded(response: &Response, reason: &str) {
    let status = cache_status(response);
    assert!(status.contains(&&*format!("fwd={reason}")), "{status:?}");
    assert!(!status.contains(&"hit"), "{status:?}");
}

/// The body for `target`, if it was there and came to its end.
#[track_caller]
fn whole(server: &Server, target: &str) -> Option<Vec<u8>> {
    let mut client = server.connect();
    client.send(crate::support::get(target));
    let response = client.response_or_end();
    response
        .filter(|response| response.status == 200)
        .map(|response| response.body)
}
