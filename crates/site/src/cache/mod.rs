//! The results of lookups, for all sites of one core.
//!
//! There are three tables, so that no flood of one kind evicts another:
//!
//! - `hot`: files in memory, bounded by their bytes.
//! - `files`: open files, bounded by their descriptors. Memory that such a file takes besides, as
//!   for a small variant, counts as descriptors.
//! - `negative`: paths that lead to no file, bounded by the bytes of the paths.
//!
//! All evict by S3-FIFO, which resists a scan over a large tree. A path is hashed once for all
//! three, and [`Cache::get`] allocates nothing.

mod key;
pub(crate) mod resource;

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Instant;

use quick_cache::{Lifecycle, Weighter, unsync};

use crate::cache::resource::Resource;
use crate::config::CacheConfig;

pub(crate) use key::{Hasher, Key, KeyRef};

/// Bytes of an entry without its path and its files.
const ENTRY_BYTES: u64 = 192;

/// Expected bytes of an entry in `hot`, from which its capacity is estimated.
const TYPICAL_BYTES: u64 = 4096;

/// Bytes of memory of an entry in `files` that count as one descriptor.
const DESCRIPTOR_BYTES: u64 = 8 * 1024;

/// The part of what it may take that a table keeps when memory is short.
const KEPT_SHARE: u64 = 64;

/// The part of what it may take by which a table grows again.
const GROWN_SHARE: u64 = 8;

/// Bytes of the entries in `negative`.
const NEGATIVE_BYTES: u64 = 1024 * 1024;

/// What a path leads to, for any client.
#[derive(Clone)]
pub(crate) enum Target {
    /// A file with its variants.
    Resource(Rc<Resource>),
    /// A directory, but the path lacks its final slash.
    MissingSlash,
    /// No file.
    NotFound,
}

/// A cached target.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) target: Target,
    /// Exclusive. After that it is revalidated.
    pub(crate) fresh_until: Cell<Instant>,
    pub(crate) last_used: Cell<Instant>,
}

type Table<W> = unsync::Cache<Key, Entry, W, key::Prehashed, Evictions>;

/// The cache of one core.
pub(crate) struct Cache {
    hot: Table<Bytes>,
    files: Table<Descriptors>,
    negative: Table<Bytes>,
    /// What `hot` and `files` may take while there is memory.
    weights_max: [u64; 2],
    /// Evictions from each table, in their order.
    evictions: [Evictions; 3],
    /// Woken by the next file that is kept open.
    on_open: Option<Waker>,
}

/// Gauges and counters of one table of a core's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Paths.
    pub entries: usize,
    /// What they take: bytes of memory, or descriptors in the table of open files.
    pub weight: u64,
    /// The most that they may take.
    pub weight_max: u64,
    /// Entries that made room for others so far.
    pub evictions: u64,
}

/// Gauges and counters of the cache of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Files in memory.
    pub hot: TableStats,
    /// Open files.
    pub files: TableStats,
    /// Paths that lead to no file.
    pub negative: TableStats,
}

