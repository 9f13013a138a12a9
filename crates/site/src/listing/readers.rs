//! Who reads directories: the executor's thread for what blocks. What was read is shared by all
//! who ask for the same directory, and counts against a budget until it is neither kept nor sent:
//! neither many who ask nor those who take their time cost more than that.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glommio::sync::Semaphore;
use tidegate_uring::run_blocking;

use crate::cache::Key;
use crate::error::Error;
use crate::listing::entries::{Budget, Entries, Held};
use crate::listing::read::{Config, Reading};
use crate::looks::Looks;
use crate::lookup::Directory;
use crate::root::Tree;

/// Directories that wait for the thread, for each core.
const WAITING_MAX: usize = 64;

/// Directories whose entries are kept, for each core.
const KEPT_MAX: usize = 64;

/// The readings of one core.
pub(crate) struct Readers {
    looks: Looks<Key, Result<Rc<Held>, Error>>,
    /// One reads, so that what is left of the budget at its start is left to it.
    turn: Semaphore,
    waiting: Cell<usize>,
    budget: Budget,
    /// The oldest first.
    kept: RefCell<VecDeque<Kept>>,
    valid: Duration,
}

struct Kept {
    key: Key,
    entries: Rc<Held>,
    trusted_until: Instant,
}

impl Readers {
    pub(crate) fn new(valid: Duration) -> Self {
        Self {
            looks: Looks::new(valid),
            turn: Semaphore::new(1),
            waiting: Cell::new(0),
            budget: Budget::default(),
            kept: RefCell::default(),
            valid,
        }
    }

    /// What is in a directory, as it was read at `now` or not longer before than is trusted.
    ///
    /// Dropped while it is read: the reading ends early, and the next of those that wait reads.
    pub(crate) async fn read(
        &self,
        key: Key,
        tree: &Tree,
        directory: &Directory,
        config: Config,
        now: Instant,
    ) -> Result<Rc<Held>, Error> {
        if let Some(entries) = self.kept(&key, now) {
            return Ok(entries);
        }
        let reading = async || {
            let entries = self.read_in_turn(tree, directory, config).await?;
            self.keep(key.clone(), &entries, now + self.valid);
            Ok(entries)
        };
        self.looks.share(key.clone(), now, reading).await
    }

    /// Lets go of what was read in a root.
    pub(crate) fn forget(&self, root: u32) {
        self.kept
            .borrow_mut()
            .retain(|kept| kept.key.root() != root);
    }

    fn kept(&self, key: &Key, now: Instant) -> Option<Rc<Held>> {
        let mut all = self.kept.borrow_mut();
        all.retain(|kept| now < kept.trusted_until);
        let kept = all.iter().find(|kept| kept.key == *key)?;
        Some(Rc::clone(&kept.entries))
    }

    fn keep(&self, key: Key, entries: &Rc<Held>, trusted_until: Instant) {
        let mut all = self.kept.borrow_mut();
        if all.len() == KEPT_MAX {
            all.pop_front();
        }
        all.push_back(Kept {
            key,
            entries: Rc::clone(entries),
            trusted_until,
        });
    }

    async fn read_in_turn(
        &self,
        tree: &Tree,
        directory: &Directory,
        config: Config,
    ) -> Result<Rc<Held>, Error> {
        let waiting = Waiting::begin(&self.waiting)?;
        let permit = self.turn.acquire_permit(1).await;
        let _permit = permit.map_err(|_| Error::Failed(io::ErrorKind::Other.into()))?;
        drop(waiting);
        loop {
            let bytes_max = self.budget.left();
            let entries = run(tree, directory, config, bytes_max).await?;
            if let Some(entries) = entries {
                return Ok(self.budget.hold(entries));
            }
            self.kept.borrow_mut().clear();
            if self.budget.left() == bytes_max {
                let error = io::Error::other("too much is being listed");
                return Err(Error::Busy(error));
            }
        }
    }
}

/// `None`: there are more bytes than `bytes_max` of entries.
async fn run(
    tree: &Tree,
    directory: &Directory,
    config: Config,
    bytes_max: usize,
) -> Result<Option<Entries>, Error> {
    let reading = Reading {
        directory: owned(&directory.file)?,
        root: owned(&tree.root)?,
        name: directory.name.clone(),
        config,
        bytes_max,
    };
    let abandoned = Abandoned::default();
    let cancelled = Arc::clone(&abandoned.0);
    Ok(run_blocking(move || reading.run(&cancelled)).await??)
}

