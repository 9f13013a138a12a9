//! Hashes of contents, for files whose modification time tells nothing.
//!
//! Reproducible builds set all times to 0 or 1 s after 1970. A tag made of such a time would be the
//! same for two contents of one length, so it is made of a hash of the content: of a file in
//! memory at once, of a larger one by a thread of the process, once for all cores. Until that is
//! done the file is sent without a tag.
//!
//! The hash is XXH3 of 128 bits: it tells contents apart that nobody made to collide, and whoever
//! may write the files needs no collision to harm their readers.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use quick_cache::unsync;
use rustix::fs::{AtFlags, statx};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use tidegate_uring::{Fd, catch_panic};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::file::Identity;
use crate::root::FIELDS;

/// Files whose hashes are kept: about 10 MiB when all are there.
const KNOWN_MAX: usize = 65_536;

/// Files that wait for the thread, each with a descriptor. More are asked for again when they are
/// looked at again.
const WAITING_MAX: usize = 64;

const READ_BYTES: usize = 256 * 1024;

/// Hashing gives way to serving.
const NICE: i32 = 10;

type Hash = [u8; 16];

struct Tags {
    known: unsync::Cache<Identity, Hash>,
    waiting: HashSet<Identity>,
    /// `None`: there is no thread.
    jobs: Option<SyncSender<Job>>,
}

struct Job {
    identity: Identity,
    file: OwnedFd,
}

/// That there is no thread is told once; each file that wants one tries again.
static WARNED: Once = Once::new();

static TAGS: LazyLock<Mutex<Tags>> = LazyLock::new(|| {
    Mutex::new(Tags {
        known: unsync::Cache::new(KNOWN_MAX),
        waiting: HashSet::new(),
        jobs: start(),
    })
});

/// The hash of a content in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> Hash {
    xxh3_128(bytes).to_be_bytes()
}

/// The hash of a file, if it is known. If not, it is on its way.
pub(crate) fn of_file(identity: &Identity, file: &Fd) -> Option<Hash> {
    let mut tags = tags();
    let known = tags.known.get(identity).copied();
    if known.is_none() {
        tags.ask(identity, file);
    }
    known
}

/// Whether the hash of a file is on its way. If not, it is known, or has to be asked for again.
pub(crate) fn is_waiting(identity: &Identity) -> bool {
    tags().waiting.contains(identity)
}

impl Tags {
    fn ask(&mut self, identity: &Identity, file: &Fd) {
        // Not to be had at the start, it may be now.
        let Some(jobs) = self.jobs.take().or_else(start) else {
            return;
        };
        let jobs = self.jobs.insert(jobs);
        if self.waiting.len() >= WAITING_MAX || self.waiting.contains(identity) {
            return;
        }
        // Out of descriptors: it is asked for again.
        let Ok(file) = file.as_fd().try_clone_to_owned() else {
            return;
        };
        let identity = *identity;
        match jobs.try_send(Job { identity, file }) {
            Ok(()) => {
                self.waiting.insert(identity);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Nothing is half done when a thread panics with the lock.
fn tags() -> MutexGuard<'static, Tags> {
    TAGS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Option<SyncSender<Job>> {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let thread = thread::Builder::new().name("tidegate-hash".to_owned());
    match thread.spawn(move || work(&receiver)) {
        Ok(_) => Some(sender),
        Err(error) => {
            WARNED.call_once(|| {
                tracing::warn!(%error, "no thread to hash files: those without a modification time get no ETag");
            });
            None
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    step_aside();
    while let Ok(job) = jobs.recv() {
        // A panic is of this file alone: the thread goes on.
        let hash = catch_panic(|| hash(&job)).flatten();
        let mut tags = tags();
        tags.waiting.remove(&job.identity);
        match hash {
            Ok(Some(hash)) => tags.known.insert(job.identity, hash),
            // It changed meanwhile: it is another file now, and looked at as one.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot hash a file"),
        }
    }
}

/// Leaves the core of the thread that started this one. What the host refuses is done without.
fn step_aside() {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    let _ = sched_setaffinity(None, &all);
    let _ = setpriority_process(Some(gettid()), NICE);
}

/// `None`: it is not the file any more that was asked for.
fn hash(job: &Job) -> io::Result<Option<Hash>> {
    let file = File::from(job.file.try_clone()?);
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    loop {
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    let seen = statx(&job.file, c"", AtFlags::EMPTY_PATH, FIELDS)?;
    let unchanged = Identity::of(&seen) == job.identity;
    Ok(unchanged.then(|| hasher.digest128().to_be_bytes()))
}
