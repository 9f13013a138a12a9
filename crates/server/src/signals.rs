//! Signals, as messages to the main thread.

use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;
use crate::run::Event;

/// Sends an [`Event::Stop`] for each TERM, INT and QUIT from now on, in a thread of its own.
pub(crate) fn forward(events: Sender<Event>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT]).map_err(Error::Signals)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if events.send(Event::Stop).is_err() {
                    return;
                }
            }
        })
        .map_err(Error::Signals)?;
    Ok(())
}
