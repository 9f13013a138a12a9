//! The sizes and limits of a ring.

use crate::features::Features;

/// How a [`Ring`](crate::Ring) is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Entries of the submission queue: a power of two of at most 32,768. More ops may be queued;
    /// they are submitted in several turns.
    pub entries: u32,
    /// Entries of the completion queue: a power of two, at least `entries` and at most 65,536.
    /// More completions than that may wait; the kernel keeps them.
    pub completions: u32,
    /// The most provided buffers for recv: a power of two, at most 32,768.
    pub recv_buffers: u16,
    /// Bytes of each of them.
    pub recv_buffer_bytes: usize,
    /// The most worker threads (io-wq) for ops on files and paths that block, such as openat2,
    /// statx, fadvise and read; 0 keeps the kernel's own bound. Workers belong to the thread: the
    /// bound also holds for the executor's other rings, and the ring that started last sets it.
    pub workers: u32,
    /// The same for ops on pipes and sockets, such as splice from a file.
    pub splice_workers: u32,
    /// The processors those workers may run on; empty: those of the executor's thread.
    pub worker_cpus: Vec<usize>,
    /// The kernel features to use; `None`: all that [`probe()`](crate::probe()) finds.
    pub features: Option<Features>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: 1024,
            completions: 16 * 1024,
            recv_buffers: 1024,
            recv_buffer_bytes: 4096,
            workers: 16,
            splice_workers: 16,
            worker_cpus: Vec::new(),
            features: None,
        }
    }
}
