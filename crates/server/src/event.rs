//! The events of the main thread.

use std::io;
use std::sync::mpsc::SyncSender;

use crate::error::Error;
use crate::update::{NextConfiguration, Unprepared};

/// How a reload ended: warnings, each a line with its end, or the reason why nothing changed.
pub(crate) type Outcome = Result<String, String>;

/// A signal, or a change in the life of a shard.
pub(crate) enum Event {
    /// A signal to stop (TERM, INT, QUIT).
    Stop,
    /// A demand to read the configuration and the certificates again: a signal (HUP), or a client
    /// that waits for the outcome.
    Reload(Option<SyncSender<Outcome>>),
    /// A signal to open the files of logs again (USR1).
    ReopenLogs,
    /// The configuration that was read again, with the number of the attempt.
    Prepared(u64, Result<Box<NextConfiguration>, Unprepared>),
    /// One more shard has replaced its configuration.
    Applied,
    /// A signal to start the new binary (USR2).
    Upgrade,
    /// The new binary, process so and so, can serve; or why it does not.
    Upgraded(Result<u32, String>),
    /// The process that this one takes the place of accepts no more connections.
    HandedOver(io::Result<()>),
    /// One more shard can serve.
    Ready,
    /// A shard ended: told to, or by a fault.
    Ended {
        shard: usize,
        result: Result<(), Error>,
    },
}
