//! A slice that is on its way into the cache, and can be read while it grows.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::error::Error;

/// How far a fill is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// So many bytes from the start of the slice can be read.
    written: u64,
    stopped: Option<Stopped>,
}

/// Why no more bytes come.
#[derive(Clone, Debug)]
pub(crate) enum Stopped {
    /// The disk takes no more: who needs the rest has to ask for it himself.
    Unstored,
    /// It cannot be had.
    Failed(Error),
}

/// A fill, shared by all that wait for it.
#[derive(Debug)]
pub(crate) struct Fill {
    /// Unique in this process.
    number: u64,
    file: OnceLock<OwnedFd>,
    progress: watch::Sender<Progress>,
}

impl Fill {
    pub(crate) fn new() -> Arc<Self> {
        static FILLS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            number: FILLS.fetch_add(1, Ordering::Relaxed),
            file: OnceLock::new(),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    /// The slice is written to `file`.
    pub(crate) fn begin(&self, file: OwnedFd) {
        let _ = self.file.set(file);
    }

    /// Tells all that wait how many bytes can be read.
    pub(crate) fn written(&self, bytes: u64) {
        self.progress
            .send_modify(|progress| progress.written = bytes);
    }

    /// Tells all that wait that no more come.
    pub(crate) fn stop(&self, stopped: Stopped) {
        self.progress
            .send_modify(|progress| progress.stopped = Some(stopped));
    }

    /// Waits for the first byte. `None`: the slice is not stored.
    pub(crate) async fn growing(self: Arc<Self>) -> Result<Option<Growing>, Error> {
        let mut growing = Growing {
            seen: self.progress.subscribe(),
            fill: self,
        };
        Ok(growing.more_than(0).await?.map(|_| growing))
    }
}

/// A slice that grows, as one reader sees it.
#[derive(Debug)]
pub struct Growing {
    fill: Arc<Fill>,
    seen: watch::Receiver<Progress>,
}

impl Growing {
    /// The number of its fill, which no other fill of this process has; never 0.
    pub fn fill(&self) -> u64 {
        self.fill.number
    }

    /// A descriptor of the file that it grows in.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn file(&self) -> io::Result<OwnedFd> {
        let file = self.fill.file.get().ok_or(io::ErrorKind::NotFound)?;
        file.try_clone()
    }

    /// Bytes from the start of the slice that can be read.
    pub fn written(&self) -> u64 {
        self.seen.borrow().written
    }

    /// Waits until more than `bytes` can be read, and returns how many. `None`: the rest is not
    /// stored ([`Origin::rest`](crate::Origin::rest)).
    ///
    /// Dropped: nothing is lost, and the fill goes on.
    ///
    /// # Errors
    ///
    /// Why no more come.
    pub async fn more_than(&mut self, bytes: u64) -> Result<Option<u64>, Error> {
        let is_news = |progress: &Progress| progress.written > bytes || progress.stopped.is_some();
        match self.seen.wait_for(is_news).await.as_deref() {
            Ok(progress) if progress.written > bytes => Ok(Some(progress.written)),
            Ok(Progress {
                stopped: Some(Stopped::Failed(error)),
                ..
            }) => Err(error.clone()),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// Bytes of an object for one client, which are not stored.
#[derive(Debug)]
pub struct Stream {
    /// The next byte of the object that comes.
    position: u64,
    chunks: mpsc::Receiver<Result<Bytes, Error>>,
}

/// Chunks between the origin's connection and the client's: a slow client slows the origin down.
const CHUNKS: usize = 4;

impl Stream {
    /// A stream from byte `position` of an object on, and where to put its bytes.
    pub(crate) fn new(position: u64) -> (mpsc::Sender<Result<Bytes, Error>>, Self) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        (sender, Self { position, chunks })
    }

    /// The next byte of the object that comes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes from `position` of the object on, which is no byte before the last one;
    /// `None` at the end.
    ///
    /// Dropped: the origin's connection is closed.
    ///
    /// # Errors
    ///
    /// Why no more come.
    pub async fn next(&mut self, position: u64) -> Result<Option<Bytes>, Error> {
        while let Some(chunk) = self.chunks.recv().await {
            let mut chunk = chunk?;
            let skipped = position
                .saturating_sub(self.position)
                .min(chunk.len() as u64);
            self.position += chunk.len() as u64;
            let rest = chunk.split_off(skipped as usize);
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    #[test]
    fn who_waits_gets_what_is_written() {
        let fill = Fill::new();
        let mut first = Box::pin(Arc::clone(&fill).growing());
        assert!((&mut first).now_or_never().is_none());
        fill.begin(file());
        fill.written(5);
        let mut growing = first.now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(growing.written(), 5);
        assert_eq!(
            growing.more_than(4).now_or_never().unwrap().unwrap(),
            Some(5)
        );
        assert!(growing.more_than(5).now_or_never().is_none());
        fill.stop(Stopped::Failed(Error::Changed));
        assert_eq!(
            growing.more_than(4).now_or_never().unwrap().unwrap(),
            Some(5)
        );
        assert!(growing.more_than(5).now_or_never().unwrap().is_err());
    }

    #[test]
    fn a_slice_that_is_not_stored_is_told() {
        let fill = Fill::new();
        fill.stop(Stopped::Unstored);
        assert!(fill.growing().now_or_never().unwrap().unwrap().is_none());
    }

    #[test]
    fn a_stream_skips_what_is_not_wanted() {
        let (sender, mut stream) = Stream::new(10);
        sender.try_send(Ok(Bytes::from_static(b"abc"))).unwrap();
        sender.try_send(Ok(Bytes::from_static(b"def"))).unwrap();
        drop(sender);
        let mut next = |position| stream.next(position).now_or_never().unwrap().unwrap();
        assert_eq!(next(14).as_deref(), Some(&b"ef"[..]));
        assert_eq!(next(16), None);
    }
}
