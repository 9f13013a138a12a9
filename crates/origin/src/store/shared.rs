//! What a store, its writers and its thread share: the directory and what is known about it.
//!
//! Locks are taken in the order: directory, index. The lock of a directory is held while a name in
//! it comes or goes, so that the index and the disk change together: no file is without an entry,
//! which would be space that nobody counts. The index is never locked during I/O.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::fdatasync;
use rustix::io::Errno;

use super::error::{StoreError, is_full};
use super::files::{Draft, Files, pwrite_all, read_footer, verify};
use super::footer::{BootId, FOOTER_LEN};
use super::health::{Advice, Health};
use super::index::{BLOCK, Index};

/// Blobs that the thread evicts at once.
const BATCH: usize = 64;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Files,
    pub(super) boot_id: BootId,
    pub(super) indexed: AtomicBool,
    pub(super) health: Health,
    pub(super) failures: Failures,
    index: Mutex<Index>,
    directories: [Mutex<()>; 256],
    /// In blocks.
    size: u64,
    task: Mutex<Task>,
    wake: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) full: AtomicU64,
    pub(super) io: AtomicU64,
    pub(super) damaged: AtomicU64,
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    evict: bool,
    stop: bool,
}

/// A blob that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) len: u64,
}

impl Shared {
    /// `size` in bytes.
    pub(super) fn new(files: Files, size: u64, boot_id: BootId) -> Self {
        let size = size / BLOCK;
        Self {
            files,
            boot_id,
            indexed: AtomicBool::new(false),
            health: Health::default(),
            failures: Failures::default(),
            index: Mutex::new(Index::new(size)),
            directories: [const { Mutex::new(()) }; 256],
            size,
            task: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size * BLOCK
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.indexed.load(Ordering::Acquire)
    }

    /// Opens a blob and counts a use.
    pub(super) fn open(&self, name: u128) -> Option<Opened> {
        // Before the look into the index: all that the scan found is in it.
        let indexed = self.is_indexed();
        let known = self.index().count_use(name);
        if known.is_none() && indexed {
            return None;
        }
        let file = self.open_file(name, known.is_some())?;
        match self.check(&file, known == Some(true)) {
            Ok(Some(len)) => {
                self.adopt(name);
                Some(Opened { file, len })
            }
            Ok(None) => {
                self.count_damaged(name);
                self.remove(name);
                None
            }
            Err(error) => {
                self.count(&error);
                // An unreadable blob is worth as much as a damaged one.
                if Errno::from_io_error(&error) == Some(Errno::IO) {
                    self.remove(name);
                }
                None
            }
        }
    }

    /// Removes a blob. Whether there was one, as far as is known.
    pub(super) fn remove(&self, name: u128) -> bool {
        let _directory = self.lock_directory(name);
        let indexed = self.is_indexed();
        let known = self.index().remove(name);
        if !known && indexed {
            return false;
        }
        let exists = known || self.files.size_of_blob(name).is_ok();
        self.unlink(name);
        exists
    }

    /// Adds a blob to the index if it is there, and evicts for it.
    pub(super) fn find(&self, name: u128) {
        let directory = self.lock_directory(name);
        match self.files.size_of_blob(name) {
            Ok(size) if size < FOOTER_LEN => {
                self.count_damaged(name);
                self.index().remove(name);
                self.unlink(name);
            }
            Ok(size) => match u32::try_from(size.div_ceil(BLOCK)) {
                Ok(blocks) => self.index().insert_found(name, blocks),
                Err(_) => self.unlink(name),
            },
            // Evicted since the directory was read.
            Err(Errno::NOENT) => {}
            Err(error) => self.count(&error.into()),
        }
        drop(directory);
        if self.index().taken() > self.size {
            self.evict(self.size);
        }
    }

    /// Evicts until at most `mark` blocks are taken, or the store is closed.
    pub(super) fn evict(&self, mark: u64) {
        let mut victims = Vec::with_capacity(BATCH);
        loop {
            self.index().evict(mark, BATCH, &mut victims);
            if victims.is_empty() || self.is_stopped() {
                break;
            }
            self.unlink_evicted(&mut victims);
        }
    }

    /// The number of blocks down to which the thread evicts.
    pub(super) fn low_mark(&self) -> u64 {
        self.size - self.size / 20
    }

    /// Takes the space for a blob of `len` bytes, in blocks.
    pub(super) fn take_space(&self, len: u64) -> Result<u32, StoreError> {
        let blocks = blocks(len).filter(|blocks| u64::from(*blocks) <= self.size);
        let blocks = blocks.ok_or_else(|| self.too_large(len))?;
        let mut victims = Vec::new();
        if !self.index().reserve(blocks, &mut victims) {
            self.failures.full.fetch_add(1, Ordering::Relaxed);
            let error = io::Error::new(
                io::ErrorKind::StorageFull,
                "blobs that are being written take all of it",
            );
            return Err(StoreError::Full {
                operation: "reserve",
                path: self.files.path().to_owned(),
                source: error,
            });
        }
        if !victims.is_empty() {
            self.unlink_evicted(&mut victims);
            self.change_task(|task| task.evict = true);
        }
        Ok(blocks)
    }

    /// Gives the draft its name, and makes its reservation a blob.
    pub(super) fn publish(&self, name: u128, draft: &Draft, blocks: u32) -> rustix::io::Result<()> {
        let _directory = self.lock_directory(name);
        let published = self.files.publish(name, draft);
        let mut index = self.index();
        match published {
            Ok(()) => index.publish(name, blocks),
            Err(_) => index.release(blocks),
        }
        published
    }

    /// Whether a write is worth a try. After a pause, this tries the disk.
    pub(super) fn check_health(&self) -> Result<(), StoreError> {
        match self.health.advise(Instant::now()) {
            Advice::Write => Ok(()),
            Advice::Fail(operation, error) => Err(self.io_error(operation, error)),
            Advice::Probe => self.probe_write(),
        }
    }

    /// Writes a block and has it on the disk, since some errors are only seen there.
    pub(super) fn probe_write(&self) -> Result<(), StoreError> {
        let draft = self.files.draft(0, BLOCK);
        let draft = draft.map_err(|error| self.failed("make a file", error.into()))?;
        let written = pwrite_all(&draft.file, &[0x5a; BLOCK as usize], 0)
            .and_then(|()| Ok(fdatasync(&draft.file)?));
        self.files.discard(&draft);
        written.map_err(|error| self.failed("write", error))?;
        if self.health.recover() {
            tracing::info!(
                "{}: the disk takes writes again",
                self.files.path().display()
            );
        }
        Ok(())
    }

    /// Counts an error of a write, and remembers it if it is one of the disk.
    pub(super) fn failed(&self, operation: &'static str, error: io::Error) -> StoreError {
        self.count(&error);
        if self.health.fail(operation, &error, Instant::now()) {
            tracing::warn!(
                "{}: cannot {operation}: {error}; nothing is stored until the disk takes a write",
                self.files.path().display()
            );
        }
        self.io_error(operation, error)
    }

    pub(super) fn too_large(&self, len: u64) -> StoreError {
        let path = self.files.path().to_owned();
        StoreError::TooLarge { len, path }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.change_task(|task| task.stop = true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.task).stop
    }

    /// Waits until there is too much. `false`: the store is closed.
    pub(super) fn wait_for_eviction(&self) -> bool {
        let task = lock(&self.task);
        let idle = |task: &mut Task| !task.evict && !task.stop;
        let woken = self.wake.wait_while(task, idle);
        let mut task = woken.unwrap_or_else(PoisonError::into_inner);
        task.evict = false;
        !task.stop
    }

    fn change_task(&self, change: impl FnOnce(&mut Task)) {
        change(&mut lock(&self.task));
        self.wake.notify_one();
    }

    fn open_file(&self, name: u128, known: bool) -> Option<OwnedFd> {
        let opened = match self.files.open_blob(name) {
            Err(Errno::NOENT) if known => self.reopen(name),
            opened => opened,
        };
        if let Err(error) = opened
            && error != Errno::NOENT
        {
            self.count(&error.into());
        }
        opened.ok()
    }

    /// It was replaced just now, or somebody else removed it.
    fn reopen(&self, name: u128) -> rustix::io::Result<OwnedFd> {
        let _directory = self.lock_directory(name);
        let opened = self.files.open_blob(name);
        if matches!(opened, Err(Errno::NOENT)) {
            self.index().remove(name);
        }
        opened
    }

    /// The length of the blob in the file. `None` if it is damaged.
    fn check(&self, file: &OwnedFd, verified: bool) -> io::Result<Option<u64>> {
        let Some(footer) = read_footer(file)? else {
            return Ok(None);
        };
        let trusted = verified || footer.boot_id == self.boot_id;
        let right = trusted || verify(file, &footer)?;
        Ok(right.then_some(footer.len))
    }

    /// Remembers that the blob is right, which the scan may not have seen yet.
    fn adopt(&self, name: u128) {
        let mut index = self.index();
        if !index.contains(name) && !self.is_indexed() {
            drop(index);
            self.find(name);
            index = self.index();
            index.count_use(name);
        }
        index.set_verified(name);
    }

    /// A blob that came back since it was evicted stays.
    fn unlink_evicted(&self, victims: &mut Vec<u128>) {
        for name in victims.drain(..) {
            let _directory = self.lock_directory(name);
            if !self.index().contains(name) {
                self.unlink(name);
            }
        }
    }

    fn unlink(&self, name: u128) {
        if let Err(error) = self.files.remove_blob(name) {
            // The next start finds it.
            self.failed("remove a blob", error.into());
        }
    }

    fn lock_directory(&self, name: u128) -> MutexGuard<'_, ()> {
        lock(&self.directories[(name >> 120) as usize])
    }

    /// Says so once: after a crash there may be thousands.
    fn count_damaged(&self, name: u128) {
        if self.failures.damaged.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "{}: blob {name:032x} is damaged and is removed; others are only counted",
                self.files.path().display()
            );
        }
    }

    fn count(&self, error: &io::Error) {
        let counter = if is_full(error) {
            &self.failures.full
        } else {
            &self.failures.io
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn io_error(&self, operation: &'static str, error: io::Error) -> StoreError {
        StoreError::from_io(operation, self.files.path(), error)
    }
}

/// Of a blob of `len` bytes, with its footer. `None` if that is more than is counted.
fn blocks(len: u64) -> Option<u32> {
    let size = len.checked_add(FOOTER_LEN)?;
    u32::try_from(size.div_ceil(BLOCK)).ok()
}

/// Nothing under these locks is left half changed by a panic but counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
