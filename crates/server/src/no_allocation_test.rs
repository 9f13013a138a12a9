//! What is in memory is answered without a look at the heap: the task of a connection is polled here by
//! hand, and its allocations are counted. (A range is not among it: its list of ranges is made anew.)

use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Waker};

use allocation_counter::measure;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use tempfile::TempDir;
use tidegate_config::Settings;
use tidegate_uring::{Fd, probe};

use crate::connection::Serving;
use crate::connection::listener_protocol::ListenerProtocol;
use crate::context::Context;
use crate::host::limits::ResourceShare;
use crate::host::locked::Queues;
use crate::worker::{WorkerConfig, open_context, start_ring};

/// Rounds of the ring after which a request must have been answered.
const ROUNDS_MAX: usize = 100_000;

/// Requests of a kind after which everything is in memory, and has the size that it needs.
const WARM: usize = 20;

/// Requests of a kind whose allocations are counted.
const HITS: usize = 50;

/// A connection whose task is polled by hand.
struct Polled<'a> {
    context: Rc<Context>,
    serving: Pin<&'a mut Serving>,
    client: OwnedFd,
}

impl Polled<'_> {
    /// Sends `request`, and polls until the answer is here: its text, and how often the task has
    /// allocated meanwhile.
    async fn ask(&mut self, request: &str) -> (String, u64) {
        send(&self.client, request.as_bytes(), SendFlags::empty()).unwrap();
        let mut allocations = 0;
        for _ in 0..ROUNDS_MAX {
            self.context.io.ring.yield_now().await;
            let counted = measure(|| {
                let mut task = task::Context::from_waker(Waker::noop());
                assert!(self.serving.as_mut().poll(&mut task).is_pending());
            });
            allocations += counted.count_total;
            let mut answer = vec![0; 64 * 1024];
            match recv(&self.client, &mut answer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    answer.truncate(count);
                    return (String::from_utf8(answer).unwrap(), allocations);
                }
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
        panic!("never answered: {request}");
    }
}

fn socket_pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("small.html"), "s".repeat(1024)).unwrap();
    directory
}

async fn context(directory: &TempDir) -> Rc<Context> {
    let share = ResourceShare {
        connections: 16,
        open_files: 16,
        pipes: 4,
        hot_bytes: 1 << 20,
        pipe_bytes: 256 << 10,
    };
    let mut settings = Settings::for_directory(directory.path().to_owned());
    // Nothing is looked at again in the midst of the test.
    settings.cache.valid = std::time::Duration::from_hours(1);
    let config = WorkerConfig {
        number: 0,
        shards: 1,
        core: 0,
        settings: Arc::new(settings),
        share,
        features: probe().unwrap(),
        queues: Queues::full(),
        stalls: Arc::default(),
        listeners: Vec::new(),
        heartbeat: Arc::default(),
    };
    let ring = start_ring(&config).unwrap();
    open_context(config, ring).await.unwrap()
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

async fn hits_allocate_nothing() {
    let directory = directory();
    let context = context(&directory).await;
    let (server, client) = socket_pair();
    let serving = pin!(Serving::new(
        Rc::clone(&context),
        &Fd::from(server),
        &ListenerProtocol::Http
    ));
    let mut polled = Polled {
        context,
        serving,
        client,
    };
    let (first, allocations) = polled.ask(&get("/small.html", "")).await;
    assert!(allocations > 0, "a look-up is counted");
    let (_, rest) = first.split_once("ETag: ").unwrap();
    let (etag, _) = rest.split_once("\r\n").unwrap();
    let hits = [
        ("200 ", get("/small.html", "")),
        ("200 ", get("/small.html", "").repeat(4)),
        ("200 ", get("/small.html", "Accept-Encoding: gzip, br\r\n")),
        (
            "304 ",
            get("/small.html", &format!("If-None-Match: {etag}\r\n")),
        ),
        ("404 ", get("/none.html", "")),
    ];
    for (status, request) in hits {
        for _ in 0..WARM {
            polled.ask(&request).await;
        }
        for _ in 0..HITS {
            let (answer, allocations) = polled.ask(&request).await;
            assert_eq!(answer["HTTP/1.1 ".len()..][..4], *status);
            assert_eq!(allocations, 0, "{request}");
        }
    }
}

#[test]
fn a_hit_allocates_nothing() {
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .unwrap()
        .run(hits_allocate_nothing());
}
