//! Gauges and counters of a ring.

use io_uring::{opcode, squeue};

/// Gauges and counters of a [`Ring`](crate::Ring).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Ops in flight: submitted, and not seen to be complete.
    pub in_flight: usize,
    /// Ops that found the submission queue full and wait for room in it.
    pub queued: usize,
    /// Ops for the kernel's workers so far.
    pub worker_ops: WorkerOps,
    /// Provided buffers that the kernel may fill now.
    pub buffers_free: usize,
    /// Filled buffers that were not given back.
    pub buffers_filled: usize,
    /// Buffers there can be.
    pub buffers_max: usize,
    /// How often a receive found no free buffer so far.
    pub buffers_exhausted: u64,
}

/// Ops that may wait for a disk, and that workers of the kernel (io-wq) therefore do. An open that
/// needs no disk is done without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerOps {
    /// openat2(2).
    pub open: u64,
    /// statx(2).
    pub stat: u64,
    /// pread(2) of a file.
    pub read: u64,
    /// splice(2).
    pub splice: u64,
    /// `posix_fadvise(2)`.
    pub advise: u64,
}

impl WorkerOps {
    /// Counts `entry` if it is one.
    pub(crate) fn count(&mut self, entry: &squeue::Entry) {
        // Opcodes fit a byte.
        let counter = match entry.get_opcode() as u8 {
            opcode::OpenAt2::CODE => &mut self.open,
            opcode::Statx::CODE => &mut self.stat,
            opcode::Read::CODE => &mut self.read,
            opcode::Splice::CODE => &mut self.splice,
            opcode::Fadvise::CODE => &mut self.advise,
            _ => return,
        };
        *counter += 1;
    }
}
