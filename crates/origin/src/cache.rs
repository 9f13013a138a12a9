//! The cache of a process: its disk, its threads, and the tables that all cores share.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Table;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::buffers::Buffers;
use crate::error::Error;
use crate::fill::Fill;
use crate::memory::Memory;
use crate::object::{Answered, Known};
use crate::purge::{Manner, Purged, Purges};
use crate::record::millis;
use crate::store::{Store, StoreConfig, StoreError};

/// Threads that speak with origins. They are not those of the cores.
const THREADS: usize = 2;

/// Threads that wait for the cache's disk, at most.
const DISK_THREADS: usize = 16;

/// How long a thread for the disk is kept: without any, and no memory for a new one, tokio panics.
const DISK_THREADS_KEPT: Duration = Duration::from_hours(365 * 24);

/// The unit of the times of purges.
const CLOCK_TICK: Duration = Duration::from_millis(1);

/// Memory for what is known of objects, and the bytes of a typical one.
const RECORDS_BYTES: u64 = 64 * 1024 * 1024;
const RECORD_TYPICAL: u64 = 1024;

/// Where the cache is, and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The directory, which is made if it is not there. No other server may use it.
    pub path: PathBuf,
    /// Bytes of disk.
    pub size: u64,
    /// Bytes of a slice.
    pub slice: u64,
    /// Whether the process before this one, which is about to end, may use it yet.
    pub succeeds: bool,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list of purges cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Purges {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start the threads for origins: {0}")]
    Threads(io::Error),
}

/// What a flight came to.
pub(crate) type Flown = Result<Answered, Error>;
type Flight = Shared<BoxFuture<'static, Flown>>;

/// The cache of a process. Its futures may be awaited on any executor.
pub struct Cache {
    pub(crate) slice: u64,
    pub(crate) store: Arc<Store>,
    pub(crate) purges: Purges,
    pub(crate) known: Table<u128, Known, Bytes>,
    pub(crate) buffers: Buffers,
    /// For what is on its way.
    pub(crate) memory: Arc<Memory>,
    flights: Mutex<HashMap<u128, Flight>>,
    fills: Mutex<HashMap<u128, Arc<Fill>>>,
    counters: Counters,
    runtime: Handle,
    /// Ends its threads when the cache is dropped.
    _threads: Threads,
}

struct Threads(Option<Runtime>);

/// Starts them, with one for the disk.
fn start_threads() -> io::Result<Runtime> {
    // tokio panics where none can be started.
    let trial = thread::Builder::new().spawn(|| {})?;
    // It does nothing that could panic.
    let _ = trial.join();
    let threads = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(DISK_THREADS)
        .thread_keep_alive(DISK_THREADS_KEPT)
        .thread_name("origin")
        .enable_all()
        .build()?;
    threads.spawn_blocking(|| {});
    Ok(threads)
}

impl Drop for Threads {
    /// Does not wait: a thread may hang in a call to a dead disk.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes that were written into the cache.
    pub filled_bytes: AtomicU64,
    /// Fills that were begun, and that ended early.
    pub fills: AtomicU64,
    /// See `fills`.
    pub fill_failures: AtomicU64,
    /// Slices that were sent without being stored.
    pub passed: AtomicU64,
    /// Revalidations that found the object unchanged.
    pub revalidated: AtomicU64,
    /// Requests that waited for another one's answer.
    pub collapsed: AtomicU64,
    /// Purges that leave objects stale.
    pub soft_purges: AtomicU64,
    /// Purges after which objects are gone.
    pub hard_purges: AtomicU64,
}

/// Weighs what is known of an object.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Weighter<u128, Known> for Bytes {
    fn weight(&self, _: &u128, known: &Known) -> u64 {
        known.memory()
    }
}

