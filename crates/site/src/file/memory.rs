//! The bytes of a file in memory, and how they are kept.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_uring::Pages;

use crate::file::size_class::allocated;

/// Bytes that are no longer are copied behind their head as fast as a socket takes pages.
const HEAP_BYTES_MAX: usize = 12 * 1024;

/// The bytes of a file in memory.
#[derive(Clone)]
pub struct FileBytes {
    bytes: Bytes,
    pages: Option<Arc<Pages>>,
}

impl FileBytes {
    /// `bytes` are those of `storage`.
    pub(crate) fn of(storage: &Storage, bytes: Bytes) -> Self {
        let pages = match storage {
            Storage::Heap(_) => None,
            Storage::Pages(pages) => Some(Arc::clone(pages)),
        };
        Self { bytes, pages }
    }

    /// Bytes of memory that they take.
    pub(crate) fn memory(&self) -> u64 {
        match &self.pages {
            Some(pages) => pages.memory() as u64,
            // One byte more is allocated to notice a file that grows while it is read.
            None => allocated(self.bytes.len() + 1),
        }
    }

    /// The same of bytes in pages of their own; 0 for others.
    pub(crate) fn page_memory(&self) -> u64 {
        self.pages().map_or(0, |pages| pages.memory() as u64)
    }

    /// The pages that hold the bytes and nothing else, if there are more than 12 KiB.
    pub fn pages(&self) -> Option<&Pages> {
        self.pages.as_deref()
    }
}

impl Deref for FileBytes {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl From<Bytes> for FileBytes {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, pages: None }
    }
}

impl From<Storage> for FileBytes {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::Heap(bytes) => Bytes::from(bytes).into(),
            Storage::Pages(pages) => {
                let bytes = Bytes::from_owner(PagesRef(Arc::clone(&pages)));
                let pages = Some(pages);
                Self { bytes, pages }
            }
        }
    }
}

/// Where the bytes are.
pub(crate) enum Storage {
    Heap(Vec<u8>),
    Pages(Arc<Pages>),
}

impl Storage {
    /// Moves long bytes to pages of their own, unless the process has no room for them.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        if bytes.len() > HEAP_BYTES_MAX
            && let Ok(pages) = Pages::copy_of(&bytes)
        {
            Self::Pages(Arc::new(pages))
        } else {
            Self::Heap(bytes)
        }
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

struct PagesRef(Arc<Pages>);

impl AsRef<[u8]> for PagesRef {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
