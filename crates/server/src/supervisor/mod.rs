//! The main thread: `start` has the start, and this the time from there to the end.

mod control_socket;
pub(crate) mod handover;
mod inbox;
pub(crate) mod launched;
mod listeners;
mod notify;
mod preparations;
mod process_one;
pub(crate) mod reload;
pub(crate) mod start;
mod stop;
mod upgrade;
mod worker_thread;

use std::io;
use std::mem;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::{Duration, Instant};

use crate::accept::unix_socket::SocketFile;
use crate::config::prepared::Derived;
use crate::control::{Control, ControlSender};
use crate::error::Error;
use crate::event::{Event, Outcome};
use crate::launcher;
use crate::observe::health::Health;
use crate::supervisor::handover::{Inheritance, Predecessor};
use crate::supervisor::inbox::Inbox;
use crate::supervisor::listeners::OpenListeners;
use crate::supervisor::notify::Notifier;
use crate::supervisor::preparations::Preparations;
use crate::supervisor::reload::{Preparation, Replies, Reread, Stage, ask_again};
use crate::supervisor::stop::{Step, Stop};
use crate::supervisor::upgrade::Succession;
use crate::transport::certificates::{CertReloader, Tls};
use crate::update::{NextConfiguration, Unprepared};

/// How often process 1 looks for children that have ended.
const REAP_EVERY: Duration = Duration::from_millis(500);

/// The main thread after the start: passes signals on to the workers until all have ended or their
/// time is over.
struct Supervisor {
    inbox: Inbox,
    notifier: Rc<Notifier>,
    controls: Vec<ControlSender>,
    reloader: CertReloader,
    /// `None`: there is no file.
    reread: Option<Arc<Reread>>,
    /// What the workers serve by.
    derived: Arc<Derived>,
    stage: Stage,
    preparations: Preparations,
    /// Whether another reload follows the one in progress.
    reload_waits: bool,
    /// Whether an upgrade follows the hand-over in progress.
    upgrade_waits: bool,
    /// What the upgrade that is under way is for.
    demand: Demand,
    /// For the threads of reloads.
    events: Sender<Event>,
    health: Arc<Health>,
    stop: Stop,
    /// The file of the control socket.
    control: Option<SocketFile>,
    replies: Replies,
    /// Dropped before the workers close theirs.
    listeners: OpenListeners,
    cores: Vec<usize>,
    tls: Option<Tls>,
    succession: Succession,
    /// The predecessor, until it has handed over, and what it listened on and this process does not.
    inherited: Inheritance,
    /// Whether the workers were told to accept connections.
    is_serving: bool,
    /// Workers that can not serve yet.
    starting: usize,
    /// Workers that have not ended.
    running: usize,
}

/// Why a new process takes over, as the log says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Demand {
    /// The signal.
    #[default]
    Usr2,
    /// A configuration that this process has no rights for any more.
    Reload,
}

impl Demand {
    fn text(self) -> &'static str {
        match self {
            Self::Usr2 => "USR2",
            Self::Reload => "reload",
        }
    }
}

impl Supervisor {
    /// Waits until all workers have ended. If one ends before a stop, that is an error.
    fn run(mut self, on_ready: impl FnOnce()) -> Result<(), Error> {
        let mut on_ready = Some(on_ready);
        while self.running > 0 || self.succession.is_under_way() {
            let ends = [self.stop.ends(), self.preparations.ends()];
            let event = self.inbox.next(ends.into_iter().flatten().min())?;
            self.pass_on(event.as_ref());
            match event {
                Some(Event::Ready) => {
                    self.starting -= 1;
                    match self.inherited.predecessor.take_if(|_| self.starting == 0) {
                        Some(predecessor) => self.report_ready(predecessor)?,
                        None if self.starting == 0 => self.serve(on_ready.take()),
                        None => {}
                    }
                }
                Some(Event::HandedOver(answer)) => {
                    answer.map_err(Error::Predecessor)?;
                    self.serve(on_ready.take());
                }
                Some(Event::ReopenLogs) => self.health.log_files.reopen(),
                Some(Event::Reload(reply)) => self.reload(reply),
                Some(Event::Prepared(number, next)) => self.prepared(number, next),
                Some(Event::Applied) => self.applied(),
                Some(Event::Upgrade) => self.upgrade(),
                Some(Event::Upgraded(outcome)) => self.upgraded(outcome),
                Some(Event::Ended { result, shard }) => {
                    result?;
                    self.has_ended(shard)?;
                }
                Some(Event::Stop) => {
                    let step = self.stop.signal(Instant::now(), self.starting == 0);
                    self.take(step);
                }
                None => self.time_is_over(Instant::now()),
            }
        }
        self.outlast_successors()
    }

