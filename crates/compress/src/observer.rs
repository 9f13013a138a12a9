//! How a run reports its progress.

use std::io;
use std::path::Path;

use crate::error::FileError;

/// Receives progress, and may end the run. Called from all threads.
pub trait Observer: Sync {
    /// The tree is walked: `work` lies ahead, in a unit proportional to time.
    fn planned(&self, work: u64);
    /// This much more of the work is done.
    fn advanced(&self, work: u64);
    /// The variant `path` with this coding is in place; in a dry run, it would be.
    fn written(&self, path: &Path, before_bytes: u64, after_bytes: u64);
    /// A file or directory failed; the run goes on with the others.
    fn failed(&self, error: &FileError);
    /// Whether to end early. Called often; must stay true once it is.
    fn is_stopping(&self) -> bool;
}

/// An error once the observer has ended the run.
pub(crate) fn check_stopped(observer: &dyn Observer) -> io::Result<()> {
    if observer.is_stopping() {
        return Err(io::Error::other("stopped"));
    }
    Ok(())
}
