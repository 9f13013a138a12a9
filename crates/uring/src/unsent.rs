//! What a socket holds for its peer.

use std::ffi::c_int;

use crate::Fd;

/// Bytes that were sent and that the peer has not taken: those that TCP has no acknowledgement of,
/// or that a Unix socket holds (`SIOCOUTQ`, tcp(7) and unix(7)). 0 where the kernel does not tell.
/// Does not wait.
pub fn unsent_bytes(socket: &Fd) -> u64 {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; TIOCOUTQ, which is
    // SIOCOUTQ, writes an int, which `bytes` is.
    let result = unsafe { libc::ioctl(socket.raw(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return 0;
    }
    u64::try_from(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_a_peer_does_not_read_is_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 1 << 12]).is_ok() {}
        let unsent = unsent_bytes(&Fd::from(OwnedFd::from(stream)));
        assert!(unsent > 1 << 14, "{unsent}");
    }

    #[test]
    fn what_is_no_socket_holds_nothing() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(unsent_bytes(&Fd::from(OwnedFd::from(file))), 0);
    }
}
