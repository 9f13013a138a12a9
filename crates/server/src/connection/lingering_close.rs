//! Closes a connection while the client may still be sending.

use crate::context::Context;
use crate::timeouts::{Phase, Timer};
use crate::transport::Transport;

/// Ends the sending half, and drops what the client is still sending, up to `bytes_max`. Closing a
/// socket with unread bytes would reset the connection, and the client would lose the response (RFC
/// 9112, section 9.6).
pub(super) async fn linger(
    context: &Context,
    transport: &mut Transport,
    timer: &Timer,
    bytes_max: usize,
) {
    transport.close_notify(&context.io, timer).await;
    if timer.timeout(Phase::Linger).is_zero() || transport.shutdown_write().is_err() {
        return;
    }
    timer.enter(Phase::Linger);
    let mut received = 0;
    while received < bytes_max {
        match transport.discard().await {
            Ok(Some(count)) => received += count,
            Ok(None) | Err(_) => break,
        }
    }
}
