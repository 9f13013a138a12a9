//! The I/O of a connection for a protocol: receive, send bytes and files, end. TLS happens inside,
//! so no caller can forget to encrypt.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SendFlags, Shutdown, shutdown};
use tidegate_sendfile::{Error as TransferError, Options, Sent, send_pages, sendfile};
use tidegate_site::FileBytes;
use tidegate_uring::{Fd, Recv};

use super::io::Io;
use super::received::Received;
use super::socket::{reset_on_close, send_now};
use super::tls_stream::{Negotiated, TlsParameters, TlsStream};
use super::unsent::{Flush, Unsent, send_all, send_or_keep};
use crate::timeouts::Timer;

/// A connection's socket, with or without TLS.
pub(crate) enum Transport {
    /// Bytes go through the socket as they are.
    Plain(Recv),
    /// Bytes go through the socket in TLS records.
    Tls(Box<TlsStream>),
}

// A plain connection pays nothing for TLS.
const _: () = assert!(size_of::<Transport>() == size_of::<Recv>());

impl Transport {
    /// The socket of a connection without TLS.
    pub(crate) fn plain(io: &Io, socket: &Fd) -> Self {
        Self::Plain(io.ring.recv(socket))
    }

    pub(crate) fn socket(&self) -> &Fd {
        match self {
            Self::Plain(recv) => recv.socket(),
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Whether it is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What the TLS handshake agreed on.
    pub(crate) fn tls(&self) -> Option<&TlsParameters> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.parameters()),
        }
    }

    /// The version of HTTP that the TLS handshake agreed on by ALPN.
    pub(crate) fn negotiated(&self) -> Option<Negotiated> {
        self.tls()?.negotiated
    }

    /// Whether its keys may encrypt another response: the use of a key is limited.
    pub(crate) fn key_usable(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.key_usable(),
        }
    }

    /// The next bytes; `None` when the peer will send no more. `InvalidData` means that the peer
    /// violated TLS and was sent an alert.
    #[inline]
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Received>>> {
        match self {
            Self::Plain(recv) => recv
                .poll_next(context)
                .map_ok(|received| received.map(Received::Plain)),
            Self::Tls(tls) => tls.poll_read(context),
        }
    }

    /// Receives bytes and drops them undecrypted. Returns their number, or `None` at the end.
    ///
    /// Dropped: nothing is lost.
    pub(crate) async fn discard(&mut self) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(recv) => recv.discard().await,
            Self::Tls(tls) => tls.discard().await,
        }
    }

    /// Sends as many of `bytes` as the socket takes at once and returns the rest. With
    /// [`SendFlags::MORE`] the kernel waits for the bytes that follow.
    ///
    /// An error ends the connection.
    pub(crate) fn write_now(
        &mut self,
        io: &Io,
        bytes: &[u8],
        flags: SendFlags,
    ) -> io::Result<Option<Unsent>> {
        match self {
            Self::Plain(recv) => send_or_keep(recv.socket(), bytes, flags),
            Self::Tls(tls) => tls.write_now(io, bytes, flags),
        }
    }

    /// Has the kernel send what it holds back for the bytes that follow.
    pub(crate) fn push(&self) {
        // tcp(7): to set it again does so. A socket of another kind holds nothing back.
        let _ = set_tcp_nodelay(self.socket(), true);
    }

    /// As [`Transport::write_now`] for `head` and then a range of a file in memory, whose bytes are
    /// not copied if they have pages of their own. Not for TLS.
    pub(crate) fn write_with_body(
        &mut self,
        io: &Io,
        head: &[u8],
        body: &FileBytes,
        range: &Range<u64>,
    ) -> io::Result<Option<Unsent>> {
        // As much as is in memory fits a usize.
        let range = range.start as usize..range.end as usize;
        let socket = self.socket();
        let by_pages = |head| match body.pages() {
            Some(pages) => io.page_pipe.send(socket, head, pages, range.clone()),
            None => Ok(0),
        };
        let mut sent = by_pages(head)?;
        // The head is too long for the pipe, the socket is full, or there are no pages.
        if sent < head.len() {
            sent += send_now(socket, &head[sent..], SendFlags::MORE)?;
            if sent < head.len() {
                let head = Bytes::copy_from_slice(&head[sent..]);
                return Ok(Some(
                    Unsent::new(head, SendFlags::MORE).before(body.slice(range)),
                ));
            }
            sent += by_pages(&[])?;
        }
        let sent = sent - head.len();
        let rest = range.start + sent..range.end;
        let sent = send_now(socket, &body[rest.clone()], SendFlags::empty())?;
        let rest = rest.start + sent..rest.end;
        Ok((!rest.is_empty()).then(|| Unsent::shared(body.slice(rest))))
    }

    /// Sends `bytes` as the last ones, if the socket takes them at once. An error is the end of the
    /// connection: half a record may have been sent, so not even close_notify may follow.
    pub(crate) fn write_last(&mut self, io: &Io, bytes: &[u8]) -> io::Result<()> {
        match self.write_now(io, bytes, SendFlags::empty())? {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends all of `bytes`. The peer must take some of them within the send-stall time. See
    /// [`Transport::write_now`].
    ///
    /// Dropped: it is unknown how many bytes were sent, perhaps half a record; the connection can
    /// only end.
    pub(crate) async fn write(
        &mut self,
        io: &Io,
        timer: &Timer,
        bytes: Bytes,
        flags: SendFlags,
    ) -> io::Result<()> {
        let unsent = match self {
            Self::Plain(recv) => {
                let sent = send_now(recv.socket(), &bytes, flags)?;
                let bytes = bytes.slice(sent..);
                (!bytes.is_empty()).then(|| Unsent::new(bytes, flags))
            }
            Self::Tls(tls) => tls.write_now(io, &bytes, flags)?,
        };
        match unsent {
            None => Ok(()),
            Some(unsent) => self.flush(io, timer, unsent).await,
        }
    }

    /// Sends the bytes that [`Transport::write_now`] returned.
    ///
    /// Dropped: as for [`Transport::write`].
    pub(crate) async fn flush(&mut self, io: &Io, timer: &Timer, unsent: Unsent) -> io::Result<()> {
        if let Self::Tls(tls) = self
            && tls.owes_key_update()
        {
            Box::pin(tls.send_key_update(io, timer)).await?;
        }
        send_all(io, timer, self.socket(), unsent).await
    }

    /// Goes on with what [`Transport::poll_flush`] has begun.
    ///
    /// Dropped: as for [`Transport::write`].
    pub(crate) async fn finish(&self, io: &Io, timer: &Timer, flush: &mut Flush) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(io, timer, flush, context)).await
    }

    /// As [`Transport::flush`], for a hand-written future. Such a connection has its TLS in user
    /// space.
    pub(crate) fn poll_flush(
        &self,
        io: &Io,
        timer: &Timer,
        flush: &mut Flush,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        flush.poll(io, timer, self.socket(), context)
    }

    /// Sends `range` of `file`. The transfer detects a stalled peer itself (see
    /// [`Options::stall`]).
    ///
    /// Dropped: as for [`Transport::write`].
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub(crate) fn write_file<'a>(
        &'a mut self,
        io: &'a Io,
        file: &'a Fd,
        range: Range<u64>,
        options: &'a Options,
    ) -> impl Future<Output = Result<Sent, TransferError>> + 'a {
        async move {
            match self {
                Self::Plain(recv) => {
                    sendfile(&io.ring, &io.pipes, recv.socket(), file, range, options).await
                }
                // Boxed, so that a plain transfer has no room for encryption.
                Self::Tls(tls) => Box::pin(tls.write_file(io, file, range, options)).await,
            }
        }
    }

    /// Sends `range` of a file in memory that has pages. As [`Transport::write_file`], but not for
    /// TLS.
    ///
    /// # Panics
    ///
    /// If the file has none.
    pub(crate) async fn write_pages(
        &self,
        io: &Io,
        bytes: &FileBytes,
        range: Range<u64>,
        stall: Duration,
    ) -> Result<(), TransferError> {
        let pages = bytes.pages().expect("a file that has pages");
        // As much as is in memory fits a usize.
        let range = range.start as usize..range.end as usize;
        send_pages(&io.ring, &io.pipes, self.socket(), pages, range, stall).await
    }

    /// Sends TLS's close_notify once the peer has taken the bytes before it. The socket stays open
    /// in both directions.
    ///
    /// Dropped: perhaps half a record was sent; the connection can only end.
    pub(crate) async fn close_notify(&mut self, io: &Io, timer: &Timer) {
        if let Self::Tls(tls) = self {
            // Best effort: the peer may be gone.
            let _ = Box::pin(tls.close_notify(io, timer)).await;
        }
    }

    /// As [`Transport::close_notify`], if the socket takes it at once.
    pub(crate) fn close_notify_now(&mut self) {
        if let Self::Tls(tls) = self {
            tls.close_notify_now();
        }
    }

    /// Ends the socket's sending half.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        Ok(shutdown(self.socket(), Shutdown::Write)?)
    }

    /// Signals a truncated response to the peer, before the connection is dropped: with kTLS by an
    /// alert, with TLS in user space by the missing close_notify. Without TLS a known length is
    /// enough.
    pub(crate) fn abort(&mut self) {
        if let Self::Tls(tls) = self {
            tls.abort();
        }
    }

    /// As [`Transport::abort`], for a body delimited by the end of the connection.
    pub(crate) fn abort_close_delimited(&mut self) {
        match self {
            Self::Plain(recv) => reset_on_close(recv.socket()),
            Self::Tls(tls) => tls.abort(),
        }
    }

    /// Makes closing drop the bytes that a stalled peer has not taken.
    pub(crate) fn reset_on_close(&self) {
        reset_on_close(self.socket());
    }
}
