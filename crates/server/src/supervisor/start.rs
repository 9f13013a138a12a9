//! The start of the server.

use std::cell::RefCell;
use std::mem;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, sync_channel};
use std::thread;
use std::time::Duration;

use tidegate_config::Settings;
use tidegate_uring::Features;

use crate::accept::address::Address;
use crate::accept::listener::{self, Binder, Listener};
use crate::accept::unix_socket::SocketFile;
use crate::config::prepared::Prepared;
use crate::control::{self, ControlSender};
use crate::error::Error;
use crate::event::Event;
use crate::host::budget::Budget;
use crate::host::cores;
use crate::host::limits::{self, ResourceShare};
use crate::host::locked::{Locked, Queues};
use crate::memory::watch;
use crate::observe::access_log::LogFiles;
use crate::observe::admin;
use crate::observe::health::Health;
use crate::observe::heartbeat::{Heartbeat, Watchdog};
use crate::privilege::Confined;
use crate::signals::Signals;
use crate::supervisor::handover::Inheritance;
use crate::supervisor::inbox::Inbox;
use crate::supervisor::listeners::OpenListeners;
use crate::supervisor::notify::Notifier;
use crate::supervisor::preparations::{PREPARE_TIME, Preparations};
use crate::supervisor::reload::{Replies, Reread, Stage};
use crate::supervisor::stop::Stop;
use crate::supervisor::upgrade::Succession;
use crate::supervisor::{Demand, Supervisor, control_socket, worker_thread};
use crate::transport::certificates::{CertReloader, Tls};
use crate::worker::WorkerConfig;

/// How long the lines of the access log may take to be written at the end.
const LOG_FLUSH_TIME: Duration = Duration::from_secs(1);

/// Serves according to `settings` until a signal stops it, each shard on a thread of its own.
///
/// `on_ready` is called with the addresses once every shard serves. TERM, INT and QUIT let it serve
/// on for the drain delay, then let responses finish within the graceful timeout; a second signal
/// ends them at once. If a shard hangs in the kernel, this returns while its thread still runs, and
/// the caller ends the process. HUP has `reread` called, and its settings applied to the running
/// server; without it, HUP reads certificates again. A change of their files does so too.
/// USR1 opens the files of access logs again.
///
/// `confined` says what bounds of the process were entered. `signals` may have come since the
/// process began. It listens on the sockets of `inherited` where
/// they have the address of a section, and tells a service manager how it does (`NOTIFY_SOCKET`).
/// `log_lines_dropped` counts lines of the log that were lost, for `/metrics`.
pub fn run(
    settings: Settings,
    mut inherited: Inheritance,
    confined: Confined,
    signals: Signals,
    reread: Option<Arc<Reread>>,
    log_lines_dropped: &'static AtomicU64,
    on_ready: impl FnOnce(&[Address]),
) -> Result<(), Error> {
    let (events, sender) = signals.forward()?;
    confined.begin()?;
    // Before anything listens: plain HTTP must never answer where TLS is configured.
    let tls = Tls::of(&settings, &inherited.ticket_keys)?;
    let reloader = CertReloader::start(tls.as_ref())?;
    let host = HostResources::find(&settings)?;
    let heartbeats: Vec<Arc<Heartbeat>> = host.cores.iter().map(|_| Arc::default()).collect();
    let watchdog = Watchdog::new(&heartbeats, settings.server.watchdog);
    let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
    let log_files = Arc::new(LogFiles::new(host.cores.len()));
    let health = Arc::new(Health::new(
        acceptor,
        log_lines_dropped,
        heartbeats.clone(),
        Arc::clone(&log_files),
        host.budget.clone(),
    ));
    if inherited.predecessor.is_some() {
        health.origins.succeed();
    }
    let mut early = Vec::new();
    let prepared = open_unless_stopped(&events, &mut early, settings, &host, &health)?;
    let Some(prepared) = prepared else {
        return Ok(());
    };
    for event in early {
        // This function has the receiver.
        let _ = sender.send(event);
    }
    let derived = Arc::clone(&prepared[0].derived);
    health.origins.set_sites(&derived.cached);
    let settings = &derived.settings;
    let binder = Binder {
        settings,
        cores: &host.cores,
        inherited: RefCell::new(mem::take(&mut inherited.listeners)),
        tls: tls.as_ref(),
        open: &[],
    };
    let bound = binder.bind_all()?;
    inherited.listeners = binder.inherited.into_inner();
    inherited.check_left_over()?;
    let admin = admin::start(&settings.admin, inherited.admin.take(), &health)?;
    let listeners = listener::by_core(&bound, tls.as_ref(), host.cores.len())?;
    let mut open = OpenListeners::default();
    open.replace(bound);
    let addresses = open.addresses();
    let control = derived.settings.server.control.as_deref();
    let control = control.map(|path| start_control(path, &inherited, &sender));
    let control = control.transpose()?.flatten();
    let stop = Stop::new(&settings.server);
    let configs = worker_configs(prepared, &host, &health, heartbeats, listeners);
    let controls = start_workers(configs, &sender)?;
    watch_memory(&health)?;
    let notifier = Rc::new(Notifier::from_environment());
    let supervisor = Supervisor {
        inbox: Inbox::new(events, watchdog, Rc::clone(&notifier)),
        notifier,
        starting: controls.len(),
        running: controls.len(),
        controls,
        reloader,
        reread,
        derived,
        stage: Stage::None,
        preparations: Preparations::new(PREPARE_TIME),
        reload_waits: false,
        upgrade_waits: false,
        demand: Demand::default(),
        events: sender,
        health,
        stop,
        listeners: open,
        control,
        replies: Replies::default(),
        cores: host.cores,
        tls,
        succession: Succession::new(admin),
        inherited,
        is_serving: false,
    };
    let result = supervisor.run(|| on_ready(&addresses));
    log_files.finish(LOG_FLUSH_TIME);
    result
}

