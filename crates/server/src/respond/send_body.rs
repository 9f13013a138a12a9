//! Sending: bytes from memory, and the bodies that follow them.

use std::io;
use std::mem::take;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};
use tidegate_h1::ResponseFraming;
use tidegate_http::Multipart;
use tidegate_sendfile::{Error as TransferError, ErrorKind, Opening, Options, sendfile};
use tidegate_site::{Content, Decompression, Error as SiteError, File, Listing};
use tidegate_uring::Fd;

use crate::connection::{Closed, Connection};
use crate::respond::response::{Body, slice};
use crate::timeouts::Phase;
use crate::transport::link::Link;
use crate::transport::tls_stream;

/// Bytes in memory that are encrypted and sent at a time: all of it stays in the processor's cache
/// meanwhile.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes in memory after which others run.
const QUANTUM_BYTES: usize = 256 * 1024;

/// Parts of a multipart body after which others run: each costs some calls of the kernel, however
/// small it is.
const TURN_PARTS: usize = 16;

/// The content of a response whose head is written.
pub(crate) struct Rest {
    pub(crate) body: Body,
    pub(crate) framing: ResponseFraming,
}

/// Sends what follows the head of a response.
pub(crate) async fn send_body(connection: &mut Connection, rest: &mut Rest) -> Result<(), Closed> {
    let framing = rest.framing;
    match &mut rest.body {
        Body::Empty => Ok(()),
        Body::Static(bytes) => send_memory(connection, Bytes::from_static(bytes)).await,
        Body::File(file, range) => match &file.content {
            Content::Memory(bytes) => {
                let bytes = bytes.slice_ref(slice(bytes, range));
                send_memory(connection, bytes).await
            }
            Content::File(fd) => send_range(connection, file, fd, range.clone()).await,
        },
        // Boxed, so that a transfer of one range, which is the rule, has no room for them.
        Body::Parts(file, parts) => Box::pin(send_parts(connection, file, parts)).await,
        Body::Listing(listing) => Box::pin(send_listing(connection, listing, framing)).await,
        Body::Decompression(decompression) => {
            Box::pin(send_decompression(connection, decompression, framing)).await
        }
    }
}

/// Sends bytes of a file in memory, a piece at a time.
async fn send_memory(connection: &mut Connection, mut bytes: Bytes) -> Result<(), Closed> {
    let mut turn = 0;
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        let flags = if bytes.is_empty() {
            SendFlags::empty()
        } else {
            SendFlags::MORE
        };
        let unsent = connection.send_at_once(&piece, flags).map_err(|_| Closed)?;
        if let Some(unsent) = unsent {
            send_raw(connection, unsent, flags).await?;
        }
        turn += piece.len();
        if turn >= QUANTUM_BYTES {
            turn = 0;
            connection.shard.ring.yield_now().await;
        }
    }
    Ok(())
}

async fn send_range(
    connection: &mut Connection,
    file: &File,
    fd: &Fd,
    range: Range<u64>,
) -> Result<(), Closed> {
    connection.enter(Phase::Transfer);
    let shard = &connection.shard;
    let start = Instant::now();
    let options = Options {
        stall: shard.settings.timeouts.send_stall,
        drop_behind: (shard.settings.io.drop_behind).is_some_and(|least| file.len >= least),
        unread: !file.recent.covers(&range, start),
        device: file.device(),
        opening: Opening::NONE,
    };
    let len = range.end - range.start;
    let sent = match &mut connection.link {
        Link::Plain(recv) => {
            sendfile(
                &shard.ring,
                &shard.pipes,
                recv.socket(),
                fd,
                range.clone(),
                &options,
            )
            .await
        }
        // Boxed: a plain transfer has no room for what encrypts.
        Link::Secure(secure) => {
            Box::pin(secure.send_file(shard, fd, range.clone(), &options)).await
        }
    };
    match sent {
        Ok(sent) if sent.from_disk => file.recent.forget(),
        Ok(_) => file.recent.add(&range, start),
        Err(error) => return Err(give_up(connection, len, &error)),
    }
    Ok(())
}

/// Sends the parts one behind the other. Small ones of a file in memory leave together.
async fn send_parts(
    connection: &mut Connection,
    file: &File,
    parts: &Multipart,
) -> Result<(), Closed> {
    let mut out = Vec::new();
    for (index, range) in parts.ranges().iter().enumerate() {
        if index > 0 && index.is_multiple_of(TURN_PARTS) {
            connection.shard.ring.yield_now().await;
        }
        parts.write_head(range, &mut out);
        match &file.content {
            Content::Memory(bytes) => {
                let bytes = bytes.slice_ref(slice(bytes, range));
                if out.len() + bytes.len() <= PIECE_BYTES {
                    out.extend_from_slice(&bytes);
                } else {
                    send_all(connection, take(&mut out).into(), SendFlags::MORE).await?;
                    send_memory(connection, bytes).await?;
                }
            }
            Content::File(fd) => {
                send_all(connection, take(&mut out).into(), SendFlags::MORE).await?;
                send_range(connection, file, fd, range.clone()).await?;
            }
        }
    }
    parts.write_end(&mut out);
    send_all(connection, out.into(), SendFlags::empty()).await
}

