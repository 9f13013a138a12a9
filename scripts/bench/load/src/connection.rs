//! One nonblocking connection: requests in one send, then their responses.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::cli::Target;
use crate::response::{Expected, Progress, ResponseError, ResponseReader};

/// Most bytes of a body taken by one `recv`.
const READ_BYTES_MAX: usize = 256 * 1024;
const DISCARD_BYTES_MAX: usize = 1024 * 1024;
/// When bodies are dropped, the `recv` that brings the head copies at most
/// this much.
const HEAD_READ_BYTES: usize = 2 * 1024;

/// The receive buffer that all connections share.
pub(crate) struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; DISCARD_BYTES_MAX])
    }
}

/// What becomes of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyMode {
    /// Copied to user space and forgotten.
    Read,
    /// Dropped in the kernel.
    Discard,
}

pub(crate) struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    mode: BodyMode,
    /// Responses that are due, the one under way included.
    due: usize,
}

/// What one or more responses brought.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) body_bytes: u64,
    /// Responses that are now complete.
    pub(crate) responses: usize,
    /// No more of them are due.
    pub(crate) complete: bool,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the server closed the connection between responses")]
    ClosedBetween,
    #[error("the server closed the connection within a response")]
    ClosedWithin,
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Response(#[from] ResponseError),
}

/// The request that a load generator sends over and over. `fields` are header
/// lines, each with its line end.
pub(crate) fn request(server: SocketAddr, path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: tidegate-load\r\n{fields}\r\n")
        .into_bytes()
}

/// [`request`] for a [`Target`].
pub(crate) fn target_request(target: &Target) -> Vec<u8> {
    request(target.server, &target.path, "")
}

impl Connection {
    /// Connects, waiting for the handshake, which loopback makes at once.
    pub(crate) fn open(server: SocketAddr, mode: BodyMode) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            reader: ResponseReader::default(),
            mode,
            due: 0,
        })
    }

    /// Bounds what the kernel takes in before it is read. To be called before
    /// the first request.
    pub(crate) fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        set_socket_recv_buffer_size(&self.stream, bytes).map_err(io::Error::from)
    }

    /// Whether a response is under way or still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.due > 0
    }

    /// Whether the server announced that it closes after this response.
    pub(crate) fn close_announced(&self) -> bool {
        self.reader.close()
    }

    /// Sends `count` requests, and says what their responses must be. An idle
    /// connection's socket buffer has room for them, so a short or refused send
    /// is an error.
    pub(crate) fn send(
        &mut self,
        requests: &[u8],
        count: usize,
        expected: Expected,
    ) -> Result<(), Broken> {
        self.reader.expect(expected);
        self.due = count;
        let sent = send(&self.stream, requests, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
        if sent == requests.len() {
            Ok(())
        } else {
            Err(Broken::Socket(io::ErrorKind::WriteZero.into()))
        }
    }

    /// Takes at most `limit` bytes of what has come; `None` if nothing has.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut Buffer,
        limit: usize,
    ) -> Result<Option<Received>, Broken> {
        let remaining = self.reader.body_remaining();
        let drop_body = self.mode == BodyMode::Discard && remaining.is_some();
        let (flags, most) = if drop_body {
            (RecvFlags::TRUNC, DISCARD_BYTES_MAX)
        } else if self.mode == BodyMode::Discard {
            (RecvFlags::empty(), HEAD_READ_BYTES)
        } else {
            (RecvFlags::empty(), READ_BYTES_MAX)
        };
        let most = most.min(limit);
        let count = match recv(&self.stream, &mut buffer.0[..most], flags) {
            Ok((_, 0)) => return Err(self.closed()),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let mut received = Received::default();
        if drop_body {
            let progress = self.reader.take_body(count as u64)?;
            self.account(&progress, &mut received);
        } else {
            self.take(count, buffer, &mut received)?;
        }
        received.complete = self.due == 0;
        Ok(Some(received))
    }

    fn take(
        &mut self,
        count: usize,
        buffer: &Buffer,
        received: &mut Received,
    ) -> Result<(), Broken> {
        let mut input = &buffer.0[..count];
        while !input.is_empty() {
            if self.due == 0 {
                return Err(ResponseError::Surplus(input.len() as u64).into());
            }
            let (progress, taken) = self.reader.take_next(input)?;
            self.account(&progress, received);
            input = &input[taken..];
        }
        Ok(())
    }

    fn account(&mut self, progress: &Progress, received: &mut Received) {
        received.body_bytes += progress.body_bytes;
        if progress.complete {
            received.responses += 1;
            self.due -= 1;
        }
    }

    /// Whether something has come that was not read yet.
    pub(crate) fn has_input(&self) -> bool {
        let mut byte = [0];
        matches!(recv(&self.stream, &mut byte, RecvFlags::PEEK), Ok((_, 1)))
    }

    /// Whether the peer has neither closed the connection nor sent anything.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        recv(&self.stream, &mut byte, RecvFlags::PEEK) == Err(Errno::AGAIN)
    }

    fn closed(&self) -> Broken {
        if self.reader.body_remaining().is_some() {
            Broken::ClosedWithin
        } else {
            Broken::ClosedBetween
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
