//! Why something is not published.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::tls::TlsError;

/// Why nothing is published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The directory cannot be read.
    #[error("cannot publish {}", path.display())]
    Directory {
        /// As it was given.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The directory has nothing to publish: with deletions the site would be gone.
    #[error("cannot publish {}: there is no file in it that is served", .0.display())]
    Empty(PathBuf),
    /// The authorities cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There are no threads for connections.
    #[error("cannot start the threads of connections")]
    Threads(#[source] io::Error),
    /// The store does not tell what it has.
    #[error("cannot list {place}")]
    List {
        /// The URL of the bucket, and the prefix.
        place: String,
        /// Why.
        source: RequestError,
    },
}

/// What was to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its file was read.
    Read,
    /// It was sent to the store.
    Upload,
    /// It was removed from the store.
    Delete,
}

/// Why one object, or one file, is not published.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {name}")]
pub struct ObjectError {
    /// What failed.
    pub action: Action,
    /// The key of the object, or the path of the file.
    pub name: String,
    /// Why.
    pub source: Cause,
}

/// The cause of an [`ObjectError`].
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The store, or the way to it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The path of the file is no key of S3 (Amazon S3 User Guide, "Naming objects").
    #[error("{0}")]
    Key(&'static str),
}

/// Why a request of a store has no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The store says so.
    #[error("status {}{}{}", status.as_u16(), behind(" ", code.as_deref()), behind(": ", *remedy))]
    Refused {
        /// Of the response.
        status: StatusCode,
        /// Of the error in its body, if there is one (Amazon S3 API Reference, "Error
        /// responses").
        code: Option<String>,
        /// What to do about it, where that is known.
        remedy: Option<&'static str>,
    },
    /// No connection, a broken one, or no credentials.
    #[error("{0}")]
    Failed(String),
    /// Nothing moved for so long.
    #[error("the connection made no progress for {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A success that does not say what it has to.
    #[error("its response {0}: is it an S3 store?")]
    Malformed(&'static str),
    /// The work is to end.
    #[error("stopped by a signal")]
    Stopped,
}

impl RequestError {
    /// Whether the same request may have another outcome a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                let code = code.as_deref().unwrap_or_default();
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || matches!(
                        code,
                        "RequestTimeout" | "OperationAborted" | "SlowDown" | "InternalError"
                    )
            }
            Self::Failed(_) | Self::TimedOut(_) => true,
            Self::Malformed(_) | Self::Stopped => false,
        }
    }
}

fn behind(separator: &str, text: Option<&str>) -> String {
    text.map(|text| format!("{separator}{text}"))
        .unwrap_or_default()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Upload => "upload",
            Self::Delete => "delete",
        })
    }
}
