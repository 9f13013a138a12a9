//! The socket of a transfer: waits until it takes more, with a time limit for a peer that takes
//! nothing.

use std::io;
use std::time::Duration;

use futures_lite::future::or;
use rustix::event::PollFlags;
use rustix::net::sockopt::socket_error;
use tidegate_uring::{Fd, Ring, sleep, unacknowledged};

use crate::error::ErrorKind;
use crate::stall::Stall;

/// Pause before the next attempt when poll reports a socket writable that takes nothing, as the
/// kernel does when memory for sockets is short.
const VAIN_WAIT: Duration = Duration::from_millis(1);

/// The waits of one transfer for its socket.
pub(crate) struct SocketSink {
    stall: Stall,
    /// The events of the last poll, if nothing was sent since.
    woken_by: Option<PollFlags>,
}

impl SocketSink {
    /// `stall` is the time limit for a peer that takes nothing.
    pub(crate) fn new(stall: Duration) -> Self {
        Self {
            stall: Stall::new(stall),
            woken_by: None,
        }
    }

    /// A step begins: the time since the last one does not count against the peer.
    pub(crate) fn begin_step(&mut self) {
        self.stall.go_on();
    }

    /// The socket took bytes.
    pub(crate) fn progress(&mut self) {
        self.stall.progress();
        self.woken_by = None;
    }

    /// The socket took nothing: fails if polling it again would return at once, for ever.
    pub(crate) fn full(&self, socket: &Fd) -> Result<(), ErrorKind> {
        let hung_up = self
            .woken_by
            .is_some_and(|events| events.intersects(PollFlags::ERR | PollFlags::HUP));
        if hung_up {
            Err(ErrorKind::Socket(pending_error(socket)))
        } else {
            Ok(())
        }
    }

    /// Waits until the socket takes more.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub(crate) fn writable(
        &mut self,
        ring: &Ring,
        socket: &Fd,
    ) -> impl Future<Output = Result<(), ErrorKind>> {
        async move {
            let vain = self.woken_by.is_some();
            let writable = async {
                if vain {
                    // Boxed, as it is rare.
                    Box::pin(sleep(VAIN_WAIT)).await;
                }
                Some(ring.poll(socket, PollFlags::OUT).await)
            };
            let stalled = async {
                // A socket without the count is treated as one whose peer takes nothing.
                let unacknowledged = || unacknowledged(socket).unwrap_or(0);
                self.stall.expired(unacknowledged).await;
                None
            };
            let events = or(writable, stalled).await.ok_or(ErrorKind::Stalled)?;
            self.woken_by = Some(events.map_err(ErrorKind::Socket)?);
            Ok(())
        }
    }
}

/// The pending error of a socket that hung up, or `BrokenPipe`.
fn pending_error(socket: &Fd) -> io::Error {
    match socket_error(socket) {
        Ok(Err(error)) | Err(error) => error.into(),
        Ok(Ok(())) => io::ErrorKind::BrokenPipe.into(),
    }
}
