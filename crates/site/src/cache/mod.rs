//! What was looked up lately, for all sites of one core.
//!
//! Files whose bytes are in memory are bounded by their bytes (`hot`), those with open descriptors
//! by the number of these (`files`; what such a file has in memory beside them, such as a small
//! variant, counts as descriptors too), and paths that lead to no file by their bytes (`absent`), so
//! that no flood of one kind drives out another. All evict by S3-FIFO, which one scan over a large
//! tree does not empty.
//!
//! A path is hashed once for all three, and a lookup allocates nothing.

mod key;
pub(crate) mod resource;

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Instant;

use quick_cache::unsync::DefaultLifecycle;
use quick_cache::{Weighter, unsync};

use crate::cache::resource::Resource;
use crate::config::CacheConfig;

pub(crate) use key::{Hasher, Key, KeyRef};

/// What an entry takes beside its path and its files.
const ENTRY_BYTES: u64 = 192;

/// Bytes of an entry that `hot` is sized for, to choose the size of its tables.
const TYPICAL_BYTES: u64 = 4096;

/// Bytes beside the descriptors of an entry in `files` that count as one more.
const DESCRIPTOR_BYTES: u64 = 8 * 1024;

/// Bytes of all paths that lead to no file.
const ABSENT_BYTES: u64 = 1024 * 1024;

/// What a path leads to, whoever asks.
#[derive(Clone)]
pub(crate) enum Target {
    /// A file, maybe with variants.
    Resource(Rc<Resource>),
    /// A directory, by a path without its final slash.
    MissingSlash,
    /// Nothing.
    NotFound,
}

/// What is known, and until when it is trusted.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) known: Target,
    pub(crate) fresh_until: Instant,
    /// When it was last asked for.
    pub(crate) used: Cell<Instant>,
}

type Table<W> = unsync::Cache<Key, Entry, W, key::Prehashed, DefaultLifecycle<Key, Entry>>;

/// The three caches behind one question.
pub(crate) struct Cache {
    hot: Table<Bytes>,
    files: Table<Descriptors>,
    absent: Table<Bytes>,
    /// Who waits for a file to be open.
    waiting: Option<Waker>,
}

impl Cache {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        Self {
            hot: bytes_table(config.hot_bytes, TYPICAL_BYTES),
            files: table(config.open_files, config.open_files as u64, Descriptors),
            absent: bytes_table(ABSENT_BYTES, ENTRY_BYTES),
            waiting: None,
        }
    }

    pub(crate) fn get(&self, name: KeyRef<'_>) -> Option<&Entry> {
        self.hot
            .get(&name)
            .or_else(|| self.files.get(&name))
            .or_else(|| self.absent.get(&name))
    }

    /// Puts an entry in place of any that is there.
    ///
    /// Where it was evicted from the same cache not long ago, that is remembered there (until
    /// [`Cache::remove`]), and it comes to stay.
    pub(crate) fn insert(&mut self, name: KeyRef<'_>, entry: Entry) {
        match &entry.known {
            Target::Resource(resource) if resource.descriptors() > 0 => {
                remove_entry(&mut self.hot, name);
                remove_entry(&mut self.absent, name);
                self.files.insert(name.to_key(), entry);
                if let Some(waiting) = self.waiting.take() {
                    waiting.wake();
                }
            }
            Target::Resource(_) => {
                remove_entry(&mut self.files, name);
                remove_entry(&mut self.absent, name);
                self.hot.insert(name.to_key(), entry);
            }
            Target::MissingSlash | Target::NotFound => {
                remove_entry(&mut self.hot, name);
                remove_entry(&mut self.files, name);
                self.absent.insert(name.to_key(), entry);
            }
        }
    }

    /// Sets until when it is trusted that a path leads to `resource`, if that is what is known.
    pub(crate) fn trust(&mut self, name: KeyRef<'_>, resource: &Rc<Resource>, until: Instant) {
        trust_in(&mut self.hot, name, resource, until);
        trust_in(&mut self.files, name, resource, until);
    }

    pub(crate) fn remove(&mut self, name: KeyRef<'_>) {
        self.hot.remove(&name);
        self.files.remove(&name);
        self.absent.remove(&name);
    }

    /// Closes the files that are only cached: the process is out of descriptors.
    pub(crate) fn close_files(&mut self) {
        self.files.clear();
    }

    /// Whether files are kept open.
    pub(crate) fn has_open(&self) -> bool {
        !self.files.is_empty()
    }

    /// Wakes the one that waits when the next file is kept open.
    pub(crate) fn wake_when_open(&mut self, waiting: &Waker) {
        self.waiting = Some(waiting.clone());
    }

    /// The files that are kept open. They may be closed meanwhile.
    pub(crate) fn open(&self) -> Vec<Weak<Resource>> {
        let entries = self.files.iter().map(|(_, entry)| &entry.known);
        let open = entries.filter_map(|known| match known {
            Target::Resource(resource) => Some(Rc::downgrade(resource)),
            Target::MissingSlash | Target::NotFound => None,
        });
        open.collect()
    }

    /// Closes the files that were last asked for before `time`.
    pub(crate) fn close_unused(&mut self, time: Instant) {
        self.files.retain(|_, entry| entry.used.get() >= time);
    }

    /// Closes the files that were found deleted.
    pub(crate) fn close_deleted(&mut self) {
        self.files.retain(|_, entry| match &entry.known {
            Target::Resource(resource) => !resource.is_deleted(),
            Target::MissingSlash | Target::NotFound => true,
        });
    }

    /// Drops all that was looked up in one root.
    pub(crate) fn forget(&mut self, root: u32) {
        self.hot.retain(|key, _| key.root() != root);
        self.files.retain(|key, _| key.root() != root);
        self.absent.retain(|key, _| key.root() != root);
    }
}

