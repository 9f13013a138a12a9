//! One core: serves until the main thread sends a stop.

use std::cell::OnceCell;
use std::error::Error as StdError;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use tidegate_uring::executor::{Task, coarse_sleep};
use tidegate_uring::{Config, Fd, Features, Ring};

use crate::accept::accept_loop::AcceptLoop;
use crate::accept::admission::{Admission, Ending};
use crate::accept::listener::Listener;
use crate::accept::listener_state::ListenerState;
use crate::config::prepared::Prepared;
use crate::config::snapshot::Snapshot;
use crate::context::Context;
use crate::control::{Control, ControlInbox, ControlReceiver};
use crate::error::Error;
use crate::event::Event;
use crate::host::limits::pool_config;
use crate::host::locked::{Queues, ring_config};
use crate::memory::{CoreMemory, Pressure};
use crate::observe::access_log::Recorder;
use crate::observe::heartbeat::Heartbeat;
use crate::observe::metrics::{CoreMetrics, Metrics, SiteLabels};
use crate::publish::publish;
use crate::relief::relieve;
use crate::timeouts::TimerQueue;
use crate::transport::io::Io;
use crate::update::CoreUpdate;

/// How long the tasks of connections that are cut off may take to end.
const CUT_OFF_TIME: Duration = Duration::from_millis(200);

/// How long idle connections may take to end after a hand-over's time. None waits for anything.
const IDLE_END_TIME: Duration = Duration::from_secs(1);

/// The configuration of one worker.
pub(crate) struct WorkerConfig {
    pub(crate) number: usize,
    pub(crate) shards: usize,
    pub(crate) core: usize,
    pub(crate) prepared: Prepared,
    pub(crate) features: Features,
    pub(crate) queues: Queues,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) site_labels: Arc<SiteLabels>,
    pub(crate) pressure: Arc<Pressure>,
}

/// Serves on one core until a stop. `report` is called with [`Event::Ready`] once it can serve, and
/// with [`Event::Applied`] for each [`Control::Apply`]. It accepts connections from
/// [`Control::Serve`] on.
pub(crate) async fn run(
    mut config: WorkerConfig,
    control: ControlReceiver,
    report: impl Fn(Event),
) -> Result<(), Error> {
    let number = config.number;
    let listeners = mem::take(&mut config.listeners);
    let connections_max = config.prepared.share.connections;
    let heartbeat = Arc::clone(&config.heartbeat);
    let ring = start_ring(&config)?;
    let control = control.attach(&ring);
    // Spawned first: the watchdog's query also wakes an executor that should not have slept.
    let opened = Rc::<OnceCell<Rc<Context>>>::default();
    let published = Rc::clone(&opened);
    let metrics = Arc::clone(&config.metrics);
    let beating = ring.spawn(heartbeat.beat(ring.clone(), move |delay| {
        if let Some(delay) = delay {
            metrics.delay.observe(delay);
        }
        if let Some(context) = published.get() {
            relieve(context);
            publish(context);
        }
    }));
    let context = Rc::new(open_context(config, ring).await?);
    let context = opened.get_or_init(|| context);
    let ring = &context.io.ring;
    ring.spawn(Rc::clone(&context.timers).run()).detach();
    let reporter = Rc::clone(context);
    let rates = Rc::clone(&context.timers).run_rates(ring.clone(), move |slow| {
        reporter.report_slow(slow);
    });
    ring.spawn(rates).detach();
    let worker = Worker::new(context, connections_max, listeners);
    report(Event::Ready);
    worker.run(&control, || report(Event::Applied)).await;
    // The executor drops no tasks when it ends, so queries to this one would continue.
    beating.cancel().await;
    tracing::debug!(
        shard = number,
        connections = context.metrics.core().accepted.get(),
        requests = context.metrics.core().requests(),
        "stopped"
    );
    Ok(())
}

/// A worker that can serve.
struct Worker {
    admission: Rc<Admission>,
    /// Those that it does not accept on yet.
    listeners: Vec<Listener>,
    accepting: Vec<Accepting>,
}

/// An accept loop that runs.
struct Accepting {
    /// Shared with the loop until it ends.
    state: Rc<ListenerState>,
    task: Task<()>,
}

impl Accepting {
    fn has_ended(&self) -> bool {
        Rc::strong_count(&self.state) == 1
    }
}

impl Worker {
    fn new(context: &Rc<Context>, connections_max: usize, listeners: Vec<Listener>) -> Self {
        Self {
            admission: Rc::new(Admission::new(Rc::clone(context), connections_max)),
            listeners,
            accepting: Vec::new(),
        }
    }

    /// Begins to accept.
    async fn accept(&mut self) {
        let listeners = mem::take(&mut self.listeners);
        self.set_listeners(listeners).await;
    }

    /// Accepts on exactly these listeners from now on. Those that are not among them serve the
    /// clients in their backlogs, and close.
    async fn set_listeners(&mut self, listeners: Vec<Listener>) {
        self.accepting.retain(|one| !one.has_ended());
        for one in &self.accepting {
            match listeners.iter().find(|next| next.id == one.state.id()) {
                Some(next) => one.state.update(next),
                None => one.state.remove(),
            }
        }
        self.admission.set_backlogs();
        let addresses = listeners.iter().map(|listener| listener.address.clone());
        let addresses = addresses.collect();
        // All are added to the admission before any of them runs.
        let states = listeners.into_iter().flat_map(|listener| {
            let state = ListenerState::new(&listener);
            let sockets = listener.sockets.into_iter();
            sockets.map(move |socket| (Fd::from(socket), Rc::new(state.clone())))
        });
        let loops = states.map(|(socket, state)| {
            let admission = Rc::clone(&self.admission);
            (AcceptLoop::new(admission, socket, Rc::clone(&state)), state)
        });
        let loops: Vec<_> = loops.collect();
        let ring = &self.admission.context.io.ring;
        let accepting = loops.into_iter().map(|(one, state)| Accepting {
            task: ring.spawn(one.run()),
            state,
        });
        self.accepting.extend(accepting);
        self.admission.set_addresses(addresses).await;
    }

