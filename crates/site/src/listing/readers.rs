//! Who reads directories: the executor's thread for what blocks, a few directories at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glommio::sync::Semaphore;

use crate::error::Error;
use crate::listing::Entries;
use crate::listing::read::{Config, Reading};
use crate::lookup::Directory;
use crate::root::Tree;

/// Directories that are read or wait for the thread at the same time, for each core.
const READINGS_MAX: u64 = 4;

/// The readings of one core.
pub(crate) struct Readers {
    free: Semaphore,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            free: Semaphore::new(READINGS_MAX),
        }
    }
}

impl Readers {
    /// Reads a directory. Dropped: the reading ends early, and what it read is dropped.
    pub(crate) async fn read(
        &self,
        tree: &Tree,
        directory: Directory,
        config: Config,
    ) -> Result<Entries, Error> {
        let permit = self.free.acquire_permit(1).await;
        let _permit = permit.map_err(|_| Error::Failed(io::ErrorKind::Other.into()))?;
        let reading = Reading {
            directory: owned(&directory.file)?,
            root: owned(&tree.root)?,
            name: directory.name,
            config,
        };
        let abandoned = Abandoned::default();
        let cancelled = Arc::clone(&abandoned.0);
        let entries = glommio::executor().spawn_blocking(move || reading.run(&cancelled));
        Ok(entries.await?)
    }
}

fn owned(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

/// Tells a reading, when dropped, that nobody waits for it.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
