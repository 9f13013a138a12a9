//! Why there is nothing to send.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use tidegate_http::Status;

/// Why a path leads to no file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there, or nothing that is served: hidden, outside the root, no regular file.
    #[error("not found")]
    NotFound,
    /// It is there in codings alone that the client does not take.
    #[error("there only in content codings that the client does not take")]
    NotAcceptable,
    /// It is there, and the server may not read it.
    #[error("not readable by this server")]
    Forbidden,
    /// The process is out of file descriptors, memory or threads for now.
    #[error("out of resources: {0}")]
    Busy(io::Error),
    /// The file system did not answer in time, or so many wait for it that nobody else may.
    #[error("the file system does not answer")]
    Stalled,
    /// The disk or file system failed.
    #[error("{0}")]
    Failed(io::Error),
}

impl Error {
    /// The answer to the client.
    pub fn status(&self) -> Status {
        match self {
            Self::NotFound => Status::NOT_FOUND,
            Self::NotAcceptable => Status::NOT_ACCEPTABLE,
            Self::Forbidden => Status::FORBIDDEN,
            Self::Busy(_) | Self::Stalled => Status::SERVICE_UNAVAILABLE,
            Self::Failed(_) => Status::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        match self {
            Self::NotFound => Self::NotFound,
            Self::NotAcceptable => Self::NotAcceptable,
            Self::Forbidden => Self::Forbidden,
            Self::Busy(error) => Self::Busy(copy(error)),
            Self::Stalled => Self::Stalled,
            Self::Failed(error) => Self::Failed(copy(error)),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            // XDEV: the way leads out of the root; LOOP: a magic link, or links in a circle; NXIO:
            // a socket, or a fifo that nobody reads.
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::NXIO
                | Errno::NODEV
                | Errno::INVAL,
            ) => Self::NotFound,
            Some(Errno::ACCESS | Errno::PERM) => Self::Forbidden,
            // CANCELED: nobody cancels a look-up but who drops it; the kernel has no worker for it.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::CANCELED) => Self::Busy(error),
            _ => Self::Failed(error),
        }
    }
}

/// An error that says the same.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {}", path.display())]
pub struct RootError {
    /// The directory, as it was given.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}
