//! Start, wait, stop: the main thread.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tidegate_config::Settings;
use tidegate_site::READER_THREADS;

use crate::admin::{self, Condition};
use crate::error::Error;
use crate::heartbeat::{ASK_EVERY, Heartbeat, Watchdog};
use crate::limits;
use crate::listener::{Bound, Listener, listen_on};
use crate::locked::{EXECUTOR_IO_BYTES, Locked};
use crate::shard::{self, Seed};
use crate::stop::{Step, Stop};
use crate::tls::{Renewal, Tls};
use crate::{cores, signals};

/// What the main thread waits for.
pub(crate) enum Event {
    /// A signal to stop.
    Stop,
    /// A signal to read again what may have changed.
    Reload,
    /// A shard serves.
    Ready,
    /// A shard ended, as it should or not.
    Ended {
        shard: usize,
        how: Result<(), Error>,
    },
}

/// An address that is listened on. Displayed as the URL that it is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// With the port that the system picked, if it did.
    pub socket: SocketAddr,
    /// Whether it speaks TLS.
    pub secure: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.socket)
    }
}

/// Serves as `settings` say until a signal stops it, all shards on threads of their own.
///
/// `on_ready` is called with the addresses once every shard serves. TERM, INT and QUIT let it serve
/// on for the drain delay, then let responses finish within the graceful timeout; a second signal
/// ends them at once. A shard that hangs in the kernel is left behind: then this returns while its
/// thread still runs, and the caller is to end the process. HUP reads certificates again, which is
/// done by itself as well when their files change.
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
    let renewal = Renewal::start(tls.as_ref())?;
    let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
    limits::raise();
    let chosen = cores::choose(&settings.server.cores)?;
    chosen.log();
    let cores = chosen.cores;
    let locked = Locked::fit(&settings, cores.len())?;
    locked.log();
    let abilities = tidegate_uring::probe().map_err(Error::Uring)?;
    let heartbeats: Vec<Arc<Heartbeat>> = cores.iter().map(|_| Arc::default()).collect();
    let watchdog = Watchdog::new(&heartbeats, settings.server.watchdog);
    let condition = Condition::new(acceptor, log_lines_dropped, heartbeats.clone());
    let condition = Arc::new(condition);
    let share = limits::by_descriptors(&settings, cores.len())?;
    let share = limits::by_memory(share, cores.len());
    let steering = settings.server.steering;
    let mut bound = Vec::new();
    for listen in &settings.listen {
        let all = &settings.listen;
        bound.extend(listen_on(listen, all, &cores, steering, tls.as_ref())?);
    }
    let addresses = addresses(&bound);
    warn_of_closed(&bound);
    let mut listeners = by_shard(bound, cores.len());
    admin::start(&settings.admin, &condition)?;

    let settings = Arc::new(settings);
    let mut controls = Vec::new();
    for (number, core) in cores.iter().enumerate() {
        // Not an eventfd: Linux 6.18 tells a ring that has an eventfd of its own only once of an
        // eventfd that it waits for.
        let (shard_control, control) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::Shard {
                shard: number,
                operation: "make its control pipe",
                source: Box::new(std::io::Error::from(errno)),
            })?;
        controls.push(control);
        let seed = Seed {
            number,
            shards: cores.len(),
            core: *core,
            settings: Arc::clone(&settings),
            share,
            abilities,
            queues: locked.queues,
            stalls: Arc::clone(condition.stalls()),
            listeners: std::mem::take(&mut listeners[number]),
            heartbeat: Arc::clone(&heartbeats[number]),
        };
        spawn(seed, shard_control, sender.clone())?;
    }
    drop(sender);
    forwarding.take_stops()?;
    let stop = Stop::new(&settings.server);
    let mut inbox = Inbox::new(&events, watchdog);
    supervise(&mut inbox, &controls, &renewal, &condition, stop, || {
        on_ready(&addresses);
    })
}

fn addresses(bound: &[Bound]) -> Vec<Address> {
    let open = bound.iter().filter(|bound| bound.is_open);
    let addresses = open.map(|bound| Address {
        socket: bound.address,
        secure: bound.secure,
    });
    addresses.collect()
}

fn warn_of_closed(bound: &[Bound]) {
    for bound in bound.iter().filter(|bound| !bound.is_open) {
        tracing::error!(
            "not listening on https://{} until there is a certificate that can be used",
            bound.address
        );
    }
}

