//! Small files, whole.

use quick_cache::{Weighter, unsync};

use crate::cache::Entry;

/// What an entry takes beside its path, its fields and its bytes.
const ENTRY_BYTES: u64 = 256;

/// Bytes of an entry that the cache is sized for, to choose the size of its tables.
const TYPICAL_BYTES: u64 = 4096;

pub(crate) struct Hot(unsync::Cache<Box<[u8]>, Entry, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Entry> for Bytes {
    fn weight(&self, path: &Box<[u8]>, entry: &Entry) -> u64 {
        ENTRY_BYTES + path.len() as u64 + entry.file.fields.len() as u64 + entry.file.len
    }
}

impl Hot {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let typical = usize::try_from(bytes_max / TYPICAL_BYTES).unwrap_or(usize::MAX);
        Self(unsync::Cache::with_weighter(typical, bytes_max, Bytes))
    }

    pub(crate) fn get(&self, path: &[u8]) -> Option<Entry> {
        self.0.get(path).cloned()
    }

    pub(crate) fn insert(&mut self, path: &[u8], entry: Entry) {
        self.0.insert(path.into(), entry);
    }

    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }
}
