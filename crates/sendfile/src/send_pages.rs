//! Bytes in memory on their way to a socket, which takes their pages.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tidegate_uring::{Fd, Pages, Ring};

use crate::error::{Error, ErrorKind};
use crate::pool::{Parked, PipeGuard, Pool};
use crate::socket_sink::SocketSink;

/// Sends the bytes of `pages` from `range.start` to `range.end` (exclusive) to `socket`, without a
/// copy, through a pipe: vmsplice(2), splice(2). `socket` carries `O_NONBLOCK`. `stall` is the time
/// limit for a peer that takes nothing.
///
/// As much leaves in one turn of the ring as the socket takes, of one transfer.
///
/// # Errors
///
/// As for [`sendfile`](crate::sendfile()).
///
/// # Panics
///
/// If `range` is not within the pages.
///
/// # Cancel safety
///
/// Dropped: it is unknown how many bytes were sent. The pipe is closed if it holds bytes.
pub async fn send_pages(
    ring: &Ring,
    pool: &Rc<Pool>,
    socket: &Fd,
    pages: &Pages,
    range: Range<usize>,
    stall: Duration,
) -> Result<(), Error> {
    let start = range.start;
    let mut transfer = PageTransfer {
        pool,
        socket,
        pages,
        left: range,
        staged: 0,
        sink: SocketSink::new(stall),
    };
    let result = transfer.run(ring).await;
    result.map_err(|kind| Error {
        sent: (transfer.left.start - start) as u64,
        kind,
    })
}

struct PageTransfer<'a> {
    pool: &'a Rc<Pool>,
    socket: &'a Fd,
    pages: &'a Pages,
    /// What the socket has not taken.
    left: Range<usize>,
    /// The first bytes of `left` that are in the pipe.
    staged: usize,
    sink: SocketSink,
}

impl PageTransfer<'_> {
    async fn run(&mut self, ring: &Ring) -> Result<(), ErrorKind> {
        let mut parked = None;
        loop {
            self.pool.fair_queue.next(ring).await;
            let mut guard = self.pipe(ring, parked.take()).await?;
            self.fill_socket(&mut guard)?;
            if self.left.is_empty() {
                guard.emptied();
                return Ok(());
            }
            parked = Some(guard.park());
            self.sink.writable(ring, self.socket).await?;
        }
    }

    /// The pipe of the last turn with its bytes, or an empty one.
    async fn pipe(&mut self, ring: &Ring, parked: Option<Parked>) -> Result<PipeGuard, ErrorKind> {
        if let Some(guard) = parked.and_then(Parked::reclaim) {
            return Ok(guard);
        }
        self.staged = 0;
        self.pool.take(ring).await.map_err(ErrorKind::Pipe)
    }

    /// Sends until nothing is left or the socket is full.
    fn fill_socket(&mut self, guard: &mut PipeGuard) -> Result<(), ErrorKind> {
        while !self.left.is_empty() {
            if self.staged == 0 {
                let staged = guard.fill().fill_from_pages(self.pages, &self.left);
                self.staged = staged.map_err(|error| ErrorKind::Pipe(error.into()))?;
                self.pool.count_inline();
            }
            match self.send_staged(guard) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Errno::AGAIN) => return self.sink.full(self.socket),
                Err(error) => return Err(ErrorKind::Socket(error.into())),
            }
        }
        Ok(())
    }

    /// Whether the socket took all that is staged.
    fn send_staged(&mut self, guard: &PipeGuard) -> Result<bool, Errno> {
        let more = self.staged < self.left.len();
        let count = guard.pipe().drain(self.socket, self.staged as u64, more)?;
        if count == 0 {
            return Err(Errno::PIPE);
        }
        self.staged -= count;
        self.left.start += count;
        self.pool.count_sent(count as u64, false);
        self.sink.progress();
        Ok(self.staged == 0)
    }
}
