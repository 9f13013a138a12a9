//! The bytes of a socket that its peer has not acknowledged.

use std::ffi::c_int;
use std::io;

use crate::Fd;

/// Bytes that were written to a TCP socket and that its peer has not acknowledged, sent or not:
/// `SIOCOUTQ` of tcp(7). Does not wait.
///
/// Other kinds of sockets count differently, or not at all.
///
/// # Errors
///
/// `ENOTTY` and others where the descriptor has no such count; `EINVAL` for a socket that listens.
pub fn unacknowledged(socket: &Fd) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the request, which is
    // the same number as `SIOCOUTQ`, writes one `c_int` to where it points, which is `bytes`.
    let result = unsafe { libc::ioctl(socket.raw(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use super::*;

    /// How long the test may wait before it counts as hanging.
    const WATCHDOG: Duration = Duration::from_mins(1);

    #[test]
    fn it_falls_as_the_peer_takes_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(WATCHDOG)).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let socket = Fd::from(OwnedFd::from(stream.try_clone().unwrap()));
        assert_eq!(unacknowledged(&socket).unwrap(), 0);

        stream.set_nonblocking(true).unwrap();
        let piece = vec![0; 64 * 1024];
        let mut written = 0;
        while let Ok(count) = stream.write(&piece) {
            written += count;
        }
        let full = unacknowledged(&socket).unwrap();
        assert!(full > 0 && full <= written, "{full} of {written}");
        peer.read_exact(&mut vec![0; written]).unwrap();
        // All was received; its acknowledgement may be on the way.
        let start = Instant::now();
        while unacknowledged(&socket).unwrap() > 0 {
            assert!(start.elapsed() < WATCHDOG, "it never falls to 0");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_has_no_such_count() {
        let file = Fd::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        assert!(unacknowledged(&file).is_err());
    }
}
