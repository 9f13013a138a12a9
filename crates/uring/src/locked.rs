//! Memory that io_uring locks, bounded by `RLIMIT_MEMLOCK`.
//!
//! The kernel counts it for each user, over all processes of that user (`user_struct::locked_vm`),
//! and exempts `CAP_IPC_LOCK`. Registered buffers count on every kernel, the queues of rings since
//! Linux 6.14.

use std::fs;
use std::io;

use io_uring::IoUring;
use rustix::mm::Advice;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::buffers::Mapping;
use crate::error::Error;
use crate::probe::explain_setup;
use crate::ring::{Config, setup};

/// The unit in which memory is locked, in bytes.
const PAGE: usize = 4096;

/// Bytes of the kernel's `struct io_rings` before the completions, or a few more.
const RINGS_HEAD: usize = 320;

/// Bytes of the memory that is registered over and over to try how much may be locked.
const TRIAL_BYTES: usize = 1 << 20;

/// Entries and completions of the smallest ring.
const SMALLEST: (u32, u32) = (1, 2);

/// The whole range of user ids, mapped on itself: as it is outside of any user namespace.
const INITIAL_UID_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// Bytes that the queues of a ring lock where the kernel counts them.
pub fn queue_bytes(entries: u32, completions: u32) -> u64 {
    let (entries, completions) = (entries as usize, completions as usize);
    // A submission takes 64 bytes, and 4 of an index that lies beside the completions.
    pages(64 * entries) + pages(RINGS_HEAD + 16 * completions + 4 * entries)
}

fn pages(bytes: usize) -> u64 {
    bytes.next_multiple_of(PAGE) as u64
}

impl Config {
    /// Bytes that a ring of this configuration locks where the kernel counts its queues.
    pub fn locked_bytes(&self) -> u64 {
        let buffers = 16 * usize::from(self.recv_buffers);
        queue_bytes(self.entries, self.completions) + pages(buffers)
    }
}

/// A ring by which it is tried how much may be locked. It takes as little as a ring can.
pub struct Trial {
    ring: IoUring,
    memory: Mapping,
}

impl Trial {
    /// Sets the ring up.
    pub fn new() -> Result<Self, Error> {
        let (entries, completions) = SMALLEST;
        let ring = setup(entries, completions).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM) => explain_enomem(error, queue_bytes(entries, completions)),
            _ => explain_setup(error),
        })?;
        let memory = Mapping::new(TRIAL_BYTES).map_err(Error::Memory)?;
        // The kernel counts a huge page as a whole, and once. One without huge pages knows no such
        // advice.
        let _ = memory.advise(Advice::LinuxNoHugepage);
        Ok(Self { ring, memory })
    }

    /// Whether the user of this process may lock so many bytes, those of this trial's ring included.
    /// Nothing stays locked.
    ///
    /// An error is one that has nothing to do with memory.
    pub fn may_lock(&self, bytes: u64) -> Result<bool, Error> {
        let (entries, completions) = SMALLEST;
        let buffers = self.buffers(bytes.saturating_sub(queue_bytes(entries, completions)));
        match self.register(&buffers) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Ok(false),
            Err(error) => Err(Error::setup("io_uring_register(BUFFERS)")(error)),
        }
    }

    /// The same memory as often as it takes: each time counts.
    fn buffers(&self, bytes: u64) -> Vec<libc::iovec> {
        let buffer = |len| libc::iovec {
            iov_base: self.memory.address().cast(),
            iov_len: len,
        };
        let rest = (bytes % TRIAL_BYTES as u64) as usize;
        (0..bytes / TRIAL_BYTES as u64)
            .map(|_| buffer(TRIAL_BYTES))
            .chain((rest > 0).then(|| buffer(rest)))
            .collect()
    }

    fn register(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        if buffers.is_empty() {
            return Ok(());
        }
        // SAFETY: no op uses the buffers, and they are unregistered before their memory goes.
        unsafe { self.ring.submitter().register_buffers(buffers) }?;
        self.ring.submitter().unregister_buffers()
    }
}

/// Whether the queues of rings count against this process's `RLIMIT_MEMLOCK`: the kernel is new
/// enough, and the process not exempt.
///
/// Lowers the soft limit of the process for a moment, so no other thread may set up a ring meanwhile.
pub fn queues_count() -> bool {
    let before = getrlimit(Resource::Memlock);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    if setrlimit(Resource::Memlock, none).is_err() {
        return true;
    }
    let (entries, completions) = SMALLEST;
    let ring = setup(entries, completions);
    // To what it was a moment ago, which nobody is refused.
    let _ = setrlimit(Resource::Memlock, before);
    ring.is_err()
}

/// The cause of an ENOMEM, where `needed` bytes were to be locked.
pub(crate) fn explain_enomem(error: io::Error, needed: u64) -> Error {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if !is_exempt() => Error::LockedMemory { limit, needed },
        _ => Error::Memory(error),
    }
}

/// Whether the limit does not hold for this process. A capability of a user namespace is none here.
fn is_exempt() -> bool {
    let capable = capabilities(None).is_ok_and(|sets| {
        let effective = sets.effective;
        effective.contains(CapabilitySet::IPC_LOCK)
    });
    capable && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_initial(&map))
}

fn is_initial(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(INITIAL_UID_MAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_of_a_ring_are_counted_in_pages() {
        let table = [
            (1, 2, 8192),
            (128, 256, 8192 + 8192),
            (1024, 16_384, 65_536 + 270_336),
        ];
        for (entries, completions, bytes) in table {
            assert_eq!(queue_bytes(entries, completions), bytes, "{entries}");
        }
    }

    #[test]
    fn a_user_namespace_is_told_by_its_map() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
        assert!(!is_initial(""));
    }

    #[test]
    fn little_memory_may_be_locked_where_rings_can_be_made() {
        let trial = Trial::new().unwrap();
        for bytes in [0, 4096, 8192, 16_384] {
            assert!(trial.may_lock(bytes).unwrap(), "{bytes}");
        }
    }
}
