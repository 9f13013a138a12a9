//! One nonblocking keep-alive connection with at most one request under way.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::cli::Target;
use crate::response::{Progress, ResponseError, ResponseReader};

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

/// The request that a load generator sends over and over.
pub(crate) fn request(server: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: tidegate-load\r\n\r\n")
        .into_bytes()
}

/// [`request`] for a [`Target`].
pub(crate) fn target_request(target: &Target) -> Vec<u8> {
    request(target.server, &target.path)
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
        })
    }

    /// Content-Length of the latest response.
    pub(crate) fn length(&self) -> u64 {
        self.reader.length()
    }

    /// Whether the server announced that it closes after this response.
    pub(crate) fn close_announced(&self) -> bool {
        self.reader.close()
    }

    /// Sends a request. An idle connection's socket buffer has room for it, so
    /// a short or refused send is an error.
    pub(crate) fn send(&self, request: &[u8]) -> Result<(), Broken> {
        let sent = send(&self.stream, request, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
        if sent == request.len() {
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
    ) -> Result<Option<Progress>, Broken> {
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
        let progress = if drop_body {
            self.reader.take_body(count as u64)?
        } else {
            self.reader.take(&buffer.0[..count])?
        };
        Ok(Some(progress))
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
