//! Signals, as messages to the main thread.

use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::Signal;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ,
};
use signal_hook::iterator::{Handle, Signals as Received};

use crate::error::Error;
use crate::event::Event;

/// Signals that would end the process by default and are ignored, each with the text to log. Left
/// as they are: the signals of a fault, those of job control, and XCPU, by which `RLIMIT_CPU` ends
/// the process.
const IGNORED: [(i32, &str); 6] = [
    (SIGALRM, NO_MEANING),
    (SIGVTALRM, NO_MEANING),
    (SIGPROF, NO_MEANING),
    (SIGIO, NO_MEANING),
    (Signal::POWER.as_raw(), NO_MEANING),
    (Signal::STKFLT.as_raw(), NO_MEANING),
];

const NO_MEANING: &str = "it means nothing to tidegate";

/// The real-time signals, without the two that the C library uses itself (signal(7)).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The signals of the process, and the other events of its main thread.
pub struct Signals {
    pub(crate) events: Receiver<Event>,
    pub(crate) sender: Sender<Event>,
    pub(crate) forwarding: Forwarding,
}

impl Signals {
    /// Keeps HUP, USR1 and USR2 for the server, which would end the process, and ignores those
    /// without a meaning here. To be called first thing: the configuration may take long to read.
    ///
    /// # Errors
    ///
    /// If handlers or the thread that receives signals cannot be had.
    pub fn receive() -> Result<Self, Error> {
        let (sender, events) = channel();
        Ok(Self {
            forwarding: forward(sender.clone())?,
            events,
            sender,
        })
    }
}

/// The thread that receives signals.
pub(crate) struct Forwarding(Handle);

/// Starts a thread that sends an [`Event::Reload`] for each HUP, an [`Event::ReopenLogs`] for each
/// USR1 and an [`Event::Upgrade`] for each USR2, and ignores signals without a meaning here.
fn forward(events: Sender<Event>) -> Result<Forwarding, Error> {
    let mut signals = Received::new([SIGHUP, SIGUSR1, SIGUSR2]).map_err(Error::Signals)?;
    let handle = signals.handle();
    ignore(&handle);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGTERM | SIGINT | SIGQUIT => Event::Stop,
                    SIGHUP => Event::Reload(None),
                    SIGUSR1 => Event::ReopenLogs,
                    SIGUSR2 => Event::Upgrade,
                    SIGXFSZ => continue,
                    _ => {
                        tell_ignored(signal);
                        continue;
                    }
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        })
        .map_err(Error::Signals)?;
    Ok(Forwarding(handle))
}

/// Registers signals that would end the process. One that cannot be registered keeps its default:
/// valgrind reserves the last real-time signal, and a sandbox may do so too.
fn ignore(handle: &Handle) {
    let ignored = IGNORED.iter().map(|(signal, _)| *signal);
    // A log that has reached RLIMIT_FSIZE must not end the process: the write fails with EFBIG.
    for signal in ignored.chain(REAL_TIME).chain([SIGXFSZ]) {
        if let Err(error) = handle.add_signal(signal) {
            tracing::debug!(signal, %error, "a signal is left as it is");
        }
    }
}

impl Forwarding {
    /// Sends an [`Event::Stop`] for each TERM, INT and QUIT from now on. Before, they end the
    /// process: a main thread that waits for a file system reads no event.
    pub(crate) fn take_stops(&self) -> Result<(), Error> {
        [SIGTERM, SIGINT, SIGQUIT]
            .into_iter()
            .try_for_each(|signal| self.0.add_signal(signal))
            .map_err(Error::Signals)
    }
}

fn tell_ignored(signal: i32) {
    let known = IGNORED.iter().find(|(ignored, _)| *ignored == signal);
    let reason = known.map_or(NO_MEANING, |(_, reason)| reason);
    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    tracing::warn!(signal, "{name} is ignored: {reason}");
}
