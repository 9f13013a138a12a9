//! What to make, and how.

use std::num::NonZeroUsize;
use std::thread;

use tidegate_http::Coding;

/// The most threads that work: more than any host has cores, and few enough to be started in a
/// moment.
pub const JOBS_MAX: usize = 1024;

/// How hard to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Small: brotli 11, zstd 19, gzip 9. For what is compressed once and sent often.
    #[default]
    Best,
    /// Soon: brotli 5, zstd 9, gzip 6. Some twenty times as fast.
    Fast,
}

/// What to make, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The variants to make.
    pub codings: Vec<Coding>,
    /// How hard to try.
    pub level: Level,
    /// Threads that work, [`JOBS_MAX`] at the most.
    pub jobs: NonZeroUsize,
    /// Files of fewer bytes get no variants: they fit into a packet or two as they are. A stale
    /// variant of such a file is made again nevertheless, since the server would send it.
    pub size_min: u64,
    /// Make fresh variants again, as with another level.
    pub force: bool,
    /// Compress and count, and change no file.
    pub dry_run: bool,
}

impl Default for Options {
    /// All codings as small as they get, on all cores.
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
