//! The part of the cache that is on disk. It knows blobs: bytes with a name of 128 bits, which
//! never change and are published as a whole.
//!
//! All calls block, for as long as the disk takes: call them on a thread for that.
//!
//! # On disk
//!
//! ```text
//!  <path>/lock                 locked (flock(2)) while a store has it
//!        /tmp/                 files that are being written, where there is no O_TMPFILE
//!        /00/ ... /ff/         blobs, by the first two of the 32 digits of their names
//!            <30 digits>       bytes of the blob, then the footer (40 bytes):
//!                              magic and version 8, length 8, XXH3-64 8, boot id 16
//! ```
//!
//! A file gets its name when it is complete, so a killed process leaves no part of a blob. After a
//! crash of the host a file may have its length but zeros for bytes. So a blob that was written
//! before the host was started is read as a whole once, when it is first asked for, and removed
//! unless it has the checksum of its footer.
//!
//! # The modules, from top to bottom
//!
//! A module imports only modules below it.
//!
//! 1. `writer`: a blob that is being written. `worker`: the thread that scans and evicts. `survey`:
//!    what a directory offers.
//! 2. `shared`: index and disk together.
//! 3. `files`: the directory. `index`: which blobs there are, and which go first (S3-FIFO).
//!    `health`: whether the disk takes writes.
//! 4. `footer`, `table`, `error`.

mod error;
mod files;
mod footer;
mod health;
mod index;
mod shared;
mod survey;
mod table;
mod worker;
mod writer;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use error::StoreError;
pub use survey::{Survey, survey};
pub use writer::Writer;

use files::Files;
use footer::BootId;
use index::BLOCK;
use shared::Shared;

/// Where a store is, and how large it may become.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory. It is made if it is not there, with mode 0700.
    pub path: PathBuf,
    /// The most bytes of all blobs, those that are being written included. Each counts with its
    /// footer as a multiple of 4096 bytes; directories do not count.
    pub size: u64,
    /// Whether the process before this one, which is about to end, may have the directory yet.
    pub succeeds: bool,
}

/// A blob that is open.
#[derive(Debug)]
pub struct Blob {
    /// The file: the blob from offset 0, then a footer. It stays readable if the blob is evicted.
    pub file: OwnedFd,
    /// Bytes of the blob.
    pub len: u64,
}

/// Counts of a store. Those of events are from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of the blobs that are published, as they count for [`StoreConfig::size`].
    pub bytes: u64,
    /// Bytes that are reserved for blobs that are being written.
    pub reserved_bytes: u64,
    /// Blobs that are published.
    pub blobs: u64,
    /// Blobs that were evicted.
    pub evictions: u64,
    /// Bytes of those.
    pub evicted_bytes: u64,
    /// Writes that failed for lack of space: of the disk, or of the store, where blobs that were
    /// being written took all of it.
    pub failures_full: u64,
    /// Other errors of the disk.
    pub failures_io: u64,
    /// Blobs that were removed since they were not as they were written.
    pub failures_damaged: u64,
    /// As [`Store::is_indexed`].
    pub is_indexed: bool,
    /// [`StoreConfig::size`], in whole blocks of 4096 bytes.
    pub size: u64,
    /// Bytes of memory that the index takes.
    pub index_memory: u64,
}

/// Blobs in a directory.
///
/// Dropped: its thread ends. The directory stays locked until its writers are dropped as well.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

/// What tests choose.
struct Options<F> {
    boot_id: BootId,
    /// Whether files may be made without a name.
    unnamed: bool,
    /// Called before each of the 256 directories is scanned.
    before_directory: F,
}

