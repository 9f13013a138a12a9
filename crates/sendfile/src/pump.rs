//! The transfer loop: stage a chunk, send it, wait for the socket, yield.

use rustix::io::Errno;
use tidegate_uring::{Fd, Permit};

use crate::cork::Cork;
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::progress::TransferProgress;
use crate::socket_sink::SocketSink;
use crate::staging::Staging;

/// Shorter transfers do not queue for turns, and shorter steps are not corked: they have few chunks
/// to combine, and end soon.
const LONG_BYTES_MIN: u64 = 512 * 1024;

/// Moves the bytes of a transfer from its file to a socket, through a [`Staging`].
pub(crate) struct Pump {
    pub(crate) progress: TransferProgress,
    pub(crate) source: FileSource,
    sink: SocketSink,
    /// The count of sent bytes at which a long transfer yields next; `None` for a short one. A
    /// short transfer is no longer than one turn of a long one, and sending many of them without a
    /// break is a quarter cheaper at 64 KiB.
    turn_due: Option<u64>,
}

impl Pump {
    #[inline]
    pub(crate) fn new(progress: TransferProgress, source: FileSource, sink: SocketSink) -> Self {
        Self {
            turn_due: (progress.remaining() >= LONG_BYTES_MIN).then_some(0),
            progress,
            source,
            sink,
        }
    }

    /// Completes the step that `progress` has begun.
    ///
    /// Dropped: `progress` is exact; staged bytes are lost if `staging` is.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub(crate) fn run(
        &mut self,
        staging: &mut impl Staging,
        socket: &Fd,
    ) -> impl Future<Output = Result<(), ErrorKind>> {
        async move {
            self.sink.begin_step();
            let _cork =
                (self.progress.step_remaining() >= LONG_BYTES_MIN).then(|| Cork::new(socket));
            while self.progress.step_remaining() > 0 {
                self.stage(staging).await?;
                self.send(staging, socket)?;
                if self.progress.staged() == 0 {
                    staging.release(self.source.pool());
                    self.source.follow(socket, self.progress.position());
                    continue;
                }
                staging.suspend();
                if self.progress.step_remaining() > 0 {
                    self.sink.writable(self.source.ring(), socket).await?;
                    self.turn().await;
                }
            }
            Ok(())
        }
    }

    /// Ensures that bytes are staged: those of an earlier chunk if they still exist, otherwise the
    /// next chunk.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    fn stage<S: Staging>(
        &mut self,
        staging: &mut S,
    ) -> impl Future<Output = Result<(), ErrorKind>> {
        async move {
            if self.progress.staged() == 0 {
                self.turn_if_due::<S>().await;
            } else if staging.resume() {
                return Ok(());
            }
            self.progress.rewind();
            self.fill(staging).await
        }
    }

    /// Stages the next chunk.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    fn fill(&mut self, staging: &mut impl Staging) -> impl Future<Output = Result<(), ErrorKind>> {
        async move {
            self.source.prepare(self.progress.position()).await;
            staging.reserve(&self.source).await?;
            let chunk = staging.chunk(&self.source, &self.progress);
            match staging.fill_from_memory(&mut self.source, &chunk)? {
                Some(count) => {
                    self.filled(count)?;
                    self.source.pool().count_inline();
                    self.progress.set_cold(false);
                    let taken = chunk.start..chunk.start + count as u64;
                    self.source.resident(&taken, staging.chunk_bytes());
                    Ok(())
                }
                // Boxed, so that what waits for its peer has no room for it.
                None => Box::pin(self.fill_cold(staging)).await,
            }
        }
    }

    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    fn fill_cold(
        &mut self,
        staging: &mut impl Staging,
    ) -> impl Future<Output = Result<(), ErrorKind>> {
        async move {
            let permit = self.cold_permit(staging).await?;
            let chunk = staging.chunk(&self.source, &self.progress);
            let count = staging
                .fill_by_worker(&mut self.source, &chunk, permit)
                .await?;
            self.filled(count)?;
            self.source.pool().count_cold();
            self.progress.set_cold(true);
            Ok(())
        }
    }

    /// Waits for a permit to read from the disk. `staging` reserves nothing meanwhile.
    async fn cold_permit(&self, staging: &mut impl Staging) -> Result<Permit, ErrorKind> {
        let (pool, owner) = (self.source.pool(), self.source.owner());
        if let Some(permit) = pool.try_cold(owner) {
            return Ok(permit);
        }
        staging.release(pool);
        let permit = pool.cold(owner).await;
        staging.reserve(&self.source).await?;
        Ok(permit)
    }

    fn filled(&mut self, count: usize) -> Result<(), ErrorKind> {
        if count == 0 {
            return Err(ErrorKind::Truncated);
        }
        let start = self.progress.position();
        self.progress.filled(count);
        self.source.filled(start..start + count as u64);
        Ok(())
    }

    /// Sends staged bytes until none is left, the socket is full, or the step is complete.
    fn send(&mut self, staging: &mut impl Staging, socket: &Fd) -> Result<(), ErrorKind> {
        while let Some((len, more)) = self.progress.next_send() {
            let taken = match staging.send(socket, len, more) {
                Ok(taken) => taken,
                Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => {
                    return self.sink.full(socket);
                }
                Err(error) => return Err(ErrorKind::Socket(error)),
            };
            self.progress.drained(taken.file_bytes);
            let pool = self.source.pool();
            pool.count_sent(taken.file_bytes, self.progress.is_cold());
            self.sink.progress();
            if taken.full {
                break;
            }
        }
        Ok(())
    }

    async fn turn_if_due<S: Staging>(&mut self) {
        let sent = self.progress.sent();
        if self.turn_due.is_some_and(|due| sent >= due) {
            self.turn_due = Some((sent + S::QUANTUM).max(S::FIRST_QUANTUM));
            self.turn().await;
        }
    }

    /// Yields to other tasks.
    async fn turn(&self) {
        if self.turn_due.is_some() {
            let queue = &self.source.pool().fair_queue;
            queue.next(self.source.ring()).await;
        }
    }
}
