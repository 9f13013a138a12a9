//! What the kernel knows of a TCP connection.

use std::ffi::c_void;
use std::io;
use std::mem;

use crate::Fd;

/// `TCP_INFO` of tcp(7): some of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// The smoothed round-trip time, in microseconds.
    pub rtt: u32,
    /// Its mean deviation, in microseconds.
    pub rttvar: u32,
    /// The congestion window, in segments.
    pub snd_cwnd: u32,
    /// The receive space, in bytes.
    pub rcv_space: u32,
    /// Segments that were sent again, since the connection began.
    pub total_retrans: u32,
}

/// Reads `TCP_INFO` of a socket. Does not wait.
///
/// # Errors
///
/// `EOPNOTSUPP` or `ENOPROTOOPT` where the socket is not one of TCP.
pub fn tcp_info(socket: &Fd) -> io::Result<TcpInfo> {
    // SAFETY: all zeroes are a value of this struct of integers.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the call writes at most
    // `length` bytes to `info`, which has as many, and the number of them to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.raw(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast::<c_void>(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpInfo {
        rtt: info.tcpi_rtt,
        rttvar: info.tcpi_rttvar,
        snd_cwnd: info.tcpi_snd_cwnd,
        rcv_space: info.tcpi_rcv_space,
        total_retrans: info.tcpi_total_retrans,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_has_a_congestion_window() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let info = tcp_info(&Fd::from(OwnedFd::from(stream))).unwrap();
        assert!(info.snd_cwnd > 0, "{info:?}");
        assert_eq!(info.total_retrans, 0, "{info:?}");
    }

    #[test]
    fn a_socket_of_another_kind_has_none() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert!(tcp_info(&Fd::from(OwnedFd::from(socket))).is_err());
    }
}
