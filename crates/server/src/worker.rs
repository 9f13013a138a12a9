//! One core's server.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::Task;
use glommio::timer::Timer;
use tidegate_config::Settings;
use tidegate_sendfile::{Pool, PoolConfig, pages_of_user};
use tidegate_site::{Sites, Stalls};
use tidegate_uring::{Config, Fd, Features, Ring};

use crate::accept::{self, Listener};
use crate::clock::Clock;
use crate::config::sites::cache_config;
use crate::error::Error;
use crate::host::limits::Share;
use crate::host::locked::Queues;
use crate::observe::heartbeat::Heartbeat;
use crate::timeouts::Deadlines;

/// At most one warning of a kind in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What the main thread gives a shard.
pub(crate) struct Seed {
    pub(crate) number: usize,
    pub(crate) shards: usize,
    pub(crate) core: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) share: Share,
    pub(crate) abilities: Features,
    pub(crate) queues: Queues,
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) heartbeat: Arc<Heartbeat>,
}

/// What the connections of one core share.
pub(crate) struct Shard {
    pub(crate) settings: Arc<Settings>,
    pub(crate) http: tidegate_http::Limits,
    pub(crate) ring: Ring,
    pub(crate) pipes: Rc<Pool>,
    pub(crate) sites: Sites,
    pub(crate) clock: Clock,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) counters: Counters,
    /// Empty once the shard has stopped accepting: that closes them.
    listeners: RefCell<Vec<Fd>>,
    /// How many connections may wait in the listeners.
    burst: usize,
    connections_max: usize,
    stopping: Cell<bool>,
    /// Listeners at which somebody waits for room.
    crowded: Cell<usize>,
    accept_warnings: Throttle,
    pub(crate) file_warnings: Throttle,
    pub(crate) tls_warnings: Throttle,
}

/// Buffers for what is built and sent without waiting in between.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Responses.
    pub(crate) out: Vec<u8>,
    /// Records that hold them, where TLS is spoken in user space.
    pub(crate) sealed: Vec<u8>,
    /// The decoded path of the request at hand.
    pub(crate) path: Vec<u8>,
}

/// What the shard has done.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections: Cell<u64>,
    pub(crate) requests: Cell<u64>,
}

/// Serves on one core until told to stop. `ready` is called once it serves.
pub(crate) async fn run(
    mut seed: Seed,
    control: OwnedFd,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let number = seed.number;
    let control = Fd::from(control);
    let listeners = mem::take(&mut seed.listeners);
    let burst = listeners.iter().map(|listener| listener.backlog).sum();
    let heartbeat = Arc::clone(&seed.heartbeat);
    let ring = start_ring(&seed)?;
    // Before anything is waited for: what asks it for a sign of life also ends a sleep of the executor
    // that should not have begun.
    let beating = ring.spawn(heartbeat.beat(ring.clone()));
    let shard = Shard::new(seed, burst, ring).await?;
    let watching = Rc::clone(&shard.deadlines).watch();
    shard.ring.spawn(watching).detach();
    shard.ring.spawn(shard.sites.sweep()).detach();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let socket = Fd::from(listener.socket);
            shard.listeners.borrow_mut().push(socket.clone());
            let (shard, backlog) = (Rc::clone(&shard), listener.backlog);
            let accepting =
                accept::accept_when_open(Rc::clone(&shard), socket, backlog, listener.manner);
            shard.ring.spawn(accepting)
        })
        .collect();
    ready();
    control_signal(&shard.ring, &control).await;
    shard.stop(accepting, &control).await;
    // An executor that ends drops no tasks, and the questions would go on.
    beating.cancel().await;
    tracing::debug!(
        shard = number,
        connections = shard.counters.connections.get(),
        requests = shard.counters.requests.get(),
        "stopped"
    );
    Ok(())
}

/// The queues and buffers of a shard's ring.
pub(crate) fn ring_config(settings: &Settings, queues: Queues) -> Config {
    Config {
        entries: queues.entries,
        completions: queues.completions,
        recv_buffers: settings.io.recv_buffers,
        recv_buffer_bytes: settings.io.recv_buffer_size,
        ..Config::default()
    }
}

/// The ring of a shard.
pub(crate) fn start_ring(seed: &Seed) -> Result<Ring, Error> {
    let settings = &seed.settings;
    let config = Config {
        // As many as are shared out, so that none waits for another kind: two times as many as for
        // one device, for look-ups and for reads; and to ask ahead.
        workers: 5 * settings.io.cold_workers,
        splice_workers: 2 * settings.io.cold_workers,
        worker_cpus: vec![seed.core],
        features: Some(seed.abilities),
        ..ring_config(settings, seed.queues)
    };
    Ring::start(&config).map_err(fault(seed.number, "set up its io_uring"))
}

/// The pipes of one of `shards` shards.
pub(crate) fn pool_config(settings: &Settings, share: Share, shards: usize) -> PoolConfig {
    PoolConfig {
        pipe_bytes: settings.io.pipe_size,
        pipes_max: share.pipes,
        pages_max: pages_of_user(shards),
        cold_max: settings.io.cold_workers as usize,
    }
}

