//! Hashes of contents, for files whose mtime makes no entity tag.
//!
//! An entity tag of an mtime that a tool has set would be the same for two contents of one length,
//! so it is made of a hash. The lookup hashes files of up to [`IN_LOOKUP_BYTES_MAX`]; threads hash
//! larger ones, which are sent without an entity tag until then. All cores share the hashes.
//!
//! Each device with files in the queue has a thread of its own, so that one that does not answer
//! delays no other.
//!
//! The hash is XXH3 of 128 bits. It does not resist deliberate collisions: an attacker who can
//! write the files needs none.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::SystemTime;

use quick_cache::unsync;
use rustix::fs::{AtFlags, statx};
use tidegate_uring::{Fd, catch_panic, unpin_and_renice};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::file::ops::FileOps;
use crate::file::stat::FIELDS;
use crate::file::stat::{Fingerprint, is_settled};

/// Hashes that are kept, in about 10 MiB.
const HASHES_MAX: usize = 65_536;

/// Files in the queues, each with a descriptor. One device has at most as many as it leaves to
/// others. Further files are queued when they are revalidated.
const QUEUED_MAX: usize = 64;

/// Threads, each for one device.
const THREADS_MAX: usize = 8;

const READ_BYTES: usize = 256 * 1024;

/// Bytes of the largest file that its lookup hashes, in less than 0.2 ms of CPU.
pub(crate) const IN_LOOKUP_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes that a lookup reads at a time. Other tasks run between two reads.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes hashed between two checks that the file is unchanged.
const CHECK_BYTES: u64 = 64 * 1024 * 1024;

/// Hashing gives way to serving.
const NICE: i32 = 10;

/// A hash of a content.
pub(crate) type Digest = [u8; 16];

struct Hashes {
    by_fingerprint: unsync::Cache<Fingerprint, Digest>,
    queued: HashSet<Fingerprint>,
    /// For each device with a thread.
    jobs: HashMap<Device, VecDeque<Job>>,
}

/// Major and minor.
type Device = (u32, u32);

struct Job {
    fingerprint: Fingerprint,
    file: OwnedFd,
}

/// The lack of a thread is logged once. Each file tries again.
static WARNED: Once = Once::new();

static HASHES: LazyLock<Mutex<Hashes>> = LazyLock::new(|| {
    Mutex::new(Hashes {
        by_fingerprint: unsync::Cache::new(HASHES_MAX),
        queued: HashSet::new(),
        jobs: HashMap::new(),
    })
});

/// The hash of a content in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> Digest {
    xxh3_128(bytes).to_be_bytes()
}

/// The hash of an open file of `len` bytes. Workers read it: even its extents may have to be read
/// from disk. `None`: it has another length.
///
/// Dropped: the read is cancelled.
pub(crate) async fn of_open_file(ops: &FileOps, file: &Fd, len: u64) -> io::Result<Option<Digest>> {
    let mut hasher = Xxh3::new();
    let mut buffer = Vec::with_capacity(PIECE_BYTES);
    let mut offset = 0;
    loop {
        buffer.clear();
        let (count, read) = ops.read(file, buffer, offset, true).await?;
        buffer = read;
        if count == 0 {
            return Ok((offset == len).then(|| hasher.digest128().to_be_bytes()));
        }
        hasher.update(&buffer);
        offset += buffer.len() as u64;
        if offset > len {
            return Ok(None);
        }
    }
}

/// A hash that was computed before.
pub(crate) fn get(fingerprint: &Fingerprint) -> Option<Digest> {
    hashes().by_fingerprint.get(fingerprint).copied()
}

/// Stores a hash. The fingerprint must stand for one content ([`is_settled`]).
pub(crate) fn insert(fingerprint: Fingerprint, hash: Digest) {
    hashes().by_fingerprint.insert(fingerprint, hash);
}

