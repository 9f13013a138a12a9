//! Memory that io_uring locks, bounded by `RLIMIT_MEMLOCK`.
//!
//! The kernel counts it per user, over all processes of that user (`user_struct::locked_vm`), and
//! exempts `CAP_IPC_LOCK`. Registered buffers count on every kernel, the queues of rings since
//! Linux 6.14.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::config::Config;
use crate::error::Error;

/// The unit in which memory is locked, in bytes.
const PAGE: usize = 4096;

/// Bytes of the kernel's `struct io_rings` before the completions, rounded up a little.
const RINGS_HEAD: usize = 320;

/// The `uid_map` outside of any user namespace: the whole range of user ids, mapped on itself.
const INITIAL_UID_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// Bytes that the queues of a ring lock, on kernels that count them.
pub(crate) fn queue_bytes(entries: u32, completions: u32) -> u64 {
    let (entries, completions) = (entries as usize, completions as usize);
    // A submission takes 64 bytes, and 4 for an index next to the completions.
    pages(64 * entries) + pages(RINGS_HEAD + 16 * completions + 4 * entries)
}

fn pages(bytes: usize) -> u64 {
    bytes.next_multiple_of(PAGE) as u64
}

impl Config {
    /// Bytes that a ring of this configuration locks, on kernels that count its queues.
    pub fn locked_bytes(&self) -> u64 {
        let buffers = 16 * usize::from(self.recv_buffers);
        queue_bytes(self.entries, self.completions) + pages(buffers)
    }
}

/// The cause of an ENOMEM, where `needed` bytes were to be locked.
pub(crate) fn explain_enomem(error: io::Error, needed: u64) -> Error {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if !is_exempt() => Error::LockedMemory { limit, needed },
        _ => Error::Memory(error),
    }
}

/// Whether this process is exempt from the limit. A capability within a user namespace does not
/// exempt.
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
    fn a_user_namespace_is_recognised_by_its_map() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
        assert!(!is_initial(""));
    }
}
