//! Transfers over a simulated kernel, which a plan tells what to do.
//!
//! The bound of a test is a number of turns of the ring, not a time.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::Cell;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::poll_once;
use glommio::timer::sleep;
use rustix::fs::Advice;
use tidegate_sendfile::{Error, Options, Step, Transfer};
use tidegate_uring::Fd;
use tidegate_uring::simulation::{Decide, Fate, Kind, Op, install};

use crate::support::{Bench, PATIENT, evicted_file_of, pattern};

/// More than two pipes hold, and no whole number of pages.
pub(crate) const LEN: usize = 600_001;

/// The turns that a transfer may take.
pub(crate) const TURNS_MAX: usize = 20_000;

/// Every so many turns the blocking thread gets time, which the simulation has no part in.
pub(crate) const REST_EVERY: usize = 64;

/// What the kernel does.
#[derive(Default)]
pub(crate) struct Plan {
    /// Ops that were completed since the last [`Plan::begin`].
    pub(crate) completed: Cell<u64>,
    /// What happens to the op of this number instead.
    pub(crate) fault: Cell<Option<(u64, Fate)>>,
    /// The op to which it happened.
    pub(crate) met: Cell<Option<Kind>>,
    /// So many ops complete, and no more.
    pub(crate) most: Cell<Option<u64>>,
    /// Ops that are cancelled have just taken effect.
    pub(crate) is_late: Cell<bool>,
}

impl Plan {
    pub(crate) fn begin(&self) {
        self.completed.set(0);
        self.fault.set(None);
        self.met.set(None);
        self.most.set(None);
    }
}

pub(crate) struct Kernel(Rc<Plan>);

impl Decide for Kernel {
    fn next(&mut self, ops: &[Op]) -> Option<(usize, Fate)> {
        let plan = &self.0;
        let number = plan.completed.get();
        if plan.most.get().is_some_and(|most| number >= most) {
            return None;
        }
        if let Some((faulty, fate)) = plan.fault.get()
            && faulty == number
            && let Some(op) = ops.first()
            && (op.is_ready || matches!(fate, Fate::Failed(_)))
        {
            plan.met.set(Some(op.kind));
            plan.fault.set(None);
            plan.completed.set(number + 1);
            return Some((0, fate));
        }
        let index = ops.iter().position(|op| op.is_ready)?;
        plan.completed.set(number + 1);
        Some((index, Fate::Done))
    }

    fn is_late(&mut self, _: &Op) -> bool {
        self.0.is_late.get()
    }
}

/// A bench over a simulated kernel, and a file that is evicted before each run.
pub(crate) struct Stage {
    pub(crate) plan: Rc<Plan>,
    pub(crate) bench: Bench,
    pub(crate) data: Vec<u8>,
    pub(crate) file: Fd,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let plan = Rc::new(Plan::default());
        install(Kernel(Rc::clone(&plan)));
        let data = pattern(LEN);
        Self {
            plan,
            bench: Bench::new().await,
            file: evicted_file_of(&data),
            data,
        }
    }

    /// Forgets the last run, and evicts the file.
    pub(crate) fn begin(&self) {
        self.plan.begin();
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed).unwrap();
    }

    pub(crate) fn transfer(&self, options: &Options) -> Transfer {
        let Bench { ring, pool } = &self.bench;
        Transfer::new(ring, pool, &self.file, 0..LEN as u64, options)
    }

    /// A turn of the ring.
    pub(crate) async fn turn(&self, turn: usize) {
        assert!(turn < TURNS_MAX, "it hangs: {:?}", self.bench.ring.stats());
        self.bench.ring.yield_now().await;
        if turn % REST_EVERY == REST_EVERY - 1 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets all ops complete. Then nothing is in use, and the next transfer works.
    pub(crate) async fn check_rest(&self, what: &str) {
        self.plan.fault.set(None);
        self.plan.most.set(None);
        let mut turn = 0;
        while self.bench.ring.stats().in_flight > 0 || self.bench.pool.stats().cold > 0 {
            self.turn(turn).await;
            turn += 1;
        }
        self.bench.check_rest();
        let mut peer = Peer::new();
        let mut transfer = self.transfer(&UNREAD);
        let result = self.carry(&mut transfer, &mut peer, |_| false).await;
        result.expect("it was not dropped").expect(what);
        assert!(peer.end() == self.data, "{what}");
        drop(transfer);
    }

    /// Polls a transfer, and has the peer take bytes, until it ends or `is_over`, which is asked after
    /// each turn.
    pub(crate) async fn carry(
        &self,
        transfer: &mut Transfer,
        peer: &mut Peer,
        is_over: impl Fn(usize) -> bool,
    ) -> Option<Result<(), Error>> {
        let all = Step {
            bytes_max: u64::MAX,
            more: false,
        };
        let socket = peer.socket.clone();
        let mut step = Box::pin(transfer.step(&socket, all));
        let mut turn = 0;
        loop {
            if let Some(result) = poll_once(&mut step).await {
                return Some(result);
            }
            peer.take();
            self.turn(turn).await;
            turn += 1;
            if is_over(turn) {
                return None;
            }
        }
    }
}

pub(crate) const UNREAD: Options = Options {
    unread: true,
    ..PATIENT
};

pub(crate) const BEHIND: Options = Options {
    drop_behind: true,
    ..UNREAD
};

/// A client, and what it has received.
pub(crate) struct Peer {
    pub(crate) socket: Fd,
    pub(crate) stream: UnixStream,
    pub(crate) received: Vec<u8>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let (socket, stream) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self {
            socket: OwnedFd::from(socket).into(),
            stream,
            received: Vec::new(),
        }
    }

    /// Takes some of what is there.
    pub(crate) fn take(&mut self) {
        let mut buffer = vec![0; 20_000];
        if let Ok(count) = self.stream.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..count]);
        }
    }

    /// All that was sent.
    pub(crate) fn end(mut self) -> Vec<u8> {
        let _ = self.stream.read_to_end(&mut self.received);
        self.received
    }
}
