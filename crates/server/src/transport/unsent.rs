//! Bytes that wait until the peer takes earlier ones.

use std::io;

use bytes::Bytes;
use rustix::net::SendFlags;
use tidegate_uring::Fd;

use super::io::Io;
use super::socket::send_now;
use crate::timeouts::{Phase, Timer};

/// Bytes that the socket did not take at once, already encrypted.
/// [`Transport::flush`](super::Transport::flush) must send them before anything else.
#[must_use = "what follows would overtake these bytes"]
pub(crate) struct Unsent(Box<(Bytes, SendFlags)>);

impl Unsent {
    pub(super) fn new(bytes: Bytes, flags: SendFlags) -> Self {
        Self(Box::new((bytes, flags)))
    }
}

/// Sends as much as the socket takes at once and copies the rest.
pub(super) fn send_or_keep(
    socket: &Fd,
    bytes: &[u8],
    flags: SendFlags,
) -> io::Result<Option<Unsent>> {
    let sent = send_now(socket, bytes, flags)?;
    Ok(keep(&bytes[sent..], flags))
}

/// Copies `bytes` to be sent later.
pub(super) fn keep(bytes: &[u8], flags: SendFlags) -> Option<Unsent> {
    (!bytes.is_empty()).then(|| Unsent::new(Bytes::copy_from_slice(bytes), flags))
}

/// Sends all of `unsent` unchanged. The peer must take some of it within the send-stall time.
pub(super) async fn send_all(
    io: &Io,
    timer: &Timer,
    socket: &Fd,
    unsent: Unsent,
) -> io::Result<()> {
    let (mut bytes, flags) = *unsent.0;
    while !bytes.is_empty() {
        timer.enter(Phase::Send);
        let sent = io.ring.send(socket, bytes.clone(), flags).await?;
        drop(bytes.split_to(sent));
    }
    Ok(())
}
