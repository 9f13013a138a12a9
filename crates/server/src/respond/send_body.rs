//! Sends the pieces of a body.

use std::ops::Range;
use std::time::Instant;

use rustix::net::SendFlags;
use tidegate_sendfile::{Error as TransferError, ErrorKind, Opening, Options};
use tidegate_site::{Content, File};

use super::body::Piece;
use crate::context::Context;
use crate::timeouts::{Phase, Timer};
use crate::transport::{Closed, Transport};

/// Sends a piece of a body as it is. `flags` are for bytes in memory: with [`SendFlags::MORE`] they
/// wait for what follows.
pub(crate) async fn send_piece(
    context: &Context,
    transport: &mut Transport,
    timer: &Timer,
    piece: Piece,
    flags: SendFlags,
) -> Result<(), Closed> {
    match piece {
        Piece::Bytes(bytes) => Ok(transport.write(&context.io, timer, bytes, flags).await?),
        Piece::File(file, range) => send_range(context, transport, timer, &file, range).await,
    }
}

async fn send_range(
    context: &Context,
    transport: &mut Transport,
    timer: &Timer,
    file: &File,
    range: Range<u64>,
) -> Result<(), Closed> {
    let Content::File(fd) = &file.content else {
        // What is in memory comes as bytes.
        return Ok(());
    };
    timer.enter(Phase::Transfer);
    let start = Instant::now();
    let options = Options {
        stall: context.settings.timeouts.send_stall,
        drop_behind: (context.settings.io.drop_behind).is_some_and(|least| file.len >= least),
        unread: !file.recent.covers(&range, start),
        device: file.device(),
        opening: Opening::NONE,
    };
    let sent = transport
        .write_file(&context.io, fd, range.clone(), &options)
        .await;
    match sent {
        Ok(sent) if sent.from_disk => file.recent.forget(),
        Ok(_) => file.recent.add(&range, start),
        Err(error) => {
            let len = range.end - range.start;
            return Err(give_up(context, transport, len, &error));
        }
    }
    Ok(())
}

/// Gives a response up that cannot be completed: only the end of the connection tells the client.
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
