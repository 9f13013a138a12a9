//! Responses: from memory, or by sendfile.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};
use tidegate_http::{
    HttpDate, ResponseHead, Status, Version, encode_path, write_error, write_redirect,
};
use tidegate_sendfile::{Error as TransferError, ErrorKind, Options, sendfile};
use tidegate_site::{Content, Error as SiteError, File, Found};
use tidegate_uring::Fd;

use crate::connection::{Closed, Connection};
use crate::deadlines::Phase;

/// How a response is written, whatever it says.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    /// Of the request.
    pub(crate) version: Version,
    /// Whether the connection goes on after it.
    pub(crate) persistent: bool,
    /// Not for HEAD.
    pub(crate) with_body: bool,
}

/// A request that cannot be answered from memory.
pub(crate) struct Wanted {
    /// Decoded.
    pub(crate) path: Vec<u8>,
    pub(crate) query: Option<String>,
    /// What the path leads to, if that is known.
    pub(crate) file: Option<Rc<File>>,
    pub(crate) reply: Reply,
}

impl Reply {
    /// Appends a response that says `status` and nothing else.
    pub(crate) fn error(self, out: &mut Vec<u8>, status: Status, date: &HttpDate) {
        write_error(
            out,
            status,
            date,
            self.version,
            self.persistent,
            self.with_body,
        );
    }

    fn head(self, out: &mut Vec<u8>, file: &File, date: &HttpDate) {
        ResponseHead {
            status: Status::OK,
            date,
            persistent: self.persistent,
            version: self.version,
            content_length: Some(file.len),
            fields: &file.fields,
        }
        .write(out);
    }
}

/// Appends the response for a file whose content is `bytes`.
pub(crate) fn from_memory(
    out: &mut Vec<u8>,
    file: &File,
    bytes: &[u8],
    reply: Reply,
    date: &HttpDate,
) {
    reply.head(out, file, date);
    if reply.with_body {
        out.extend_from_slice(bytes);
    }
}

/// Answers a request, waiting for what it takes.
pub(crate) async fn respond(connection: &Connection, wanted: Wanted) -> Result<(), Closed> {
    let shard = &connection.shard;
    // Neither a disk nor a transfer is hurried by the connection's deadline.
    connection.enter(Phase::Transfer);
    let now = Instant::now();
    let found = match wanted.file {
        Some(file) => Ok(Found::File(file)),
        None => shard.site.find(&wanted.path, now).await,
    };
    let date = shard.clock.date(Instant::now());
    let reply = wanted.reply;
    let mut out = Vec::with_capacity(512);
    match found {
        Ok(Found::File(file)) => return send_file(connection, &file, reply, &date).await,
        Ok(Found::Directory) => {
            let location = directory_location(&wanted.path, wanted.query.as_deref());
            write_redirect(
                &mut out,
                Status::MOVED_PERMANENTLY,
                &location,
                &date,
                reply.version,
                reply.persistent,
                reply.with_body,
            );
        }
        Err(error) => {
            let fault = matches!(error, SiteError::Busy(_) | SiteError::Failed(_));
            if fault && shard.file_warnings.is_due() {
                tracing::warn!(path = %wanted.path.escape_ascii(), %error, "cannot look up");
            }
            reply.error(&mut out, error.status(), &date);
        }
    }
    send_all(connection, out.into(), SendFlags::empty()).await
}

/// The path with its final slash, encoded, and the query as it was.
fn directory_location(path: &[u8], query: Option<&str>) -> String {
    let mut location = String::new();
    encode_path(path, &mut location);
    location.push('/');
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

async fn send_file(
    connection: &Connection,
    file: &File,
    reply: Reply,
    date: &HttpDate,
) -> Result<(), Closed> {
    let mut out = Vec::with_capacity(512);
    let fd = match &file.content {
        Content::Memory(bytes) => {
            from_memory(&mut out, file, bytes, reply, date);
            return send_all(connection, out.into(), SendFlags::empty()).await;
        }
        Content::File(fd) => fd,
    };
    reply.head(&mut out, file, date);
    if !reply.with_body || file.len == 0 {
        return send_all(connection, out.into(), SendFlags::empty()).await;
    }
    // The head waits for the first bytes of the body, which surely follow.
    send_all(connection, out.into(), SendFlags::MORE).await?;
    connection.enter(Phase::Transfer);
    let shard = &connection.shard;
    let options = Options {
        stall: shard.settings.timeouts.send_stall,
    };
    let socket = &connection.socket;
    let sent = sendfile(&shard.ring, &shard.pipes, socket, fd, 0..file.len, &options).await;
    sent.map_err(|error| give_up(connection, file.len, &error))
}

/// A response that cannot be completed: only closing tells the client.
fn give_up(connection: &Connection, len: u64, error: &TransferError) -> Closed {
    match error.kind {
        ErrorKind::Socket(_) => tracing::debug!(sent = error.sent, len, %error, "client gone"),
        ErrorKind::Stalled => {
            tracing::debug!(sent = error.sent, len, "client takes no more");
            // What the kernel still holds for it is of no use; closing drops it.
            let _ = sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO));
        }
        _ if connection.shard.file_warnings.is_due() => {
            tracing::warn!(sent = error.sent, len, %error, "response cut short");
        }
        _ => {}
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

/// Sends all of `bytes`, for as long as the client takes some within the send-stall time.
pub(crate) async fn send_all(
    connection: &Connection,
    mut bytes: Bytes,
    flags: SendFlags,
) -> Result<(), Closed> {
    let sent = send_now(&connection.socket, &bytes, flags).map_err(|_| Closed)?;
    let mut bytes = bytes.split_off(sent);
    while !bytes.is_empty() {
        connection.enter(Phase::Send);
        let ring = &connection.shard.ring;
        match ring.send(&connection.socket, bytes.clone(), flags).await {
            Ok(count) => drop(bytes.split_to(count)),
            Err(_) => return Err(Closed),
        }
    }
    Ok(())
}
