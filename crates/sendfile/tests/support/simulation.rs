//! Transfers over a simulated kernel, which a plan tells what to do.
//!
//! The bound of a test is a number of turns of the ring, not a time.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../../../uring/tests/support/plan.rs"]
pub(crate) mod plan;

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::poll_once;
use rustix::fs::Advice;
use tidegate_sendfile::{Error, Options, Step, Transfer};
use tidegate_uring::Fd;
use tidegate_uring::executor::coarse_sleep;
use tidegate_uring::simulation::install;

use crate::support::{Bench, PATIENT, evicted_file_of, pattern};

use plan::{Kernel, Plan};

/// More than two pipes hold, and no whole number of pages.
pub(crate) const LEN: usize = 600_001;

/// The turns that a transfer may take.
pub(crate) const TURNS_MAX: usize = 20_000;

/// Every so many turns the blocking thread gets time, which the simulation has no part in.
pub(crate) const REST_EVERY: usize = 64;

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
            coarse_sleep(Duration::from_millis(1)).await;
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
