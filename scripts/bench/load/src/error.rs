//! What ends a run. Errors of single connections are counted instead.

use std::io;
use std::path::{Path, PathBuf};

use crate::response::ResponseError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: not a list of a tree", path.display())]
    List { path: PathBuf },
    #[error("response to {path}: neither ETag nor Last-Modified")]
    NoValidator { path: String },
    #[error("{}: not a CPU counter", path.display())]
    CpuCounter { path: PathBuf },
    #[error("response to {path}: {source}")]
    Response { path: String, source: ResponseError },
    #[error("response to {path}: {reason}")]
    Body { path: String, reason: String },
    #[error("{count} failed connections, the last one: {last}")]
    TooManyFailures { count: u64, last: String },
}

impl Error {
    /// For `map_err` on an operation that has no file.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }

    /// For `map_err` on an operation on `path`.
    pub(crate) fn file<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path,
            source: source.into(),
        }
    }
}
