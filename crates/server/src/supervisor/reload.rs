//! A reload, from the request to its end.
//!
//! Two phases: a thread of its own reads, checks and opens all that the next configuration needs,
//! so whatever blocks or fails does so there. Then every worker takes its part over, which cannot
//! fail. So a reload is applied as a whole or not at all.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt::{Display, Write};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::thread;

use tidegate_config::{NeedsRestart, Place, Settings, Source};
use tidegate_uring::catch_panic;

use crate::accept::listener::{self, Binder, BoundSection};
use crate::config::prepared::{Derived, Prepared};
use crate::error::Error;
use crate::event::{Event, Outcome};
use crate::host::budget::Budget;
use crate::host::limits;
use crate::launcher;
use crate::observe::health::Health;
use crate::supervisor::preparations::Ticket;
use crate::transport::certificates::{NextTls, Tls};
use crate::update::{CoreUpdate, NextConfiguration, Unprepared};

/// Settings, and the file that they come from, if there is one.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// With the overrides of the command line and the environment.
    pub settings: Settings,
    /// For the lines of errors.
    pub source: Option<Source>,
}

/// Reads the configuration again and checks it, as `tidegate check` does. Blocking.
pub type Reread = dyn Fn() -> Result<Configuration, Unprepared> + Send + Sync;

/// What the first phase works with.
pub(super) struct Preparation {
    pub(super) reread: Arc<Reread>,
    pub(super) running: Arc<Derived>,
    pub(super) cores: Vec<usize>,
    pub(super) listeners: Vec<BoundSection>,
    pub(super) tls: Option<Tls>,
    pub(super) health: Arc<Health>,
    pub(super) ticket: Ticket,
}

impl Preparation {
    /// Prepares in a thread of its own, which sends an [`Event::Prepared`].
    pub(super) fn start(self, events: Sender<Event>) -> Result<(), String> {
        let prepare = move || {
            let prepared = catch_panic(|| self.prepare());
            let next = prepared.unwrap_or_else(|panic| Err(panic.to_string().into()));
            // Fails only while the main thread ends the process.
            let _ = events.send(Event::Prepared(self.ticket.number, next.map(Box::new)));
        };
        let thread = thread::Builder::new().name("reload".to_owned());
        let started = thread.spawn(prepare).map(drop);
        started.map_err(|error| format!("cannot start the thread that reads it: {error}"))
    }

    fn prepare(&self) -> Result<NextConfiguration, Unprepared> {
        let mut read = (self.reread)()?;
        let kept = read.settings.keep_fixed(&self.running.settings);
        let next = self.open(read.settings.clone(), kept);
        let next = next.map_err(|error| unprepared(&error, &read))?;
        next.ok_or_else(|| Unprepared::Refused("it was abandoned".to_owned()))
    }

    /// `None`: it was abandoned meanwhile.
    fn open(
        &self,
        settings: Settings,
        kept: Vec<NeedsRestart>,
    ) -> Result<Option<NextConfiguration>, Error> {
        let cores = self.cores.len();
        let budget = Budget::find(&settings);
        let share = limits::share(&settings, &budget, cores)?;
        let prepared = Prepared::of(settings, share, &self.health)?;
        let derived = Arc::clone(&prepared[0].derived);
        let running = &self.running.settings;
        let tls = NextTls::prepare(&derived.settings, self.tls.as_ref(), running)?;
        if self.ticket.is_abandoned() {
            return Ok(None);
        }
        // Last, since clients can connect from here on.
        let binder = Binder {
            settings: &derived.settings,
            cores: &self.cores,
            inherited: RefCell::default(),
            tls: tls.tls.as_ref(),
            open: &self.listeners,
        };
        let next = binder.bind_all()?;
        let listeners = listener::by_core(&next, tls.tls.as_ref(), cores)?;
        let updates = prepared.into_iter().zip(listeners);
        let updates = updates.map(|(prepared, listeners)| CoreUpdate {
            prepared,
            listeners,
        });
        Ok(Some(NextConfiguration {
            budget,
            updates: updates.collect(),
            derived,
            listeners: next,
            tls,
            kept,
        }))
    }
}

/// An address that this process may not bind may be bound by a new one.
fn unprepared(error: &Error, read: &Configuration) -> Unprepared {
    match error {
        Error::Listen { address, source }
            if source.kind() == io::ErrorKind::PermissionDenied && launcher::is_there() =>
        {
            Unprepared::Outside(address.clone())
        }
        error => Unprepared::Refused(located(error, read)),
    }
}

/// The error with its causes, and with its line where a key is at fault.
fn located(error: &Error, read: &Configuration) -> String {
    let reason = chain(error);
    let problem = place(error, &read.settings).zip(read.source.as_ref());
    let problem = problem.and_then(|(place, source)| {
        let mut problems = source.problems([(place, reason.clone())]).ok()?;
        problems.pop()
    });
    problem.map_or(reason, |problem| problem.to_string())
}

/// The key at fault.
fn place(error: &Error, settings: &Settings) -> Option<Place> {
    let (Error::Listen { address, .. } | Error::Resolve { address, .. }) = error else {
        return None;
    };
    let number = (settings.listen.iter()).position(|listen| listen.address == *address)?;
    Some(Place::of("listen").item(number).key("address"))
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// How far a reload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    None,
    /// A thread reads and opens.
    Preparing,
    /// So many workers have not taken it over.
    Applying(usize),
}

/// The clients that wait for the outcome of a reload.
#[derive(Default)]
pub(super) struct Replies {
    /// For the reload that is to begin.
    pub(super) waiting: Vec<SyncSender<Outcome>>,
    /// For the one in progress.
    current: Vec<SyncSender<Outcome>>,
    /// Its warnings, each with a line end.
    warnings: String,
}

impl Replies {
    /// A reload begins.
    pub(super) fn begin(&mut self) {
        self.current = mem::take(&mut self.waiting);
        self.warnings.clear();
    }

    /// Adds a warning to the outcome.
    pub(super) fn warn(&mut self, warning: &impl Display) {
        let _ = writeln!(self.warnings, "{warning}");
    }

    pub(super) fn applied(&mut self) {
        let outcome = Ok(mem::take(&mut self.warnings));
        Self::answer(self.current.drain(..), &outcome);
    }

    /// Process `id` has taken over, and serves by the new configuration.
    pub(super) fn succeeded(&mut self, id: u32) {
        self.warn(&format!("process {id} serves by it"));
        self.applied();
    }

    pub(super) fn refused(&mut self, reason: &str) {
        Self::answer(self.current.drain(..), &Err(reason.to_owned()));
    }

    /// Process `id` has taken over, and reloads in the place of this one.
    pub(super) fn hand_over(&mut self, id: u32) {
        Self::answer(self.waiting.drain(..), &Err(ask_again(id)));
    }

    /// Sends the outcome. A client that has given up gets none.
    pub(super) fn answer(
        clients: impl IntoIterator<Item = SyncSender<Outcome>>,
        outcome: &Outcome,
    ) {
        for client in clients {
            let _ = client.try_send(outcome.clone());
        }
    }
}

/// The answer to a client after an upgrade.
pub(super) fn ask_again(id: u32) -> String {
    format!("process {id} serves since an upgrade: ask again")
}