fn owned(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

/// One that waits for its turn.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a Cell<usize>) -> Result<Self, Error> {
        if count.get() == WAITING_MAX {
            let error = io::Error::other("too many directories wait to be listed");
            return Err(Error::Busy(error));
        }
        count.set(count.get() + 1);
        Ok(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Tells a reading, when dropped, that nobody waits for it.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use futures_util::future::join_all;
    use glommio::{LocalExecutorBuilder, Placement};
    use tidegate_uring::{Fd, Ring};

    use super::*;
    use crate::cache::Hasher;
    use crate::config::Symlinks;
    use crate::listing::{ENTRIES_MAX, KEY_KIND};
    use crate::root::resolve_flags;

    const VALID: Duration = Duration::from_secs(1);

    const CONFIG: Config = Config {
        hidden_files: false,
        symlinks: Symlinks::Beneath,
        entries_max: ENTRIES_MAX,
    };

    struct Bench {
        readers: Readers,
        hasher: Hasher,
        tree: Tree,
        directory: Directory,
        now: Instant,
    }

    impl Bench {
        fn new(path: &Path) -> Self {
            let open = || Fd::from(OwnedFd::from(File::open(path).unwrap()));
            Self {
                readers: Readers::new(VALID),
                hasher: Hasher::default(),
                tree: Tree {
                    ring: Ring::start(&tidegate_uring::Config::default()).unwrap(),
                    root: open(),
                    resolve: resolve_flags(Symlinks::Beneath),
                    number: 1,
                },
                directory: Directory {
                    file: open(),
                    name: c".".to_owned(),
                },
                now: Instant::now(),
            }
        }

        async fn read(&self) -> Result<Rc<Held>, Error> {
            let key = self.hasher.name(1, KEY_KIND, b".").to_key();
            let (tree, directory) = (&self.tree, &self.directory);
            let reading = self.readers.read(key, tree, directory, CONFIG, self.now);
            reading.await
        }
    }

    /// A directory of 100 files, on an executor.
    fn run(test: impl AsyncFnOnce(Bench)) {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
        executor
            .unwrap()
            .run(async { test(Bench::new(directory.path())).await });
    }

    /// Entries that leave next to nothing of a budget.
    fn fill(budget: &Budget) -> Vec<Rc<Held>> {
        let mut held = Vec::new();
        while budget.left() > 1000 {
            let mut entries = Entries::default();
            for _ in 0..(budget.left() / 300).clamp(1, ENTRIES_MAX) {
                entries.push(&[b'x'; 200], false, 0, 0);
            }
            held.push(budget.hold(entries));
        }
        held
    }

    #[test]
    fn a_directory_is_read_once_for_all_who_ask_in_its_time() {
        run(async |mut bench| {
            let all = join_all((0..20).map(|_| bench.read())).await;
            let first = Rc::clone(all[0].as_ref().unwrap());
            assert_eq!(first.items().len(), 100);
            for other in all {
                assert!(Rc::ptr_eq(&other.unwrap(), &first));
            }
            assert!(Rc::ptr_eq(&bench.read().await.unwrap(), &first));
            bench.now += VALID;
            assert!(!Rc::ptr_eq(&bench.read().await.unwrap(), &first));
            bench.readers.forget(1);
            assert!(bench.readers.kept.borrow().is_empty());
        });
    }

    #[test]
    fn what_is_being_sent_counts_and_what_is_kept_gives_way() {
        run(async |bench| {
            let budget = &bench.readers.budget;
            let key = bench.hasher.name(2, KEY_KIND, b".").to_key();
            for entries in fill(budget) {
                bench.readers.kept.borrow_mut().push_back(Kept {
                    key: key.clone(),
                    entries,
                    trusted_until: bench.now + VALID,
                });
            }
            let read = bench.read().await.unwrap();
            assert_eq!(read.items().len(), 100);
            drop(read);
            bench.readers.forget(1);
            let sent = fill(budget);
            assert!(matches!(bench.read().await, Err(Error::Busy(_))));
            drop(sent);
            assert!(bench.read().await.is_ok());
        });
    }

    #[test]
    fn no_more_than_some_wait() {
        run(async |bench| {
            bench.readers.waiting.set(WAITING_MAX);
            assert!(matches!(bench.read().await, Err(Error::Busy(_))));
            bench.readers.waiting.set(WAITING_MAX - 1);
            assert!(bench.read().await.is_ok());
            assert_eq!(bench.readers.waiting.get(), WAITING_MAX - 1);
        });
    }
}
