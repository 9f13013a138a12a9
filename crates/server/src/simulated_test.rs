//! Connections over a simulated kernel: each op fails with each error, or moves less than it could, and
//! the client closes, ends its half or resets after each op.
//!
//! The bound of a test is a number of turns of the ring, not a time.

#[path = "../../uring/tests/support/plan.rs"]
mod plan;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use plan::{ERRORS, Kernel, Plan};
use rustix::fs::Advice;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};
use tempfile::TempDir;
use tidegate_config::Listen;
use tidegate_uring::Fd;
use tidegate_uring::simulation::{Fate, Kind, install};

use crate::connection::ConnectionTask;
use crate::connection::listener_protocol::ListenerProtocol;
use crate::context::Context;
use crate::testing::{context, get, run, settings};

/// Longer than what is kept in memory, and than two pipes.
const LARGE_LEN: usize = 600_001;

const SMALL: &str = "a small file";

/// The turns that a connection may take.
const TURNS_MAX: usize = 20_000;

/// Every so many turns other threads get time, which the simulation has no part in.
const REST_EVERY: usize = 64;

/// What the client does when the planned ops are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    EndItsHalf,
    /// With bytes that it has not read: a reset.
    Close,
}

/// A tree, and what its files hold.
struct Tree {
    directory: TempDir,
    large: Vec<u8>,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..LARGE_LEN).map(|index| (index % 251) as u8).collect();
        std::fs::write(directory.path().join("small.html"), SMALL).unwrap();
        std::fs::write(directory.path().join("large.bin"), &large).unwrap();
        Self { directory, large }
    }

    /// The status and the body of the response to each of [`requests`].
    fn expected(&self) -> [(u16, &[u8]); 3] {
        [
            (200, SMALL.as_bytes()),
            (200, &self.large),
            (200, SMALL.as_bytes()),
        ]
    }

    fn evict(&self) {
        let file = std::fs::File::open(self.directory.path().join("large.bin")).unwrap();
        rustix::fs::fsync(&file).unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

fn requests() -> String {
    let close = "Connection: close\r\n";
    get("/small.html", "") + &get("/large.bin", "") + &get("/small.html", close)
}

/// What a client got: the bytes, and what the kernel did.
struct Outcome {
    received: Vec<u8>,
    met: Option<Kind>,
    has_acted: bool,
}

/// A core whose kernel is planned.
struct Core {
    plan: Rc<Plan>,
    context: Rc<Context>,
}

impl Core {
    async fn new(tree: &Tree) -> Self {
        let plan = Rc::new(Plan::default());
        install(Kernel(Rc::clone(&plan)));
        let mut settings = settings(&tree.directory);
        settings.cache.popular_max = 64 << 10;
        Self {
            plan,
            context: context(settings).await,
        }
    }

    /// Has the kernel give `fate` to the op of `number`, or the client `act` when so many ops are
    /// complete, while one connection is served to its end.
    async fn serve(&self, number: u64, fate: Option<Fate>, act: Act) -> Outcome {
        self.plan.begin();
        self.plan.fault.set(fate.map(|fate| (number, fate)));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (server, client) = pair.unwrap();
        let mut client = Some(client);
        let protocol = ListenerProtocol::new(&Listen::default(), None);
        let task = ConnectionTask::new(Rc::clone(&self.context), Fd::from(server), &protocol);
        let mut task = Box::pin(task);
        let all = requests();
        send(client.as_ref().unwrap(), all.as_bytes(), SendFlags::empty()).unwrap();
        let mut received = Vec::new();
        let mut has_acted = false;
        for turn in 0..TURNS_MAX {
            let is_done = poll(task.as_mut()).is_ready();
            if act != Act::Nothing && !has_acted && self.plan.completed.get() >= number {
                has_acted = true;
                match &client {
                    Some(socket) if act == Act::EndItsHalf => {
                        shutdown(socket, Shutdown::Write).unwrap();
                    }
                    _ => client = None,
                }
            }
            // It lingers until the client has seen the end.
            if client
                .as_ref()
                .is_some_and(|client| take(client, &mut received, is_done))
            {
                client = None;
            }
            if is_done {
                return Outcome {
                    received,
                    met: self.plan.met.get(),
                    has_acted,
                };
            }
            self.context.io.ring.yield_now().await;
            if turn % REST_EVERY == REST_EVERY - 1 {
                tidegate_uring::sleep(Duration::from_millis(1)).await;
            }
        }
        let (met, stats) = (self.plan.met.get(), self.context.io.ring.stats());
        panic!("op {number} ({met:?}): {fate:?}, {act:?}: the connection hangs: {stats:?}");
    }

    /// The next connection is served as a whole.
    async fn check(&self, tree: &Tree, what: &str) {
        let outcome = self.serve(0, None, Act::Nothing).await;
        let responses = responses(&outcome.received);
        let all: Vec<_> = responses
            .iter()
            .map(|(status, body, _)| (*status, *body))
            .collect();
        assert!(all == tree.expected(), "after {what}");
    }
}

fn poll(task: Pin<&mut ConnectionTask>) -> Poll<()> {
    task.poll(&mut task::Context::from_waker(Waker::noop()))
}

/// Takes some of what was sent, or all. Whether that was the end.
fn take(client: &OwnedFd, received: &mut Vec<u8>, is_all: bool) -> bool {
    let mut buffer = vec![0; 20_000];
    loop {
        match recv(client, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return true,
            Ok((count, _)) => received.extend_from_slice(&buffer[..count]),
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                return false;
            }
        }
        if !is_all {
            return false;
        }
    }
}

