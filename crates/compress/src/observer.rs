//! How a run reports its progress.

use std::io;
use std::path::Path;

use crate::error::FileError;

/// Receives progress, and may end the run. Called from all threads.
pub trait Observer: Sync {
    /// The tree is walked: `work` lies ahead, in a unit proportional to time.
    fn planned(&self, work: u64);
    /// So much more of the work is done.
    fn advanced(&self, work: u64);
    /// The variant `path` with this coding is in place, or would be but for a dry run.
    fn written(&self, path: &Path, before_bytes: u64, after_bytes: u64);
    /// A file or directory failed; the run goes on with the others.
    fn failed(&self, error: &FileError);
    /// Whether to end early. Asked often; once true it has to stay so.
    fn is_stopping(&self) -> bool;
}

/// Fails once the observer ends the run.
pub(crate) fn check_stopped(observer: &dyn Observer) -> io::Result<()> {
    if observer.is_stopping() {
        return Err(io::Error::other("stopped"));
    }
    Ok(())
}
