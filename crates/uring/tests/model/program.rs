//! A random program of ops, drops, cancellations and peers.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::event::PollFlags;
use rustix::fs::Advice;
use tidegate_uring::{Config, Ring, Shares, sleep};

use crate::connection::Connection;
use crate::file::Files;
use crate::listener::Listener;
use crate::live::{Check, Live};
use crate::pipe::Pipe;
use crate::support::{settle, until};

const CONNECTIONS: usize = 8;
const PIPES: usize = 4;

/// Ops at the same time, at most, but for the streams.
const LIVE_MAX: usize = 48;

/// Every so many times all is to be cancelled again, since ops follow each other.
const CANCEL_EVERY: usize = 16;

/// The ops by their names: how many were completed, and how many dropped before.
pub(crate) type Tally = BTreeMap<&'static str, [u64; 2]>;

pub(crate) struct Program {
    ring: Ring,
    files: Files,
    connections: Vec<Rc<Connection>>,
    pipes: Vec<Rc<Pipe>>,
    /// All connections and pipes there were: ops may hold those that were replaced.
    all: (Vec<Weak<Connection>>, Vec<Weak<Pipe>>),
    listener: Rc<Listener>,
    live: Vec<(&'static str, Live)>,
    tally: Tally,
    /// For the next connection or pipe.
    next_source: u64,
    is_simulated: bool,
}

/// A ring with queues and buffers that are small as a rule.
fn ring(rng: &mut Rng, is_simulated: bool) -> Ring {
    if is_simulated {
        #[cfg(feature = "simulation")]
        crate::kernel::simulate(rng);
    }
    let entries_log_max = if rng.bool() { 1 } else { 7 };
    let entries = 1 << rng.u32(0..=entries_log_max);
    let mut features = tidegate_uring::probe().unwrap();
    features.pipe &= rng.bool();
    features.recv_limit &= rng.bool();
    Ring::start(&Config {
        entries,
        completions: entries << rng.u32(0..=3),
        recv_buffers: 1 << rng.u32(0..=7),
        recv_buffer_bytes: rng.choice([8, 64, 1000, 4096]).unwrap(),
        features: Some(features),
        ..Config::default()
    })
    .unwrap()
}

impl Program {
    /// With a kernel that is simulated, or the real one.
    pub(crate) fn new(rng: &mut Rng, is_simulated: bool) -> Self {
        let mut program = Self {
            ring: ring(rng, is_simulated),
            is_simulated,
            files: Files::new(),
            connections: Vec::new(),
            pipes: Vec::new(),
            all: (Vec::new(), Vec::new()),
            listener: Listener::new(),
            live: Vec::new(),
            tally: Tally::new(),
            // Those of files are below.
            next_source: 1,
        };
        for _ in 0..CONNECTIONS {
            let connection = program.connection(rng);
            program.connections.push(connection);
        }
        for _ in 0..PIPES {
            let pipe = program.pipe();
            program.pipes.push(pipe);
        }
        program
    }

    fn pipe(&mut self) -> Rc<Pipe> {
        let pipe = Pipe::new(self.source());
        self.all.1.push(Rc::downgrade(&pipe));
        pipe
    }

    fn source(&mut self) -> u64 {
        self.next_source += 1;
        self.next_source
    }

    /// A new connection, an accepted one if there is one.
    fn connection(&mut self, rng: &mut Rng) -> Rc<Connection> {
        let source = self.source();
        let accepted = self.listener.take(source);
        let connection = accepted.unwrap_or_else(|| match rng.u32(0..10) {
            0 => Connection::tcp(source),
            // The simulated kernel has no workers, which may wait.
            kind => Connection::unix(source, kind < 6 || self.is_simulated),
        });
        self.all.0.push(Rc::downgrade(&connection));
        connection
    }

    /// Does one thing.
    pub(crate) async fn step(&mut self, rng: &mut Rng) {
        match rng.u32(0..1000) {
            0..=279 => self.turn(rng).await,
            280..=579 => self.start(rng),
            580..=749 => self.poll_any(rng),
            750..=799 => self.drop_any(rng),
            800..=899 => self.any_connection(rng).act(rng),
            900..=929 => self.any_pipe(rng).write(rng.usize(1..=3000)),
            930..=949 => self.any_connection(rng).give_back(rng.usize(1..=4)),
            950..=959 => self.listener.connect(),
            960..=964 => self.any_connection(rng).drop_recv(),
            965..=966 => self.listener.drop_accept(),
            967..=976 => {
                let connection = self.connection(rng);
                let place = rng.usize(0..CONNECTIONS);
                self.connections[place] = connection;
            }
            977..=979 => {
                let pipe = self.pipe();
                self.pipes[rng.usize(0..PIPES)] = pipe;
            }
            _ => self.cancel(rng),
        }
    }

