//! Where a connection's bytes come from and go to: the socket itself, or the records of TLS on it.

use std::io;
use std::ops::Deref;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidegate_uring::{Fd, Received, Recv};

use crate::transport::tls_stream::Secure;

/// What a connection receives from and sends to.
pub(crate) enum Link {
    /// HTTP on the socket.
    Plain(Recv),
    /// HTTP in records of TLS.
    Secure(Box<Secure>),
}

// TLS is free where it is not spoken.
const _: () = assert!(size_of::<Link>() == size_of::<Recv>());

/// Bytes of requests.
pub(crate) enum Input {
    /// As they were received.
    Received(Received),
    /// Decrypted.
    Opened(Vec<u8>),
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Received(received) => received,
            Self::Opened(bytes) => bytes,
        }
    }
}

impl Link {
    /// The socket. Who sends to it has [`Link::seal`] make what is sent.
    pub(crate) fn socket(&self) -> &Fd {
        match self {
            Self::Plain(recv) => recv.socket(),
            Self::Secure(secure) => secure.socket(),
        }
    }

    /// Whether it is TLS.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// Whether it is good for another response: keys wear out.
    pub(crate) fn is_fresh(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Secure(secure) => secure.is_fresh(),
        }
    }

    /// Whether a record must be sent before data may be, by [`settle`](crate::transport::tls_stream::settle):
    /// the kernel's socket was too full for it.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(secure) => secure.owes(),
        }
    }

    /// The next bytes of requests; `None` when the client will send no more. `InvalidData` is a
    /// client that broke the protocol, and was told so.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Input>>> {
        match self {
            Self::Plain(recv) => recv
                .poll_next(context)
                .map_ok(|received| received.map(Input::Received)),
            Self::Secure(secure) => secure.poll_next(context),
        }
    }

    /// Receives what nobody will read: how many bytes, `None` at the end.
    pub(crate) async fn skip(&mut self) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(recv) => Ok(recv.next().await?.map(|received| received.len())),
            Self::Secure(secure) => secure.skip().await,
        }
    }

    /// What is to be sent for `plain`: that itself, or records made in `sealed`. An error is the
    /// end of the connection.
    pub(crate) fn seal<'a>(
        &mut self,
        plain: &'a [u8],
        sealed: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        match self {
            Self::Plain(_) => Ok(plain),
            Self::Secure(secure) => secure.seal(plain, sealed),
        }
    }

    /// As [`Link::seal`], for bytes that outlive the call.
    pub(crate) fn seal_bytes(&mut self, plain: Bytes) -> io::Result<Bytes> {
        match self {
            Self::Plain(_) => Ok(plain),
            Self::Secure(secure) => secure.seal_bytes(plain),
        }
    }
}
