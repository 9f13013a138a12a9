//! One core's server.

use std::error::Error as StdError;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::or;
use glommio::Task;
use glommio::timer::Timer;
use tidegate_config::Settings;
use tidegate_site::Stalls;
use tidegate_uring::{Config, Fd, Features, Ring};

use crate::accept::admission::Admission;
use crate::accept::{self, Listener};
use crate::context::Context;
use crate::error::Error;
use crate::host::limits::{ResourceShare, pool_config};
use crate::host::locked::{Queues, ring_config};
use crate::observe::heartbeat::Heartbeat;
use crate::transport::io::Io;

/// What the main thread gives a shard.
pub(crate) struct WorkerConfig {
    pub(crate) number: usize,
    pub(crate) shards: usize,
    pub(crate) core: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) share: ResourceShare,
    pub(crate) abilities: Features,
    pub(crate) queues: Queues,
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) heartbeat: Arc<Heartbeat>,
}

/// Serves on one core until told to stop. `ready` is called once it serves.
pub(crate) async fn run(
    mut config: WorkerConfig,
    control: OwnedFd,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let number = config.number;
    let control = Fd::from(control);
    let listeners = mem::take(&mut config.listeners);
    let connections_max = config.share.connections;
    let heartbeat = Arc::clone(&config.heartbeat);
    let ring = start_ring(&config)?;
    // First of all tasks: a question of the watchdog also ends a sleep that the executor should not
    // have begun.
    let beating = ring.spawn(heartbeat.beat(ring.clone()));
    let context = open_context(config, ring).await?;
    let ring = &context.io.ring;
    ring.spawn(Rc::clone(&context.timers).run()).detach();
    ring.spawn(context.sites.sweep()).detach();
    let (admission, accepting) = start_accepting(&context, connections_max, listeners);
    ready();
    control_signal(ring, &control).await;
    stop(&admission, accepting, &control).await;
    // An executor that ends drops no tasks: its heartbeat would still be asked for.
    beating.cancel().await;
    tracing::debug!(
        shard = number,
        connections = context.counters.connections.get(),
        requests = context.counters.requests.get(),
        "stopped"
    );
    Ok(())
}

/// Starts an accept loop for each listener.
fn start_accepting(
    context: &Rc<Context>,
    connections_max: usize,
    listeners: Vec<Listener>,
) -> (Rc<Admission>, Vec<Task<()>>) {
    let backlog = listeners.iter().map(|listener| listener.backlog).sum();
    let opened: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            (
                Fd::from(listener.socket),
                listener.backlog,
                listener.protocol,
            )
        })
        .collect();
    let sockets = opened.iter().map(|(socket, ..)| socket.clone()).collect();
    let admission = Admission::new(Rc::clone(context), connections_max, backlog, sockets);
    let accepting = opened.into_iter().map(|(socket, backlog, protocol)| {
        let admission = Rc::clone(&admission);
        let accepting = accept::accept_when_open(admission, socket, backlog, protocol);
        context.io.ring.spawn(accepting)
    });
    let accepting = accepting.collect();
    (admission, accepting)
}

/// Ends the accept loops and the idle connections, and waits for the responses under way: until the
/// graceful timeout, or the next signal.
async fn stop(admission: &Admission, accepting: Vec<Task<()>>, control: &Fd) {
    let context = &admission.context;
    admission.stop();
    let drained = async {
        // The accept loops see it, take the connections that wait, and end.
        admission.cancel_accepts().await;
        for task in accepting {
            task.await;
        }
        admission.close();
        context.timers.end_idle();
        context.timers.until(|| context.timers.len() == 0).await;
    };
    let timeout = context.settings.server.graceful_timeout;
    let time_is_over = async {
        let _ = Timer::new(timeout).await;
    };
    let told = control_signal(&context.io.ring, control);
    or(drained, or(time_is_over, told)).await;
    let cut = context.timers.len();
    if cut > 0 {
        tracing::warn!(connections = cut, "cut off to stop");
        context.timers.end_all();
    }
}

/// The ring of a shard.
pub(crate) fn start_ring(config: &WorkerConfig) -> Result<Ring, Error> {
    let settings = &config.settings;
    let ring = Config {
        // As many as are shared out, so that none waits for another kind: two times as many as for
        // one device, for look-ups and for reads; and to ask ahead.
        workers: 5 * settings.io.cold_workers,
        splice_workers: 2 * settings.io.cold_workers,
        worker_cpus: vec![config.core],
        features: Some(config.abilities),
        ..ring_config(settings, config.queues)
    };
    Ring::start(&ring).map_err(fault(config.number, "set up its io_uring"))
}

/// Starts the workers of `ring`, makes the pipes and opens the sites.
pub(crate) async fn open_context(config: WorkerConfig, ring: Ring) -> Result<Rc<Context>, Error> {
    let number = config.number;
    let workers = ring.start_workers().await;
    workers.map_err(fault(number, "start the workers of its io_uring"))?;
    let pipes = pool_config(&config.settings, config.share, config.shards);
    let io = Io::new(ring, pipes).await;
    let io = io.map_err(fault(number, "make a pipe"))?;
    Context::new(config.settings, config.share, &config.stalls, io)
}

/// Waits for the main thread's word.
async fn control_signal(ring: &Ring, control: &Fd) {
    let (count, _) = ring.read(control, Vec::with_capacity(1), None).await;
    if let Err(error) = count {
        panic!("reading the shard's control pipe: {error}");
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