/// Serves the control socket. A predecessor keeps its place until it hands over: then it is only
/// checked now, and [`Supervisor::run`] serves it.
fn start_control(
    path: &Path,
    inherited: &Inheritance,
    events: &Sender<Event>,
) -> Result<Option<SocketFile>, Error> {
    match &inherited.predecessor {
        None => control_socket::start(path, events.clone()).map(Some),
        Some(_) => control_socket::check(path, inherited.control.as_ref()).map(|()| None),
    }
}

/// Has the cores look at the memory whenever it concerns them.
fn watch_memory(health: &Arc<Health>) -> Result<(), Error> {
    let told = Arc::clone(health);
    let wake = move || {
        told.origins.set_short_of_memory(told.pressure.is_short());
        told.heartbeats.iter().for_each(|core| core.scrape());
    };
    watch::start(Arc::clone(&health.pressure), wake).map_err(Error::MemoryThread)
}

/// The resources of the host for the workers.
struct HostResources {
    /// One for each worker.
    cores: Vec<usize>,
    /// Each worker's share.
    share: ResourceShare,
    budget: Budget,
    queues: Queues,
    features: Features,
}

impl HostResources {
    /// Logs resources below their configured values.
    fn find(settings: &Settings) -> Result<Self, Error> {
        let chosen = cores::choose(&settings.server.cores)?;
        chosen.log();
        let cores = chosen.cores;
        let locked = Locked::fit(settings, cores.len())?;
        locked.log();
        let features = tidegate_uring::probe().map_err(Error::Uring)?;
        let budget = Budget::find(settings);
        Ok(Self {
            share: limits::share(settings, &budget, cores.len())?,
            budget,
            cores,
            queues: locked.queues,
            features,
        })
    }
}

/// How often a start that waits for a file system looks for a signal.
const SIGNAL_WAIT: Duration = Duration::from_millis(50);

/// Opens the sites in a thread of its own, since a file system may not answer. Adds the
/// signals that come meanwhile to `early`. `None`: one to stop came first.
fn open_unless_stopped(
    events: &Receiver<Event>,
    early: &mut Vec<Event>,
    settings: Settings,
    host: &HostResources,
    health: &Arc<Health>,
) -> Result<Option<Vec<Prepared>>, Error> {
    let (share, health) = (host.share, Arc::clone(health));
    let (sender, opened) = sync_channel(1);
    let thread = thread::Builder::new().name("open".to_owned());
    let open = move || sender.send(Prepared::of(settings, share, &health));
    thread.spawn(open).map_err(Error::OpenThread)?;
    loop {
        match opened.recv_timeout(SIGNAL_WAIT) {
            Ok(prepared) => return prepared.map(Some),
            Err(RecvTimeoutError::Timeout) if !take_early(events, early) => {}
            Err(RecvTimeoutError::Timeout) => {
                tracing::info!("stopping");
                return Ok(None);
            }
            Err(RecvTimeoutError::Disconnected) => panic!("opening the sites panicked"),
        }
    }
}

/// Adds the signals that wait to `early`, each once. Whether one is a stop.
fn take_early(events: &Receiver<Event>, early: &mut Vec<Event>) -> bool {
    for event in events.try_iter() {
        let is_same = |other: &Event| mem::discriminant(other) == mem::discriminant(&event);
        match event {
            Event::Stop => return true,
            _ if early.iter().any(is_same) => {}
            event => early.push(event),
        }
    }
    false
}

fn worker_configs(
    prepared: Vec<Prepared>,
    host: &HostResources,
    health: &Health,
    heartbeats: Vec<Arc<Heartbeat>>,
    listeners: Vec<Vec<Listener>>,
) -> Vec<WorkerConfig> {
    let each = host.cores.iter().zip(heartbeats).zip(prepared);
    let each = each.zip(listeners).enumerate();
    let configs = each.map(
        |(number, (((core, heartbeat), prepared), listeners))| WorkerConfig {
            number,
            shards: host.cores.len(),
            core: *core,
            prepared,
            features: host.features,
            queues: host.queues,
            listeners,
            heartbeat,
            metrics: Arc::clone(&health.cores[number]),
            site_labels: Arc::clone(&health.site_labels),
            pressure: Arc::clone(&health.pressure),
        },
    );
    configs.collect()
}

/// Starts a thread for each worker. The senders have the order of `configs`.
fn start_workers(
    configs: Vec<WorkerConfig>,
    events: &Sender<Event>,
) -> Result<Vec<ControlSender>, Error> {
    let started = configs.into_iter().map(|config| {
        let (sender, receiver) = control::channel().map_err(|errno| Error::Shard {
            shard: config.number,
            operation: "make its control pipe",
            source: Box::new(std::io::Error::from(errno)),
        })?;
        worker_thread::spawn(config, receiver, events.clone())?;
        Ok(sender)
    });
    started.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn signals_of_the_start_are_kept_once_each() {
        let (sender, events) = channel();
        let mut early = Vec::new();
        for _ in 0..2 {
            sender.send(Event::ReopenLogs).unwrap();
            sender.send(Event::Reload(None)).unwrap();
            assert!(!take_early(&events, &mut early));
        }
        assert!(matches!(
            early[..],
            [Event::ReopenLogs, Event::Reload(None)]
        ));
        sender.send(Event::Stop).unwrap();
        assert!(take_early(&events, &mut early));
    }
}