    /// Lets the ring and the tasks go on, for a while now and then.
    async fn turn(&mut self, rng: &mut Rng) {
        match rng.u32(0..500) {
            // A clock would decide how many turns there are.
            0 if !self.is_simulated => sleep(Duration::from_micros(rng.u64(0..2000))).await,
            0..=9 => settle(&self.ring).await,
            _ => self.ring.yield_now().await,
        }
    }

    fn any_connection(&self, rng: &mut Rng) -> Rc<Connection> {
        Rc::clone(&self.connections[rng.usize(0..CONNECTIONS)])
    }

    fn any_pipe(&self, rng: &mut Rng) -> Rc<Pipe> {
        Rc::clone(&self.pipes[rng.usize(0..PIPES)])
    }

    /// Starts an op.
    fn start(&mut self, rng: &mut Rng) {
        if self.live.len() == LIVE_MAX {
            self.drop_any(rng);
        }
        let (name, check) = self.any_op(rng);
        if let Some(check) = check {
            self.add(rng, name, check);
        }
    }

    fn add(&mut self, rng: &mut Rng, name: &'static str, check: Check) {
        let live = if rng.bool() {
            Live::task(&self.ring, check)
        } else {
            Live::polled(check, name == "sleep")
        };
        self.live.push((name, live));
    }

    /// An op and its name; `None`: it is not possible now.
    fn any_op(&mut self, rng: &mut Rng) -> (&'static str, Option<Check>) {
        let connection = self.any_connection(rng);
        let pipe = self.any_pipe(rng);
        let file = Rc::clone(self.files.any(rng));
        let offset = rng.u64(0..=file.size() + 10);
        let len = length(rng);
        let ring = &self.ring;
        match rng.u32(0..100) {
            0..=19 => ("recv", connection.receive(ring, false)),
            20..=22 => ("discard", connection.receive(ring, true)),
            23..=37 => ("send", connection.send(ring, len)),
            38..=47 => {
                let check = connection.transfer(ring, &file, offset, len as u32);
                ("transfer", Some(check))
            }
            48..=53 => {
                let events = [PollFlags::IN, PollFlags::OUT, PollFlags::RDHUP];
                let events = rng.choice(events).unwrap();
                ("poll a socket", Some(connection.poll(ring, events)))
            }
            54..=63 => ("read a pipe", pipe.read(ring, len)),
            64..=70 => ("fill", pipe.fill(ring, &file, offset, len as u32)),
            71..=73 => ("poll a pipe", Some(pipe.poll(ring))),
            74..=79 => {
                let check = file.read(ring, offset, len, rng.bool());
                ("read a file", Some(check))
            }
            80..=81 => {
                let advice = [Advice::WillNeed, Advice::DontNeed, Advice::Sequential];
                let advice = rng.choice(advice).unwrap();
                let check = file.advise(ring, offset, len as u32, advice);
                ("advise", Some(check))
            }
            82..=87 => ("look up", Some(self.files.look_up(ring, rng))),
            88..=92 => ("accept", self.listener.accept(ring)),
            93..=94 => ("accept one", Some(self.listener.accept_one(ring))),
            95 => ("nop", Some(nop(ring))),
            96 => ("pipe", Some(make_pipe(ring))),
            97 => ("sleep", (!self.is_simulated).then(|| wait(rng))),
            _ => ("close", pipe.close(ring)),
        }
    }

    /// Polls some op.
    fn poll_any(&mut self, rng: &mut Rng) {
        let anyway = rng.u32(0..8) == 0;
        let replaced = rng.u32(0..8) == 0;
        if let Some(index) = self.any_live(rng)
            && self.live[index].1.is_done(anyway, replaced)
        {
            let (name, _) = self.live.swap_remove(index);
            self.tally.entry(name).or_default()[0] += 1;
        }
    }

    /// Drops some op, often the last: it is not submitted yet, as a rule.
    fn drop_any(&mut self, rng: &mut Rng) {
        let last = self.live.len().checked_sub(1).filter(|_| rng.bool());
        if let Some(index) = last.or_else(|| self.any_live(rng)) {
            let (name, mut live) = self.live.swap_remove(index);
            // One that was never polled is not polled now.
            let is_done = matches!(live, Live::Task(_)) && live.is_done(false, false);
            self.tally.entry(name).or_default()[usize::from(!is_done)] += 1;
        }
    }

    fn any_live(&self, rng: &mut Rng) -> Option<usize> {
        let count = self.live.len();
        (count > 0).then(|| rng.usize(0..count))
    }

