//! `TCP_CORK` for the time of a long transfer.

use rustix::net::sockopt::set_tcp_cork;
use tidegate_uring::Fd;

/// Holds back partial segments until it is dropped, which sends the last one.
///
/// `SPLICE_F_MORE` alone is not enough. It holds back the tail of a chunk until the next chunk, but
/// an acknowledgement that arrives in between sends it, at once with `TCP_NODELAY`. Measured on
/// loopback, 100 MiB: 45 KB a packet without, 61 KB with it.
pub(crate) struct Cork<'a>(&'a Fd);

impl<'a> Cork<'a> {
    pub(crate) fn new(socket: &'a Fd) -> Self {
        // Only TCP sockets have a cork, and only they need one.
        let _ = set_tcp_cork(socket, true);
        Self(socket)
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        let _ = set_tcp_cork(self.0, false);
    }
}