/// The n-th listener of every address, for the n-th shard.
fn by_shard(bound: Vec<Bound>, shards: usize) -> Vec<Vec<Listener>> {
    let mut listeners: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for bound in bound {
        for (shard, listener) in listeners.iter_mut().zip(bound.listeners) {
            shard.push(listener);
        }
    }
    listeners
}

/// Starts a shard's thread, which reports its end whatever ends it.
fn spawn(seed: Seed, control: OwnedFd, events: Sender<Event>) -> Result<(), Error> {
    let shard = seed.number;
    std::thread::Builder::new()
        .name(format!("shard-{shard}"))
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| execute(seed, control, &events)));
            let how = outcome.unwrap_or_else(|panic| {
                Err(Error::ShardDied {
                    shard,
                    reason: message(&*panic),
                })
            });
            // The main thread only stops to listen when it ends the process.
            let _ = events.send(Event::Ended { shard, how });
        })
        .map(drop)
        .map_err(|source| Error::Shard {
            shard,
            operation: "start its thread",
            source: source.into(),
        })
}

fn execute(seed: Seed, control: OwnedFd, events: &Sender<Event>) -> Result<(), Error> {
    let shard = seed.number;
    seed.heartbeat.begin();
    // glommio panics where it cannot start its blocking thread.
    let thread = std::thread::Builder::new().spawn(|| {});
    thread.map(drop).map_err(|source| Error::Shard {
        shard,
        operation: "start the thread that reads directories",
        source: source.into(),
    })?;
    // Pinned below and not by glommio, which looks the core up in /sys; that may be hidden.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(&format!("shard-{shard}"))
        .io_memory(EXECUTOR_IO_BYTES)
        // Directories are read by these threads: on any core, not on this one before all others.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(READER_THREADS))
        .make()
        .map_err(|error| Error::Shard {
            shard,
            operation: "make its executor",
            source: error.to_string().into(),
        })?;
    // Not before: the executor's blocking thread would be pinned as well.
    cores::pin(seed.core);
    executor.run(shard::run(seed, control, || {
        let _ = events.send(Event::Ready);
    }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    explained(text.unwrap_or("panic without a message"))
}

/// Adds what glommio does not say where its own rings are refused a call.
fn explained(panic: &str) -> String {
    let refused = [
        "flush_rings!",
        "OutOfMemory",
        "Failed to poll io",
        "Failed to park",
    ];
    if refused.iter().any(|text| panic.contains(text)) {
        format!("{panic} (the kernel refused an io_uring_enter: is memory short?)")
    } else {
        panic.to_owned()
    }
}

/// Passes signals on to the shards until all of them have ended, or their time is over. One that
/// ends by itself ends the server.
fn supervise(
    inbox: &mut Inbox<'_>,
    controls: &[OwnedFd],
    renewal: &Renewal,
    condition: &Condition,
    mut stop: Stop,
    on_ready: impl FnOnce(),
) -> Result<(), Error> {
    let mut on_ready = Some(on_ready);
    let mut starting = controls.len();
    let mut running = controls.len();
    while running > 0 {
        let action = match inbox.next(stop.ends())? {
            Some(Event::Ready) => {
                starting -= 1;
                if starting == 0
                    && let Some(on_ready) = on_ready.take()
                {
                    condition.set_ready(!stop.has_begun());
                    on_ready();
                }
                continue;
            }
            Some(Event::Reload) => {
                renewal.reload();
                continue;
            }
            Some(Event::Ended { how, shard }) => {
                how?;
                if !stop.has_begun() {
                    let reason = "it stopped without being told to".to_owned();
                    return Err(Error::ShardDied { shard, reason });
                }
                running -= 1;
                continue;
            }
            Some(Event::Stop) => stop.signal(Instant::now(), starting == 0),
            None => stop.time_is_over(Instant::now()),
        };
        condition.set_ready(false);
        take(action, controls);
        if action == Step::GiveUp {
            break;
        }
    }
    Ok(())
}

/// Does what `step` says, but for the end.
fn take(step: Step, controls: &[OwnedFd]) {
    match step {
        Step::Drain => tracing::info!("draining: serving on until the drain delay is over"),
        Step::Stop => {
            tracing::info!("stopping");
            controls.iter().for_each(notify);
        }
        Step::StopNow => {
            tracing::info!("stopping now");
            // The first word is to stop, and the next not to wait: it may have had none yet.
            controls.iter().chain(controls).for_each(notify);
        }
        Step::GiveUp => tracing::warn!(
            "ending without waiting for shards that hang: does a file system not answer?"
        ),
    }
}

/// What the main thread waits for, and the watchdog that it is the clock of.
struct Inbox<'a> {
    events: &'a Receiver<Event>,
    watchdog: Watchdog,
    /// When the shards are to be asked.
    ask_at: Instant,
}

impl<'a> Inbox<'a> {
    fn new(events: &'a Receiver<Event>, watchdog: Watchdog) -> Self {
        Self {
            events,
            watchdog,
            ask_at: Instant::now() + ASK_EVERY,
        }
    }

    /// The next event, `None` when `until` comes before it; an error once a shard has not answered
    /// for too long.
    fn next(&mut self, until: Option<Instant>) -> Result<Option<Event>, Error> {
        loop {
            let wake_at = until.map_or(self.ask_at, |until| until.min(self.ask_at));
            let wait = wake_at.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Timeout) if wake_at < self.ask_at => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    // Not at fixed times: what was missed while the process was stopped is not
                    // made up for.
                    self.ask_at = Instant::now() + ASK_EVERY;
                    self.watchdog.ask()?;
                }
                // The senders live as long as their threads.
                Err(RecvTimeoutError::Disconnected) => panic!("the thread of signals does not end"),
            }
        }
    }
}

