//! How fast the kernel sends on a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// No limit (socket(7)).
pub const UNPACED: u64 = u64::MAX;

/// Limits what is sent on `socket` to so many bytes in a second (`SO_MAX_PACING_RATE`, socket(7)).
/// TCP paces by itself; other sockets take the value without an effect.
///
/// # Errors
///
/// Those of setsockopt(2).
pub fn set_pacing_rate(socket: impl AsFd, bytes: u64) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the value is a u64 that lives during the call, with its size; the descriptor is
    // open, since it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const bytes).cast(),
            size_of::<u64>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
