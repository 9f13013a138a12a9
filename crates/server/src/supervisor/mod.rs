//! Starts the server, waits and stops it: the main thread.

mod inbox;
mod stop;
mod worker_thread;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tidegate_config::Settings;
use tidegate_uring::Features;

use crate::accept::address::Address;
use crate::accept::listener::{self, BoundAddress, Listener};
use crate::accept::unix_socket::SocketFile;
use crate::control::{self, Control, ControlSender};
use crate::error::Error;
use crate::event::Event;
use crate::host::cores;
use crate::host::limits::{self, ResourceShare};
use crate::host::locked::{Locked, Queues};
use crate::observe::access_log::{AccessLogs, LogFiles};
use crate::observe::admin;
use crate::observe::health::Health;
use crate::observe::heartbeat::{Heartbeat, Watchdog};
use crate::signals;
use crate::supervisor::inbox::Inbox;
use crate::supervisor::stop::{Step, Stop};
use crate::transport::certificates::{CertReloader, Tls};
use crate::worker::WorkerConfig;

/// How long the lines of the access log may take to be written at the end.
const LOG_FLUSH_TIME: Duration = Duration::from_secs(1);

/// Serves according to `settings` until a signal stops it, each shard on a thread of its own.
///
/// `on_ready` is called with the addresses once every shard serves. TERM, INT and QUIT let it serve
/// on for the drain delay, then let responses finish within the graceful timeout; a second signal
/// ends them at once. If a shard hangs in the kernel, this returns while its thread still runs, and
/// the caller ends the process. HUP reads certificates again; a change of their files does so too.
/// USR1 opens the files of access logs again.
///
/// `log_lines_dropped` counts lines of the log that were lost, for `/metrics`.
pub fn run(
    settings: Settings,
    log_lines_dropped: &'static AtomicU64,
    on_ready: impl FnOnce(&[Address]),
) -> Result<(), Error> {
    let (sender, events) = channel();
    let forwarding = signals::forward(sender.clone())?;
    // Before anything listens: plain HTTP must never answer where TLS is configured.
    let tls = Tls::of(&settings)?;
    let reloader = CertReloader::start(tls.as_ref())?;
    let host = HostResources::find(&settings)?;
    let heartbeats: Vec<Arc<Heartbeat>> = host.cores.iter().map(|_| Arc::default()).collect();
    let watchdog = Watchdog::new(&heartbeats, settings.server.watchdog);
    let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
    let log_files = Arc::new(LogFiles::new(host.cores.len()));
    let access_logs = AccessLogs::open(&settings, &log_files)?;
    let health = Arc::new(Health::new(
        acceptor,
        log_lines_dropped,
        heartbeats.clone(),
        Arc::clone(&log_files),
    ));
    let mut bound = listener::bind_all(&settings, &host.cores, tls.as_ref())?;
    let files = bound.iter_mut().filter_map(|bound| bound.file.take());
    let socket_files = files.collect();
    let addresses = open_addresses(&bound);
    warn_of_closed(&bound);
    let listeners = listener::by_core(bound, host.cores.len());
    admin::start(&settings.admin, &health)?;
    let stop = Stop::new(&settings.server);
    let configs = worker_configs(settings, &host, &health, heartbeats, listeners, access_logs);
    let controls = start_workers(configs, &sender)?;
    drop(sender);
    forwarding.take_stops()?;
    let supervisor = Supervisor {
        inbox: Inbox::new(events, watchdog),
        starting: controls.len(),
        running: controls.len(),
        controls,
        reloader,
        health,
        stop,
        socket_files,
    };
    let result = supervisor.run(|| on_ready(&addresses));
    log_files.flush(LOG_FLUSH_TIME);
    result
}

/// The resources of the host for the workers.
struct HostResources {
    /// One for each worker.
    cores: Vec<usize>,
    /// Each worker's share.
    share: ResourceShare,
    queues: Queues,
    features: Features,
}

