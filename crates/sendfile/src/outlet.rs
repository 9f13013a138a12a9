//! The socket of a transfer: waiting until it takes more, for as long as its peer may take nothing.

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

/// Shorter transfers are not corked and take no turns: they have few chunks to keep together, and
/// are soon over.
const LONG_BYTES_MIN: u64 = 512 * 1024;

/// How long to wait when a socket is said to be writable and takes nothing all the same, as the
/// kernel has it when memory for sockets is short.
const VAIN_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Outlet<'a> {
    socket: &'a Fd,
    stall: Stall,
    /// What the last wait told, if nothing was sent since.
    woken_by: Option<PollFlags>,
    /// The transfer is worth a cork, and takes turns.
    long: bool,
}

impl<'a> Outlet<'a> {
    /// For a transfer of `range` to a peer that may take nothing for the time of `stall`.
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

    /// Whether the transfer is a long one, which takes turns.
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

    /// The socket took nothing: fails if waiting for it again would be answered at once, for ever.
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
            // A socket that cannot tell counts as one whose peer takes nothing.
            let unacknowledged = || unacknowledged(self.socket).unwrap_or(0);
            self.stall.expired(unacknowledged).await;
            None
        };
        let events = or(writable, stalled).await.ok_or(ErrorKind::Stalled)?;
        self.woken_by = Some(events.map_err(ErrorKind::Socket)?);
        Ok(())
    }

    /// The error of a socket that hung up and told no error when it was sent to.
    fn error(&self) -> io::Error {
        match rustix::net::sockopt::socket_error(self.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => io::ErrorKind::BrokenPipe.into(),
        }
    }
}
