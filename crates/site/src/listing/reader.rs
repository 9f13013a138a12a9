//! Who reads directories: the executor's threads for what blocks. One reads at a time; only one that takes
//! long, as on a file system that does not answer, has another read beside it, and those of one root or
//! device are bounded ([`Shares`]), so that there is a thread for those of others. What was read is shared by all
//! who ask for the same directory, and counts against a budget until it is neither kept nor sent:
//! neither many who ask nor those who take their time cost more than that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::sync::{Permit, Semaphore};
use tidegate_uring::{Shares, run_blocking};

use crate::cache::Key;
use crate::coarse_timer::CoarseTimer;
use crate::error::Error;
use crate::listing::entries::{Budget, Entries, Held};
use crate::listing::read_job::{Config, ReadJob};
use crate::root_dir::{Directory, RootDir};
use crate::single_flight::{FlightFuture, SingleFlight, Times};

/// Directories that wait for a thread, for each root.
const WAITING_MAX: usize = 64;

/// Threads that read directories, for each core: what the executor is to have for what blocks.
pub const READER_THREADS: usize = 4;

/// How long a reading keeps others from reading.
const TURN: Duration = Duration::from_secs(1);

/// Directories whose entries are kept, for each core.
const KEPT_MAX: usize = 64;

/// The readings of one core.
pub(crate) struct DirectoryReader {
    looks: Rc<SingleFlight<Key, Rc<Held>>>,
    threads: Rc<Shares>,
    /// One reads, so that what is left of the budget at its start is left to it.
    turn: Semaphore,
    watch: Rc<CoarseTimer>,
    budget: Budget,
    /// The oldest first.
    kept: RefCell<VecDeque<Kept>>,
    valid: Duration,
}

struct Kept {
    key: Key,
    entries: Rc<Held>,
    fresh_until: Instant,
}

impl DirectoryReader {
    pub(crate) fn new(times: Times, watch: &Rc<CoarseTimer>) -> Rc<Self> {
        Rc::new(Self {
            looks: SingleFlight::new(times, watch),
            threads: Shares::new(READER_THREADS),
            turn: Semaphore::new(1),
            watch: Rc::clone(watch),
            budget: Budget::default(),
            kept: RefCell::default(),
            valid: times.valid,
        })
    }