impl HostResources {
    /// Raises the soft limits, and logs resources below their configured values.
    fn find(settings: &Settings) -> Result<Self, Error> {
        limits::raise();
        let chosen = cores::choose(&settings.server.cores)?;
        chosen.log();
        let cores = chosen.cores;
        let locked = Locked::fit(settings, cores.len())?;
        locked.log();
        let features = tidegate_uring::probe().map_err(Error::Uring)?;
        let share = limits::by_descriptors(settings, cores.len())?;
        Ok(Self {
            share: limits::by_memory(share, cores.len()),
            cores,
            queues: locked.queues,
            features,
        })
    }
}

fn open_addresses(bound: &[BoundAddress]) -> Vec<Address> {
    let open = bound.iter().filter(|bound| bound.is_open);
    open.map(|bound| bound.address.clone()).collect()
}

fn warn_of_closed(bound: &[BoundAddress]) {
    for bound in bound.iter().filter(|bound| !bound.is_open) {
        tracing::error!(
            "not listening on {} until there is a certificate that can be used",
            bound.address
        );
    }
}

fn worker_configs(
    settings: Settings,
    host: &HostResources,
    health: &Health,
    heartbeats: Vec<Arc<Heartbeat>>,
    listeners: Vec<Vec<Listener>>,
    access_logs: AccessLogs,
) -> Vec<WorkerConfig> {
    let settings = Arc::new(settings);
    let access_logs = Arc::new(access_logs);
    let each = host.cores.iter().zip(heartbeats).zip(listeners).enumerate();
    let configs = each.map(|(number, ((core, heartbeat), listeners))| WorkerConfig {
        number,
        shards: host.cores.len(),
        core: *core,
        settings: Arc::clone(&settings),
        share: host.share,
        features: host.features,
        queues: host.queues,
        stalls: Arc::clone(health.stalls()),
        listeners,
        heartbeat,
        metrics: Arc::clone(&health.cores[number]),
        site_labels: Arc::clone(&health.site_labels),
        access_logs: Arc::clone(&access_logs),
    });
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

/// The main thread after the start: passes signals on to the workers until all have ended or their
/// time is over.
struct Supervisor {
    inbox: Inbox,
    controls: Vec<ControlSender>,
    reloader: CertReloader,
    health: Arc<Health>,
    stop: Stop,
    /// Removed before the workers close their listeners.
    socket_files: Vec<SocketFile>,
    /// Workers that are not serving yet.
    starting: usize,
    /// Workers that have not ended.
    running: usize,
}

impl Supervisor {
    /// Waits until all workers have ended. If one ends before a stop, that is an error.
    fn run(mut self, on_ready: impl FnOnce()) -> Result<(), Error> {
        let mut on_ready = Some(on_ready);
        while self.running > 0 {
            match self.inbox.next(self.stop.ends())? {
                Some(Event::Ready) => {
                    self.starting -= 1;
                    if let Some(on_ready) = on_ready.take_if(|_| self.starting == 0) {
                        self.health.set_ready(!self.stop.has_begun());
                        on_ready();
                    }
                }
                // The configuration is not read again. A reload begins here: it sends each worker a
                // `Control` with the settings of its next snapshot.
                Some(Event::Reload) => self.reloader.reload(),
                Some(Event::ReopenLogs) => self.health.log_files.reopen(),
                Some(Event::Ended { result, shard }) => {
                    result?;
                    self.has_ended(shard)?;
                }
                Some(Event::Stop) => {
                    let step = self.stop.signal(Instant::now(), self.starting == 0);
                    self.take(step);
                }
                None => {
                    let step = self.stop.time_is_over(Instant::now());
                    self.take(step);
                }
            }
        }
        Ok(())
    }

    fn has_ended(&mut self, shard: usize) -> Result<(), Error> {
        if !self.stop.has_begun() {
            let reason = "it stopped without being told to".to_owned();
            return Err(Error::ShardDied { shard, reason });
        }
        self.running -= 1;
        Ok(())
    }

    fn take(&mut self, step: Step) {
        self.health.set_ready(false);
        if !matches!(step, Step::Drain) {
            self.socket_files.clear();
        }
        match step {
            Step::Drain => tracing::info!("draining: serving on until the drain delay is over"),
            Step::Stop => {
                tracing::info!("stopping");
                self.send(Control::Stop);
            }
            Step::StopNow => {
                tracing::info!("stopping now");
                self.send(Control::StopNow);
            }
            Step::GiveUp => {
                tracing::warn!(
                    "ending without waiting for shards that hang: does a file system not answer?"
                );
                self.running = 0;
            }
        }
    }

    fn send(&self, message: Control) {
        for control in &self.controls {
            control.send(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::Server;

    use super::*;
    use crate::control::ControlReceiver;

    static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

    /// The end of a [`Supervisor`].
    struct Outcome {
        result: Result<(), Error>,
        /// How often all were reported to be ready.
        ready: usize,
        /// What each worker was told.
        told: Vec<Vec<Control>>,
    }

    /// Supervises `shards` workers that cause `events`.
    fn outcome(shards: usize, events: impl IntoIterator<Item = Event>) -> Outcome {
        let channels = (0..shards).map(|_| control::channel().unwrap());
        let (controls, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let (sender, receiver) = channel();
        for event in events {
            sender.send(event).unwrap();
        }
        let mut ready = 0;
        let supervisor = Supervisor {
            inbox: Inbox::new(receiver, Watchdog::new(&[], None)),
            controls,
            reloader: CertReloader::start(None).unwrap(),
            health: Arc::new(Health::new(
                None,
                &NONE_DROPPED,
                Vec::new(),
                Arc::new(LogFiles::new(1)),
            )),
            stop: Stop::new(&Server::default()),
            socket_files: Vec::new(),
            starting: shards,
            running: shards,
        };
        let result = supervisor.run(|| ready += 1);
        let told = receivers.iter().map(ControlReceiver::waiting).collect();
        Outcome {
            result,
            ready,
            told,
        }
    }

    fn ended(shard: usize) -> Event {
        Event::Ended {
            shard,
            result: Ok(()),
        }
    }

    fn failed(shard: usize) -> Event {
        let result = Err(Error::NoCores);
        Event::Ended { shard, result }
    }

    #[test]
    fn the_error_of_a_shard_ends_it() {
        for before in [vec![], vec![Event::Ready, Event::Ready], vec![Event::Stop]] {
            let outcome = outcome(2, before.into_iter().chain([failed(1)]));
            assert!(matches!(outcome.result, Err(Error::NoCores)));
        }
    }

    #[test]
    fn an_error_after_others_have_stopped_is_not_lost() {
        let outcome = outcome(2, [Event::Stop, ended(0), failed(1)]);
        assert!(matches!(outcome.result, Err(Error::NoCores)));
    }

    #[test]
    fn a_shard_that_ends_untold_has_died() {
        let outcome = outcome(2, [Event::Ready, Event::Ready, ended(1)]);
        assert!(matches!(
            outcome.result,
            Err(Error::ShardDied { shard: 1, .. })
        ));
        assert_eq!(outcome.told, [[], []]);
    }

    #[test]
    fn a_stop_before_all_are_ready_reaches_every_shard() {
        for ready in 0..3 {
            let before = (0..ready).map(|_| Event::Ready);
            let after = (ready..3).map(|_| Event::Ready);
            let ends = (0..3).map(ended);
            let events = before.chain([Event::Stop]).chain(after).chain(ends);
            let outcome = outcome(3, events);
            assert!(outcome.result.is_ok());
            assert_eq!(outcome.told, [[Control::Stop]; 3]);
        }
    }

    #[test]
    fn a_second_stop_is_passed_on() {
        let events = [Event::Ready, Event::Stop, Event::Stop, ended(0)];
        let outcome = outcome(1, events);
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.told, [[Control::Stop, Control::StopNow]]);
    }

    #[test]
    fn a_third_stop_does_not_wait_for_shards() {
        let outcome = outcome(2, [Event::Stop, Event::Stop, ended(1), Event::Stop]);
        assert!(outcome.result.is_ok());
    }

    #[test]
    fn it_is_ready_once_and_when_all_are() {
        for ready in 0..=3 {
            let events = (0..ready).map(|_| Event::Ready);
            let outcome = outcome(3, events.chain([failed(0)]));
            assert_eq!(outcome.ready, usize::from(ready == 3), "{ready} of 3");
        }
    }
}
