//! Socket options of any length, and records of a given type.
//!
//! # Safety
//!
//! The only place in this crate with `unsafe`: setsockopt(2), getsockopt(2), sendmsg(2) and
//! recvmsg(2) with control messages, which rustix does not have for TLS. Every pointer that the
//! kernel gets is to a local or an argument that outlives the call, with its length.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Record types (RFC 8446 section 5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// setsockopt(2).
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed; the kernel reads `value.len()` bytes at
    // `value`, which is borrowed for the call, and keeps no pointer to it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// getsockopt(2) of an option that has exactly the length of `value`.
pub(crate) fn get_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [u8],
) -> io::Result<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed; the kernel writes at most `length` bytes, the
    // size of `value`, which is borrowed exclusively for the call, and keeps no pointer to either.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one control message of one byte, aligned as `cmsghdr` must be.
#[repr(C)]
union ControlMessage {
    bytes: [u8; 64],
    _align: libc::cmsghdr,
}

/// Sends one record of a type other than data: sendmsg(2) with `TLS_SET_RECORD_TYPE`. Never blocks.
pub(crate) fn send_record(socket: BorrowedFd<'_>, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut control = ControlMessage { bytes: [0; 64] };
    let mut vector = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut message = message(&mut vector, &mut control);
    // SAFETY: the control buffer is 64 bytes, aligned, and longer than CMSG_SPACE(1), so the first
    // header lies in it with one byte of data after it. sendmsg only reads what `message` points
    // to: `vector`, `payload` and `control`, which live until it returns.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(1) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        libc::CMSG_DATA(header).write(kind);
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == payload.len() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives one record, or as much of it as `buffer` holds, and its type: recvmsg(2) with
/// `TLS_GET_RECORD_TYPE`. Never blocks. The end of the stream is `UnexpectedEof`.
pub(crate) fn receive_record(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(u8, usize)> {
    let mut control = ControlMessage { bytes: [0; 64] };
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = message(&mut vector, &mut control);
    // SAFETY: recvmsg writes at most `buffer.len()` bytes to `buffer` and 64 to `control`, both
    // borrowed exclusively until it returns.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(received) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel has set `msg_controllen` to what it wrote, so a header that CMSG_FIRSTHDR
    // returns lies in `control`; its data byte is read only if its length says that it is there.
    let kind = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_TLS
            || (*header).cmsg_type != libc::TLS_GET_RECORD_TYPE
            || ((*header).cmsg_len as usize) < libc::CMSG_LEN(1) as usize
        {
            None
        } else {
            Some(libc::CMSG_DATA(header).read())
        }
    };
    match kind {
        Some(kind) => Ok((kind, received)),
        None if received == 0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        None => Ok((DATA, received)),
    }
}

/// A message of one vector and a control buffer.
fn message(vector: &mut libc::iovec, control: &mut ControlMessage) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(vector);
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = mem::size_of::<ControlMessage>() as _;
    message
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_record_without_a_type_is_data_and_the_end_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let mut buffer = [0; 16];
        let error = receive_record(near.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(far);
        // FIN of a loopback peer is there when close(2) has returned.
        let error = receive_record(near.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
