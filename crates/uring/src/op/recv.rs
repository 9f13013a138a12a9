//! Multishot recv(2) into the ring of provided buffers.

use std::future::poll_fn;
use std::io;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use io_uring::{opcode, types};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::buffers::RecvBuf;
use crate::fd::Fd;
use crate::op::stream::Multishot;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::{Completion, Item, ResultKind};
use crate::sqe::recv_multi;

/// The bytes that a socket receives, as they arrive.
///
/// While nothing arrives it holds no buffer. Unread data fills a handful of buffers (before Linux
/// 6.17 up to 33), then the op is paused until they are read. If other sockets need those buffers
/// meanwhile, the bytes are copied out of them, so no peer can take the buffers from the rest.
///
/// Dropped: the op is cancelled, and received bytes that were not taken are lost.
pub struct Recv {
    ring: Ring,
    socket: Fd,
    multishot: Option<Multishot>,
}

/// Received bytes: in a provided buffer, or copied out of it.
pub enum Received {
    /// In a provided buffer.
    Buffer(RecvBuf),
    /// Copied out of it, when buffers ran out.
    Spilled(Vec<u8>),
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Spilled(bytes) => bytes,
        }
    }
}

impl DerefMut for Received {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Spilled(bytes) => bytes,
        }
    }
}

impl Received {
    /// Shortens them to the first `len`; no effect if there are no more.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Buffer(buffer) => buffer.truncate(len),
            Self::Spilled(bytes) => bytes.truncate(len),
        }
    }
}

/// Buffers whose bytes end a submission, where the kernel can limit it. Few, since they may be filled
/// before the reader's lag is noticed, and one more with them; a client that sends many small
/// requests costs one more submission for each 4 KiB.
const LIMIT_BUFFERS: usize = 1;

/// Bytes that are dropped by one op, at most.
const DISCARD_BYTES: u32 = 1 << 20;

/// Yields how many bytes were dropped; 0 at the end.
struct Discard;

impl Kind for Discard {
    type Output = io::Result<usize>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|count| count as usize)
    }
}

impl Ring {
    /// Receives from `socket` until the stream is dropped.
    pub fn recv(&self, socket: &Fd) -> Recv {
        Recv {
            ring: self.clone(),
            socket: socket.clone(),
            multishot: None,
        }
    }
}

impl Recv {
    /// The socket.
    pub fn socket(&self) -> &Fd {
        &self.socket
    }

    /// The next bytes; `None` when the peer will send no more.
    ///
    /// Dropped: nothing is lost; the bytes stay for the next call.
    pub async fn next(&mut self) -> io::Result<Option<Received>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Recv::next`], for a hand-written future.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Received>>> {
        loop {
            let multishot = self
                .multishot
                .get_or_insert_with(|| arm(&self.ring, &self.socket));
            match multishot.poll_next(context) {
                Poll::Ready(Some(Item::Spilled(bytes))) => {
                    return Poll::Ready(Ok(Some(Received::Spilled(*bytes))));
                }
                Poll::Ready(Some(Item::Completion(completion))) => {
                    if completion.is_dry() {
                        self.multishot = None;
                        let buffers = &self.ring.shared.buffers;
                        buffers.wait(context.waker().clone());
                        return Poll::Pending;
                    }
                    return Poll::Ready(self.received(completion));
                }
                // The kernel ended it: paused, or of its own accord.
                Poll::Ready(None) => self.multishot = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Waits for bytes and drops them; returns their number, or `None` when the peer will send no
    /// more. A socket of TCP copies none of them (tcp(7), `MSG_TRUNC`), and no other call needs to
    /// follow: received bytes that were not taken are not counted.
    ///
    /// Dropped: bytes may have been dropped, too.
    pub async fn discard(&mut self) -> io::Result<Option<usize>> {
        self.multishot = None;
        match discard(&self.ring, &self.socket).await {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            // A socket of another kind would copy them.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::FAULT) => {
                Ok(self.next().await?.map(|received| received.len()))
            }
            Err(error) => Err(error),
        }
    }

    fn received(&self, completion: Completion) -> io::Result<Option<Received>> {
        let count = completion.outcome()? as usize;
        let buffers = &self.ring.shared.buffers;
        Ok(completion
            .buffer
            .map(|id| Received::Buffer(RecvBuf::new(buffers, id, count))))
    }
}

fn arm(ring: &Ring, socket: &Fd) -> Multishot {
    let bytes_max = LIMIT_BUFFERS * ring.shared.buffers.buffer_bytes();
    let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    let limit = ring.shared.features.recv_limit.then_some(bytes_max);
    let entry = recv_multi(socket.raw(), limit);
    // SAFETY: the entry holds no address: the kernel picks provided buffers, which live as long
    // as the ring; the socket is held.
    unsafe {
        Multishot::submit(
            ring,
            entry,
            OpResources::new(socket, Memory::None),
            ResultKind::Buffer,
        )
    }
}

fn discard(ring: &Ring, socket: &Fd) -> Op<Discard> {
    let nowhere = std::ptr::null_mut();
    let entry = opcode::Recv::new(types::Fd(socket.raw()), nowhere, DISCARD_BYTES)
        .flags(RecvFlags::TRUNC.bits() as i32)
        .build();
    // SAFETY: the kernel can write nothing to an address that is not mapped; the socket is held.
    unsafe {
        ring.op(
            entry,
            OpResources::new(socket, Memory::None),
            ResultKind::Count,
        )
    }
}
