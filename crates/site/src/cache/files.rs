//! Open files, for those too large to be kept in memory.

use quick_cache::unsync;

use crate::cache::Entry;

pub(crate) struct Files(unsync::Cache<Box<[u8]>, Entry>);

impl Files {
    pub(crate) fn new(count_max: usize) -> Self {
        Self(unsync::Cache::new(count_max))
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

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
