//! The content of a request: nothing, bytes, or a range of a file, which may be sent twice.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use super::digest::{Sha256, read_exact};
use crate::s3::sign::Payload;

/// Bytes that are read from a file at once.
const CHUNK: u64 = 256 << 10;

/// How far a request came: any number that grows.
pub(super) type Progress = Arc<AtomicU64>;

/// A body as it is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The content of a request.
#[derive(Clone)]
pub(super) enum Content {
    Bytes(Bytes),
    /// A range of a file, and its SHA-256. If the file changes meanwhile, the store refuses it.
    File(Arc<File>, Range<u64>, Sha256),
}

impl Content {
    pub(super) fn none() -> Self {
        Self::Bytes(Bytes::new())
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, range, _) => range.end - range.start,
        }
    }

    /// What its signature says.
    pub(super) fn payload(&self) -> Payload {
        match self {
            Self::Bytes(bytes) => Payload::of(bytes),
            Self::File(_, _, sha256) => Payload::Sha256(*sha256),
        }
    }

    /// The bytes, each piece read from disk when there is room for it.
    pub(super) fn body(&self, progress: &Progress) -> Body {
        match self {
            Self::Bytes(bytes) => Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Self::File(_, range, _) if range.is_empty() => Full::default()
                .map_err(|never| match never {})
                .boxed_unsync(),
            Self::File(file, range, _) => {
                let start = (Arc::clone(file), range.clone(), Arc::clone(progress));
                let pieces = stream::try_unfold(start, |(file, range, progress)| async move {
                    if range.is_empty() {
                        return Ok(None);
                    }
                    let end = (range.start + CHUNK).min(range.end);
                    let bytes = piece(Arc::clone(&file), range.start..end).await?;
                    progress.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    let rest = (file, end..range.end, progress);
                    Ok(Some((Frame::data(bytes), rest)))
                });
                StreamBody::new(pieces).boxed_unsync()
            }
        }
    }
}

async fn piece(file: Arc<File>, range: Range<u64>) -> io::Result<Bytes> {
    blocking(move || {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_exact(&file, &mut bytes, range.start)?;
        Ok(Bytes::from(bytes))
    })
    .await
}

/// Runs what waits for the disk on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
