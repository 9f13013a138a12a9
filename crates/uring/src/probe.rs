//! Checks the host's io_uring once, before the first executor is made.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, getrlimit};

use crate::buffers::Buffers;
use crate::error::Error;
use crate::features::Features;
use crate::locked::queue_bytes;
use crate::setup::{explain_setup, setup, too_old};
use crate::sqe::recv_multi;

/// The RLIMIT_MEMLOCK that glommio 0.9 demands before it makes an executor.
const LOCKED_BYTES_MIN: u64 = 512 * 1024;

/// Entries and completions of the probe's ring.
const PROBE: (u32, u32) = (8, 16);

/// Checks that the kernel has all that a [`Ring`](crate::Ring) needs.
///
/// Call it before the first glommio executor is made: glommio panics or ends the process where
/// io_uring is missing.
pub fn probe() -> Result<Features, Error> {
    check_locked_memory()?;
    let bytes = queue_bytes(PROBE.0, PROBE.1);
    let mut ring = setup(PROBE.0, PROBE.1).map_err(|error| explain_setup(error, bytes))?;
    let recv_limit = check_buffers(&mut ring)?;
    let mut supported = Probe::new();
    ring.submitter()
        .register_probe(&mut supported)
        .map_err(Error::setup("io_uring_register(PROBE)"))?;
    match REQUIRED
        .iter()
        .find(|(code, _)| !supported.is_supported(*code))
    {
        Some((_, missing)) => Err(too_old(missing)),
        None => Ok(Features {
            pipe: supported.is_supported(opcode::Pipe::CODE),
            recv_limit,
        }),
    }
}

/// Every op of this crate without a fall-back. `SendZc` is not used: it marks Linux 6.0, which also
/// brought multishot recv.
const REQUIRED: [(u8, &str); 12] = [
    (opcode::AcceptMulti::CODE, "accept on io_uring"),
    (opcode::RecvMulti::CODE, "recv on io_uring"),
    (opcode::Send::CODE, "send on io_uring"),
    (opcode::Splice::CODE, "splice on io_uring"),
    (opcode::PollAdd::CODE, "poll on io_uring"),
    (opcode::OpenAt2::CODE, "openat2 on io_uring"),
    (opcode::Statx::CODE, "statx on io_uring"),
    (opcode::Read::CODE, "read on io_uring"),
    (opcode::Close::CODE, "close on io_uring"),
    (opcode::Fadvise::CODE, "fadvise on io_uring"),
    (opcode::AsyncCancel::CODE, "cancel on io_uring"),
    (opcode::SendZc::CODE, "multishot recv on io_uring"),
];

fn check_locked_memory() -> Result<(), Error> {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_BYTES_MIN => Err(Error::LockedMemory {
            limit,
            needed: LOCKED_BYTES_MIN,
        }),
        _ => Ok(()),
    }
}

/// Whether a multishot recv into provided buffers, which must be possible, can be limited.
fn check_buffers(ring: &mut IoUring) -> Result<bool, Error> {
    let buffers = Buffers::new(8, 512).map_err(Error::setup("mmap"))?;
    let (address, entries) = buffers.registration();
    // SAFETY: the memory is a mapping of that many entries, unregistered below before it goes.
    let registered = unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(address, entries, Buffers::GROUP, 0)
    };
    registered.map_err(|_| too_old("a ring of provided buffers"))?;
    let recv_limit = can_limit_recv(ring).map_err(Error::setup("recv on io_uring"))?;
    ring.submitter()
        .unregister_buf_ring(Buffers::GROUP)
        .map_err(Error::setup("io_uring_register(UNREGISTER_PBUF_RING)"))?;
    Ok(recv_limit)
}

/// Tries it on a socket whose peer is closed, where each recv completes at once: a kernel without
/// the limit reports EINVAL.
fn can_limit_recv(ring: &mut IoUring) -> io::Result<bool> {
    let (socket, peer) = UnixStream::pair()?;
    drop(peer);
    let entry = recv_multi(socket.as_raw_fd(), Some(1));
    // SAFETY: the entry holds no address, and the socket and the buffers live until it completed.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let completion = ring.completion().next();
    Ok(completion.is_some_and(|completion| completion.result() >= 0))
}