    /// The time of a reload or of the phase of a stop is over.
    fn time_is_over(&mut self, now: Instant) {
        if let Some(reason) = self.preparations.time_is_over(now) {
            self.end_reload(&reason);
        } else {
            let step = self.stop.time_is_over(now);
            self.take(step);
        }
    }

    /// All workers can serve. The process that this one takes the place of accepts until it answers.
    fn report_ready(&self, predecessor: Predecessor) -> Result<(), Error> {
        let events = self.events.clone();
        predecessor.report_ready(events).map_err(Error::Predecessor)
    }

    /// Has the workers accept connections, unless a stop has begun.
    fn serve(&mut self, on_ready: Option<impl FnOnce()>) {
        let inherited = mem::take(&mut self.inherited);
        self.listeners.own();
        if self.control.is_none() {
            self.take_over_control(inherited.control);
        }
        if !self.stop.has_begun() {
            self.is_serving = true;
            self.send(|| Control::Serve);
            self.health.set_ready(true);
        }
        if let Some(on_ready) = on_ready {
            on_ready();
        }
        self.notifier.ready("Serving");
        if mem::take(&mut self.upgrade_waits) {
            self.upgrade();
        }
        self.begin_waiting_reload();
    }

    /// Removes the control socket that the predecessor has left, and serves one of its own.
    fn take_over_control(&mut self, predecessors: Option<SocketFile>) {
        // The old one lives as long as the predecessor, and would be taken for that of another.
        if let Some(mut file) = predecessors {
            file.own();
        }
        let Some(path) = &self.derived.settings.server.control else {
            return;
        };
        match control_socket::start(path, self.events.clone()) {
            Ok(file) => self.control = Some(file),
            Err(error) => tracing::error!("no `tidegate reload` from now on: {error}"),
        }
    }

    /// Starts the new binary, for a USR2.
    fn upgrade(&mut self) {
        let refusal = match () {
            () if self.succession.successor().is_some() => Some("another process serves"),
            () if self.stop.has_begun() => Some("the server stops"),
            () if !self.is_serving && self.starting == 0 => {
                // The predecessor may have said already that this process serves.
                self.upgrade_waits = true;
                return;
            }
            () if !self.is_serving => Some("the server starts"),
            () if self.succession.is_under_way() => Some("an upgrade is under way"),
            () if self.stage != Stage::None => Some("a reload is under way"),
            () => None,
        };
        if let Some(reason) = refusal {
            return tracing::warn!("USR2: refused, since {reason}");
        }
        tracing::info!("USR2: starting the new binary");
        if let Err(error) = self.start_successor(Demand::Usr2) {
            tracing::error!(%error, "USR2: cannot start the new binary; this process serves on");
        }
    }

    fn start_successor(&mut self, demand: Demand) -> io::Result<()> {
        self.demand = demand;
        let keys = self.tls.as_ref().map(|tls| tls.acceptor.ticket_keys());
        let (keys, timeout) = (
            keys.unwrap_or_default(),
            self.derived.settings.server.upgrade_timeout,
        );
        let listeners = self.listeners.duplicates()?;
        let (control, events) = (self.control.as_ref(), self.events.clone());
        (self.succession).begin(listeners, control, keys, timeout, events)
    }

    /// Has a new process take over, with the configuration that this one cannot serve by: it does
    /// not reach `what` any more.
    fn reload_by_successor(&mut self, what: &str) {
        self.stage = Stage::None;
        tracing::info!(
            "reload: {what} is outside of what this process was started for (landlock, server.user): \
             a new process takes over"
        );
        if let Err(error) = self.start_successor(Demand::Reload) {
            self.end_reload(&format!(
                "{what} needs a new process, and none can be started: {error}"
            ));
        }
    }

