//! Errors, each with its path.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rayon::ThreadPoolBuildError;
use tidegate_http::Coding;

/// Why nothing could be done at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such directory, or it may not be read.
    #[error("cannot compress the files in {}", directory.display())]
    Root {
        /// As it was given.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no threads to give.
    #[error(
        "cannot start threads (use fewer jobs, or raise pids.max of the cgroup or RLIMIT_NPROC): {0}"
    )]
    Threads(ThreadPoolBuildError),
}

/// What went wrong with one file or directory.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}", path.display())]
pub struct FileError {
    /// The file, below the directory as it was given.
    pub path: PathBuf,
    /// What was tried.
    pub action: Action,
    /// What the system says.
    pub source: io::Error,
}

/// An operation on a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A directory is read, or a file's size and time are.
    Look,
    /// A variant is made.
    Make(Coding),
    /// A leftover of a killed run is removed.
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
