//! Calls on a socket that do not wait.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, getpeername, send, sockopt};
use tidegate_config::Proxies;
use tidegate_uring::Fd;

/// Sends as many bytes as the socket takes at once. Returns their number.
pub(super) fn send_now(socket: &Fd, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let flags = flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match send(socket, bytes, flags) {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The peer's address: as IPv4 if it came to an IPv6 socket by IPv4. `None` if the connection has
/// ended, and on sockets without addresses.
pub(crate) fn peer_ip(socket: &Fd) -> Option<IpAddr> {
    let peer = getpeername(socket).ok().flatten()?;
    Some(SocketAddr::try_from(peer).ok()?.ip().to_canonical())
}

/// Whether the peer of `socket`, with this address, is a trusted proxy. One without an address is a
/// client of a Unix socket, or has reset its connection.
pub(crate) fn is_trusted(address: Option<IpAddr>, socket: &Fd, proxies: &Proxies) -> bool {
    proxies.trust(address) && (address.is_some() || is_unix(socket))
}

/// Whether it is a Unix socket.
pub(crate) fn is_unix(socket: &Fd) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
}

/// Makes close(2) drop unsent bytes and reset the connection.
pub(super) fn reset_on_close(socket: &Fd) {
    // An error means that the connection has ended already.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
