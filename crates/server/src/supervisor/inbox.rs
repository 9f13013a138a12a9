//! The events of the main thread, and the watchdog's clock.

use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::error::Error;
use crate::event::Event;
use crate::observe::heartbeat::{ASK_EVERY, Watchdog};
use crate::supervisor::notify::Notifier;

/// The events of the main thread. Between them it drives the watchdog, and the service manager's.
pub(crate) struct Inbox {
    events: Receiver<Event>,
    watchdog: Watchdog,
    notifier: Rc<Notifier>,
    /// When to query the shards next.
    ask_at: Instant,
}

impl Inbox {
    pub(crate) fn new(events: Receiver<Event>, watchdog: Watchdog, notifier: Rc<Notifier>) -> Self {
        Self {
            events,
            watchdog,
            notifier,
            ask_at: Instant::now() + ASK_EVERY,
        }
    }

    /// The next event, or `None` if `until` comes first. An error once a shard has not answered for
    /// too long.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Option<Event>, Error> {
        loop {
            let wake_at = until.map_or(self.ask_at, |until| until.min(self.ask_at));
            let wait = wake_at.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Timeout) if wake_at < self.ask_at => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    // Counted from now: queries missed while the process was stopped are not made
                    // up.
                    self.ask_at = Instant::now() + ASK_EVERY;
                    if self.watchdog.ask()? {
                        self.notifier.alive();
                    }
                }
                // The senders live as long as their threads.
                Err(RecvTimeoutError::Disconnected) => panic!("the thread of signals does not end"),
            }
        }
    }
}
