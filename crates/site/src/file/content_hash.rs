//! Hashes of contents, for files whose time of modification makes no entity tag.
//!
//! A tag made of a time that a tool has set would be the same for two contents of one length, so it
//! is made of a hash of the content: of a file in memory at once, of a larger one as a part of the
//! look-up, and of one above [`AT_ONCE_MAX`] by a thread of the process; each once for all cores.
//! Until the thread is done the file is sent without a tag.
//!
//! Each device has a thread of its own while files of it wait: one that does not answer keeps nobody
//! else's from being hashed.
//!
//! The hash is XXH3 of 128 bits: it tells contents apart that nobody made to collide, and whoever
//! may write the files needs no collision to harm their readers.

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
use tidegate_uring::{Fd, catch_panic};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::background::unpin_and_renice;
use crate::file::ops::FileOps;
use crate::file::stat::FIELDS;
use crate::file::stat::{Fingerprint, is_settled};

/// Files whose hashes are kept: about 10 MiB when all are there.
const KNOWN_MAX: usize = 65_536;

/// Files that wait for a thread, each with a descriptor; of one device at most as many as are left to
/// others. More are asked for again when they are looked at again.
const WAITING_MAX: usize = 64;

/// Threads, each for one device.
const THREADS_MAX: usize = 8;

const READ_BYTES: usize = 256 * 1024;

/// Bytes of the largest file that is hashed as a part of its look-up: less than 0.2 ms of a core.
pub(crate) const AT_ONCE_MAX: u64 = 1024 * 1024;

/// Bytes read at a time for that; others run between two reads.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes hashed between two looks whether the file is still the one that was asked for.
const LOOK_BYTES: u64 = 64 * 1024 * 1024;

/// Hashing gives way to serving.
const NICE: i32 = 10;

/// A hash of a content.
pub(crate) type Digest = [u8; 16];

struct Tags {
    known: unsync::Cache<Fingerprint, Digest>,
    waiting: HashSet<Fingerprint>,
    /// Of the devices that have a thread now: what it has yet to do.
    jobs: HashMap<Device, VecDeque<Job>>,
}

/// Major and minor.
type Device = (u32, u32);

struct Job {
    identity: Fingerprint,
    file: OwnedFd,
}

/// That there is no thread is told once; each file that wants one tries again.
static WARNED: Once = Once::new();

static TAGS: LazyLock<Mutex<Tags>> = LazyLock::new(|| {
    Mutex::new(Tags {
        known: unsync::Cache::new(KNOWN_MAX),
        waiting: HashSet::new(),
        jobs: HashMap::new(),
    })
});

/// The hash of a content in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> Digest {
    xxh3_128(bytes).to_be_bytes()
}

/// The hash of an open file of `len` bytes, read by workers: where a large file is on the disk may have
/// to be read as well. `None` if it is not `len` bytes long.
///
/// Dropped: the read is cancelled.
pub(crate) async fn of_open(ops: &FileOps, file: &Fd, len: u64) -> io::Result<Option<Digest>> {
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

/// The hash of a file, if it is known.
pub(crate) fn known(identity: &Fingerprint) -> Option<Digest> {
    tags().known.get(identity).copied()
}

/// The hash of the content that the file of this identity has whenever it has it.
pub(crate) fn remember(identity: Fingerprint, hash: Digest) {
    tags().known.insert(identity, hash);
}

/// The hash of a file, if it is known. If not, it is on its way.
pub(crate) fn of_file(identity: &Fingerprint, file: &Fd) -> Option<Digest> {
    let mut tags = tags();
    let known = tags.known.get(identity).copied();
    if known.is_none() {
        tags.ask(identity, file);
    }
    known
}

/// Whether the hash of a file is on its way. If not, it is known, or has to be asked for again.
pub(crate) fn is_waiting(identity: &Fingerprint) -> bool {
    tags().waiting.contains(identity)
}

impl Tags {
    fn ask(&mut self, identity: &Fingerprint, file: &Fd) {
        let device = identity.device();
        if self.waiting.contains(identity) || !self.has_room_for(device) {
            return;
        }
        // Out of descriptors: it is asked for again.
        let Ok(file) = file.as_fd().try_clone_to_owned() else {
            return;
        };
        if !self.jobs.contains_key(&device) && !start(device) {
            return;
        }
        let identity = *identity;
        self.waiting.insert(identity);
        let jobs = self.jobs.entry(device).or_default();
        jobs.push_back(Job { identity, file });
    }

    fn has_room_for(&self, device: Device) -> bool {
        let left = WAITING_MAX - self.waiting.len();
        match self.jobs.get(&device) {
            Some(jobs) => jobs.len() < left,
            None => self.jobs.len() < THREADS_MAX && left > 0,
        }
    }

    /// What the thread of `device` does next; `None`: it ends.
    fn next(&mut self, device: Device) -> Option<Job> {
        let job = self.jobs.get_mut(&device)?.pop_front();
        if job.is_none() {
            self.jobs.remove(&device);
        }
        job
    }
}

/// Nothing is half done when a thread panics with the lock.
fn tags() -> MutexGuard<'static, Tags> {
    TAGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread of a device. It begins once the lock that its caller has is free.
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
        let Some(job) = tags().next(device) else {
            return;
        };
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

/// `None`: it is not the file any more that was asked for, or it changed so lately that it may be
/// another one under the same identity.
fn hash(job: &Job) -> io::Result<Option<Digest>> {
    let began = SystemTime::now();
    let file = File::from(job.file.try_clone()?);
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, mut next_look) = (0, 0);
    loop {
        // One that was deleted meanwhile keeps its space no longer than to the next look.
        if offset >= next_look {
            if !is_still(job, began)? {
                return Ok(None);
            }
            next_look = offset + LOOK_BYTES;
        }
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    let unchanged = is_still(job, began)?;
    Ok(unchanged.then(|| hasher.digest128().to_be_bytes()))
}

/// Whether the file is what was asked for, and was before `began`.
fn is_still(job: &Job, began: SystemTime) -> io::Result<bool> {
    let seen = statx(&job.file, c"", AtFlags::EMPTY_PATH, FIELDS)?;
    Ok(Fingerprint::of(&seen) == job.identity && is_settled(&seen, began))
}
