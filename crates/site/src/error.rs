//! Errors of lookups and of roots.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use tidegate_http::Status;
use tidegate_origin::Error as OriginError;

/// Why no file is sent for a path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no file, or none that is served: hidden, outside the root, not regular.
    #[error("not found")]
    NotFound,
    /// It exists only in codings that the client does not accept.
    #[error("there only in content codings that the client does not take")]
    NotAcceptable,
    /// The server has no permission to read it.
    #[error("not readable by this server")]
    Forbidden,
    /// The process is out of file descriptors, memory or threads.
    #[error("out of resources: {0}")]
    Busy(io::Error),
    /// The file system did not answer in time, or too many lookups wait for it.
    #[error("the file system does not answer")]
    Stalled,
    /// The disk or file system failed.
    #[error("{0}")]
    Failed(io::Error),
    /// The origin has no answer.
    #[error("{0}")]
    Origin(#[from] tidegate_origin::Error),
}

impl Error {
    /// The status of the response.
    pub fn status(&self) -> Status {
        match self {
            Self::NotFound => Status::NOT_FOUND,
            Self::NotAcceptable => Status::NOT_ACCEPTABLE,
            Self::Forbidden => Status::FORBIDDEN,
            Self::Busy(_) | Self::Stalled => Status::SERVICE_UNAVAILABLE,
            Self::Failed(_) => Status::INTERNAL_SERVER_ERROR,
            Self::Origin(error) => match error {
                OriginError::NotFound => Status::NOT_FOUND,
                OriginError::Forbidden => Status::FORBIDDEN,
                OriginError::Busy { .. } => Status::SERVICE_UNAVAILABLE,
                OriginError::Failed { .. } | OriginError::Changed => Status::BAD_GATEWAY,
                OriginError::TimedOut { .. } => Status::GATEWAY_TIMEOUT,
            },
        }
    }

    /// The seconds after which an origin wants to be asked again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Origin(error) => error.retry_after(),
            _ => None,
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
            Self::Origin(error) => Self::Origin(error.clone()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            // XDEV: a link leads out of the root. LOOP: a magic link, or links in a circle. NXIO: a
            // socket, or a fifo without a reader.
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
            // CANCELED: the kernel has no worker. A lookup that is dropped sees no error.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::CANCELED) => Self::Busy(error),
            _ => Self::Failed(error),
        }
    }
}

/// The same error. [`io::Error`] is not [`Clone`].
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
    /// The error of the system.
    pub source: io::Error,
}