async fn send_listing(
    connection: &mut Connection,
    listing: &mut Listing,
    framing: ResponseFraming,
) -> Result<(), Closed> {
    while let Some(piece) = listing.next_piece() {
        let mut out = Vec::with_capacity(piece.len() + 32);
        framing.write_piece(&piece, &mut out);
        send_all(connection, out.into(), SendFlags::MORE).await?;
        // To write a piece takes a moment of the core.
        connection.shard.ring.yield_now().await;
    }
    send_end(connection, framing).await
}

async fn send_end(connection: &mut Connection, framing: ResponseFraming) -> Result<(), Closed> {
    let mut end = Vec::new();
    framing.write_end(&mut end);
    send_all(connection, end.into(), SendFlags::empty()).await
}

async fn send_decompression(
    connection: &mut Connection,
    decompression: &mut Decompression,
    framing: ResponseFraming,
) -> Result<(), Closed> {
    loop {
        // What a thread takes for it is not the client's fault.
        connection.enter(Phase::Transfer);
        match decompression.next_piece().await {
            Ok(Some(piece)) => {
                let mut out = Vec::with_capacity(piece.len() + 32);
                framing.write_piece(&piece, &mut out);
                drop(piece);
                send_all(connection, out.into(), SendFlags::MORE).await?;
            }
            Ok(None) => return send_end(connection, framing).await,
            Err(error) => return Err(cut(connection, framing, &error)),
        }
    }
}

/// Ends a response whose end would not tell that it is short.
fn cut(connection: &mut Connection, framing: ResponseFraming, error: &SiteError) -> Closed {
    if connection.shard.file_warnings.is_due() {
        tracing::warn!(%error, "response cut short");
    }
    match &mut connection.link {
        Link::Secure(secure) => secure.abort(),
        // To be closed is the end of such a body; to be reset is none.
        Link::Plain(recv) if framing == ResponseFraming::UntilClose => {
            let _ = sockopt::set_socket_linger(recv.socket(), Some(Duration::ZERO));
        }
        Link::Plain(_) => {}
    }
    Closed
}

/// A response that cannot be completed: only closing tells the client.
fn give_up(connection: &mut Connection, len: u64, error: &TransferError) -> Closed {
    match error.kind {
        ErrorKind::Socket(_) => tracing::debug!(sent = error.sent, len, %error, "client gone"),
        ErrorKind::Stalled => {
            tracing::debug!(sent = error.sent, len, "client takes no more");
            // What the kernel still holds for it is of no use; closing drops it.
            let _ = sockopt::set_socket_linger(connection.socket(), Some(Duration::ZERO));
        }
        _ if connection.shard.file_warnings.is_due() => {
            tracing::warn!(sent = error.sent, len, %error, "response cut short");
        }
        _ => {}
    }
    if let Link::Secure(secure) = &mut connection.link
        && !matches!(error.kind, ErrorKind::Socket(_) | ErrorKind::Stalled)
    {
        secure.abort();
    }
    Closed
}

/// Sends what the socket takes at once: how many bytes.
pub(crate) fn send_now(socket: &Fd, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    loop {
        match send(
            socket,
            bytes,
            flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends all of `bytes`, through TLS where that is spoken.
async fn send_all(
    connection: &mut Connection,
    bytes: Bytes,
    flags: SendFlags,
) -> Result<(), Closed> {
    let bytes = connection.link.seal_bytes(bytes).map_err(|_| Closed)?;
    send_raw(connection, bytes, flags).await
}

/// Sends all of `bytes` as they are, for as long as the client takes some within the send-stall
/// time.
pub(crate) async fn send_raw(
    connection: &mut Connection,
    bytes: Bytes,
    flags: SendFlags,
) -> Result<(), Closed> {
    if connection.link.owes() {
        Box::pin(tls_stream::settle(connection)).await?;
    }
    let sent = send_now(connection.socket(), &bytes, flags).map_err(|_| Closed)?;
    let mut bytes = bytes.slice(sent..);
    while !bytes.is_empty() {
        connection.enter(Phase::Send);
        let ring = &connection.shard.ring;
        match ring.send(connection.socket(), bytes.clone(), flags).await {
            Ok(count) => drop(bytes.split_to(count)),
            Err(_) => return Err(Closed),
        }
    }
    Ok(())
}