impl Cache {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        let evictions: [Evictions; 3] = Default::default();
        let [hot, files, negative] = evictions.clone();
        let open_files = config.open_files;
        Self {
            hot: bytes_table(config.hot_bytes, TYPICAL_BYTES, hot),
            files: table(open_files, open_files as u64, Descriptors, files),
            negative: bytes_table(NEGATIVE_BYTES, ENTRY_BYTES, negative),
            weights_max: [config.hot_bytes, open_files as u64],
            evictions,
            on_open: None,
        }
    }

    /// Its state at this moment.
    pub(crate) fn stats(&self) -> CacheStats {
        let [hot, files, negative] = &self.evictions;
        CacheStats {
            hot: table_stats(&self.hot, hot),
            files: table_stats(&self.files, files),
            negative: table_stats(&self.negative, negative),
        }
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<&Entry> {
        self.hot
            .get(&key)
            .or_else(|| self.files.get(&key))
            .or_else(|| self.negative.get(&key))
    }

    /// Inserts or replaces an entry.
    ///
    /// S3-FIFO remembers keys that it evicted: such an entry goes straight to the main queue,
    /// unless [`Cache::remove`] came between.
    pub(crate) fn insert(&mut self, key: KeyRef<'_>, entry: Entry) {
        match &entry.target {
            Target::Resource(resource) if resource.descriptors() > 0 => {
                remove_entry(&mut self.hot, key);
                remove_entry(&mut self.negative, key);
                self.files.insert(key.to_key(), entry);
                if let Some(waker) = self.on_open.take() {
                    waker.wake();
                }
            }
            Target::Resource(_) => {
                remove_entry(&mut self.files, key);
                remove_entry(&mut self.negative, key);
                self.hot.insert(key.to_key(), entry);
            }
            Target::MissingSlash | Target::NotFound => {
                remove_entry(&mut self.hot, key);
                remove_entry(&mut self.files, key);
                self.negative.insert(key.to_key(), entry);
            }
        }
    }

    /// Sets `fresh_until` of an entry that still has `resource`.
    pub(crate) fn refresh(&self, key: KeyRef<'_>, resource: &Rc<Resource>, until: Instant) {
        refresh_in(&self.hot, key, resource, until);
        refresh_in(&self.files, key, resource, until);
    }

    pub(crate) fn remove(&mut self, key: KeyRef<'_>) {
        self.hot.remove(&key);
        self.files.remove(&key);
        self.negative.remove(&key);
    }

    /// Closes all files that no response is using: the process is out of descriptors.
    pub(crate) fn close_files(&mut self) {
        self.files.clear();
    }

    /// Whether any file is kept open.
    pub(crate) fn has_open(&self) -> bool {
        !self.files.is_empty()
    }

    /// Wakes `waker` when the next file is kept open. It replaces any waker before.
    pub(crate) fn wake_when_open(&mut self, waker: &Waker) {
        self.on_open = Some(waker.clone());
    }

    /// The resources with open files, as long as they are cached.
    pub(crate) fn open(&self) -> Vec<Weak<Resource>> {
        let targets = self.files.iter().map(|(_, entry)| &entry.target);
        let open = targets.filter_map(|target| match target {
            Target::Resource(resource) => Some(Rc::downgrade(resource)),
            Target::MissingSlash | Target::NotFound => None,
        });
        open.collect()
    }

    /// Closes the files that were last used before `time`.
    pub(crate) fn close_unused(&mut self, time: Instant) {
        self.files.retain(|_, entry| entry.last_used.get() >= time);
    }

    /// Closes the files that were found deleted.
    pub(crate) fn close_deleted(&mut self) {
        self.files.retain(|_, entry| match &entry.target {
            Target::Resource(resource) => !resource.is_deleted(),
            Target::MissingSlash | Target::NotFound => true,
        });
    }

    /// Makes all entries due for revalidation from `now` on.
    pub(crate) fn expire(&self, now: Instant) {
        let (hot, files, negative) = (self.hot.iter(), self.files.iter(), self.negative.iter());
        for (_, entry) in hot.chain(files).chain(negative) {
            entry.fresh_until.set(now.min(entry.fresh_until.get()));
        }
    }

    /// Drops half of the files, down to a sixty-fourth of what they may take, and lets no more in.
    /// Returns whether there was anything to drop.
    pub(crate) fn shrink(&mut self) -> bool {
        let [hot_max, files_max] = self.weights_max;
        let had_negative = !self.negative.is_empty();
        self.negative.clear();
        let hot = halve(&mut self.hot, hot_max / KEPT_SHARE);
        halve(&mut self.files, files_max / KEPT_SHARE) || hot || had_negative
    }

    /// Lets the files take more again, up to what they may. Returns whether they may take all.
    pub(crate) fn grow(&mut self) -> bool {
        let [hot_max, files_max] = self.weights_max;
        let hot = grow(&mut self.hot, hot_max);
        grow(&mut self.files, files_max) && hot
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.hot.clear();
        self.files.clear();
        self.negative.clear();
    }

    /// Removes all entries of roots that are gone, by their numbers.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(u32) -> bool) {
        self.hot.retain(|key, _| !is_gone(key.root()));
        self.files.retain(|key, _| !is_gone(key.root()));
        self.negative.retain(|key, _| !is_gone(key.root()));
    }
}

fn bytes_table(bytes_max: u64, typical: u64, evictions: Evictions) -> Table<Bytes> {
    let count = usize::try_from(bytes_max / typical).unwrap_or(usize::MAX);
    table(count, bytes_max, Bytes, evictions)
}

fn table<W: Weighter<Key, Entry> + Clone>(
    count: usize,
    weight_max: u64,
    weighter: W,
    evictions: Evictions,
) -> Table<W> {
    let hasher = key::Prehashed::default();
    unsync::Cache::with(count, weight_max, weighter, hasher, evictions)
}

/// Whether there was more than `kept`.
fn halve<W>(table: &mut Table<W>, kept: u64) -> bool
where
    W: Weighter<Key, Entry> + Clone,
{
    let has_more = table.weight() > kept;
    // A table without capacity forgets how many evicted keys it is to remember.
    let capacity = (table.weight() / 2).max(kept).max(1);
    if capacity < table.capacity() {
        table.set_capacity(capacity);
    }
    has_more
}

/// Whether it may take all of `weight_max`.
fn grow<W>(table: &mut Table<W>, weight_max: u64) -> bool
where
    W: Weighter<Key, Entry> + Clone,
{
    if table.capacity() < weight_max {
        let capacity = table.capacity() + weight_max.div_ceil(GROWN_SHARE);
        table.set_capacity(capacity.min(weight_max));
    }
    table.capacity() >= weight_max
}

fn table_stats<W>(table: &Table<W>, evictions: &Evictions) -> TableStats
where
    W: Weighter<Key, Entry> + Clone,
{
    TableStats {
        entries: table.len(),
        weight: table.weight(),
        weight_max: table.capacity(),
        evictions: evictions.0.get(),
    }
}

