//! Signals, as messages to the main thread.

use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;
use crate::run::Event;

/// Sends an [`Event::Stop`] for each TERM, INT and QUIT from now on, and an [`Event::Reload`] for each
/// HUP, in a thread of its own.
pub(crate) fn forward(events: Sender<Event>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP]).map_err(Error::Signals)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGHUP => Event::Reload,
                    _ => Event::Stop,
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        })
        .map_err(Error::Signals)?;
    Ok(())
}
