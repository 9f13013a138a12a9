//! The connections of a core, and how long each may stay in its current phase.
//!
//! A lazy timer queue: a connection moves its deadline with one store. Each connection has one
//! entry, checked only when due, so a request sets no timer and an idle connection is checked once
//! in a keep-alive time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use rustix::net::{Shutdown, shutdown, sockopt};
use slab::Slab;
use tidegate_config::Timeouts;
use tidegate_uring::executor::coarse_sleep;
use tidegate_uring::{Fd, Ring, TcpInfo, tcp_info};

use crate::clients::Place;
use crate::rates::{Client, LeastRates, Rates, Seen};

/// Deadlines are rounded up to a tick of this many milliseconds.
const TICK_MILLIS: u32 = 100;
const TICK: Duration = Duration::from_millis(TICK_MILLIS as u64);
const TICKS_PER_SECOND: u64 = 1000 / TICK_MILLIS as u64;

/// When to check a connection again that outlived its deadline.
const RETRY_TICKS: u32 = 100;

/// One of this many connections is ended to make room for others.
const CONNECTIONS_PER_IDLE_ENDED: usize = 64;

/// Entries that a pass over the rates looks at before other tasks run.
const ENTRIES_PER_TURN: usize = 512;

/// The time between two passes while clients wait for a connection.
const HURRIED_PASS: Duration = Duration::from_secs(1);

/// The most sockets that are asked what they hold: a tenth of a millisecond.
const UNSENT_SAMPLES: usize = 256;

/// Connections that there is room for from the start. What was never used of it takes no memory,
/// where to grow leaves behind what held it before.
const ENTRIES: usize = 16 * 1024;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first byte of its first request, and before that the end of the TLS handshake.
    AwaitingFirstRequest,
    /// The first byte of another request.
    Idle,
    /// The rest of a request's head or body.
    Request,
    /// The client, to take more of a response.
    Send,
    /// The client, to open a window of HTTP/2. The socket is not stuck.
    Window,
    /// A transfer or a lookup, which has a timeout of its own.
    Transfer,
    /// The client, to close its side.
    Linger,
}

impl Phase {
    /// How many there are.
    const COUNT: usize = Self::Linger as usize + 1;
}

/// Counts of a core's connections, by their [`Phase`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PhaseCounts {
    /// Connections at this moment.
    connections: [usize; Phase::COUNT],
    /// Connections that were ended since their time was over.
    expired: [u64; Phase::COUNT],
    /// Idle connections that were ended to make room.
    pub(crate) ended_for_room: u64,
}

impl PhaseCounts {
    /// Connections in `phase` now.
    pub(crate) fn connections(&self, phase: Phase) -> usize {
        self.connections[phase as usize]
    }

    /// Connections that were ended since their time in `phase` was over.
    pub(crate) fn expired(&self, phase: Phase) -> u64 {
        self.expired[phase as usize]
    }
}

/// A connection's entry in a [`TimerQueue`]. Dropped: the entry is removed.
pub(crate) struct Timer {
    queue: Rc<TimerQueue>,
    key: Key,
}

/// Names a connection of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    /// Distinguishes an entry from a later one with the same index.
    generation: u32,
}

/// A connection that has a [`Timer`].
struct Entry {
    socket: Fd,
    generation: u32,
    phase: Phase,
    /// The tick after which the connection is ended.
    deadline: u32,
    /// The tick at which the queue checks this entry: never later than `deadline`.
    scheduled_at: u32,
    course: Course,
    /// The client's address, once somebody asked for it.
    client: Option<ClientAddress>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Serving,
    /// It ends once it is idle.
    Draining,
    /// Its time is over.
    Expired,
}

/// A connection that was ended since its client is too slow.
pub(crate) struct Slow {
    pub(crate) key: Key,
    pub(crate) socket: Fd,
    pub(crate) cause: SlowCause,
}

/// The limit that a client was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowCause {
    /// `limits.send-rate-min`.
    Reads,
    /// `limits.receive-rate-min`.
    Sends,
    /// `limits.crowded-rate-min`.
    Room,
}

/// The address of a connection's client; `None` if it has none.
type ClientAddress = Option<IpAddr>;

// One for each connection.
const _: () = assert!(size_of::<Entry>() <= 40);