impl Cache {
    /// Opens the cache, and starts its threads. Blocking.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open(config: &CacheConfig) -> Result<Arc<Self>, OpenError> {
        let store = Store::open(StoreConfig {
            path: config.path.clone(),
            size: config.size,
            succeeds: config.succeeds,
        })?;
        let path = config.path.join("purges");
        let purges = Purges::open(path.clone());
        let purges = purges.map_err(|source| OpenError::Purges { path, source })?;
        let threads = start_threads().map_err(OpenError::Threads)?;
        let typical = (RECORDS_BYTES / RECORD_TYPICAL) as usize;
        Ok(Arc::new(Self {
            slice: config.slice,
            store: Arc::new(store),
            purges,
            known: Table::with_weighter(typical, RECORDS_BYTES, Bytes),
            buffers: Buffers::default(),
            memory: Arc::default(),
            flights: Mutex::default(),
            fills: Mutex::default(),
            counters: Counters::default(),
            runtime: threads.handle().clone(),
            _threads: Threads(Some(threads)),
        }))
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The disk.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Fills that are under way.
    pub fn fills_under_way(&self) -> usize {
        let fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        fills.len()
    }

    /// Bounds the memory for what is known of objects and for what is on its way to `bytes`, half of
    /// it for each.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.set_max(bytes / 2);
        self.known.set_capacity(RECORDS_BYTES.min(bytes / 2));
    }

    /// Whether the process has hardly any memory left. While it has not, what comes is passed on
    /// without being stored.
    pub fn set_short_of_memory(&self, is_short: bool) {
        self.memory.set_short(is_short);
    }

    /// Bytes of memory for what is on its way.
    pub fn memory(&self) -> u64 {
        self.memory.taken()
    }

    /// Bytes of memory for what is known of objects.
    pub fn records_memory(&self) -> u64 {
        self.known.weight()
    }

    /// Where futures of the threads for origins run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Changes with every purge: what was found before may be purged.
    pub fn generation(&self) -> u64 {
        self.purges.generation()
    }

    /// Purges objects as of now. Blocking.
    ///
    /// # Errors
    ///
    /// The purge holds, but cannot be remembered across a restart.
    pub fn purge(&self, what: Purged, manner: Manner) -> io::Result<()> {
        let count = match manner {
            Manner::Soft => &self.counters.soft_purges,
            Manner::Hard => &self.counters.hard_purges,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let purged = self.purges.purge(what, manner, millis(SystemTime::now()));
        // What is asked for in the same millisecond is purged, too: whoever waits for the purge
        // asks later.
        thread::sleep(CLOCK_TICK);
        purged
    }

    /// Runs `work` on a thread that may wait for the disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Option<T> {
        self.begin_blocking(work).await.ok()
    }

    /// The same, which begins at once and ends if nobody waits for it.
    pub(crate) fn begin_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let store = Arc::clone(&self.store);
        self.runtime.spawn_blocking(move || work(&store))
    }

    /// The flight for an object, and whether it was under way already. It goes on without those
    /// that wait for it.
    pub(crate) fn flight(
        self: &Arc<Self>,
        hash: u128,
        work: impl FnOnce() -> BoxFuture<'static, Flown>,
    ) -> (Flight, bool) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&hash) {
            return (flight.clone(), true);
        }
        let (cache, work) = (Arc::downgrade(self), work());
        let task = self.runtime.spawn(async move {
            let flown = work.await;
            if let Some(cache) = cache.upgrade() {
                let mut flights = cache.flights.lock().unwrap_or_else(PoisonError::into_inner);
                flights.remove(&hash);
            }
            flown
        });
        let flight = task
            .map(|joined| joined.unwrap_or(Err(Error::Changed)))
            .boxed()
            .shared();
        flights.insert(hash, flight.clone());
        (flight, false)
    }

    /// The fill of a slice that is under way.
    pub(crate) fn filling(&self, name: u128) -> Option<Arc<Fill>> {
        let fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        fills.get(&name).cloned()
    }

    /// The fill of a slice. [`Begun::Mine`]: the caller has to fill it, and to call
    /// [`Cache::end_fill`].
    pub(crate) fn begin_fill(&self, name: u128) -> Begun {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fill) = fills.get(&name) {
            return Begun::Others(Arc::clone(fill));
        }
        // A fill is published before it leaves the table.
        if self.store.contains(name) {
            return Begun::Stored;
        }
        let fill = Fill::new();
        fills.insert(name, Arc::clone(&fill));
        Begun::Mine(fill)
    }

    /// The slice is published, or never will be.
    pub(crate) fn end_fill(&self, name: u128) {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        fills.remove(&name);
    }
}

/// What [`Cache::begin_fill`] finds.
pub(crate) enum Begun {
    Mine(Arc<Fill>),
    Others(Arc<Fill>),
    Stored,
}
