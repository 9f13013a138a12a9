//! What was looked up lately, for one core.
//!
//! Small files are kept whole, bounded by their bytes (`hot`); of larger ones the descriptor is
//! kept, bounded by their number (`files`). Both evict by S3-FIFO, which one scan over a large
//! tree does not empty.

mod files;
mod hot;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::file::{Content, File};

pub(crate) use files::Files;
pub(crate) use hot::Hot;

/// A file, and until when it is trusted to be what its path leads to.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) file: Rc<File>,
    pub(crate) trusted_until: Instant,
}

/// Both caches behind one question.
pub(crate) struct Cache {
    hot: Hot,
    files: Files,
    valid: Duration,
}

impl Cache {
    /// `hot_bytes` of small files, `open_files` descriptors, each trusted for `valid`.
    pub(crate) fn new(hot_bytes: u64, open_files: usize, valid: Duration) -> Self {
        Self {
            hot: Hot::new(hot_bytes),
            files: Files::new(open_files),
            valid,
        }
    }

    /// What `path` led to when it was last looked at.
    pub(crate) fn get(&self, path: &[u8]) -> Option<Entry> {
        self.hot.get(path).or_else(|| self.files.get(path))
    }

    pub(crate) fn insert(&mut self, path: &[u8], file: &Rc<File>, now: Instant) {
        let entry = Entry {
            file: Rc::clone(file),
            trusted_until: now + self.valid,
        };
        match file.content {
            Content::Memory(_) => self.hot.insert(path, entry),
            Content::File(_) => self.files.insert(path, entry),
        }
    }

    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.hot.remove(path);
        self.files.remove(path);
    }

    /// Closes the files that are only cached: the process is out of descriptors.
    pub(crate) fn close_files(&mut self) {
        self.files.clear();
    }
}
