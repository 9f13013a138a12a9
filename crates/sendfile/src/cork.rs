//! `TCP_CORK` for the time of a long transfer.

use rustix::net::sockopt::set_tcp_cork;
use tidegate_uring::Fd;

/// Keeps partial segments back until it is dropped, which sends the last one.
///
/// `SPLICE_F_MORE` alone does not: it keeps the tail of a chunk back until the next chunk, but an
/// acknowledgement that arrives in between sends it, at once where `TCP_NODELAY` is set. Measured
/// on loopback, 100 MiB: 45 KB a packet without, 61 KB with it.
pub(crate) struct Cork<'a>(&'a Fd);

impl<'a> Cork<'a> {
    pub(crate) fn new(socket: &'a Fd) -> Self {
        // A socket that is not TCP's has no cork, and no need for one.
        let _ = set_tcp_cork(socket, true);
        Self(socket)
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        let _ = set_tcp_cork(self.0, false);
    }
}