fn notify(control: &OwnedFd) {
    match rustix::io::write(control, b".") {
        // One that has ended needs no telling.
        Ok(_) | Err(Errno::PIPE) => {}
        Err(error) => tracing::error!(%error, "cannot tell a shard to stop"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::read;
    use tidegate_config::Server;

    use super::*;

    static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

    /// What came of a run of [`supervise`].
    struct Outcome {
        result: Result<(), Error>,
        /// How often all were reported to be ready.
        ready: usize,
        /// How often each shard was told to stop.
        told: Vec<usize>,
    }

    /// Supervises `shards` shards that cause `events`.
    fn outcome(shards: usize, events: impl IntoIterator<Item = Event>) -> Outcome {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let pipes = (0..shards).map(|_| pipe_with(flags).unwrap());
        let (readers, controls): (Vec<_>, Vec<_>) = pipes.unzip();
        let (sender, receiver) = channel();
        for event in events {
            sender.send(event).unwrap();
        }
        let mut ready = 0;
        let renewal = Renewal::start(None).unwrap();
        let condition = Condition::new(None, &NONE_DROPPED, Vec::new());
        let stop = Stop::new(&Server::default());
        let on_ready = || ready += 1;
        let mut inbox = Inbox::new(&receiver, Watchdog::new(&[], None));
        let result = supervise(&mut inbox, &controls, &renewal, &condition, stop, on_ready);
        let told = readers.iter().map(told).collect();
        Outcome {
            result,
            ready,
            told,
        }
    }

    fn told(reader: &OwnedFd) -> usize {
        let mut buffer = [0; 64];
        match read(reader, &mut buffer) {
            Ok(count) => count,
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                0
            }
        }
    }

    fn ended(shard: usize) -> Event {
        Event::Ended { shard, how: Ok(()) }
    }

    fn failed(shard: usize) -> Event {
        let how = Err(Error::NoCores);
        Event::Ended { shard, how }
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
        assert_eq!(outcome.told, [0, 0]);
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
            assert_eq!(outcome.told, [1, 1, 1]);
        }
    }

    #[test]
    fn a_second_stop_is_passed_on() {
        let events = [Event::Ready, Event::Stop, Event::Stop, ended(0)];
        let outcome = outcome(1, events);
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.told, [3]);
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

    #[test]
    fn a_refused_call_is_explained() {
        let all = [
            ("assertion failed: flush_rings!(lat_ring)? > 0", true),
            (
                "Failed to park! This is actually pretty bad!: Os { code: 12 }",
                true,
            ),
            ("index out of bounds", false),
        ];
        for (panic, is_refusal) in all {
            let text = explained(panic);
            assert!(text.starts_with(panic));
            assert_eq!(text.contains("io_uring_enter"), is_refusal, "{text}");
        }
    }

    #[test]
    fn a_shard_that_has_ended_needs_no_telling() {
        let (reader, control) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(reader);
        notify(&control);
    }
}
