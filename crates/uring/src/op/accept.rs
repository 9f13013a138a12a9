//! accept(2): a stream of connections, or one connection.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::task::{Context, Poll};

use io_uring::{opcode, types};
use rustix::net::SocketFlags;

use crate::fd::Fd;
use crate::op::stream::Multishot;
use crate::op::{Done, Kind, Op};
use crate::resources::{Memory, OpResources};
use crate::ring::Ring;
use crate::slot::{Item, ResultKind, owned};

/// Yields one connection.
pub struct AcceptOne;

impl Kind for AcceptOne {
    type Output = io::Result<OwnedFd>;

    fn finish(done: Done) -> Self::Output {
        done.outcome.map(|fd| owned(fd as i32))
    }
}

/// The connections of a listener, in order of arrival.
///
/// When a few hundred connections wait to be taken, the op is paused until they are; the rest wait
/// in the listener's backlog.
///
/// Dropped: no more are accepted, and accepted ones that were not taken are closed.
pub struct Accept {
    ring: Ring,
    listener: Fd,
    multishot: Option<Multishot>,
}

impl Ring {
    /// Accepts connections until the stream is dropped. Each carries `O_NONBLOCK`, without which
    /// splice(2) to it blocks, and `O_CLOEXEC`.
    pub fn accept(&self, listener: &Fd) -> Accept {
        Accept {
            ring: self.clone(),
            listener: listener.clone(),
            multishot: None,
        }
    }
}

impl Ring {
    /// Accepts one connection, with the flags of [`Ring::accept`], and leaves others in the
    /// listener's backlog: for a program near its limit of connections.
    pub fn accept_one(&self, listener: &Fd) -> Op<AcceptOne> {
        let entry =
            opcode::Accept::new(types::Fd(listener.raw()), ptr::null_mut(), ptr::null_mut())
                .flags(flags())
                .build();
        // SAFETY: the entry holds no address, and the listener is held.
        unsafe {
            self.op(
                entry,
                OpResources::new(listener, Memory::None),
                ResultKind::Fd,
            )
        }
    }
}

impl Accept {
    /// Whether connections are being accepted: from the first poll of [`Accept::next`] on.
    pub fn is_armed(&self) -> bool {
        self.multishot.is_some()
    }

    /// The next connection. After an error (such as `EMFILE`) the next call arms the accept again;
    /// the caller decides when.
    ///
    /// Dropped: no connection is lost; the next call returns it.
    pub async fn next(&mut self) -> io::Result<OwnedFd> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        loop {
            let multishot = self
                .multishot
                .get_or_insert_with(|| arm(&self.ring, &self.listener));
            match multishot.poll_next(context) {
                Poll::Ready(Some(Item::Completion(completion))) => {
                    return Poll::Ready(completion.outcome().map(|fd| owned(fd as i32)));
                }
                // The kernel ended it, after an error or for its own reasons.
                Poll::Ready(_) => self.multishot = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn arm(ring: &Ring, listener: &Fd) -> Multishot {
    let entry = opcode::AcceptMulti::new(types::Fd(listener.raw()))
        .flags(flags())
        .build();
    // SAFETY: the entry holds no address, and the listener is held.
    unsafe {
        Multishot::submit(
            ring,
            entry,
            OpResources::new(listener, Memory::None),
            ResultKind::Fd,
        )
    }
}

fn flags() -> i32 {
    (SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).bits() as i32
}
