//! What the main thread waits for.

use crate::error::Error;

/// An event of the main thread.
pub(crate) enum Event {
    /// A signal to stop (TERM, INT, QUIT).
    Stop,
    /// A signal to read certificates again (HUP).
    Reload,
    /// One more shard serves.
    Ready,
    /// A shard ended: told to, or by a fault.
    Ended {
        shard: usize,
        result: Result<(), Error>,
    },
}