    /// What is in a directory, as it was read at `now` or not longer before than is trusted.
    ///
    /// Dropped while it is read: the reading ends early, and the next of those that wait reads.
    pub(crate) async fn read(
        self: &Rc<Self>,
        key: Key,
        tree: &RootDir,
        directory: &Directory,
        config: &Config,
        now: Instant,
    ) -> Result<Rc<Held>, Error> {
        if let Some(entries) = self.kept(&key, now) {
            return Ok(entries);
        }
        let reading = || -> FlightFuture<Rc<Held>> {
            let (readers, key) = (Rc::clone(self), key.clone());
            let (tree, directory, config) = (tree.clone(), directory.clone(), config.clone());
            Box::pin(async move {
                let entries = readers.read_in_turn(&tree, &directory, &config).await?;
                readers.keep(key, &entries, now + readers.valid);
                Ok(entries)
            })
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
        all.retain(|kept| now < kept.fresh_until);
        let kept = all.iter().find(|kept| kept.key == *key)?;
        Some(Rc::clone(&kept.entries))
    }

    fn keep(&self, key: Key, entries: &Rc<Held>, fresh_until: Instant) {
        let mut all = self.kept.borrow_mut();
        if all.len() == KEPT_MAX {
            all.pop_front();
        }
        all.push_back(Kept {
            key,
            entries: Rc::clone(entries),
            fresh_until,
        });
    }

    async fn read_in_turn(
        &self,
        tree: &RootDir,
        directory: &Directory,
        config: &Config,
    ) -> Result<Rc<Held>, Error> {
        let owner = tree.ops.owner();
        if self.threads.waiting_of(owner) >= WAITING_MAX {
            return Err(Error::Stalled);
        }
        loop {
            let thread = self.threads.take(owner).await;
            let turn = self.turn.acquire_permit(1).await;
            let turn = turn.map_err(|_| Error::Failed(io::ErrorKind::Other.into()))?;
            let bytes_max = self.budget.left();
            let reading = run(thread, reading(tree, directory, config, bytes_max)?);
            let entries = self.in_turn(turn, reading).await?;
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

    /// What `reading` yields. Others have their turn after it, or when it takes too long.
    async fn in_turn<T>(&self, turn: Permit<'_>, reading: impl Future<Output = T>) -> T {
        let mut reading = pin!(reading);
        let over = self.watch.until(Instant::now() + TURN);
        let read = or(async { Some(reading.as_mut().await) }, async {
            over.await;
            None
        });
        let read = read.await;
        drop(turn);
        match read {
            Some(read) => read,
            None => reading.await,
        }
    }
}

fn reading(
    tree: &RootDir,
    directory: &Directory,
    config: &Config,
    bytes_max: usize,
) -> io::Result<ReadJob> {
    Ok(ReadJob {
        directory: owned(&directory.file)?,
        root: owned(&tree.root)?,
        name: directory.name.clone(),
        config: config.clone(),
        bytes_max,
    })
}

/// `None`: there are more bytes of entries than may be. `thread` is given back when the thread is free
/// again, whoever still waits for it.
async fn run(thread: tidegate_uring::Permit, reading: ReadJob) -> Result<Option<Entries>, Error> {
    let abandoned = Abandoned::default();
    let cancelled = Arc::clone(&abandoned.0);
    let entries = run_blocking(move || reading.run(&cancelled));
    let entries = glommio::spawn_local(async move {
        let entries = entries.await;
        drop(thread);
        entries
    });
    match entries.detach().await {
        Some(entries) => Ok(entries??),
        None => Err(Error::Failed(io::ErrorKind::Other.into())),
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::LazyLock;

    use futures_lite::future::poll_once;
    use futures_util::future::join_all;
    use glommio::{LocalExecutorBuilder, Placement};
    use tidegate_config::Symlinks;
    use tidegate_uring::{Fd, Owner, Ring};

    use super::*;
    use crate::cache::Hasher;
    use crate::file::ops::FileOps;
    use crate::listing::KEY_KIND;
    use crate::listing::entries::ENTRIES_MAX;
    use crate::root_dir::resolve_flags;

    const VALID: Duration = Duration::from_secs(1);

    const TIMES: Times = Times {
        valid: VALID,
        lookup: Duration::from_secs(10),
    };

    const OWNER: Owner = Owner { device: 1, user: 0 };

    static CONFIG: LazyLock<Config> = LazyLock::new(|| Config {
        site: Arc::default(),
        entries_max: ENTRIES_MAX,
    });

    struct Bench {
        readers: Rc<DirectoryReader>,
        hasher: Hasher,
        tree: RootDir,
        directory: Directory,
        now: Instant,
    }

    impl Bench {
        fn new(path: &Path) -> Self {
            let open = || Fd::from(OwnedFd::from(File::open(path).unwrap()));
            let tree = RootDir {
                ops: FileOps::new(
                    &Ring::start(&tidegate_uring::Config::default()).unwrap(),
                    &Shares::new(2),
                    OWNER,
                ),
                root: open(),
                resolve: resolve_flags(Symlinks::Beneath),
                number: 1,
                at: Rc::default(),
                path: path.into(),
            };
            Self {
                readers: DirectoryReader::new(TIMES, &Rc::default()),
                hasher: Hasher::default(),
                directory: Directory {
                    file: open(),
                    tree: tree.clone(),
                    name: c".".to_owned(),
                },
                tree,
                now: Instant::now(),
            }
        }

        async fn read(&self) -> Result<Rc<Held>, Error> {
            let key = self.hasher.key(1, KEY_KIND, b".").to_key();
            let (tree, directory) = (&self.tree, &self.directory);
            let reading = self.readers.read(key, tree, directory, &CONFIG, self.now);
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
            let key = bench.hasher.key(2, KEY_KIND, b".").to_key();
            for entries in fill(budget) {
                bench.readers.kept.borrow_mut().push_back(Kept {
                    key: key.clone(),
                    entries,
                    fresh_until: bench.now + VALID,
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
    fn those_of_one_root_leave_a_thread_to_others_and_no_more_than_some_wait() {
        run(async |bench| {
            let threads = &bench.readers.threads;
            let stuck: Vec<_> = std::iter::from_fn(|| threads.try_take(OWNER)).collect();
            for _ in 0..WAITING_MAX - 1 {
                threads.then(OWNER, drop);
            }
            let mut last = Box::pin(bench.read());
            assert!(poll_once(&mut last).await.is_none());
            let key = bench.hasher.key(2, KEY_KIND, b".").to_key();
            let (tree, directory) = (&bench.tree, &bench.directory);
            let readers = &bench.readers;
            let more = readers.read(key.clone(), tree, directory, &CONFIG, bench.now);
            assert!(matches!(more.await, Err(Error::Stalled)));
            let other = RootDir {
                ops: tree.ops.on(2),
                ..tree.clone()
            };
            let other = readers.read(key, &other, directory, &CONFIG, bench.now);
            assert!(other.await.is_ok());
            drop(stuck);
            assert!(last.await.is_ok());
        });
    }

    #[test]
    fn a_reading_that_takes_long_passes_its_turn_on() {
        run(async |bench| {
            let readers = &bench.readers;
            let turn = async || readers.turn.acquire_permit(1).await.unwrap();
            let mut hanging = Box::pin(readers.in_turn(turn().await, std::future::pending::<()>()));
            assert!(poll_once(&mut hanging).await.is_none());
            let mut next = Box::pin(turn());
            assert!(poll_once(&mut next).await.is_none());
            let next = async {
                drop(next.await);
                true
            };
            let hanging = async {
                hanging.await;
                false
            };
            assert!(or(hanging, next).await);
        });
    }
}
