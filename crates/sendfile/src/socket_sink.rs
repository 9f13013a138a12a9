//! The socket of a transfer: waits until it takes more, with a time limit for a peer that takes
//! nothing.

use std::io;
use std::ops::Range;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::sleep;
use rustix::event::PollFlags;
use tidegate_uring::{Fd, Ring, unacknowledged};

use crate::cork::Cork;
use crate::error::ErrorKind;
use crate::stall::Stall;

/// Shorter transfers are not corked and do not queue for turns: they have few chunks to keep
/// together, and end soon.
const LONG_BYTES_MIN: u64 = 512 * 1024;

/// Pause before the next attempt when poll reports a socket writable that takes nothing, as the
/// kernel does when memory for sockets is short.
const VAIN_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct SocketSink<'a> {
    socket: &'a Fd,
    stall: Stall,
    /// The events of the last poll, if nothing was sent since.
    woken_by: Option<PollFlags>,
    /// The transfer is corked, and queues for turns.
    long: bool,
}

impl<'a> SocketSink<'a> {
    /// For a transfer of `range`; `stall` is the time limit for a peer that takes nothing.
    pub(crate) fn new(socket: &'a Fd, range: &Range<u64>, stall: Duration) -> Self {
        Self {
            socket,
            stall: Stall::new(stall),
            woken_by: None,
            long: range.end.saturating_sub(range.start) >= LONG_BYTES_MIN,
        }
    }

    pub(crate) fn socket(&self) -> &'a Fd {
        self.socket
    }

    /// Whether the transfer is long, and so queues for turns.
    pub(crate) fn is_long(&self) -> bool {
        self.long
    }

    /// Keeps partial segments together for a long transfer.
    pub(crate) fn cork(&self) -> Option<Cork<'a>> {
        self.long.then(|| Cork::new(self.socket))
    }

    /// The socket took bytes.
    pub(crate) fn progress(&mut self) {
        self.stall.progress();
        self.woken_by = None;
    }

    /// The socket took nothing: fails if polling it again would return at once, for ever.
    pub(crate) fn full(&self) -> Result<(), ErrorKind> {
        let hung_up = self
            .woken_by
            .is_some_and(|events| events.intersects(PollFlags::ERR | PollFlags::HUP));
        if hung_up {
            Err(ErrorKind::Socket(self.error()))
        } else {
            Ok(())
        }
    }

    /// Waits until the socket takes more.
    pub(crate) async fn writable(&mut self, ring: &Ring) -> Result<(), ErrorKind> {
        let vain = self.woken_by.is_some();
        let writable = async {
            if vain {
                sleep(VAIN_WAIT).await;
            }
            Some(ring.poll(self.socket, PollFlags::OUT).await)
        };
        let stalled = async {
            // A socket without the count is treated as one whose peer takes nothing.
            let unacknowledged = || unacknowledged(self.socket).unwrap_or(0);
            self.stall.expired(unacknowledged).await;
            None
        };
        let events = or(writable, stalled).await.ok_or(ErrorKind::Stalled)?;
        self.woken_by = Some(events.map_err(ErrorKind::Socket)?);
        Ok(())
    }

    /// The pending error of a socket that hung up, or `BrokenPipe`.
    fn error(&self) -> io::Error {
        match rustix::net::sockopt::socket_error(self.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => io::ErrorKind::BrokenPipe.into(),
        }
    }
}