/// The responses: status, body as far as it came, and whether it is whole.
fn responses(mut received: &[u8]) -> Vec<(u16, &[u8], bool)> {
    let mut responses = Vec::new();
    while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
        let (head, rest) = received.split_at(end + 4);
        let head = std::str::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head["http/1.1 ".len()..][..3].parse().unwrap();
        let length = head.split_once("content-length: ").unwrap().1;
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let (body, next) = rest.split_at(length.min(rest.len()));
        responses.push((status, body, body.len() == length));
        received = next;
    }
    responses
}

/// Each response is right, as far as it came, or says that the server failed; none follows one that is
/// not whole.
fn check_responses(outcome: &Outcome, tree: &Tree, what: &str) {
    let responses = responses(&outcome.received);
    let expected = tree.expected();
    assert!(responses.len() <= expected.len(), "{what}");
    let count = responses.len();
    for (index, ((status, body, is_whole), (right, content))) in
        responses.into_iter().zip(expected).enumerate()
    {
        assert!(
            is_whole || index + 1 == count,
            "{what}: a response follows a part of one"
        );
        if status == right {
            assert!(content.starts_with(body), "{what}: wrong bytes");
            assert!(!is_whole || body == content, "{what}: a short file");
        } else {
            assert!(matches!(status, 500 | 503), "{what}: {status}");
        }
    }
}

#[test]
fn a_connection_whose_ops_fail_is_answered_rightly_or_ends() {
    run(async {
        let tree = Tree::new();
        let failures = ERRORS.map(|errno| Fate::Failed(errno.raw_os_error()));
        let mut met = BTreeMap::new();
        for fate in failures.into_iter().chain([1, 5000].map(Fate::Short)) {
            for number in 0.. {
                let core = Core::new(&tree).await;
                tree.evict();
                let outcome = core.serve(number, Some(fate), Act::Nothing).await;
                let what = format!("op {number} ({:?}): {fate:?}", outcome.met);
                check_responses(&outcome, &tree, &what);
                core.check(&tree, &what).await;
                let Some(kind) = outcome.met else { break };
                *met.entry(kind).or_insert(0) += 1;
            }
        }
        println!("{met:?}");
        for kind in [Kind::Recv, Kind::Open, Kind::Splice, Kind::Poll] {
            assert!(met.contains_key(&kind), "{kind:?} of {met:?}");
        }
    });
}

#[test]
fn a_client_may_leave_after_each_op() {
    run(async {
        let tree = Tree::new();
        let mut acts = 0;
        for act in [Act::EndItsHalf, Act::Close] {
            for is_late in [false, true] {
                for number in 0.. {
                    let core = Core::new(&tree).await;
                    tree.evict();
                    core.plan.is_late.set(is_late);
                    let outcome = core.serve(number, None, act).await;
                    let what = format!("{act:?} after op {number}, late: {is_late}");
                    check_responses(&outcome, &tree, &what);
                    core.check(&tree, &what).await;
                    if !outcome.has_acted {
                        break;
                    }
                    acts += 1;
                }
            }
        }
        println!("{acts} times");
        assert!(acts >= 20, "{acts}");
    });
}
