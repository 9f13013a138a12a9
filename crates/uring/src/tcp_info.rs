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
    /// Segments on the way to the peer, or lost.
    pub unacked: u32,
    /// Bytes that are written and were never sent.
    pub notsent_bytes: u32,
    /// The highest rate at which the kernel sends, in bytes a second; all ones: as fast as it may.
    pub max_pacing_rate: u64,
    /// Bytes that the peer has acknowledged, since the connection began.
    pub bytes_acked: u64,
    /// Bytes that the peer has sent, since the connection began.
    pub bytes_received: u64,
}

impl TcpInfo {
    /// Whether the peer has not acknowledged all that was written.
    pub fn is_owed_an_acknowledgement(&self) -> bool {
        self.unacked > 0 || self.notsent_bytes > 0
    }
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
        unacked: info.tcpi_unacked,
        notsent_bytes: info.tcpi_notsent_bytes,
        max_pacing_rate: info.tcpi_max_pacing_rate,
        bytes_acked: info.tcpi_bytes_acked,
        bytes_received: info.tcpi_bytes_received,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::set_pacing_rate;

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
    fn it_counts_what_the_peer_takes_and_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let socket = Fd::from(OwnedFd::from(stream.try_clone().unwrap()));
        let before = tcp_info(&socket).unwrap();
        peer.write_all(&[0; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        let info = tcp_info(&socket).unwrap();
        assert_eq!(info.bytes_received - before.bytes_received, 1000);
        assert_eq!(info.max_pacing_rate, u64::MAX);
        assert!(!info.is_owed_an_acknowledgement(), "{info:?}");

        stream.set_nonblocking(true).unwrap();
        let piece = vec![0; 64 * 1024];
        let mut written = 0;
        while let Ok(count) = stream.write(&piece) {
            written += count as u64;
        }
        let info = tcp_info(&socket).unwrap();
        assert!(info.is_owed_an_acknowledgement(), "{info:?}");
        let acked = info.bytes_acked - before.bytes_acked;
        assert!(acked < written, "{acked} of {written}");
        set_pacing_rate(&stream, 1 << 20).unwrap();
        assert_eq!(tcp_info(&socket).unwrap().max_pacing_rate, 1 << 20);
    }

    #[test]
    fn a_socket_of_another_kind_has_none() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert!(tcp_info(&Fd::from(OwnedFd::from(socket))).is_err());
    }
}
