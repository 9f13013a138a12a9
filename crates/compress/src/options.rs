//! The options of a run.

use std::num::NonZeroUsize;
use std::thread;

use tidegate_http::Coding;

/// The most threads: more than hosts have cores, and few enough to start quickly.
pub const JOBS_MAX: usize = 1024;

/// The compression level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Small: brotli 11, zstd 19, gzip 9. For files that are compressed once and sent often.
    #[default]
    Best,
    /// Fast: brotli 5, zstd 9, gzip 6. About twenty times as fast as `Best`.
    Fast,
}

/// The options of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The variants to make.
    pub codings: Vec<Coding>,
    /// The compression level.
    pub level: Level,
    /// The number of threads, at most [`JOBS_MAX`].
    pub jobs: NonZeroUsize,
    /// Files of fewer bytes get no variants: they fit into a packet or two as they are. A stale
    /// variant of such a file is made again nevertheless, since the server would send it.
    pub size_min: u64,
    /// Make fresh variants again, for example with another level.
    pub force: bool,
    /// Compress and count, and change no file.
    pub dry_run: bool,
}

impl Default for Options {
    /// All codings at the best level, on all cores.
    fn default() -> Self {
        Self {
            codings: Coding::ALL.to_vec(),
            level: Level::default(),
            jobs: available_jobs(),
            size_min: 256,
            force: false,
            dry_run: false,
        }
    }
}

fn available_jobs() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(JOBS_MAX).map_or(cores, |most| cores.min(most))
}
