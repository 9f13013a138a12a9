//! A slice that is being written: its bytes are gathered while a write is under way, and are in the
//! next one.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{io, mem};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::task::JoinHandle;

use crate::buffers::BUFFER_BYTES;
use crate::cache::Cache;
use crate::client::Body;
use crate::error::Error;
use crate::fill::{Fill, Stopped};
use crate::memory::Taken;
use crate::store::{StoreError, Writer};

pub(super) struct Writing {
    cache: Arc<Cache>,
    fill: Arc<Fill>,
    /// Between two writes, unless the disk failed.
    writer: Option<Writer>,
    /// The write that is under way.
    write: Option<JoinHandle<io::Result<Writer>>>,
    /// What the next write takes.
    gathered: Vec<u8>,
    /// For two buffers.
    _memory: Taken,
    /// Bytes of the slice that came.
    taken: u64,
    /// Those that are written, with the write that is under way.
    written: u64,
    len: u64,
}

impl Writing {
    /// `None`: there is no memory for it.
    pub(super) fn new(
        cache: &Arc<Cache>,
        fill: &Arc<Fill>,
        writer: Writer,
        len: u64,
    ) -> Option<Self> {
        let len_max = usize::try_from(len).unwrap_or(usize::MAX);
        let memory = cache.memory.take(2 * BUFFER_BYTES.min(len_max))?;
        Some(Self {
            _memory: memory,
            cache: Arc::clone(cache),
            fill: Arc::clone(fill),
            writer: Some(writer),
            write: None,
            gathered: cache.buffers.take(len),
            taken: 0,
            written: 0,
            len,
        })
    }

    /// Bytes of the slice that came.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the disk takes no more.
    pub(super) fn has_failed(&self) -> bool {
        self.writer.is_none() && self.write.is_none()
    }

    /// Copies a body until the slice is complete, or the disk takes no more.
    pub(super) async fn copy(&mut self, body: &mut Body) -> Result<(), Error> {
        while self.taken < self.len && !self.has_failed() {
            let chunk = self.receive(body).await?;
            self.take(&chunk).await;
        }
        Ok(())
    }

    /// The next chunk of a body. What was taken is written meanwhile.
    pub(super) async fn receive(&mut self, body: &mut Body) -> Result<Bytes, Error> {
        loop {
            self.begin_write();
            if self.write.is_none() {
                return body.more().await;
            }
            match select(pin!(body.more()), pin!(self.settle())).await {
                Either::Left((chunk, _)) => return chunk,
                Either::Right(((), _)) => {}
            }
        }
    }

    /// Takes the next bytes, and waits for the disk if it is behind.
    pub(super) async fn take(&mut self, mut bytes: &[u8]) {
        self.taken += bytes.len() as u64;
        while !bytes.is_empty() && !self.has_failed() {
            let room = BUFFER_BYTES - self.gathered.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.gathered.extend_from_slice(now);
            bytes = rest;
            if !bytes.is_empty() {
                self.settle().await;
                self.begin_write();
            }
        }
    }

    /// Writes the rest, and publishes a complete slice. Those that read it have its file, published
    /// or not.
    pub(super) async fn publish(mut self) {
        while self.write.is_some() || !self.gathered.is_empty() && !self.has_failed() {
            self.settle().await;
            self.begin_write();
        }
        if let Some(writer) = self.writer.take()
            && let Some(Err(error)) = self.cache.blocking(move |_| writer.publish()).await
        {
            warn_of_disk(&error);
        }
    }

    /// Begins to write what is gathered, if no other write is under way.
    fn begin_write(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let next = self.cache.buffers.take(self.len - self.taken);
        let gathered = mem::replace(&mut self.gathered, next);
        self.written += gathered.len() as u64;
        let (cache, fill, written) = (
            Arc::clone(&self.cache),
            Arc::clone(&self.fill),
            self.written,
        );
        self.write = Some(self.cache.begin_blocking(move |_| {
            writer.write_at_end(&gathered)?;
            let filled = &cache.counters().filled_bytes;
            filled.fetch_add(gathered.len() as u64, Ordering::Relaxed);
            fill.written(written);
            cache.buffers.give(gathered);
            Ok(writer)
        }));
    }

    /// Waits for the write that is under way.
    ///
    /// Dropped: it goes on, and can be waited for again.
    async fn settle(&mut self) {
        let Some(write) = &mut self.write else {
            return;
        };
        let written = write.await;
        self.write = None;
        match written {
            Ok(Ok(writer)) => self.writer = Some(writer),
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(%error, "cannot write into the cache");
                }
                self.fill.stop(Stopped::Unstored);
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.cache.buffers.give(mem::take(&mut self.gathered));
    }
}

pub(super) fn warn_of_disk(error: &StoreError) {
    tracing::debug!(%error, "not stored");
}