/// A hash that was computed before. If there is none, the file is queued.
pub(crate) fn get_or_enqueue(fingerprint: &Fingerprint, file: &Fd) -> Option<Digest> {
    let mut hashes = hashes();
    let hash = hashes.by_fingerprint.get(fingerprint).copied();
    if hash.is_none() {
        hashes.enqueue(fingerprint, file);
    }
    hash
}

/// Whether a file is queued. If not, it was hashed or has to be queued again.
pub(crate) fn is_queued(fingerprint: &Fingerprint) -> bool {
    hashes().queued.contains(fingerprint)
}

impl Hashes {
    fn enqueue(&mut self, fingerprint: &Fingerprint, file: &Fd) {
        let device = fingerprint.device();
        if self.queued.contains(fingerprint) || !self.has_room_for(device) {
            return;
        }
        // Out of descriptors: the next revalidation queues it.
        let Ok(file) = file.as_fd().try_clone_to_owned() else {
            return;
        };
        if !self.jobs.contains_key(&device) && !start(device) {
            return;
        }
        let fingerprint = *fingerprint;
        self.queued.insert(fingerprint);
        let jobs = self.jobs.entry(device).or_default();
        jobs.push_back(Job { fingerprint, file });
    }

    fn has_room_for(&self, device: Device) -> bool {
        let left = QUEUED_MAX - self.queued.len();
        match self.jobs.get(&device) {
            Some(jobs) => jobs.len() < left,
            None => self.jobs.len() < THREADS_MAX && left > 0,
        }
    }

    /// The next job of the thread of `device`; `None`: it ends.
    fn next(&mut self, device: Device) -> Option<Job> {
        let job = self.jobs.get_mut(&device)?.pop_front();
        if job.is_none() {
            self.jobs.remove(&device);
        }
        job
    }
}

/// A panic leaves the table consistent, so a poisoned lock is usable.
fn hashes() -> MutexGuard<'static, Hashes> {
    HASHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread of a device. It waits for the lock that the caller holds.
fn start(device: Device) -> bool {
    let thread = thread::Builder::new().name("tidegate-hash".to_owned());
    let started = thread.spawn(move || work(device));
    if let Err(error) = &started {
        WARNED.call_once(|| {
            tracing::warn!(%error, "no thread to hash files: some large ones get no ETag");
        });
    }
    started.is_ok()
}

fn work(device: Device) {
    unpin_and_renice(NICE);
    loop {
        // The lock is not held while the file is read.
        let Some(job) = hashes().next(device) else {
            return;
        };
        // A panic concerns this file alone: the thread goes on.
        let hash = catch_panic(|| hash(&job)).flatten();
        let mut hashes = hashes();
        hashes.queued.remove(&job.fingerprint);
        match hash {
            Ok(Some(hash)) => hashes.by_fingerprint.insert(job.fingerprint, hash),
            // It changed meanwhile; another lookup follows.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot hash a file"),
        }
    }
}

/// `None`: the file changed, or so lately that another version may have the same fingerprint.
fn hash(job: &Job) -> io::Result<Option<Digest>> {
    let began = SystemTime::now();
    let file = File::from(job.file.try_clone()?);
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, mut next_check) = (0, 0);
    loop {
        // A file that was deleted meanwhile keeps its space until the next check at most.
        if offset >= next_check {
            if !is_unchanged(job, began)? {
                return Ok(None);
            }
            next_check = offset + CHECK_BYTES;
        }
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    let unchanged = is_unchanged(job, began)?;
    Ok(unchanged.then(|| hasher.digest128().to_be_bytes()))
}

/// Whether the file has the fingerprint of the job, and had it before `began`.
fn is_unchanged(job: &Job, began: SystemTime) -> io::Result<bool> {
    let seen = statx(&job.file, c"", AtFlags::EMPTY_PATH, FIELDS)?;
    Ok(Fingerprint::of(&seen) == job.fingerprint && is_settled(&seen, began))
}