/// Waits for the main thread's word.
async fn control_signal(ring: &Ring, control: &Fd) {
    let (count, _) = ring.read(control, Vec::with_capacity(1), None).await;
    if let Err(error) = count {
        panic!("reading the shard's control pipe: {error}");
    }
}

impl Shard {
    /// A shard without listeners yet, in which `burst` connections may wait.
    pub(crate) async fn new(seed: Seed, burst: usize, ring: Ring) -> Result<Rc<Self>, Error> {
        let Seed {
            number,
            shards,
            settings,
            share,
            stalls,
            ..
        } = seed;
        let workers = ring.start_workers().await;
        workers.map_err(fault(number, "start the workers of its io_uring"))?;
        let pipes = Pool::new(&ring, pool_config(&settings, share, shards))
            .await
            .map_err(fault(number, "make a pipe"))?;
        Ok(Rc::new(Self {
            http: tidegate_http::Limits {
                header_bytes: settings.limits.header_bytes,
                headers: settings.limits.headers,
                body_discard: settings.limits.body_discard,
            },
            sites: Sites::open(
                &settings.sites,
                cache_config(&settings, share),
                &ring,
                &stalls,
            )?,
            burst,
            listeners: RefCell::default(),
            settings,
            ring,
            pipes,
            clock: Clock::new(),
            deadlines: Rc::new(Deadlines::new()),
            scratch: RefCell::default(),
            counters: Counters::default(),
            connections_max: share.connections,
            stopping: Cell::new(false),
            crowded: Cell::new(0),
            accept_warnings: Throttle::default(),
            file_warnings: Throttle::default(),
            tls_warnings: Throttle::default(),
        }))
    }

    /// Whether the server is about to end.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether connections end with the response at hand: the server stops, or others wait for
    /// their places.
    pub(crate) fn keeps_none(&self) -> bool {
        self.stopping() || self.crowded.get() > 0
    }

    /// How many more connections are allowed.
    pub(crate) fn room(&self) -> usize {
        self.connections_max.saturating_sub(self.deadlines.len())
    }

    /// Whether there is room for all that may wait to be accepted. A listener that does not take
    /// them all at once (`armed`) begins to only when there is room twice over.
    pub(crate) fn has_room_for_all(&self, armed: bool) -> bool {
        let wanted = if armed { self.burst } else { self.burst * 2 };
        self.room() > wanted
    }

    /// Waits for room for a connection that waits: idle ones are ended, others when they become so.
    pub(crate) async fn make_room(&self) {
        self.crowded.set(self.crowded.get() + 1);
        self.deadlines.end_longest_idle();
        self.room_or_stop().await;
        self.crowded.set(self.crowded.get() - 1);
    }

    /// Waits until a connection may be accepted, or none ever will.
    pub(crate) async fn room_or_stop(&self) {
        self.deadlines
            .until(|| self.room() > 0 || self.stopping())
            .await;
    }

    /// Has every accepting task look again at how it is to accept.
    pub(crate) async fn cancel_accepts(&self) {
        let listeners = self.listeners.borrow().clone();
        for listener in &listeners {
            // A listener that accepts nothing has nothing to cancel.
            let _ = self.ring.cancel(listener).await;
        }
    }

    pub(crate) fn warn_of_accept(&self, error: &std::io::Error) {
        if self.accept_warnings.is_due() {
            tracing::warn!(
                %error,
                connections = self.deadlines.len(),
                "cannot accept a connection; trying again until it works"
            );
        }
    }

    /// Ends the accepting tasks and the idle connections, and waits for the responses under way:
    /// until the graceful time is over, or the next signal.
    async fn stop(&self, accepting: Vec<Task<()>>, control: &Fd) {
        self.stopping.set(true);
        self.deadlines.wake_waiting();
        let drained = async {
            // The accepting tasks see it, take what is left and end.
            self.cancel_accepts().await;
            for task in accepting {
                task.await;
            }
            self.listeners.take();
            self.deadlines.end_idle();
            self.deadlines.until(|| self.deadlines.len() == 0).await;
        };
        let timeout = self.settings.server.graceful_timeout;
        let time_is_over = async {
            let _ = Timer::new(timeout).await;
        };
        or(
            drained,
            or(time_is_over, control_signal(&self.ring, control)),
        )
        .await;
        let cut = self.deadlines.len();
        if cut > 0 {
            tracing::warn!(connections = cut, "cut off to stop");
            self.deadlines.end_all();
        }
    }
}

/// Lets a warning through now and then.
#[derive(Default)]
pub(crate) struct Throttle(Cell<Option<Instant>>);

impl Throttle {
    /// Whether the last one is long enough ago; if so, this is the last one.
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let due = self.0.get().is_none_or(|last| now >= last + WARN_EVERY);
        if due {
            self.0.set(Some(now));
        }
        due
    }
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
