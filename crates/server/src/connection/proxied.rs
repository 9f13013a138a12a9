//! Receives the header of the PROXY protocol, before anything else of a connection.

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tidegate_config::ProxyProtocol;
use tidegate_http::{ProxyHeader, ProxyHeaderError, proxy_header};
use tidegate_uring::Fd;

use crate::context::Context;
use crate::observe::metrics::ProxyProtocolError;
use crate::timeouts::Timer;
use crate::transport::Closed;

/// Bytes looked at with one call: more than a header has without TLVs.
const PIECE_BYTES: usize = 512;

/// Receives the header of a connection, and not a byte more: a handshake may follow, which the
/// kernel reads. Records the client that it names. Returns the bytes that were received of a
/// connection without header.
///
/// The time for it is that of the first request. Errors are counted; the connection is over then.
///
/// Dropped: bytes may be lost; the connection can only end.
pub(super) async fn receive_header(
    context: &Context,
    timer: &Timer,
    socket: &Fd,
    mode: ProxyProtocol,
) -> Result<Vec<u8>, Closed> {
    let header = Header {
        context,
        timer,
        socket,
        is_required: mode == ProxyProtocol::Require,
        is_trusted: context.peer_is_trusted(timer.key(), socket),
        bytes: Vec::new(),
    };
    header.receive().await.map_err(|error| {
        if let Some(error) = error {
            context.metrics.core().proxy_protocol_errors.count(error);
        }
        Closed
    })
}

struct Header<'a> {
    context: &'a Context,
    timer: &'a Timer,
    socket: &'a Fd,
    is_required: bool,
    /// Whether the peer may name its client.
    is_trusted: bool,
    /// Taken from the socket so far.
    bytes: Vec<u8>,
}

/// `None`: the peer has left without a byte, or was too slow to send one.
type Failure = Option<ProxyProtocolError>;

impl Header<'_> {
    async fn receive(mut self) -> Result<Vec<u8>, Failure> {
        if self.is_required && !self.is_trusted {
            return Err(Some(ProxyProtocolError::Stranger));
        }
        loop {
            let taken = self.bytes.len();
            self.peek().await?;
            match self.parse()? {
                ProxyHeader::Absent if self.is_required => {
                    return Err(Some(ProxyProtocolError::Missing));
                }
                ProxyHeader::Absent => {
                    self.bytes.truncate(taken);
                    return Ok(self.bytes);
                }
                ProxyHeader::Partial => self.take(self.bytes.len() - taken)?,
                ProxyHeader::Complete { len, client } => {
                    self.take(len - taken)?;
                    if let Some(client) = client {
                        let timers = &self.context.timers;
                        timers.set_client(self.timer.key(), client);
                    }
                    return Ok(Vec::new());
                }
            }
        }
    }

    fn parse(&self) -> Result<ProxyHeader, Failure> {
        match proxy_header(&self.bytes) {
            Ok(ProxyHeader::Complete { .. }) | Err(_) if !self.is_trusted => {
                Err(Some(ProxyProtocolError::Stranger))
            }
            Err(ProxyHeaderError::Oversized) => Err(Some(ProxyProtocolError::Oversized)),
            Err(ProxyHeaderError::Malformed) => Err(Some(ProxyProtocolError::Malformed)),
            Ok(header) => Ok(header),
        }
    }

    /// Waits for bytes, and appends them without taking them from the socket.
    async fn peek(&mut self) -> Result<(), Failure> {
        let taken = self.bytes.len();
        self.bytes.resize(taken + PIECE_BYTES, 0);
        let count = self.peek_at(taken).await;
        self.bytes.truncate(taken + count);
        match count {
            0 if taken == 0 => Err(None),
            0 if self.timer.expired() => Err(Some(ProxyProtocolError::Timeout)),
            0 => Err(Some(ProxyProtocolError::Truncated)),
            _ => Ok(()),
        }
    }

    /// The number of bytes; none at the end of the input, or if the connection has failed.
    async fn peek_at(&mut self, start: usize) -> usize {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        loop {
            match recv(self.socket, &mut self.bytes[start..], flags) {
                Ok((_, count)) => return count,
                Err(Errno::AGAIN) => {
                    let ring = &self.context.io.ring;
                    if ring.poll(self.socket, PollFlags::IN).await.is_err() {
                        return 0;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    /// Takes `count` bytes, which were looked at, from the socket.
    fn take(&self, count: usize) -> Result<(), Failure> {
        let mut bytes = [0; PIECE_BYTES];
        loop {
            match recv(self.socket, &mut bytes[..count], RecvFlags::DONTWAIT) {
                Ok((_, taken)) if taken == count => return Ok(()),
                Err(Errno::INTR) => {}
                // The connection has failed since.
                Ok(_) | Err(_) => return Err(Some(ProxyProtocolError::Truncated)),
            }
        }
    }
}
