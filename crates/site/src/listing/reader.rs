//! Reads directories on the blocking threads of the executor, one at a time. A job that takes long,
//! as on a file system that does not answer, lets another start; the jobs of one root or device are
//! bounded ([`Shares`]), so that threads are left for the others.
//!
//! All requests for a directory share its entries, which are charged to a budget while they are
//! cached or sent. So neither many requests nor slow clients take more memory than that.

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
use tidegate_uring::executor::{Permit, Semaphore};
use tidegate_uring::{Shares, run_blocking};

use crate::cache::Key;
use crate::coarse_timer::CoarseTimer;
use crate::error::Error;
use crate::listing::entries::{Budget, ChargedEntries, Entries};
use crate::listing::read_job::{Config, ReadJob};
use crate::root_dir::Directory;
use crate::single_flight::{FlightFuture, SingleFlight, Times};

/// Directories of one root that wait for a thread.
const WAITING_MAX: usize = 64;

/// Threads that read directories, for each core: the size of the executor's blocking pool.
pub const READER_THREADS: usize = 4;

/// How long a job keeps others from starting.
const EXCLUSIVE_MAX: Duration = Duration::from_secs(1);

/// Directories in the cache of one core.
const CACHED_MAX: usize = 64;

/// Reads and caches the directories of one core.
pub(crate) struct DirectoryReader {
    flights: Rc<SingleFlight<Key, Rc<ChargedEntries>>>,
    threads: Rc<Shares>,
    /// Held by the job that may take what is left of the budget.
    exclusive: Semaphore,
    timer: Rc<CoarseTimer>,
    budget: Budget,
    /// The oldest first.
    cached: RefCell<VecDeque<CachedEntries>>,
    valid: Duration,
}

struct CachedEntries {
    key: Key,
    entries: Rc<ChargedEntries>,
    fresh_until: Instant,
}

impl DirectoryReader {
    pub(crate) fn new(times: Times, coarse_timer: &Rc<CoarseTimer>) -> Rc<Self> {
        Rc::new(Self {
            flights: SingleFlight::new(times, coarse_timer),
            threads: Shares::new(READER_THREADS),
            exclusive: Semaphore::new(1),
            timer: Rc::clone(coarse_timer),
            budget: Budget::default(),
            cached: RefCell::default(),
            valid: times.valid,
        })
    }

    /// The entries of a directory, fresh at `now`.
    ///
    /// Dropped: as [`SingleFlight::run`]; the thread ends early.
    pub(crate) async fn read(
        self: &Rc<Self>,
        key: Key,
        directory: &Directory,
        config: &Config,
        now: Instant,
    ) -> Result<Rc<ChargedEntries>, Error> {
        if let Some(entries) = self.cached(&key, now) {
            return Ok(entries);
        }
        let work = || -> FlightFuture<Rc<ChargedEntries>> {
            let (reader, key) = (Rc::clone(self), key.clone());
            let (directory, config) = (directory.clone(), config.clone());
            Box::pin(async move {
                let entries = reader.read_exclusive(&directory, &config).await?;
                reader.insert(key, &entries, now + reader.valid);
                Ok(entries)
            })
        };
        self.flights.run(key.clone(), now, work).await
    }

    /// Removes the entries of roots that are gone, by their numbers. Returns whether there were any.
    pub(crate) fn forget(&self, is_gone: impl Fn(u32) -> bool) -> bool {
        let mut all = self.cached.borrow_mut();
        let before = all.len();
        all.retain(|cached| !is_gone(cached.key.root()));
        all.len() < before
    }

    fn cached(&self, key: &Key, now: Instant) -> Option<Rc<ChargedEntries>> {
        let mut all = self.cached.borrow_mut();
        all.retain(|cached| now < cached.fresh_until);
        let cached = all.iter().find(|cached| cached.key == *key)?;
        Some(Rc::clone(&cached.entries))
    }

    fn insert(&self, key: Key, entries: &Rc<ChargedEntries>, fresh_until: Instant) {
        let mut all = self.cached.borrow_mut();
        if all.len() == CACHED_MAX {
            all.pop_front();
        }
        all.push_back(CachedEntries {
            key,
            entries: Rc::clone(entries),
            fresh_until,
        });
    }

    async fn read_exclusive(
        &self,
        directory: &Directory,
        config: &Config,
    ) -> Result<Rc<ChargedEntries>, Error> {
        let owner = directory.root.ops.owner();
        if self.threads.waiting_of(owner) >= WAITING_MAX {
            return Err(Error::Stalled);
        }
        loop {
            let thread = self.threads.take(owner).await;
            let exclusive = self.exclusive.acquire_permit(1).await;
            let exclusive = exclusive.map_err(|_| Error::Failed(io::ErrorKind::Other.into()))?;
            let bytes_max = self.budget.left();
            let job = run(thread, job(directory, config, bytes_max)?);
            let entries = self.release_when_slow(exclusive, job).await?;
            if let Some(entries) = entries {
                return Ok(self.budget.charge(entries));
            }
            self.cached.borrow_mut().clear();
            if self.budget.left() == bytes_max {
                let error = io::Error::other("too much is being listed");
                return Err(Error::Busy(error));
            }
        }
    }