/// The timers of a core's connections.
pub(crate) struct TimerQueue {
    epoch: Instant,
    timeouts: RefCell<Timeouts>,
    inner: RefCell<Inner>,
    /// Whether any connection ever had to end once it is idle.
    any_draining: Cell<bool>,
    least_rates: Cell<LeastRates>,
    /// Whether the next pass over the rates is to come soon, and who waits for that.
    hurry: Cell<bool>,
    hurried: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Inner {
    entries: Slab<Entry>,
    schedule: BTreeMap<u32, Vec<Key>>,
    generation: u32,
    counts: PhaseCounts,
    /// The places of the connections that are counted for their clients, by their index.
    places: HashMap<u32, Place>,
    /// The task of [`TimerQueue::run`], and the tick until which it sleeps.
    sleeper: Option<(u32, Waker)>,
    /// Tasks that wait for connections to end.
    waiting: Vec<Waker>,
    /// The tasks of connections that can tell their clients that they are to end, by their index.
    wakers: BTreeMap<u32, Waker>,
    rates: Rates,
}

impl Timer {
    /// Enters `phase`, which may last for the configured time.
    pub(crate) fn enter(&self, phase: Phase) {
        self.enter_at(phase, Instant::now());
    }

    /// As [`Timer::enter`], for a caller that has read the clock already.
    pub(crate) fn enter_at(&self, phase: Phase, now: Instant) {
        let time = self.queue.timeout(phase);
        self.queue.enter(self.key, phase, time, now);
    }

    /// Enters `phase`, which may last for `time`.
    pub(crate) fn enter_for(&self, phase: Phase, time: Duration) {
        self.queue.enter(self.key, phase, time, Instant::now());
    }

    /// Whether the connection was ended by its timer, or to make room or to stop.
    pub(crate) fn expired(&self) -> bool {
        let inner = self.queue.inner.borrow();
        inner.entries[self.key.index as usize].course == Course::Expired
    }

    /// Whether the connection ends with its current response, since its address is not served any
    /// more.
    pub(crate) fn draining(&self) -> bool {
        self.queue.any_draining.get() && {
            let inner = self.queue.inner.borrow();
            inner.entries[self.key.index as usize].course == Course::Draining
        }
    }

    /// Has `waker` called whenever connections are to end, with their last response at the latest.
    pub(crate) fn wake_at_end(&self, waker: &Waker) {
        let wakers = &mut self.queue.inner.borrow_mut().wakers;
        wakers.insert(self.key.index, waker.clone());
    }

    /// The configured time for `phase`.
    pub(crate) fn timeout(&self, phase: Phase) -> Duration {
        self.queue.timeout(phase)
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut inner = self.queue.inner.borrow_mut();
        let entry = inner.entries.remove(self.key.index as usize);
        inner.counts.connections[entry.phase as usize] -= 1;
        inner.places.remove(&self.key.index);
        inner.wakers.remove(&self.key.index);
        drop(inner);
        self.queue.wake_waiting();
    }
}

impl TimerQueue {
    /// A queue without entries, for connections with these timeouts.
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        let inner = Inner {
            entries: Slab::with_capacity(ENTRIES),
            ..Inner::default()
        };
        Self {
            epoch: Instant::now(),
            timeouts: RefCell::new(timeouts),
            inner: RefCell::new(inner),
            any_draining: Cell::new(false),
            least_rates: Cell::default(),
            hurry: Cell::new(false),
            hurried: RefCell::default(),
        }
    }

    /// Replaces the least rates of clients.
    pub(crate) fn set_least_rates(&self, least_rates: LeastRates) {
        self.least_rates.set(least_rates);
        self.hurry();
    }