    /// The new process can serve, or it has failed.
    fn upgraded(&mut self, outcome: Result<u32, String>) {
        let upgrade = self.succession.take();
        let demand = self.demand.text();
        let is_reload = self.demand == Demand::Reload;
        let id = match outcome {
            Ok(id) => id,
            Err(reason) if self.stop.has_begun() => {
                tracing::info!("{demand}: {reason}");
                return self.replies.refused("the server stops");
            }
            Err(reason) if is_reload => return self.end_reload(&reason),
            Err(reason) => {
                tracing::error!("{demand}: {reason}; this process serves on");
                return self.begin_waiting_reload();
            }
        };
        let Some(upgrade) = upgrade.filter(|_| !self.stop.has_begun()) else {
            // It ends, since it gets no answer.
            self.replies.refused("the server stops");
            return tracing::info!("{demand}: process {id} is not needed, since this one stops");
        };
        // First, since the manager hears its main process only.
        self.notifier.main_process(id);
        if let Err(error) = upgrade.go(self.reload_waits) {
            self.notifier.main_process(process::id());
            tracing::error!(%error, "{demand}: process {id} has ended; this one serves on");
            if is_reload {
                return self.end_reload(&format!("process {id} has ended"));
            }
            return self.begin_waiting_reload();
        }
        tracing::info!("{demand}: process {id} serves; this one lets its connections end");
        self.reload_waits = false;
        if is_reload {
            self.health.reloads.applied();
            self.replies.succeeded(id);
        }
        self.replies.hand_over(id);
        self.succession.hand_over(id);
        let step = self.stop.hand_over(Instant::now());
        self.take(step);
    }

    /// Reads the configuration again. Requests during a reload merge into one that follows it.
    fn reload(&mut self, reply: Option<SyncSender<Outcome>>) {
        let demand = reply.as_ref().map_or("HUP", |_| "tidegate reload");
        if let Some(id) = self.succession.successor() {
            tracing::warn!("{demand}: process {id} serves; nothing is read again here");
            return Replies::answer(reply, &Err(ask_again(id)));
        }
        if self.stop.has_begun() {
            return tracing::warn!("{demand}: the server stops; nothing is read again");
        }
        if self.reread.is_none() {
            return self.reload_certificates(reply);
        }
        self.replies.waiting.extend(reply);
        self.reload_waits = true;
        match self.reload_waits_for() {
            Some(other) => tracing::info!("{demand}: the reload waits for {other}"),
            None => self.begin_waiting_reload(),
        }
    }

