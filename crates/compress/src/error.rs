//! Errors with the paths they are about.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rayon::ThreadPoolBuildError;
use tidegate_http::Coding;

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such directory, or it may not be read.
    #[error("cannot compress the files in {}", directory.display())]
    Root {
        /// The path as given by the caller.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system cannot start threads.
    #[error(
        "cannot start threads (use fewer jobs, or raise pids.max of the cgroup or RLIMIT_NPROC): {0}"
    )]
    Threads(ThreadPoolBuildError),
}

/// The failure of one file or directory.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}", path.display())]
pub struct FileError {
    /// The path, below the directory as given by the caller.
    pub path: PathBuf,
    /// The operation that failed.
    pub action: Action,
    /// The cause.
    pub source: io::Error,
}

/// An operation on a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reading a directory, or the size and time of a file.
    Look,
    /// Making a variant.
    Make(Coding),
    /// Removing the draft of a killed run.
    Clean,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look => f.write_str("look at it"),
            Self::Make(coding) => write!(f, "make its .{} variant", coding.extension()),
            Self::Clean => f.write_str("remove what is left of a run that was killed"),
        }
    }
}
