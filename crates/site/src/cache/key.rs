//! What entries are found by: root, kind and path, hashed once.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, RandomState};

use quick_cache::Equivalent;

/// The least bits of a space tell the kind.
const KIND_BITS: u32 = 2;

/// Hashes names, with keys of its own: nobody outside can make paths collide.
#[derive(Default)]
pub(crate) struct Hasher(RandomState);

impl Hasher {
    /// The name of a `path` as the lookups of `kind` (0 to 3) in `root` see it.
    pub(crate) fn key<'a>(&self, root: u32, kind: u32, path: &'a [u8]) -> KeyRef<'a> {
        debug_assert!(kind < 1 << KIND_BITS);
        let space = root << KIND_BITS | kind;
        let hash = self.0.hash_one((space, path));
        KeyRef { hash, space, path }
    }
}

/// A key, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct KeyRef<'a> {
    hash: u64,
    space: u32,
    path: &'a [u8],
}

/// A key, as the caches keep it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    hash: u64,
    space: u32,
    path: Box<[u8]>,
}

impl KeyRef<'_> {
    pub(crate) fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            space: self.space,
            path: self.path.into(),
        }
    }
}

impl Key {
    /// The number of the root.
    pub(crate) fn root(&self) -> u32 {
        self.space >> KIND_BITS
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
        self.space == key.space && *self.path == *key.path
    }
}

/// Takes the hash that a name or key brings.
pub(crate) type Prehashed = BuildHasherDefault<Taken>;

/// The hash that was written to it.
#[derive(Default)]
pub(crate) struct Taken(u64);

impl std::hash::Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("names and keys write a u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
