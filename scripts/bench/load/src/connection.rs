//! One nonblocking connection: requests in one send, then their responses.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::cli::Target;
use crate::response::{Expected, Progress, ResponseError, ResponseReader};
use crate::tls::{Session, Tls};

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
    /// Dropped in the kernel; over TLS once it is decrypted.
    Discard,
}

pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    mode: BodyMode,
    responses: Responses,
}

/// What is to come.
#[derive(Default)]
struct Responses {
    reader: ResponseReader,
    /// Responses that are due, the one under way included.
    due: usize,
}

/// Where connections go.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// `None`: they are not secured.
    tls: Option<Tls>,
}

/// What one or more responses brought.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) body_bytes: u64,
    /// Responses that are now complete.
    pub(crate) responses: usize,
    /// No more of them are due.
    pub(crate) complete: bool,
    /// The server has said that nothing follows (close_notify); it may wait for
    /// the client to close.
    pub(crate) ended: bool,
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

impl Server {
    /// The server of `target`; `resume` as in [`GetOptions`](crate::cli::GetOptions). A session
    /// that is to be resumed is made here.
    pub(crate) fn new(target: &Target, resume: bool) -> io::Result<Self> {
        let tls = target.tls.as_ref().map(|file| Tls::new(file, resume));
        let server = Self {
            address: target.server,
            tls: tls.transpose()?,
        };
        if let Some(tls) = server.tls.as_ref().filter(|tls| tls.resumes()) {
            let mut stream = TcpStream::connect(server.address)?;
            let mut session = tls.connect_anyhow(&mut stream)?;
            let request = request(server.address, &target.path, "Connection: close\r\n");
            let mut stream = session.stream(&mut stream);
            stream.write_all(&request)?;
            // Its tickets come with the response.
            io::copy(&mut stream, &mut io::sink())?;
        }
        Ok(server)
    }

    /// Connects, waiting for the handshakes, which loopback makes at once.
    pub(crate) fn open(&self, mode: BodyMode) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let tls = match &self.tls {
            Some(tls) => Some(Box::new(tls.connect(&mut stream)?)),
            None => None,
        };
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            tls,
            mode,
            responses: Responses::default(),
        })
    }
}

impl Connection {
    /// Bounds what the kernel takes in before it is read. To be called before
    /// the first request.
    pub(crate) fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        set_socket_recv_buffer_size(&self.stream, bytes).map_err(io::Error::from)
    }

    /// Whether a response is under way or still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.responses.due > 0
    }

    /// What it means that the server has closed.
    pub(crate) fn closed(&self) -> Broken {
        if self.responses.reader.body_remaining().is_some() {
            Broken::ClosedWithin
        } else {
            Broken::ClosedBetween
        }
    }

    /// Whether the server announced that it closes after this response.
    pub(crate) fn close_announced(&self) -> bool {
        self.responses.reader.close()
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
        self.responses.reader.expect(expected);
        self.responses.due = count;
        let sealed = match &mut self.tls {
            Some(session) => &session.seal(requests)?,
            None => requests,
        };
        let sent = send(&self.stream, sealed, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
        if sent == sealed.len() {
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
        let remaining = self.responses.reader.body_remaining();
        let discards = self.mode == BodyMode::Discard && self.tls.is_none();
        let drop_body = discards && remaining.is_some();
        let (flags, most) = if drop_body {
            (RecvFlags::TRUNC, DISCARD_BYTES_MAX)
        } else if discards {
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
        let (input, responses) = (&buffer.0[..count], &mut self.responses);
        if drop_body {
            let progress = responses.reader.take_body(count as u64)?;
            responses.account(&progress, &mut received);
        } else if let Some(session) = &mut self.tls {
            let take = |plain: &[u8]| responses.take(plain, &mut received);
            received.ended = session.open(input, take)?;
        } else {
            responses.take(input, &mut received)?;
        }
        received.complete = responses.due == 0;
        Ok(Some(received))
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
}

impl Responses {
    fn take(&mut self, mut input: &[u8], received: &mut Received) -> Result<(), Broken> {
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
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