    fn reload_waits_for(&self) -> Option<&'static str> {
        match () {
            () if !self.is_serving => Some("the start"),
            () if self.succession.is_under_way() => Some("the upgrade"),
            () if self.stage != Stage::None => Some("the one before"),
            () => None,
        }
    }

    fn reload_certificates(&self, reply: Option<SyncSender<Outcome>>) {
        let reason = "there is no configuration file to read".to_owned();
        Replies::answer(reply, &Err(reason));
        if !self.is_serving {
            // The service manager waits for the start.
            return self.reloader.reload();
        }
        self.notifier.reloading();
        self.reloader.reload();
        self.notifier.ready("Serving");
    }

    fn begin_waiting_reload(&mut self) {
        let is_free = self.reload_waits_for().is_none() && !self.stop.has_begun();
        let Some(reread) = self
            .reread
            .as_ref()
            .filter(|_| is_free && self.reload_waits)
        else {
            return;
        };
        let reread = Arc::clone(reread);
        self.reload_waits = false;
        self.replies.begin();
        self.stage = Stage::Preparing;
        self.notifier.reloading();
        let ticket = match self.preparations.begin(Instant::now()) {
            Ok(ticket) => ticket,
            Err(reason) => return self.end_reload(&reason),
        };
        let number = ticket.number;
        let preparation = Preparation {
            reread,
            running: Arc::clone(&self.derived),
            cores: self.cores.clone(),
            listeners: self.listeners.bound(),
            tls: self.tls.clone(),
            health: Arc::clone(&self.health),
            ticket,
        };
        tracing::info!("reading the configuration and certificates again");
        if let Err(reason) = preparation.start(self.events.clone()) {
            self.prepared(number, Err(reason.into()));
        }
    }

    /// Hands the next configuration to the workers.
    fn prepared(&mut self, number: u64, next: Result<Box<NextConfiguration>, Unprepared>) {
        match next {
            _ if !self.preparations.ended(number) => {
                tracing::info!("a reload that was abandoned has ended; nothing of it is applied");
            }
            // A worker may have ended.
            _ if self.stop.has_begun() => self.end_reload("the server stops"),
            Ok(next) => {
                self.stage = Stage::Applying(self.controls.len());
                for kept in next.kept {
                    tracing::warn!("{kept}");
                    self.replies.warn(&kept);
                }
                self.stop.set_times(&next.derived.settings.server);
                self.derived = next.derived;
                self.health.pressure.set_budget(next.budget);
                self.health.origins.set_sites(&self.derived.cached);
                for warning in self.listeners.replace(next.listeners) {
                    self.replies.warn(&warning);
                }
                self.tls = next.tls.install(&mut self.reloader);
                let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
                self.health.set_tls(acceptor);
                for (control, update) in self.controls.iter().zip(next.updates) {
                    control.send(Control::Apply(Box::new(update)));
                }
            }
            Err(Unprepared::Refused(reason)) => self.end_reload(&reason),
            Err(Unprepared::Outside(what)) => self.reload_by_successor(&what),
        }
    }

    /// A worker has taken the configuration over.
    fn applied(&mut self) {
        if let Stage::Applying(workers) = self.stage {
            self.stage = Stage::Applying(workers - 1);
        }
        if self.stage == Stage::Applying(0) {
            self.health.reloads.applied();
            tracing::info!("the configuration is applied");
            self.replies.applied();
            self.reload_ended("Serving");
        }
    }

    /// Ends a reload that is not applied.
    fn end_reload(&mut self, reason: &str) {
        self.health.reloads.refused();
        for line in reason.lines() {
            tracing::error!("not reloaded: {line}");
        }
        self.replies.refused(reason);
        self.reload_ended("Serving, by the configuration of before");
    }

    fn reload_ended(&mut self, status: &str) {
        self.stage = Stage::None;
        if !self.stop.has_begun() {
            self.notifier.ready(status);
        }
        self.begin_waiting_reload();
    }

    /// Process 1 gets the signals for its container: after a hand-over others need them, too.
    fn pass_on(&self, event: Option<&Event>) {
        if let Some(event) = event.filter(|_| self.has_successors()) {
            process_one::pass_on(event);
        }
    }

    /// Process 1 ends its container with itself: after a hand-over it stays as long as another
    /// does.
    fn outlast_successors(&mut self) -> Result<(), Error> {
        if self.has_successors() {
            // Its children are this process's from then on.
            launcher::end();
        }
        while self.has_successors() && process_one::has_children() {
            let event = self.inbox.next(Some(Instant::now() + REAP_EVERY))?;
            self.pass_on(event.as_ref());
        }
        Ok(())
    }

    fn has_successors(&self) -> bool {
        self.succession.successor().is_some() && process_one::is_this()
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
        match step {
            Step::HandOver => {
                self.listeners.hand_over();
                if let Some(file) = self.control.take() {
                    file.leave();
                }
            }
            // Clients that come now are served.
            Step::Drain => {}
            Step::Stop | Step::StopNow | Step::GiveUp => {
                self.succession.end();
                self.listeners.clear();
                self.control = None;
            }
        }
        match step {
            Step::Drain => {
                tracing::info!("draining: serving on until the drain delay is over");
                self.notifier
                    .stopping("Serving on until the drain delay is over");
            }
            Step::Stop => {
                tracing::info!("stopping");
                self.notifier.stopping("Letting responses finish");
                self.send(|| Control::Stop);
            }
            Step::HandOver => self.send(|| Control::HandOver),
            Step::StopNow => {
                tracing::info!("stopping now");
                self.notifier.stopping("Ending all connections");
                self.send(|| Control::StopNow);
            }
            Step::GiveUp => {
                tracing::warn!(
                    "ending without waiting for shards that hang: does a file system not answer?"
                );
                self.running = 0;
                self.succession.take();
            }
        }
    }

    fn send(&self, message: impl Fn() -> Control) {
        for control in &self.controls {
            control.send(message());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::{channel, sync_channel};

    use tidegate_config::{Server, Settings};

    use super::*;
    use crate::clients::Clients;
    use crate::config::cached_sites::CachedSites;
    use crate::control::{self, ControlReceiver};
    use crate::host::budget::Budget;
    use crate::observe::access_log::LogFiles;
    use crate::observe::heartbeat::Watchdog;

    static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

    /// The end of a [`Supervisor`].
    struct Outcome {
        result: Result<(), Error>,
        /// How often all were reported to be ready.
        ready: usize,
        /// What each worker was told.
        told: Vec<Vec<String>>,
    }

    /// Supervises `shards` workers that cause `events`.
    fn outcome(shards: usize, events: impl IntoIterator<Item = Event>) -> Outcome {
        let (supervisor, receivers) = supervisor(shards);
        for event in events {
            supervisor.events.send(event).unwrap();
        }
        let mut ready = 0;
        let result = supervisor.run(|| ready += 1);
        let told = receivers.iter().map(told).collect();
        Outcome {
            result,
            ready,
            told,
        }
    }

    /// The main thread, and what receives its messages in each of `shards` workers.
    fn supervisor(shards: usize) -> (Supervisor, Vec<ControlReceiver>) {
        let channels = (0..shards).map(|_| control::channel().unwrap());
        let (controls, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let (sender, receiver) = channel();
        let derived = Derived::of(
            Settings::for_directory("/".into()),
            &LogFiles::new(1),
            &Clients::default(),
            CachedSites::default(),
        );
        let notifier = Rc::new(Notifier::from_environment());
        let supervisor = Supervisor {
            inbox: Inbox::new(receiver, Watchdog::new(&[], None), Rc::clone(&notifier)),
            notifier,
            controls,
            reloader: CertReloader::start(None).unwrap(),
            health: Arc::new(Health::new(
                None,
                &NONE_DROPPED,
                Vec::new(),
                Arc::new(LogFiles::new(1)),
                Budget::unlimited(),
            )),
            reread: None,
            derived: Arc::new(derived.unwrap()),
            stage: Stage::None,
            preparations: Preparations::new(Duration::from_millis(10)),
            reload_waits: false,
            upgrade_waits: false,
            demand: Demand::default(),
            events: sender,
            stop: Stop::new(&Server::default()),
            listeners: OpenListeners::default(),
            control: None,
            replies: Replies::default(),
            cores: Vec::new(),
            tls: None,
            succession: Succession::new(None),
            inherited: Inheritance::default(),
            is_serving: false,
            starting: shards,
            running: shards,
        };
        (supervisor, receivers)
    }

    #[test]
    fn a_reload_that_hangs_does_not_keep_others_out() {
        let (mut supervisor, _receivers) = supervisor(1);
        supervisor.is_serving = true;
        let (release, hangs) = channel::<()>();
        let hangs = Mutex::new(Some(hangs));
        supervisor.reread = Some(Arc::new(move || {
            let first = hangs.lock().unwrap().take();
            let _ = first.map(|hangs| hangs.recv());
            Err("wrong".to_owned().into())
        }));
        let (reply, outcome) = sync_channel(1);
        supervisor.reload(Some(reply));
        assert_eq!(supervisor.reload_waits_for(), Some("the one before"));
        let until = supervisor.preparations.ends();
        assert!(supervisor.inbox.next(until).unwrap().is_none());
        supervisor.time_is_over(Instant::now());
        let reason = outcome.try_recv().unwrap().unwrap_err();
        assert!(reason.contains("does a file system not answer"), "{reason}");
        // The next one ends by itself; then the first does, and changes nothing.
        supervisor.reload(None);
        drop(release);
        for _ in 0..2 {
            match supervisor.inbox.next(None).unwrap() {
                Some(Event::Prepared(number, next)) => supervisor.prepared(number, next),
                _ => panic!("an outcome"),
            }
        }
        assert_eq!(supervisor.reload_waits_for(), None);
    }

    #[test]
    fn an_upgrade_waits_for_the_end_of_a_hand_over() {
        let (mut supervisor, _receivers) = supervisor(1);
        supervisor.upgrade();
        assert!(!supervisor.upgrade_waits, "refused: the server starts");
        supervisor.starting = 0;
        supervisor.upgrade();
        assert!(supervisor.upgrade_waits);
    }

    fn told(receiver: &ControlReceiver) -> Vec<String> {
        let waiting = receiver.waiting().into_iter();
        waiting.map(|message| format!("{message:?}")).collect()
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
        assert_eq!(outcome.told, [["Serve"]; 2]);
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
            assert_eq!(outcome.told, [["Stop"]; 3]);
        }
    }

    #[test]
    fn a_second_stop_is_passed_on() {
        let events = [Event::Ready, Event::Stop, Event::Stop, ended(0)];
        let outcome = outcome(1, events);
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.told, [["Serve", "Stop", "StopNow"]]);
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