    /// Serves until the main thread sends a stop.
    async fn run(mut self, control: &ControlInbox, applied: impl Fn()) {
        loop {
            match control.next().await {
                Control::Serve => self.accept().await,
                Control::Apply(update) => {
                    self.apply(*update).await;
                    applied();
                }
                Control::HandOver => return self.hand_over(control).await,
                Control::Stop => return self.stop(control).await,
                Control::StopNow => {
                    self.admission.end(Ending::Stop);
                    return self.cut_off().await;
                }
            }
        }
    }

    /// Replaces the configuration. Requests that began go on with the one before.
    async fn apply(&mut self, update: CoreUpdate) {
        let start = Instant::now();
        let share = &update.prepared.share;
        let connections_max = share.connections;
        self.admission.context.memory.set_share(share);
        self.admission.context.replace_snapshot(update.prepared);
        self.admission.set_connections_max(connections_max);
        self.set_listeners(update.listeners).await;
        tracing::debug!(took = ?start.elapsed(), "the configuration is replaced on this core");
    }

    /// Ends the accept loops and the idle connections, and waits for responses in progress until
    /// the graceful timeout or the next message.
    async fn stop(mut self, control: &ControlInbox) {
        // Clients may wait at listeners that it never accepted on.
        if self.accepting.is_empty() {
            self.accept().await;
        }
        self.admission.end(Ending::Stop);
        self.within_grace(control, async |timers| {
            timers.end_idle();
            timers.until(|| timers.len() == 0).await;
        })
        .await;
        self.cut_off().await;
    }

    /// Ends the accept loops, and waits for connections to end until the graceful timeout or the
    /// next message. Idle ones stay open: a request that the client is sending at this moment would
    /// be lost with them, so they end with their next response, or when the time is over.
    async fn hand_over(mut self, control: &ControlInbox) {
        self.admission.end(Ending::HandOver);
        self.admission.context.timers.wake_to_end();
        self.within_grace(control, async |timers| {
            timers.until(|| timers.len() == 0).await;
        })
        .await;
        let timers = &self.admission.context.timers;
        timers.end_idle();
        let ended = timers.until(|| timers.len() == 0);
        or(ended, coarse_sleep(IDLE_END_TIME)).await;
        self.cut_off().await;
    }

    /// Ends the accept loops, then waits for `connections`, until the graceful timeout or the next
    /// message.
    async fn within_grace(
        &mut self,
        control: &ControlInbox,
        connections: impl AsyncFnOnce(&TimerQueue),
    ) {
        let timeout = self.admission.context.settings().server.graceful_timeout;
        let accepting = mem::take(&mut self.accepting);
        let drain = async {
            // The accept loops notice, take the waiting connections, and end.
            self.admission.cancel_accepts().await;
            for one in accepting {
                one.task.await;
            }
            self.admission.close();
            connections(&self.admission.context.timers).await;
        };
        let told = async {
            // Every message ends the wait.
            control.next().await;
        };
        or(drain, or(coarse_sleep(timeout), told)).await;
    }

    /// Ends the remaining connections, and waits a moment for their tasks: the exchanges that end
    /// with them are counted and logged.
    async fn cut_off(&self) {
        let timers = &self.admission.context.timers;
        let connections = timers.len();
        if connections > 0 {
            tracing::warn!(connections, "cut off to stop");
            timers.end_all();
            let ended = timers.until(|| timers.len() == 0);
            or(ended, coarse_sleep(CUT_OFF_TIME)).await;
        }
    }
}

/// Starts the ring.
pub(crate) fn start_ring(config: &WorkerConfig) -> Result<Ring, Error> {
    let settings = &config.prepared.settings;
    let ring = Config {
        // One worker per permit, so that none waits for another kind: two times `cold_workers` (the
        // limit of one device) for lookups, two for reads, one for prefetches.
        workers: 5 * settings.io.cold_workers,
        splice_workers: 2 * settings.io.cold_workers,
        worker_cpus: vec![config.core],
        features: Some(config.features),
        ..ring_config(settings, config.queues)
    };
    Ring::start(&ring).map_err(fault(config.number, "set up its io_uring"))
}

/// Starts the workers of `ring`, makes the pipes and the snapshot.
pub(crate) async fn open_context(config: WorkerConfig, ring: Ring) -> Result<Context, Error> {
    let number = config.number;
    let workers = ring.start_workers().await;
    workers.map_err(fault(number, "start the workers of its io_uring"))?;
    let prepared = config.prepared;
    let pipes = pool_config(&prepared.settings, prepared.share, config.shards);
    let io = Io::new(ring, pipes).await;
    let io = io.map_err(fault(number, "make a pipe"))?;
    let metrics = Metrics::new(config.metrics, config.site_labels);
    let memory = CoreMemory::new(config.pressure, config.shards, &prepared.share);
    let snapshot = Snapshot::new(prepared, &io.ring, None);
    let recorder = Recorder::new(number, config.core);
    Ok(Context::new(io, snapshot, metrics, memory, recorder))
}

fn fault<E>(shard: usize, operation: &'static str) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    move |source| Error::Shard {
        shard,
        operation,
        source: source.into(),
    }
}
