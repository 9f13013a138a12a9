//! The events of the main thread.

use crate::error::Error;

/// A signal, or a change in the life of a shard.
pub(crate) enum Event {
    /// A signal to stop (TERM, INT, QUIT).
    Stop,
    /// A signal to read certificates again (HUP).
    Reload,
    /// A signal to open the files of logs again (USR1).
    ReopenLogs,
    /// One more shard serves.
    Ready,
    /// A shard ended: told to, or by a fault.
    Ended {
        shard: usize,
        result: Result<(), Error>,
    },
}
