//! The bytes of a file in memory, and how they are kept.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_uring::Pages;

use crate::file::long_memory::Held;
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

    /// The bytes of `storage`. Every reference to them keeps `held`.
    pub(crate) fn new(storage: Storage, held: Option<Held>) -> Self {
        let of = Self::of(&storage, Bytes::new());
        let bytes = Bytes::from_owner(Owner {
            storage,
            _held: held,
        });
        Self { bytes, ..of }
    }

    /// Bytes of memory that they take.
    pub(crate) fn memory(&self) -> u64 {
        match &self.pages {
            Some(pages) => pages.memory() as u64,
            // One byte more is allocated to notice a file that grows while it is read.
            None => allocated(self.bytes.len() + 1),
        }
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

/// Where the bytes are.
pub(crate) enum Storage {
    Heap(Vec<u8>),
    Pages(Arc<Pages>),
}

impl Storage {
    /// Moves long bytes to pages of their own, unless the process has no room for them.
    pub(crate) fn new(bytes: Vec<u8>, is_huge: bool) -> Self {
        let pages = match bytes.len() {
            ..=HEAP_BYTES_MAX => None,
            _ if is_huge => Pages::huge_copy_of(&bytes).ok(),
            _ => Pages::copy_of(&bytes).ok(),
        };
        match pages {
            Some(pages) => Self::Pages(Arc::new(pages)),
            None => Self::Heap(bytes),
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

struct Owner {
    storage: Storage,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.storage
    }
}
