//! How much memory this process may lock, found by trying.

use std::io;

use io_uring::IoUring;
use rustix::mm::Advice;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Error;
use crate::locked::queue_bytes;
use crate::mapping::Mapping;
use crate::setup::{explain_setup, setup};

/// Entries and completions of the smallest ring.
const SMALLEST: (u32, u32) = (1, 2);

/// Bytes of the memory that is registered repeatedly to try how much may be locked.
const TRIAL_BYTES: usize = 1 << 20;

/// A ring that tries how much memory may be locked. It is as small as a ring can be.
pub struct Trial {
    ring: IoUring,
    memory: Mapping,
}

impl Trial {
    /// Sets the ring up.
    pub fn new() -> Result<Self, Error> {
        let (entries, completions) = SMALLEST;
        let ring = setup(entries, completions)
            .map_err(|error| explain_setup(error, queue_bytes(entries, completions)))?;
        let memory = Mapping::new(TRIAL_BYTES).map_err(Error::Memory)?;
        // The kernel counts a huge page as a whole, and once. A kernel without huge pages rejects
        // the advice, which does not matter.
        let _ = memory.advise(Advice::LinuxNoHugepage);
        Ok(Self { ring, memory })
    }

    /// Whether the user of this process may lock `bytes` bytes, including those of this trial's
    /// ring. Nothing stays locked.
    ///
    /// An error has a cause other than memory.
    pub fn may_lock(&self, bytes: u64) -> Result<bool, Error> {
        let (entries, completions) = SMALLEST;
        let buffers = self.buffers(bytes.saturating_sub(queue_bytes(entries, completions)));
        match self.register(&buffers) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Ok(false),
            Err(error) => Err(Error::setup("io_uring_register(BUFFERS)")(error)),
        }
    }

    /// The same memory, as often as needed: each registration counts.
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
/// Lowers the soft limit of the process for a moment: no other thread may set up a ring meanwhile.
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
    // Restores the previous limit, which is always allowed.
    let _ = setrlimit(Resource::Memlock, before);
    ring.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_may_be_locked_where_rings_can_be_made() {
        let trial = Trial::new().unwrap();
        for bytes in [0, 4096, 8192, 16_384] {
            assert!(trial.may_lock(bytes).unwrap(), "{bytes}");
        }
    }
}