    /// Cancels all ops on something, and starts one there, which is not cancelled.
    fn cancel(&mut self, rng: &mut Rng) {
        let ring = self.ring.clone();
        let (cancel, next) = match rng.u32(0..8) {
            0..=4 => {
                let connection = self.any_connection(rng);
                let cancel = connection.cancel(&ring);
                (Some(cancel), connection.poll(&ring, PollFlags::IN))
            }
            5 => (
                Some(self.listener.cancel(&ring)),
                self.listener.accept_one(&ring),
            ),
            kind => {
                let pipe = self.any_pipe(rng);
                (pipe.cancel(&ring, kind == 6), pipe.poll(&ring))
            }
        };
        if let Some(cancel) = cancel {
            self.add(rng, "cancel", cancel);
        }
        self.add(rng, "after a cancel", next);
    }

    /// Cancels or drops all that is under way, which must end it, and sees that nothing is left.
    pub(crate) async fn finish(mut self, is_dropping: bool) -> Tally {
        settle(&self.ring).await;
        if is_dropping {
            self.drop_all().await;
        } else {
            self.cancel_until_all_end().await;
        }
        let Self {
            ring,
            files,
            connections,
            pipes,
            listener,
            tally,
            ..
        } = self;
        let mut permits: Vec<Rc<Shares>> = Vec::new();
        permits.extend(connections.iter().flat_map(|each| each.permits()));
        permits.extend(pipes.iter().flat_map(|each| each.permits()));
        drop((files, connections, pipes, listener));
        until("nothing is left", || is_at_rest(&ring, &permits)).await;
        tally
    }

    /// Drops all ops. Those that wait must end though nothing else does: sockets and pipes stay.
    async fn drop_all(&mut self) {
        self.live.clear();
        self.listener.drop_accept();
        let connections: Vec<_> = self.all.0.iter().filter_map(Weak::upgrade).collect();
        for connection in &connections {
            connection.drop_recv();
        }
        until("dropped ops end", || self.ring.stats().in_flight == 0).await;
    }

    /// Cancels until no op is left.
    async fn cancel_until_all_end(&mut self) {
        let mut looks = 0;
        while self.is_busy() {
            if looks % CANCEL_EVERY == 0 {
                self.cancel_all().await;
            }
            looks += 1;
            assert!(looks < 20_000, "cancelled ops do not end: {}", self.names());
            self.ring.yield_now().await;
            if looks % 8 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Whether ops are under way.
    fn is_busy(&mut self) -> bool {
        let tally = &mut self.tally;
        self.live.retain_mut(|(name, live)| {
            let is_done = live.is_done(true, false);
            if is_done {
                tally.entry(name).or_default()[0] += 1;
            }
            !is_done
        });
        !self.live.is_empty()
    }

    async fn cancel_all(&self) {
        for connection in self.all.0.iter().filter_map(Weak::upgrade) {
            // Those that wait for a buffer are no op of the kernel's.
            connection.give_back(usize::MAX);
            connection.cancel(&self.ring).await;
        }
        for pipe in self.all.1.iter().filter_map(Weak::upgrade) {
            for is_writer in [false, true] {
                if let Some(check) = pipe.cancel(&self.ring, is_writer) {
                    check.await;
                }
            }
        }
        self.listener.cancel(&self.ring).await;
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.live.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// Whether no op is in flight, no buffer is filled, and no permit is taken.
fn is_at_rest(ring: &Ring, permits: &[Rc<Shares>]) -> bool {
    let stats = ring.stats();
    stats.in_flight == 0
        && stats.queued == 0
        && stats.buffers_filled == 0
        && permits.iter().all(|permits| permits.given() == 0)
}

/// Short as a rule.
fn length(rng: &mut Rng) -> usize {
    match rng.u32(0..16) {
        0 => 1,
        1 => rng.usize(1..=100_000),
        _ => rng.usize(1..=2000),
    }
}

fn nop(ring: &Ring) -> Check {
    let op = ring.nop();
    Box::pin(async move { op.await.expect("it does nothing") })
}

fn make_pipe(ring: &Ring) -> Check {
    let ring = ring.clone();
    Box::pin(async move {
        let (reader, writer) = ring.pipe().await.expect("there are descriptors");
        assert_eq!(rustix::io::write(&writer, b"through"), Ok(7));
        let reader = reader.into();
        let (count, bytes) = ring.read(&reader, Vec::with_capacity(7), None).await;
        assert!(count.unwrap() > 0 && b"through".starts_with(&bytes));
    })
}

fn wait(rng: &mut Rng) -> Check {
    let time = Duration::from_micros(rng.u64(0..3000));
    Box::pin(async move {
        let start = Instant::now();
        sleep(time).await;
        assert!(start.elapsed() >= time, "a timer is early");
    })
}
