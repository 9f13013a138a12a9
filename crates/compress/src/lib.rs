//! Precompressed variants of static files, made ahead of time.
//!
//! Beside each file of a tree that is worth it, [`compress`] writes `name.br`, `name.zst` and `name.gz`.
//! The server sends them in place of the file to clients that accept the coding, so that no request waits
//! for a compressor.
//!
//! 1. The tree is walked, and each file is held against its variants (`plan`). What is not to be
//!    compressed is counted by its reason ([`Skipped`]).
//! 2. What remains is sorted, the costliest first, and compressed by all threads (`variant`, `encode`).
//!    Every file is streamed, so memory does not depend on its size: a thread takes about 100 MiB at most.
//!
//! A variant is written under a name that is hidden (`draft`), gets the time, mode and owner of its
//! original, and only then its own name. So nobody ever sees a part of one, and a variant is fresh exactly
//! as long as its original is not touched: both have the same time. Where that tells nothing, since the
//! variant is newer or the time is in whole seconds, as tools set it, their contents are compared
//! (`compare`).
//!
//! The server asks for less, a variant that is not older: it cannot compare contents for each request. So
//! where an original is put back to an older one, its variants have to be made again.

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

/// Makes the variants of the files in `directory`, and of those in the directories below it.
///
/// Blocks until all is done, or until the observer stops it; what was not finished then has left nothing
/// behind. What goes wrong with one file is told to the observer and counted in [`Summary::failed`].
///
/// # Errors
///
/// When there is no directory to read or no thread to work with.
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
