//! Bytes that wait until the peer takes earlier ones.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::net::SendFlags;
use tidegate_uring::send::Send;
use tidegate_uring::{Fd, Op};

use super::io::Io;
use super::socket::send_now;
use crate::memory::{Held, Part};
use crate::timeouts::{Phase, Timer};

/// Bytes that the socket did not take at once, already encrypted.
/// [`Transport::flush`](super::Transport::flush) must send them before anything else.
#[must_use = "what follows would overtake these bytes"]
pub(crate) struct Unsent(Box<Pieces>);

struct Pieces {
    bytes: Bytes,
    flags: SendFlags,
    /// What is sent after `bytes`, without flags.
    next: Bytes,
    _held: Held,
}

impl Unsent {
    pub(super) fn new(bytes: Bytes, flags: SendFlags) -> Self {
        let held = size_of::<Pieces>() + bytes.len();
        Self::holding(held, bytes, flags)
    }

    /// The same for bytes of the cache, which holds them.
    pub(super) fn shared(bytes: Bytes) -> Self {
        Self::holding(size_of::<Pieces>(), bytes, SendFlags::empty())
    }

    fn holding(held: usize, bytes: Bytes, flags: SendFlags) -> Self {
        Self(Box::new(Pieces {
            bytes,
            flags,
            next: Bytes::new(),
            _held: Held::new(Part::Unsent, held),
        }))
    }

    /// The same, and `next` after it.
    pub(super) fn before(mut self, next: Bytes) -> Self {
        self.0.next = next;
        self
    }
}

impl Pieces {
    /// Whether anything is left. If so, `bytes` has some of it.
    fn has_bytes(&mut self) -> bool {
        if self.bytes.is_empty() {
            self.bytes = mem::take(&mut self.next);
            self.flags = SendFlags::empty();
        }
        !self.bytes.is_empty()
    }
}

/// Sends as much as the socket takes at once and copies the rest.
pub(super) fn send_or_keep(
    socket: &Fd,
    bytes: &[u8],
    flags: SendFlags,
) -> io::Result<Option<Unsent>> {
    let sent = send_now(socket, bytes, flags)?;
    Ok(keep(&bytes[sent..], flags))
}

/// Copies `bytes` to be sent later.
pub(super) fn keep(bytes: &[u8], flags: SendFlags) -> Option<Unsent> {
    (!bytes.is_empty()).then(|| Unsent::new(Bytes::copy_from_slice(bytes), flags))
}

/// Sends all of `unsent` unchanged. The peer must take some of it within the send-stall time.
pub(super) async fn send_all(
    io: &Io,
    timer: &Timer,
    socket: &Fd,
    unsent: Unsent,
) -> io::Result<()> {
    let mut flush = Flush::new(unsent);
    poll_fn(|context| flush.poll(io, timer, socket, context)).await
}

/// Bytes on their way to a socket that was full.
///
/// Dropped: it is unknown how many bytes were sent, perhaps half a record; the connection can only
/// end.
pub(crate) struct Flush {
    rest: Unsent,
    /// Under way.
    send: Option<Op<Send>>,
}

impl Flush {
    pub(crate) fn new(unsent: Unsent) -> Self {
        Self {
            rest: unsent,
            send: None,
        }
    }

    /// Ready when the socket took all. The peer must take some of it within the send-stall time.
    pub(super) fn poll(
        &mut self,
        io: &Io,
        timer: &Timer,
        socket: &Fd,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let pieces = &mut *self.rest.0;
        while pieces.has_bytes() {
            let send = self.send.get_or_insert_with(|| {
                timer.enter(Phase::Send);
                io.ring.send(socket, pieces.bytes.clone(), pieces.flags)
            });
            let count = ready!(Pin::new(send).poll(context));
            self.send = None;
            pieces.bytes.advance(count?);
        }
        Poll::Ready(Ok(()))
    }
}
