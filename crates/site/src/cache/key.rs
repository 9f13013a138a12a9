//! Cache keys: root, kind and path, hashed once.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher as _, RandomState};

use quick_cache::Equivalent;

/// The low bits of a namespace hold the kind.
const KIND_BITS: u32 = 3;

/// Hashes keys with random seeds: clients cannot make paths collide.
#[derive(Default)]
pub(crate) struct Hasher(RandomState);

impl Hasher {
    /// The key of `path` for lookups of `kind` (0 to 7) in `root`.
    pub(crate) fn key<'a>(&self, root: u32, kind: u32, path: &'a [u8]) -> KeyRef<'a> {
        debug_assert!(kind < 1 << KIND_BITS);
        let namespace = root << KIND_BITS | kind;
        // Not by `Hash`, which would write the length as well: the path ends where the namespace,
        // always as long, begins.
        let mut hasher = self.0.build_hasher();
        hasher.write(path);
        hasher.write_u32(namespace);
        KeyRef {
            hash: hasher.finish(),
            namespace,
            path,
        }
    }
}

/// A borrowed [`Key`].
#[derive(Clone, Copy)]
pub(crate) struct KeyRef<'a> {
    hash: u64,
    namespace: u32,
    path: &'a [u8],
}

/// A key in a table.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    hash: u64,
    namespace: u32,
    path: Box<[u8]>,
}

impl KeyRef<'_> {
    pub(crate) fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            namespace: self.namespace,
            path: self.path.into(),
        }
    }
}

impl Key {
    /// The number of the root.
    pub(crate) fn root(&self) -> u32 {
        self.namespace >> KIND_BITS
    }

    pub(crate) fn path_bytes(&self) -> u64 {
        self.path.len() as u64
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.namespace == key.namespace && *self.path == *key.path
    }
}

/// Uses the hash in the key.
pub(crate) type Prehashed = BuildHasherDefault<PassThroughHasher>;

/// Returns the one `u64` that was written.
#[derive(Default)]
pub(crate) struct PassThroughHasher(u64);

impl std::hash::Hasher for PassThroughHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys write a u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
