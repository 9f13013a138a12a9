//! Signals, as messages to the main thread.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ,
};
use signal_hook::iterator::backend::{Handle, SignalDelivery};
use signal_hook::iterator::exfiltrator::SignalOnly;

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

/// How often signals are looked for though nothing tells of them: a handler that gets no memory for
/// its byte tells nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The signals of the process, and the other events of its main thread.
pub struct Signals {
    pub(crate) events: Receiver<Event>,
    pub(crate) sender: Sender<Event>,
    received: SignalDelivery<UnixStream, SignalOnly>,
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
        let (reader, writer) = UnixStream::pair().map_err(Error::Signals)?;
        let timeout = reader.set_read_timeout(Some(LOOK_EVERY));
        timeout.map_err(Error::Signals)?;
        let kept = [SIGHUP, SIGUSR1, SIGUSR2];
        let received = SignalDelivery::with_pipe(reader, writer, SignalOnly, kept);
        let received = received.map_err(Error::Signals)?;
        ignore(&received.handle());
        Ok(Self {
            events,
            sender,
            received,
        })
    }

    /// Has TERM, INT and QUIT kept, too, from now on. Before, they end the process: a main thread
    /// that waits for a file system reads no event.
    pub(crate) fn take_stops(&self) -> Result<(), Error> {
        let handle = self.received.handle();
        [SIGTERM, SIGINT, SIGQUIT]
            .into_iter()
            .try_for_each(|signal| handle.add_signal(signal))
            .map_err(Error::Signals)
    }

    /// Whether a signal to stop has come since [`Signals::take_stops`]. Others wait as events.
    pub(crate) fn has_stop(&mut self) -> bool {
        let mut stops = false;
        for event in self.received.pending().filter_map(event) {
            stops |= matches!(event, Event::Stop);
            // This has the receiver.
            let _ = self.sender.send(event);
        }
        stops
    }

    /// Sends an event for each signal from now on, by a thread. The receiver of the events, and a
    /// sender.
    pub(crate) fn forward(self) -> Result<(Receiver<Event>, Sender<Event>), Error> {
        let Self {
            events,
            sender,
            mut received,
        } = self;
        let forward = sender.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                // The crate's own iterator panics where the socket cannot be read.
                let mut wait = |socket: &mut UnixStream| Ok(wait(socket));
                while let Ok(Some(pending)) = received.poll_pending(&mut wait) {
                    for event in pending.filter_map(event) {
                        if forward.send(event).is_err() {
                            return;
                        }
                    }
                }
            })
            .map_err(Error::Signals)?;
        Ok((events, sender))
    }
}

/// Waits until signals may have come, which are not in the socket. False: it is closed.
fn wait(socket: &mut UnixStream) -> bool {
    match socket.read(&mut [0]) {
        Ok(count) => return count > 0,
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
        Err(error) => {
            tracing::debug!(%error, "cannot read the socket that tells of signals");
            thread::sleep(LOOK_EVERY);
        }
    }
    true
}

/// An [`Event::Reload`] for HUP, an [`Event::ReopenLogs`] for USR1, an [`Event::Upgrade`] for USR2,
/// an [`Event::Stop`] for TERM, INT and QUIT. Others have no meaning here.
fn event(signal: i32) -> Option<Event> {
    match signal {
        SIGTERM | SIGINT | SIGQUIT => Some(Event::Stop),
        SIGHUP => Some(Event::Reload(None)),
        SIGUSR1 => Some(Event::ReopenLogs),
        SIGUSR2 => Some(Event::Upgrade),
        SIGXFSZ => None,
        _ => {
            tell_ignored(signal);
            None
        }
    }
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

fn tell_ignored(signal: i32) {
    let known = IGNORED.iter().find(|(ignored, _)| *ignored == signal);
    let reason = known.map_or(NO_MEANING, |(_, reason)| reason);
    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    tracing::warn!(signal, "{name} is ignored: {reason}");
}
