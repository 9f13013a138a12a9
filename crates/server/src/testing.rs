//! A core without an accept loop, for tests: its connections are polled by hand.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{self, Waker};
use std::time::Duration;

use allocation_counter::measure;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use tempfile::TempDir;
use tidegate_config::Settings;
use tidegate_uring::executor::Executor;
use tidegate_uring::{Fd, probe};

use crate::config::prepared::Prepared;
use crate::connection::ConnectionTask;
use crate::connection::listener_protocol::ListenerProtocol;
use crate::context::Context;
use crate::host::budget::Budget;
use crate::host::limits::ResourceShare;
use crate::host::locked::Queues;
use crate::memory::Pressure;
use crate::observe::access_log::LogFiles;
use crate::observe::health::Health;
use crate::worker::{WorkerConfig, open_context, start_ring};
use tidegate_config::Listen;

/// Rounds of the ring after which a request must have been answered.
const ROUNDS_MAX: usize = 100_000;

/// The core's share of the host.
pub(crate) const SHARE: ResourceShare = ResourceShare {
    connections: 16,
    open_files: 16,
    pipes: 4,
    hot_bytes: 1 << 20,
    pipe_bytes: 256 << 10,
    held_bytes: 64 << 20,
    send_bytes: 4 << 20,
};

/// Runs `test` on an executor.
pub(crate) fn run(test: impl Future<Output = ()>) {
    Executor::new("test", 1).unwrap().run(test);
}

/// A directory with a file `small.html` that holds `text`.
pub(crate) fn directory(text: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("small.html"), text).unwrap();
    directory
}

/// Serves `directory`. Cached files are valid for longer than a test takes.
pub(crate) fn settings(directory: &TempDir) -> Settings {
    let mut settings = Settings::for_directory(directory.path().to_owned());
    settings.cache.valid = Duration::from_hours(1);
    settings
}

static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

/// The settings for a core.
pub(crate) fn prepared(settings: Settings) -> Prepared {
    let logs = Arc::new(LogFiles::new(1));
    let budget = Budget::unlimited();
    let health = Health::new(None, &NONE_DROPPED, vec![Arc::default()], logs, budget);
    let prepared = Prepared::of(settings, SHARE, &health);
    prepared.unwrap().remove(0)
}

pub(crate) async fn context(settings: Settings) -> Rc<Context> {
    let config = WorkerConfig {
        number: 0,
        shards: 1,
        core: 0,
        prepared: prepared(settings),
        features: probe().unwrap(),
        queues: Queues::full(),
        listeners: Vec::new(),
        heartbeat: Arc::default(),
        metrics: Arc::default(),
        site_labels: Arc::default(),
        pressure: Arc::new(Pressure::new(Budget::unlimited())),
    };
    let ring = start_ring(&config).unwrap();
    Rc::new(open_context(config, ring).await.unwrap())
}

pub(crate) fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

/// A client, and the task of its connection.
pub(crate) struct Client {
    context: Rc<Context>,
    task: Pin<Box<ConnectionTask>>,
    socket: OwnedFd,
}

impl Client {
    pub(crate) fn connect(context: &Rc<Context>) -> Self {
        Self::connect_to(context, &Listen::default())
    }

    /// Connects to a listener of this kind.
    pub(crate) fn connect_to(context: &Rc<Context>, listen: &Listen) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (server, socket) = pair.unwrap();
        let server = Fd::from(server);
        let protocol = ListenerProtocol::new(listen, None);
        let task = ConnectionTask::new(Rc::clone(context), server, &protocol);
        Self {
            context: Rc::clone(context),
            task: Box::pin(task),
            socket,
        }
    }

    /// Sends `request`, and polls the task until a response is here: its text, and how often the
    /// task allocated.
    pub(crate) async fn ask(&mut self, request: &str) -> (String, u64) {
        let (response, allocations) = self.send(request.as_bytes()).await;
        (String::from_utf8(response).unwrap(), allocations)
    }

    /// As [`Client::ask`], in bytes.
    pub(crate) async fn send(&mut self, request: &[u8]) -> (Vec<u8>, u64) {
        send(&self.socket, request, SendFlags::empty()).unwrap();
        let mut allocations = 0;
        for _ in 0..ROUNDS_MAX {
            self.context.io.ring.yield_now().await;
            let counted = measure(|| {
                let mut context = task::Context::from_waker(Waker::noop());
                assert!(self.task.as_mut().poll(&mut context).is_pending());
            });
            allocations += counted.count_total;
            let mut response = vec![0; 64 * 1024];
            match recv(&self.socket, &mut response, RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    response.truncate(count);
                    return (response, allocations);
                }
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
        panic!("never answered: {}", request.escape_ascii());
    }
}