    /// The output of `job`. Releases `exclusive` after it, or after [`EXCLUSIVE_MAX`].
    async fn release_when_slow<T>(&self, exclusive: Permit<'_>, job: impl Future<Output = T>) -> T {
        let mut job = pin!(job);
        let over = self.timer.sleep_until(Instant::now() + EXCLUSIVE_MAX);
        let read = or(async { Some(job.as_mut().await) }, async {
            over.await;
            None
        });
        let read = read.await;
        drop(exclusive);
        match read {
            Some(read) => read,
            None => job.await,
        }
    }
}

fn job(directory: &Directory, config: &Config, bytes_max: usize) -> io::Result<ReadJob> {
    Ok(ReadJob {
        directory: owned(&directory.file)?,
        root: owned(&directory.root.fd)?,
        name: directory.name.clone(),
        config: config.clone(),
        bytes_max,
    })
}

/// Runs a job. `None`: the entries exceed its `bytes_max`. `thread` is released when the thread is
/// free, even if this future is dropped.
async fn run(thread: tidegate_uring::Permit, job: ReadJob) -> Result<Option<Entries>, Error> {
    let cancel = CancelOnDrop::default();
    let cancelled = Arc::clone(&cancel.0);
    let entries = run_blocking(move || job.run(&cancelled));
    let entries = tidegate_uring::spawn(async move {
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

/// Cancels a job when it is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
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
    use tidegate_config::Symlinks;
    use tidegate_uring::executor::Executor;
    use tidegate_uring::{Fd, Owner, Ring};

    use super::*;
    use crate::cache::Hasher;
    use crate::file::ops::FileOps;
    use crate::listing::KEY_KIND;
    use crate::listing::entries::ENTRIES_MAX;
    use crate::root_dir::{RootDir, resolve_flags};

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
        directory: Directory,
        now: Instant,
    }

    impl Bench {
        fn new(path: &Path) -> Self {
            let open = || Fd::from(OwnedFd::from(File::open(path).unwrap()));
            let root = RootDir {
                ops: FileOps::new(
                    &Ring::start(&tidegate_uring::Config::default()).unwrap(),
                    &Shares::new(2),
                    OWNER,
                ),
                fd: open(),
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
                    root,
                    name: c".".to_owned(),
                    path: b"/".to_vec(),
                },
                now: Instant::now(),
            }
        }

        async fn read(&self) -> Result<Rc<ChargedEntries>, Error> {
            let key = self.hasher.key(1, KEY_KIND, b".").to_key();
            let reading = self.readers.read(key, &self.directory, &CONFIG, self.now);
            reading.await
        }
    }

    /// A directory of 100 files, on an executor.
    fn run(test: impl AsyncFnOnce(Bench)) {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let executor = Executor::new("test", 1);
        executor
            .unwrap()
            .run(async { test(Bench::new(directory.path())).await });
    }

    /// Entries that leave next to nothing of a budget.
    fn fill(budget: &Budget) -> Vec<Rc<ChargedEntries>> {
        let mut held = Vec::new();
        while budget.left() > 1000 {
            let mut entries = Entries::default();
            for _ in 0..(budget.left() / 300).clamp(1, ENTRIES_MAX) {
                entries.push(&[b'x'; 200], false, 0, 0);
            }
            held.push(budget.charge(entries));
        }
        held
    }

    #[test]
    fn a_directory_is_read_once_while_it_is_fresh() {
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
            bench.readers.forget(|root| root == 1);
            assert!(bench.readers.cached.borrow().is_empty());
        });
    }

    #[test]
    fn entries_being_sent_count_and_cached_ones_are_evicted() {
        run(async |bench| {
            let budget = &bench.readers.budget;
            let key = bench.hasher.key(2, KEY_KIND, b".").to_key();
            for entries in fill(budget) {
                bench.readers.cached.borrow_mut().push_back(CachedEntries {
                    key: key.clone(),
                    entries,
                    fresh_until: bench.now + VALID,
                });
            }
            let read = bench.read().await.unwrap();
            assert_eq!(read.items().len(), 100);
            drop(read);
            bench.readers.forget(|root| root == 1);
            let sent = fill(budget);
            assert!(matches!(bench.read().await, Err(Error::Busy(_))));
            drop(sent);
            assert!(bench.read().await.is_ok());
        });
    }

    #[test]
    fn one_root_leaves_a_thread_to_others_and_its_queue_is_bounded() {
        run(async |bench| {
            let threads = &bench.readers.threads;
            let stuck: Vec<_> = std::iter::from_fn(|| threads.try_take(OWNER)).collect();
            for _ in 0..WAITING_MAX - 1 {
                threads.then(OWNER, drop);
            }
            let mut last = Box::pin(bench.read());
            assert!(poll_once(&mut last).await.is_none());
            let key = bench.hasher.key(2, KEY_KIND, b".").to_key();
            let readers = &bench.readers;
            let more = readers.read(key.clone(), &bench.directory, &CONFIG, bench.now);
            assert!(matches!(more.await, Err(Error::Stalled)));
            let root = &bench.directory.root;
            let other = Directory {
                root: RootDir {
                    ops: root.ops.on_device(2),
                    ..root.clone()
                },
                ..bench.directory.clone()
            };
            let other = readers.read(key, &other, &CONFIG, bench.now);
            assert!(other.await.is_ok());
            drop(stuck);
            assert!(last.await.is_ok());
        });
    }

    #[test]
    fn a_slow_job_lets_another_start() {
        run(async |bench| {
            let readers = &bench.readers;
            let turn = async || readers.exclusive.acquire_permit(1).await.unwrap();
            let job = std::future::pending::<()>();
            let mut hanging = Box::pin(readers.release_when_slow(turn().await, job));
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