    /// Replaces the timeouts, for phases that are entered from now on.
    pub(crate) fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.replace(timeouts);
    }

    fn timeout(&self, phase: Phase) -> Duration {
        let timeouts = self.timeouts.borrow();
        match phase {
            Phase::Idle => timeouts.keep_alive,
            Phase::AwaitingFirstRequest | Phase::Request => timeouts.header,
            Phase::Send | Phase::Window | Phase::Transfer => timeouts.send_stall,
            Phase::Linger => timeouts.linger,
        }
    }

    /// A timer for a new connection.
    pub(crate) fn register(self: &Rc<Self>, socket: &Fd) -> Timer {
        let phase = Phase::AwaitingFirstRequest;
        self.register_in(phase, self.timeout(phase), socket)
    }

    fn register_in(self: &Rc<Self>, phase: Phase, time: Duration, socket: &Fd) -> Timer {
        let deadline = self.tick(Instant::now() + time);
        let key = self.inner.borrow_mut().insert(socket, phase, deadline);
        Timer {
            queue: Rc::clone(self),
            key,
        }
    }

    fn enter(&self, key: Key, phase: Phase, time: Duration, now: Instant) {
        let deadline = self.tick(now + time);
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let entry = &mut inner.entries[key.index as usize];
        if entry.phase != phase {
            inner.counts.connections[entry.phase as usize] -= 1;
            inner.counts.connections[phase as usize] += 1;
            entry.phase = phase;
        }
        entry.deadline = deadline;
        if deadline < entry.scheduled_at {
            entry.scheduled_at = deadline;
            inner.schedule(deadline, key);
        }
    }

    /// The address of a connection's client as [`TimerQueue::client_or`] found it first.
    /// Once the connection has ended, it is looked up each time.
    pub(crate) fn client_or(
        &self,
        key: Key,
        look_up: impl FnOnce() -> ClientAddress,
    ) -> ClientAddress {
        match self.inner.borrow_mut().entry(key) {
            Some(entry) => *entry.client.get_or_insert_with(look_up),
            None => look_up(),
        }
    }

    /// Sets the address of a connection's client, which its proxy named.
    pub(crate) fn set_client(&self, key: Key, client: IpAddr) {
        if let Some(entry) = self.inner.borrow_mut().entry(key) {
            entry.client = Some(Some(client));
        }
    }

    /// Whether a connection is counted for its client.
    pub(crate) fn has_place(&self, key: Key) -> bool {
        self.inner.borrow().places.contains_key(&key.index)
    }

    /// Keeps the place of a connection until it ends.
    pub(crate) fn keep_place(&self, key: Key, place: Place) {
        self.inner.borrow_mut().places.insert(key.index, place);
    }

    /// The number of connections.
    pub(crate) fn len(&self) -> usize {
        self.inner.borrow().entries.len()
    }

    /// Connections by phase, and how they were ended.
    pub(crate) fn counts(&self) -> PhaseCounts {
        self.inner.borrow().counts
    }

    /// What the sockets of responses hold for their clients, estimated from some of them.
    pub(crate) fn unsent(&self, unsent_bytes: impl Fn(&Fd) -> u64) -> u64 {
        let inner = self.inner.borrow();
        let sending = [Phase::Send, Phase::Window, Phase::Transfer];
        let count: usize = sending
            .iter()
            .map(|phase| inner.counts.connections(*phase))
            .sum();
        if count == 0 {
            return 0;
        }
        let entries = inner.entries.iter().map(|(_, entry)| entry);
        let of_responses = entries.filter(|entry| sending.contains(&entry.phase));
        let step = count.div_ceil(UNSENT_SAMPLES);
        let some = of_responses.step_by(step);
        let sum: u64 = some.map(|entry| unsent_bytes(&entry.socket)).sum();
        sum * step as u64
    }

    /// Waits until `ready`, which is called whenever a connection has ended.
    pub(crate) async fn until(&self, ready: impl Fn() -> bool) {
        poll_fn(|context| {
            if ready() {
                return Poll::Ready(());
            }
            self.inner.borrow_mut().wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Makes every [`TimerQueue::until`] call its `ready` again.
    pub(crate) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut self.inner.borrow_mut().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends some of the idle connections: those with the earliest deadlines. Returns whether there
    /// were any.
    pub(crate) fn end_longest_idle(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.counts.connections(Phase::Idle) == 0 {
            return false;
        }
        let count = inner.entries.len().div_ceil(CONNECTIONS_PER_IDLE_ENDED);
        let mut idle: Vec<(u32, usize)> = inner
            .entries
            .iter()
            .filter(|(_, entry)| entry.phase == Phase::Idle && entry.course != Course::Expired)
            .map(|(index, entry)| (entry.deadline, index))
            .collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        inner.counts.ended_for_room += idle.len() as u64;
        for (_, index) in &idle {
            inner.entries[*index].expire();
        }
        !idle.is_empty()
    }

    /// Ends the connection whose client was the slowest when they were looked at last, if any was
    /// slow enough. They are looked at again soon.
    pub(crate) fn end_slowest(&self) -> Option<Slow> {
        self.hurry();
        let mut inner = self.inner.borrow_mut();
        while let Some(connection) = inner.rates.take_slowest() {
            let key = Key::of(connection);
            // It may have ended, or gone on.
            if let Some(entry) = inner.entry(key)
                && entry.course != Course::Expired
                && entry.waits_for_client().is_some()
            {
                let socket = entry.socket.clone();
                entry.expire();
                let cause = SlowCause::Room;
                return Some(Slow { key, socket, cause });
            }
        }
        None
    }

    /// Has the next pass over the rates come soon.
    fn hurry(&self) {
        self.hurry.set(true);
        if let Some(waker) = self.hurried.take() {
            waker.wake();
        }
    }

    /// Ends the connections of clients that are too slow, and reports each, for as long as it is
    /// polled.
    pub(crate) async fn run_rates(self: Rc<Self>, ring: Ring, report: impl Fn(&Slow)) {
        let mut hurries = false;
        loop {
            let every = self.least_rates.get().pass_every();
            match every {
                Some(_) if hurries => coarse_sleep(HURRIED_PASS).await,
                Some(every) => or(coarse_sleep(every), self.is_hurried()).await,
                None => self.is_hurried().await,
            }
            hurries = self.hurry.replace(false);
            if self.least_rates.get().pass_every().is_none() {
                continue;
            }
            self.look_at_rates(&ring, &report).await;
        }
    }

    /// A pass over all entries.
    async fn look_at_rates(&self, ring: &Ring, report: &impl Fn(&Slow)) {
        let (mut from, mut seen) = (0, 0);
        // Those behind the last one take no time.
        while seen < self.len() && from < self.inner.borrow().entries.capacity() {
            let (entries, slow) = self.look_at_some(from, Instant::now());
            slow.iter().for_each(report);
            seen += entries;
            from += ENTRIES_PER_TURN;
            ring.yield_now().await;
        }
        self.inner.borrow_mut().rates.end_pass();
    }

    async fn is_hurried(&self) {
        poll_fn(|context| {
            if self.hurry.get() {
                return Poll::Ready(());
            }
            self.hurried.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Looks at some entries, and returns their number. Those whose clients are too slow are ended,
    /// and returned.
    fn look_at_some(&self, from: usize, now: Instant) -> (usize, Vec<Slow>) {
        let least = self.least_rates.get();
        let now = now.saturating_duration_since(self.epoch);
        let mut inner = self.inner.borrow_mut();
        let Inner { entries, rates, .. } = &mut *inner;
        let (mut seen, mut slow) = (0, Vec::new());
        for index in from..from + ENTRIES_PER_TURN {
            let Some(entry) = entries.get_mut(index) else {
                continue;
            };
            seen += 1;
            let Some((client, info)) = entry.waits_for_client() else {
                continue;
            };
            let key = Key {
                index: index as u32,
                generation: entry.generation,
            };
            let (bytes, cause) = match client {
                Client::Reads => (info.bytes_acked, SlowCause::Reads),
                Client::Sends | Client::Begins => (info.bytes_received, SlowCause::Sends),
            };
            let sight = Seen {
                connection: key.number(),
                client,
                bytes,
                rate_max: info.max_pacing_rate,
                now,
            };
            if entry.course != Course::Expired && rates.see(sight, &least) {
                entry.expire();
                let socket = entry.socket.clone();
                slow.push(Slow { key, socket, cause });
            }
        }
        (seen, slow)
    }

    /// Ends the connections that wait for a request, since the server stops.
    pub(crate) fn end_idle(&self) {
        let mut inner = self.inner.borrow_mut();
        for (_, entry) in &mut inner.entries {
            if matches!(entry.phase, Phase::AwaitingFirstRequest | Phase::Idle) {
                entry.expire();
            }
        }
        drop(inner);
        self.wake_to_end();
    }

    /// Ends the connections whose sockets `ends` picks once they are idle. One that has just begun
    /// may have a request.
    pub(crate) fn drain(&self, ends: impl Fn(&Fd) -> bool) {
        self.any_draining.set(true);
        let mut inner = self.inner.borrow_mut();
        for (_, entry) in &mut inner.entries {
            if entry.course == Course::Serving && ends(&entry.socket) {
                entry.course = Course::Draining;
                if entry.phase == Phase::Idle {
                    entry.expire();
                }
            }
        }
        drop(inner);
        self.wake_to_end();
    }

    /// Lets connections notice that they are to end.
    pub(crate) fn wake_to_end(&self) {
        // They stay: this may have concerned others.
        let wakers: Vec<_> = self.inner.borrow().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all connections at once.
    pub(crate) fn end_all(&self) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        for (_, entry) in &mut inner.entries {
            entry.phase = Phase::Send;
            entry.expire();
        }
        inner.counts.connections = [0; Phase::COUNT];
        inner.counts.connections[Phase::Send as usize] = inner.entries.len();
    }

    /// Ends connections that are past their deadline, for as long as it is polled.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let next = self.expire_due();
            let at = self.epoch + TICK * next.unwrap_or(u32::MAX / 2);
            let sleep = coarse_sleep(at.saturating_duration_since(Instant::now()));
            or(sleep, self.scheduled_before(next)).await;
        }
    }

    /// Waits until an entry is scheduled for a tick before `next`.
    async fn scheduled_before(&self, next: Option<u32>) {
        let next = next.unwrap_or(u32::MAX);
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            let first = inner.schedule.first_key_value();
            if first.is_some_and(|(tick, _)| *tick < next) {
                return Poll::Ready(());
            }
            inner.sleeper = Some((next, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Checks every entry that is due. Returns the tick of the next one.
    fn expire_due(&self) -> Option<u32> {
        // Rounded down: a tick is due once all of it has passed.
        let now = self.ticks_until(Instant::now());
        let mut inner = self.inner.borrow_mut();
        while let Some(first) = inner.schedule.first_entry() {
            if *first.key() > now {
                return Some(*first.key());
            }
            let (tick, keys) = first.remove_entry();
            for key in keys {
                inner.look_at(key, tick, now);
            }
        }
        None
    }

    fn tick(&self, at: Instant) -> u32 {
        self.ticks_until(at).saturating_add(1)
    }

    fn ticks_until(&self, at: Instant) -> u32 {
        let time = at.saturating_duration_since(self.epoch);
        // Runs for each request, so it avoids the 128-bit division of as_millis().
        let ticks =
            time.as_secs() * TICKS_PER_SECOND + u64::from(time.subsec_millis() / TICK_MILLIS);
        u32::try_from(ticks).unwrap_or(u32::MAX / 2)
    }
}

impl Inner {
    fn insert(&mut self, socket: &Fd, phase: Phase, deadline: u32) -> Key {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let index = self.entries.insert(Entry {
            socket: socket.clone(),
            generation,
            phase,
            deadline,
            scheduled_at: deadline,
            course: Course::Serving,
            client: None,
        });
        self.counts.connections[phase as usize] += 1;
        let key = Key {
            index: u32::try_from(index).expect("fewer than 2^32 connections"),
            generation,
        };
        self.schedule(deadline, key);
        key
    }

    /// The entry of `key`, unless its connection has ended.
    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key.index as usize);
        entry.filter(|entry| entry.generation == key.generation)
    }

    /// Registers a waker once for each task: see [`tidegate_uring::PollOnWake`].
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    fn schedule(&mut self, tick: u32, key: Key) {
        self.schedule.entry(tick).or_default().push(key);
        if self
            .sleeper
            .as_ref()
            .is_some_and(|(until, _)| tick < *until)
            && let Some((_, waker)) = self.sleeper.take()
        {
            waker.wake();
        }
    }

    fn look_at(&mut self, key: Key, tick: u32, now: u32) {
        // Others have ended, or were scheduled for an earlier tick since.
        let entry = self.entry(key).filter(|entry| entry.scheduled_at == tick);
        let Some(entry) = entry else {
            return;
        };
        let mut ended = None;
        if entry.deadline <= now {
            if entry.phase != Phase::Transfer {
                ended = (entry.course != Course::Expired).then_some(entry.phase);
                entry.expire();
            }
            // A transfer has a timeout of its own. Any other task sees the shutdown and ends; if it
            // is stuck it is shut down again.
            entry.deadline = now + RETRY_TICKS;
        }
        entry.scheduled_at = entry.deadline.max(now + 1);
        let tick = entry.scheduled_at;
        self.schedule(tick, key);
        if let Some(phase) = ended {
            self.counts.expired[phase as usize] += 1;
        }
    }
}

impl Key {
    /// A number that no other connection of the queue has had, but for 2^32 later.
    fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn of(number: u64) -> Self {
        Self {
            index: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

impl Entry {
    /// What the client is to do, and what the kernel has counted, if the connection waits for its
    /// client: not for a disk, an origin, or its turn. `None`, too, without TCP.
    fn waits_for_client(&self) -> Option<(Client, TcpInfo)> {
        let client = match self.phase {
            Phase::Send | Phase::Transfer | Phase::Window => Client::Reads,
            Phase::Request => Client::Sends,
            Phase::AwaitingFirstRequest => Client::Begins,
            Phase::Idle | Phase::Linger => return None,
        };
        let info = tcp_info(&self.socket).ok()?;
        let is_owed = info.is_owed_an_acknowledgement();
        let waits = is_owed || !matches!(self.phase, Phase::Send | Phase::Transfer);
        waits.then_some((client, info))
    }

    /// Makes the connection's task see the end of its input, or of a response that is stuck.
    fn expire(&mut self) {
        self.course = Course::Expired;
        // An error means that the connection has ended already.
        let _ = match self.phase {
            Phase::AwaitingFirstRequest
            | Phase::Idle
            | Phase::Request
            | Phase::Window
            | Phase::Linger => shutdown(&self.socket, Shutdown::Read),
            Phase::Send | Phase::Transfer => {
                let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
                shutdown(&self.socket, Shutdown::Both)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_lite::future::poll_once;
    use tidegate_config::{Limits, Settings};
    use tidegate_uring::executor::Executor;

    use super::*;
    use crate::clients::Clients;

    fn queue() -> Rc<TimerQueue> {
        let settings = Settings::for_directory("/".into());
        Rc::new(TimerQueue::new(settings.timeouts))
    }

    /// A timer, and the client's end of its connection.
    fn timer(queue: &Rc<TimerQueue>, phase: Phase, time: Duration) -> (Timer, UnixStream) {
        let (server, client) = UnixStream::pair().unwrap();
        let socket = Fd::from(OwnedFd::from(server));
        (queue.register_in(phase, time, &socket), client)
    }

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(1);

    /// Runs the queue until `timer` has expired.
    fn run_until_expired(queue: &Rc<TimerQueue>, timer: &Timer) {
        Executor::new("test", 1).unwrap().run(async {
            let running = tidegate_uring::spawn(Rc::clone(queue).run());
            while !timer.expired() {
                coarse_sleep(Duration::from_millis(5)).await;
            }
            running.cancel().await;
        });
    }

    #[test]
    fn only_timers_past_their_deadline_expire() {
        let queue = queue();
        let (late, _a) = timer(&queue, Phase::Idle, SHORT);
        let (early, _b) = timer(&queue, Phase::Idle, LONG);
        run_until_expired(&queue, &late);
        assert!(!early.expired());
    }

    #[test]
    fn an_earlier_deadline_reschedules() {
        let queue = queue();
        let (timer, _client) = timer(&queue, Phase::Idle, LONG);
        timer.enter_for(Phase::Request, SHORT);
        run_until_expired(&queue, &timer);
    }

    #[test]
    fn an_earlier_deadline_wakes_a_sleeping_queue() {
        let queue = queue();
        let (timer, _client) = timer(&queue, Phase::Idle, LONG);
        Executor::new("test", 1).unwrap().run(async move {
            let running = tidegate_uring::spawn(Rc::clone(&queue).run());
            coarse_sleep(Duration::from_millis(20)).await;
            timer.enter_for(Phase::Send, SHORT);
            while !timer.expired() {
                coarse_sleep(Duration::from_millis(5)).await;
            }
            running.cancel().await;
        });
    }

    #[test]
    fn a_later_deadline_holds() {
        let queue = queue();
        let (moved, _a) = timer(&queue, Phase::Idle, SHORT);
        moved.enter_for(Phase::Idle, LONG);
        let (late, _b) = timer(&queue, Phase::Idle, SHORT * 200);
        run_until_expired(&queue, &late);
        assert!(!moved.expired());
    }

    #[test]
    fn a_transfer_has_a_timeout_of_its_own() {
        let queue = queue();
        let (transfer, _a) = timer(&queue, Phase::Transfer, SHORT);
        let (late, _b) = timer(&queue, Phase::Idle, SHORT * 200);
        run_until_expired(&queue, &late);
        assert!(!transfer.expired());
    }

    #[test]
    fn the_schedule_of_a_dropped_timer_is_not_that_of_its_successor() {
        let queue = queue();
        let (dropped, _a) = timer(&queue, Phase::Idle, SHORT);
        let index = dropped.key.index;
        drop(dropped);
        let (successor, _b) = timer(&queue, Phase::Idle, LONG);
        assert_eq!(successor.key.index, index);
        let (late, _c) = timer(&queue, Phase::Idle, SHORT * 200);
        run_until_expired(&queue, &late);
        assert!(!successor.expired());
    }

    #[test]
    fn the_address_of_a_client_is_looked_up_once() {
        let queue = queue();
        let (timer, _client) = timer(&queue, Phase::Idle, LONG);
        let address = Some("192.0.2.1".parse().unwrap());
        let never = || panic!("it was looked up before");
        assert_eq!(queue.client_or(timer.key(), || address), address);
        assert_eq!(queue.client_or(timer.key(), never), address);
        let ended = timer.key();
        drop(timer);
        assert_eq!(queue.client_or(ended, || None), None);
        let (successor, _client) = self::timer(&queue, Phase::Idle, LONG);
        assert_eq!(successor.key().index, ended.index);
        assert_eq!(queue.client_or(successor.key(), || None), None);
        assert_eq!(queue.client_or(ended, || address), address);
    }

    #[test]
    fn a_connection_has_its_place_until_it_ends() {
        let (queue, clients) = (queue(), Clients::default());
        let limits = Limits {
            connections_per_ip: 1,
            ..Limits::default()
        };
        let limit = clients.connection_limit(&limits).unwrap();
        let place = || limit.admit("192.0.2.1".parse().unwrap());
        let (first, _a) = timer(&queue, Phase::Idle, LONG);
        let (other, _b) = timer(&queue, Phase::Idle, LONG);
        queue.keep_place(first.key(), place().unwrap());
        assert!(queue.has_place(first.key()) && !queue.has_place(other.key()));
        drop(other);
        assert!(place().is_none());
        drop(first);
        assert!(place().is_some());
        assert!(queue.inner.borrow().places.is_empty());
    }

    #[test]
    fn the_longest_idle_make_room() {
        let queue = queue();
        let (later, _a) = timer(&queue, Phase::Idle, LONG * 2);
        let (soon, _b) = timer(&queue, Phase::Idle, LONG);
        let (busy, _c) = timer(&queue, Phase::Request, SHORT);
        queue.end_longest_idle();
        assert!(soon.expired());
        assert!(!later.expired() && !busy.expired());
        queue.end_longest_idle();
        assert!(later.expired() && !busy.expired());
    }

    #[test]
    fn a_task_that_waits_again_and_again_is_woken_once() {
        let queue = queue();
        Executor::new("test", 1).unwrap().run(async move {
            for _ in 0..70_000 {
                assert!(poll_once(pin!(queue.until(|| false))).await.is_none());
            }
            assert_eq!(queue.inner.borrow().waiting.len(), 1);
        });
    }

    #[test]
    fn a_stop_ends_connections_that_wait_for_a_request() {
        let queue = queue();
        let (idle, _a) = timer(&queue, Phase::Idle, LONG);
        let (busy, _b) = timer(&queue, Phase::Request, LONG);
        queue.end_idle();
        assert!(idle.expired() && !busy.expired());
        queue.end_all();
        assert!(busy.expired());
    }

    #[test]
    fn a_task_is_woken_whenever_connections_are_to_end() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let queue = queue();
        let count = Arc::new(Count::default());
        let (busy, _a) = timer(&queue, Phase::Window, LONG);
        busy.wake_at_end(&Waker::from(Arc::clone(&count)));
        // Others are to end, then all.
        queue.drain(|_| false);
        queue.end_idle();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        drop(busy);
        queue.end_idle();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