fn bytes_table(bytes_max: u64, typical: u64) -> Table<Bytes> {
    let count = usize::try_from(bytes_max / typical).unwrap_or(usize::MAX);
    table(count, bytes_max, Bytes)
}

fn table<W: Weighter<Key, Entry> + Clone>(count: usize, weight_max: u64, weighter: W) -> Table<W> {
    let hasher = key::Prehashed::default();
    unsync::Cache::with(
        count,
        weight_max,
        weighter,
        hasher,
        DefaultLifecycle::default(),
    )
}

/// Removes an entry, and not what is remembered of one that was evicted.
fn remove_entry<W: Weighter<Key, Entry>>(table: &mut Table<W>, name: KeyRef<'_>) {
    table.remove_if(&name, |_| true);
}

fn trust_in<W: Weighter<Key, Entry>>(
    table: &mut Table<W>,
    name: KeyRef<'_>,
    resource: &Rc<Resource>,
    until: Instant,
) {
    if let Some(mut entry) = table.peek_mut(&name)
        && matches!(&entry.known, Target::Resource(known) if Rc::ptr_eq(known, resource))
    {
        entry.fresh_until = until;
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let content = match &entry.known {
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
        match &entry.known {
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
            hot_bytes: 1 << 20,
            open_files: 4,
            valid: Duration::from_secs(1),
            idle: Duration::from_mins(1),
            stale: Duration::ZERO,
            lookup: Duration::from_secs(1),
            workers: 1,
        })
    }

    fn entry(known: Target, fresh_until: Instant) -> Entry {
        Entry {
            known,
            fresh_until,
            used: Cell::new(fresh_until),
        }
    }

    #[test]
    fn an_entry_is_found_by_root_kind_and_path() {
        let (mut cache, hasher, now) = (cache(), Hasher::default(), Instant::now());
        let name = hasher.key(1, 0, b"/a");
        cache.insert(name, entry(Target::NotFound, now));
        assert!(matches!(
            cache.get(name).map(|entry| &entry.known),
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
        cache.forget(1);
        assert!(cache.get(hasher.key(1, 0, b"/a")).is_none());
        assert!(cache.get(hasher.key(1, 1, b"/a")).is_none());
        assert!(cache.get(hasher.key(2, 0, b"/a")).is_some());
    }

    #[test]
    fn a_flood_of_absent_paths_is_bounded() {
        let (mut cache, hasher, now) = (cache(), Hasher::default(), Instant::now());
        for number in 0..20_000 {
            let path = format!("/{number}");
            let name = hasher.key(1, 0, path.as_bytes());
            cache.insert(name, entry(Target::NotFound, now));
        }
        assert!(cache.absent.weight() <= ABSENT_BYTES);
        assert!(cache.absent.len() > 1000);
    }
}
