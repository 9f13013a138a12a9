//! Precompressed variants of static files, made ahead of time.
//!
//! [`compress`] writes `name.br`, `name.zst` and `name.gz` beside each file of a tree that becomes
//! smaller. The server sends them in place of the file to clients that accept the coding, so no
//! request waits for a compressor.
//!
//! 1. The tree is walked, and each file is compared with its variants (`plan`). Files that are not
//!    compressed are counted by reason ([`Skipped`]).
//! 2. The jobs are sorted, the costliest first, and run on all threads (`variant`, `encode`). Files
//!    are streamed, so memory does not depend on their size: a thread takes about 100 MiB at most.
//!
//! A variant is written under a hidden name (`draft`), gets the time, mode and owner of its
//! original, and then its own name. So no reader sees a partial variant, and a variant is fresh
//! exactly while its original is unchanged: both have the same time. Where the times do not decide,
//! because the variant is newer or the time is in whole seconds, as tools set it, the contents are
//! compared (`compare`).
//!
//! The server only checks that a variant is not older, since it cannot compare contents for each
//! request. So after an original is replaced by an older version, its variants must be made again.

mod compare;
mod draft;
mod encode;
mod error;
mod job;
mod kinds;
mod observer;
mod options;
mod original_reader;
mod plan;
mod root;
mod run;
mod summary;
mod variant;
mod walk;

use std::path::Path;

use rayon::ThreadPoolBuilder;

pub use error::{Action, Error, FileError};
pub use observer::Observer;
pub use options::{JOBS_MAX, Level, Options};
pub use summary::{Skipped, Summary, Tally};
pub use tidegate_http::Coding;

use crate::root::Root;
use crate::run::Run;

/// Makes the variants of all files in and below `directory`.
///
/// Blocks until all is done, or until the observer stops it; unfinished work then leaves nothing
/// behind. An error of one file is reported to the observer and counted in [`Summary::failed`].
///
/// # Errors
///
/// If the directory cannot be read, or no thread can be started.
pub fn compress(
    directory: &Path,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    let root = Root::open(directory)?;
    let pool = ThreadPoolBuilder::new().num_threads(options.jobs.get().min(JOBS_MAX));
    let pool = pool.build().map_err(Error::Threads)?;
    let run = Run::new(&root, options, observer);
    Ok(pool.install(|| run.summary()))
}