/// Counts the evictions from a table.
#[derive(Clone, Default)]
struct Evictions(Rc<Cell<u64>>);

impl Lifecycle<Key, Entry> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Entry) {
        self.0.set(self.0.get() + 1);
    }
}

/// Removes an entry, but keeps the memory of an evicted one.
fn remove_entry<W: Weighter<Key, Entry>>(table: &mut Table<W>, key: KeyRef<'_>) {
    table.remove_if(&key, |_| true);
}

fn refresh_in<W: Weighter<Key, Entry>>(
    table: &Table<W>,
    key: KeyRef<'_>,
    resource: &Rc<Resource>,
    until: Instant,
) {
    if let Some(entry) = table.peek(&key)
        && matches!(&entry.target, Target::Resource(cached) if Rc::ptr_eq(cached, resource))
    {
        entry.fresh_until.set(until);
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let content = match &entry.target {
            Target::Resource(resource) => resource.memory(),
            Target::MissingSlash | Target::NotFound => 0,
        };
        ENTRY_BYTES + key.path_bytes() + content
    }
}

#[derive(Clone)]
struct Descriptors;

impl Weighter<Key, Entry> for Descriptors {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        match &entry.target {
            Target::Resource(resource) => {
                resource.descriptors() + resource.memory() / DESCRIPTOR_BYTES
            }
            Target::MissingSlash | Target::NotFound => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache() -> Cache {
        Cache::new(&CacheConfig {
            inline_max: 1,
            popular_max: 1,
            hot_bytes: 1 << 20,
            open_files: 4,
            valid: Duration::from_secs(1),
            idle: Duration::from_mins(1),
            stale: Duration::ZERO,
            lookup: Duration::from_secs(1),
            workers: 1,
        })
    }

    fn entry(target: Target, fresh_until: Instant) -> Entry {
        Entry {
            target,
            fresh_until: Cell::new(fresh_until),
            last_used: Cell::new(fresh_until),
        }
    }

    #[test]
    fn an_entry_is_found_by_root_kind_and_path() {
        let (mut cache, hasher, now) = (cache(), Hasher::default(), Instant::now());
        let key = hasher.key(1, 0, b"/a");
        cache.insert(key, entry(Target::NotFound, now));
        assert!(matches!(
            cache.get(key).map(|entry| &entry.target),
            Some(Target::NotFound)
        ));
        assert!(cache.get(hasher.key(2, 0, b"/a")).is_none());
        assert!(cache.get(hasher.key(1, 1, b"/a")).is_none());
        assert!(cache.get(hasher.key(1, 0, b"/b")).is_none());
    }

    #[test]
    fn a_root_is_forgotten_with_all_its_kinds() {
        let (mut cache, hasher, now) = (cache(), Hasher::default(), Instant::now());
        for (root, kind) in [(1, 0), (1, 1), (2, 0)] {
            cache.insert(
                hasher.key(root, kind, b"/a"),
                entry(Target::MissingSlash, now),
            );
        }
        cache.forget(|root| root == 1);
        assert!(cache.get(hasher.key(1, 0, b"/a")).is_none());
        assert!(cache.get(hasher.key(1, 1, b"/a")).is_none());
        assert!(cache.get(hasher.key(2, 0, b"/a")).is_some());
    }

    #[test]
    fn a_table_gives_half_back_and_grows_again() {
        const MAX: u64 = 1 << 20;
        const KEPT: u64 = MAX / KEPT_SHARE;
        let mut table = bytes_table(MAX, ENTRY_BYTES, Evictions::default());
        let (hasher, now) = (Hasher::default(), Instant::now());
        let fill = |table: &mut Table<Bytes>| {
            for number in 0..10_000 {
                let key = hasher.key(1, 0, format!("/{number}").as_bytes()).to_key();
                table.insert(key, entry(Target::NotFound, now));
            }
        };
        fill(&mut table);
        let filled = table.weight();
        assert!(filled > MAX / 2 && halve(&mut table, KEPT));
        fill(&mut table);
        assert!(table.weight() <= filled / 2, "no more comes in");
        let halved = (0..100).take_while(|_| halve(&mut table, KEPT)).count();
        assert!(
            (1..10).contains(&halved) && table.weight() <= KEPT,
            "{halved}"
        );
        let grown = (0..100).take_while(|_| !grow(&mut table, MAX)).count();
        assert_eq!((grown, table.capacity()), (7, MAX));
        fill(&mut table);
        assert!(table.weight() > MAX / 2);
    }

    #[test]
    fn a_flood_of_absent_paths_is_bounded() {
        let (mut cache, hasher, now) = (cache(), Hasher::default(), Instant::now());
        for number in 0..20_000 {
            let path = format!("/{number}");
            let key = hasher.key(1, 0, path.as_bytes());
            cache.insert(key, entry(Target::NotFound, now));
        }
        assert!(cache.negative.weight() <= NEGATIVE_BYTES);
        assert!(cache.negative.len() > 1000);
        let stats = cache.stats().negative;
        assert_eq!(stats.entries as u64 + stats.evictions, 20_000);
    }
}
