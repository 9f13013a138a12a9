//! One core's server.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::Timer;
use tidegate_config::Settings;
use tidegate_sendfile::{Pool, PoolConfig, pages_of_user};
use tidegate_site::{Site, Types};
use tidegate_uring::{Abilities, Config, Fd, Ring};

use crate::clock::Clock;
use crate::deadlines::Deadlines;
use crate::error::Error;
use crate::limits::Share;
use crate::listener::{self, Listener};

/// At most one warning of a failing accept in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What the main thread gives a shard.
pub(crate) struct Seed {
    pub(crate) number: usize,
    pub(crate) shards: usize,
    pub(crate) core: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) share: Share,
    pub(crate) abilities: Abilities,
    pub(crate) listeners: Vec<Listener>,
    /// The read end of a pipe, with a byte for each signal to stop.
    pub(crate) control: OwnedFd,
}

/// What the connections of one core share.
pub(crate) struct Shard {
    pub(crate) settings: Arc<Settings>,
    pub(crate) http: tidegate_http::Limits,
    pub(crate) ring: Ring,
    pub(crate) pipes: Rc<Pool>,
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) counters: Counters,
    connections_max: usize,
    stopping: Cell<bool>,
    warned: Cell<Option<Instant>>,
}

/// Buffers for what is built and sent without waiting in between.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Responses.
    pub(crate) out: Vec<u8>,
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
pub(crate) async fn run(seed: Seed, ready: impl FnOnce()) -> Result<(), Error> {
    let number = seed.number;
    let listeners: Vec<(Fd, usize)> = seed
        .listeners
        .into_iter()
        .map(|listener| (Fd::from(listener.socket), listener.backlog))
        .collect();
    let control = Fd::from(seed.control);
    let shard = Shard::new(
        seed.number,
        seed.shards,
        seed.core,
        seed.settings,
        seed.share,
        seed.abilities,
    )
    .await?;
    glommio::spawn_local(Rc::clone(&shard.deadlines).watch()).detach();
    let accepting: Vec<_> = listeners
        .iter()
        .map(|(socket, backlog)| {
            let accepting = listener::accept(Rc::clone(&shard), socket.clone(), *backlog);
            glommio::spawn_local(accepting)
        })
        .collect();
    ready();
    control_signal(&shard.ring, &control).await;
    shard.stopping.set(true);
    for (listener, _) in &listeners {
        // The accepting tasks see it, take what is left and end.
        let _ = shard.ring.cancel(listener).await;
    }
    drop(listeners);
    for task in accepting {
        task.await;
    }
    shard.finish(&control).await;
    tracing::debug!(
        shard = number,
        connections = shard.counters.connections.get(),
        requests = shard.counters.requests.get(),
        "stopped"
    );
    Ok(())
}

/// Waits for the main thread's word.
async fn control_signal(ring: &Ring, control: &Fd) {
    let (count, _) = ring.read(control, Vec::with_capacity(1), None).await;
    if let Err(error) = count {
        panic!("reading the shard's control pipe: {error}");
    }
}

impl Shard {
    async fn new(
        number: usize,
        shards: usize,
        core: usize,
        settings: Arc<Settings>,
        share: Share,
        abilities: Abilities,
    ) -> Result<Rc<Self>, Error> {
        let ring = Ring::start(&Config {
            recv_buffers: settings.io.recv_buffers,
            recv_buffer_bytes: settings.io.recv_buffer_size,
            workers: settings.io.cold_workers,
            worker_cpus: vec![core],
            abilities: Some(abilities),
            ..Config::default()
        })
        .map_err(fault(number, "set up its io_uring"))?;
        let pipes = Pool::new(
            &ring,
            PoolConfig {
                pipe_bytes: settings.io.pipe_size,
                pipes_max: share.pipes,
                pages_max: pages_of_user(shards),
                cold_max: (settings.io.cold_workers as usize)
                    .min(share.pipes / 2)
                    .max(1),
            },
        )
        .await
        .map_err(fault(number, "make a pipe"))?;
        Ok(Rc::new(Self {
            http: tidegate_http::Limits {
                header_bytes: settings.limits.header_bytes,
                headers: settings.limits.headers,
                body_discard: settings.limits.body_discard,
            },
            site: Site::open(site_config(&settings, share), &ring)?,
            settings,
            ring,
            pipes,
            clock: Clock::new(),
            deadlines: Rc::new(Deadlines::new()),
            scratch: RefCell::default(),
            counters: Counters::default(),
            connections_max: share.connections,
            stopping: Cell::new(false),
            warned: Cell::new(None),
        }))
    }

    /// Whether the server is about to end: responses close their connections.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// How many more connections are allowed.
    pub(crate) fn room(&self) -> usize {
        self.connections_max.saturating_sub(self.deadlines.len())
    }

    pub(crate) async fn wait_for_room(&self) {
        self.deadlines.fewer_than(self.connections_max).await;
    }

    pub(crate) fn warn_of_accept(&self, error: &std::io::Error) {
        let now = Instant::now();
        let silent = self
            .warned
            .get()
            .is_some_and(|warned| now < warned + WARN_EVERY);
        if !silent {
            self.warned.set(Some(now));
            tracing::warn!(
                %error,
                connections = self.deadlines.len(),
                "cannot accept a connection; trying again until it works"
            );
        }
    }

    /// Waits for the responses under way: until the graceful time is over, or the next signal.
    async fn finish(&self, control: &Fd) {
        self.deadlines.end_idle();
        let timeout = self.settings.server.graceful_timeout;
        let impatience = or(
            async {
                let _ = Timer::new(timeout).await;
            },
            control_signal(&self.ring, control),
        );
        or(self.deadlines.fewer_than(1), impatience).await;
        let cut = self.deadlines.len();
        if cut > 0 {
            tracing::warn!(connections = cut, "cut off to stop");
            self.deadlines.end_all();
        }
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

fn site_config(settings: &Settings, share: Share) -> tidegate_site::Config {
    let site = &settings.site;
    tidegate_site::Config {
        root: site.root.clone(),
        index: site.index.clone(),
        hidden_files: site.hidden_files,
        types: Types {
            charset: site.charset.clone(),
            default: site.default_type.clone(),
            overrides: site.mime_types.clone(),
        },
        inline_max: settings.io.inline_max,
        hot_bytes: settings.cache.hot_bytes_per_core,
        open_files: share.open_files,
        valid: settings.cache.valid,
    }
}
