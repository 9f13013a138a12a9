//! Sends a range of a file that is open, or that has pages of its own, as a part of a body.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use rustix::io::Errno;
use tidegate_sendfile::{Error as TransferError, ErrorKind, Opening, Options};
use tidegate_site::{Content, File};
use tidegate_uring::executor::coarse_sleep;

use super::exchange::Exchange;
use crate::context::Context;
use crate::memory::Transfer;
use crate::timeouts::{Phase, Timer};
use crate::transport::{Closed, Transport};

/// How often a transfer that waits for memory looks whether its time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until the memory allows one more transfer, for as long as a client may take nothing.
async fn may_begin<'a>(context: &'a Context, timer: &Timer) -> Result<Transfer<'a>, Closed> {
    timer.enter(Phase::Send);
    loop {
        let granted = async { Some(context.memory.transfer().await) };
        let look = async {
            coarse_sleep(LOOK_EVERY).await;
            None
        };
        match or(granted, look).await {
            Some(transfer) => return Ok(transfer),
            None if timer.expired() => return Err(Closed),
            None => {}
        }
    }
}

/// Sends a range of an open file, or without TLS of one that has pages.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn send_range<'a>(
    context: &'a Context,
    transport: &'a mut Transport,
    timer: &'a Timer,
    exchange: &'a mut Exchange,
    file: &'a File,
    range: Range<u64>,
) -> impl Future<Output = Result<(), Closed>> + 'a {
    async move {
        let _under_way = may_begin(context, timer).await?;
        timer.enter(Phase::Transfer);
        let start = Instant::now();
        let options = options(context, file, &range, start);
        let sent = match &file.content {
            Content::File(fd) => {
                let sent = transport.write_file(&context.io, fd, range.clone(), &options);
                sent.await.map(|sent| sent.from_disk)
            }
            Content::Memory(bytes) => {
                let sent = transport.write_pages(&context.io, bytes, range.clone(), options.stall);
                sent.await.map(|()| false)
            }
            // Its pieces are files and bytes.
            Content::Sliced(_) => return Err(Closed),
        };
        match sent {
            Ok(true) => {
                file.residency_hint.forget();
                exchange.read_from_disk();
            }
            Ok(false) => file.residency_hint.add(&range, start),
            Err(error) => {
                exchange.file_sent(error.sent);
                if is_unreadable(&error.kind) {
                    Box::pin(file.forget_unreadable()).await;
                }
                let len = range.end - range.start;
                return Err(give_up(context, transport, len, &error));
            }
        }
        exchange.file_sent(range.end - range.start);
        Ok(())
    }
}

/// How a range of `file` is read and sent.
pub(super) fn options(context: &Context, file: &File, range: &Range<u64>, now: Instant) -> Options {
    let settings = context.settings();
    Options {
        stall: settings.timeouts.send_stall,
        drop_behind: (settings.io.drop_behind).is_some_and(|least| file.len >= least),
        unread: !file.residency_hint.covers(range, now),
        device: file.device(),
        opening: Opening::NONE,
    }
}

/// Whether the disk failed, or has less of the file than there was.
pub(super) fn is_unreadable(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::Truncated => true,
        ErrorKind::File(error) => Errno::from_io_error(error) == Some(Errno::IO),
        _ => false,
    }
}

/// Abandons an incomplete response: only the end of the connection tells the client.
fn give_up(
    context: &Context,
    transport: &mut Transport,
    len: u64,
    error: &TransferError,
) -> Closed {
    let sent = error.sent;
    match error.kind {
        ErrorKind::Socket(_) => tracing::debug!(sent, len, %error, "client gone"),
        ErrorKind::Stalled => {
            context.metrics.core().stalled_transfers.add(1);
            tracing::debug!(sent, len, "client takes no more");
            transport.reset_on_close();
        }
        _ => {
            if context.file_warnings.is_due() {
                tracing::warn!(sent, len, %error, "response cut short");
            }
            transport.abort();
        }
    }
    Closed
}
