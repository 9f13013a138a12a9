//! Errors of a store.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a store cannot be opened, or a blob cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another store of this one, has the directory.
    #[error("the cache {} is in use by another process; give each its own path", path.display())]
    Locked {
        /// The directory of the store.
        path: PathBuf,
    },
    /// The directory cannot be made or used.
    #[error("cannot {operation} the cache {}; check its owner and its disk", path.display())]
    Open {
        /// What was tried.
        operation: &'static str,
        /// The directory of the store.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The blob is larger than the store, or than the file system takes.
    #[error("{len} bytes are too many for the cache {}; raise its size", path.display())]
    TooLarge {
        /// Bytes of the blob.
        len: u64,
        /// The directory of the store.
        path: PathBuf,
    },
    /// The disk or the quota is full (`ENOSPC`, `EDQUOT`), or blobs that are being written take
    /// all of the store.
    #[error("no space to {operation} in the cache {}; lower its size or free its disk",
        path.display())]
    Full {
        /// What was tried.
        operation: &'static str,
        /// The directory of the store.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The disk or the process failed.
    #[error("cannot {operation} in the cache {}; check its disk", path.display())]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The directory of the store.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A blob was published before all of it was written.
    #[error("the blob has {written} of {len} bytes")]
    Incomplete {
        /// Bytes that were written.
        written: u64,
        /// Bytes that were reserved.
        len: u64,
    },
}

impl StoreError {
    /// [`StoreError::Full`] or [`StoreError::Failed`].
    pub(super) fn from_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            return Self::Full {
                operation,
                path,
                source,
            };
        }
        Self::Failed {
            operation,
            path,
            source,
        }
    }
}

/// Whether there is no space.
pub(super) fn is_full(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
}