impl Store {
    /// Opens a store and starts to scan what is there. Blobs are found before the scan reaches
    /// them, but until it is done they do not all count: together with new ones they may take
    /// more than the size for that long.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another store has the directory, [`StoreError::Open`] if it
    /// cannot be made or used.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let options = Options {
            boot_id: BootId::of_host(),
            unnamed: true,
            before_directory: |_| (),
        };
        Self::open_with(config, options)
    }

    fn open_with<F>(config: StoreConfig, options: Options<F>) -> Result<Self, StoreError>
    where
        F: Fn(u8) + Send + 'static,
    {
        let files = Files::open(config.path, options.unnamed, config.succeeds)?;
        let shared = Arc::new(Shared::new(files, config.size, options.boot_id));
        let of_worker = Arc::clone(&shared);
        let worker = thread::Builder::new()
            .name("tidegate-store".to_owned())
            .spawn(move || worker::run(&of_worker, options.before_directory))
            .map_err(|source| StoreError::Open {
                operation: "start the thread of",
                path: shared.files.path().to_owned(),
                source,
            })?;
        let worker = Some(worker);
        Ok(Self { shared, worker })
    }

    /// Whether the scan of what was there at the start is done.
    pub fn is_indexed(&self) -> bool {
        self.shared.is_indexed()
    }

    /// Opens a blob and counts a use. `None` if there is none, or none that can be read: one that
    /// is damaged is removed.
    pub fn get(&self, name: u128) -> Option<Blob> {
        let opened = self.shared.open(name)?;
        Some(Blob {
            file: opened.file,
            len: opened.len,
        })
    }

    /// Counts a use of a blob. Does no I/O, and nothing for a blob that the scan has yet to find.
    pub fn touch(&self, name: u128) {
        self.shared.index().count_use(name);
    }

    /// Whether there is such a blob, though it may turn out to be damaged. No use.
    pub fn contains(&self, name: u128) -> bool {
        let indexed = self.is_indexed();
        self.shared.index().contains(name)
            || !indexed && self.shared.files.size_of_blob(name).is_ok()
    }

    /// Removes a blob. Whether there was one. A blob of that name that is being written is
    /// published all the same.
    pub fn remove(&self, name: u128) -> bool {
        self.shared.remove(name)
    }

    /// Reserves the space for a blob of `len` bytes, and evicts others for it. On file systems
    /// with fallocate(2) writes then do not lack space.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`]: it can never be stored. [`StoreError::Full`]: the disk is full,
    /// or blobs that are being written take all of the store. [`StoreError::Failed`]: another
    /// error of the disk or of the process. For 5 s after an error of the disk it fails with that
    /// at once.
    pub fn reserve(&self, name: u128, len: u64) -> Result<Writer, StoreError> {
        Writer::new(Arc::clone(&self.shared), name, len)
    }

    /// Whether writes are tried: `false` for 5 s after an error of the disk.
    pub fn is_writable(&self) -> bool {
        self.shared.health.is_writable(Instant::now())
    }

    /// Writes a block to the disk (fdatasync(2)), even if the last error was just now. After a
    /// success the store takes blobs again. [`Store::reserve`] does so itself after 5 s.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] or [`StoreError::Failed`], which is remembered for 5 s.
    pub fn probe_write(&self) -> Result<(), StoreError> {
        self.shared.probe_write()
    }

    /// Counts as of now.
    pub fn stats(&self) -> StoreStats {
        let (usage, index_memory) = {
            let index = self.shared.index();
            (index.usage(), index.memory() as u64)
        };
        let failures = &self.shared.failures;
        StoreStats {
            bytes: usage.blocks * BLOCK,
            reserved_bytes: usage.reserved * BLOCK,
            blobs: usage.blobs as u64,
            evictions: usage.evicted,
            evicted_bytes: usage.evicted_blocks * BLOCK,
            failures_full: failures.full.load(Ordering::Relaxed),
            failures_io: failures.io.load(Ordering::Relaxed),
            failures_damaged: failures.damaged.load(Ordering::Relaxed),
            is_indexed: self.is_indexed(),
            size: self.shared.size(),
            index_memory,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(worker) = self.worker.take() {
            // It has no result. A panic of it was reported where it was.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
