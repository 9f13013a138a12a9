//! The limit on a core's connections, and the end of accepting.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use tidegate_uring::Fd;
use tidegate_uring::executor::coarse_sleep;

use crate::accept::address::SocketAddress;
use crate::accept::listener::{bound_unsent, listen_with};
use crate::accept::listener_state::ListenerState;
use crate::context::{Context, KeepAlive};
use crate::observe::metrics::Refusal;
use crate::throttle::Throttle;

/// How soon to look again for a connection that can make room.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// The limit on a core's connections, shared by its accept loops.
pub(crate) struct Admission {
    pub(crate) context: Rc<Context>,
    connections_max: Cell<usize>,
    /// How many connections may wait in all listeners together.
    backlog: Cell<usize>,
    /// Empty once accepting has stopped: that closes them.
    listeners: RefCell<Vec<(Fd, Rc<ListenerState>)>>,
    /// Where clients may connect to.
    addresses: RefCell<Vec<SocketAddress>>,
    ending: Cell<Option<Ending>>,
    /// Listeners at which clients wait for a free connection.
    crowded: Cell<usize>,
    warnings: Throttle,
}

/// Why accepting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Connections end with their current response.
    Stop,
    /// Another process accepts. Connections end with their next response.
    HandOver,
}

impl Admission {
    /// Allows at most `connections_max` connections at a time. There is no listener yet.
    pub(crate) fn new(context: Rc<Context>, connections_max: usize) -> Self {
        Self {
            context,
            connections_max: Cell::new(connections_max),
            backlog: Cell::new(0),
            listeners: RefCell::default(),
            addresses: RefCell::default(),
            ending: Cell::default(),
            crowded: Cell::new(0),
            warnings: Throttle::default(),
        }
    }

    /// Adds a socket.
    pub(crate) fn add(&self, socket: Fd, state: Rc<ListenerState>) {
        self.listeners.borrow_mut().push((socket, state));
        self.update_backlog();
    }

    /// Takes the addresses of all listeners, and has the accept loops of those that were removed
    /// end, when they have served the clients in their backlogs.
    pub(crate) async fn set_addresses(&self, addresses: Vec<SocketAddress>) {
        self.addresses.replace(addresses);
        let removed = self.take_removed();
        self.update_backlog();
        self.wake();
        for (socket, _) in removed {
            // A listener that accepts nothing has nothing to cancel.
            let _ = self.context.io.ring.cancel(&socket).await;
        }
    }

    fn take_removed(&self) -> Vec<(Fd, Rc<ListenerState>)> {
        let mut listeners = self.listeners.borrow_mut();
        let removed = listeners.extract_if(.., |(_, state)| state.is_removed());
        removed.collect()
    }

    /// Ends the connections to addresses that no listener has any more, once they are idle.
    pub(crate) fn end_unserved(&self) {
        let addresses = self.addresses.borrow();
        let is_served = |local: &SocketAddress| addresses.iter().any(|one| one.serves(local));
        // The socket of a connection that was reset may have no address any more.
        let is_unserved =
            |socket: &Fd| SocketAddress::of(socket).is_some_and(|local| !is_served(&local));
        self.context.timers.drain(is_unserved);
    }

    fn update_backlog(&self) {
        let listeners = self.listeners.borrow();
        let backlogs = listeners.iter().map(|(_, state)| state.backlog() as usize);
        self.backlog.set(backlogs.sum());
    }

    /// Applies the backlogs of the listeners.
    pub(crate) fn set_backlogs(&self) {
        self.update_backlog();
        for (socket, state) in self
            .listeners
            .borrow()
            .iter()
            .filter(|(_, one)| one.is_ready())
        {
            // It listens already, so nothing but the backlog changes.
            let _ = listen_with(socket, state.backlog());
            bound_unsent(socket, self.context.memory.send_bytes());
        }
    }

    /// Whether accepting ends.
    pub(crate) fn stopping(&self) -> bool {
        self.ending.get().is_some()
    }

    /// How many more connections are allowed, by their number and by the memory.
    pub(crate) fn room(&self) -> usize {
        let connections = self.context.timers.len();
        let memory = self.context.memory.room(connections);
        memory.min(self.places())
    }

    /// How many more connections are allowed by their number.
    fn places(&self) -> usize {
        let connections_max = self.connections_max.get();
        connections_max.saturating_sub(self.context.timers.len())
    }

    /// Whether a connection may be accepted after the next reading of the memory.
    pub(crate) fn is_paced(&self) -> bool {
        self.room() == 0 && self.places() > 0 && !self.context.memory.is_short()
    }

    /// Waits for that reading.
    pub(crate) async fn until_read(&self, has_ended: impl Fn() -> bool) {
        self.context.memory.ask();
        let may_go_on = || !self.is_paced() || has_ended();
        self.context.memory.until(may_go_on).await;
    }

    /// Waits until a full backlog does not fit any more, by the memory.
    pub(crate) async fn until_crowded(&self) {
        let is_crowded = || !self.has_room_for_backlog(true);
        self.context.memory.until(is_crowded).await;
    }

    /// Allows at most so many connections from now on. More that are open stay open.
    pub(crate) fn set_connections_max(&self, connections_max: usize) {
        self.connections_max.set(connections_max);
        self.wake();
    }

    /// Whether a full backlog would fit. Hysteresis: a multishot accept is armed only if a backlog
    /// of twice the size would.
    pub(crate) fn has_room_for_backlog(&self, armed: bool) -> bool {
        let backlog = self.backlog.get();
        let wanted = if armed { backlog } else { backlog * 2 };
        self.room() > wanted
    }

    /// Makes room for a waiting client: ends idle connections now, else the slowest one, and others
    /// once they become idle.
    pub(crate) async fn make_room(&self, has_ended: impl Fn() -> bool) {
        let refusal = if self.places() > 0 {
            self.context.memory.ask();
            Refusal::MemoryLimit
        } else {
            Refusal::ConnectionLimit
        };
        self.context.metrics.core().refusals.count(refusal);
        self.set_crowded(self.crowded.get() + 1);
        self.end_some();
        // Memory has relief of its own.
        while self.places() == 0 && !has_ended() {
            or(self.room_or(&has_ended), coarse_sleep(ROOM_RETRY)).await;
            if self.places() == 0 {
                self.end_some();
            }
        }
        self.room_or(has_ended).await;
        self.set_crowded(self.crowded.get() - 1);
    }

    /// Ends idle connections, or the slowest one if there are none.
    fn end_some(&self) {
        let context = &self.context;
        if !context.timers.end_longest_idle()
            && let Some(slow) = context.timers.end_slowest()
        {
            context.report_slow(&slow);
        }
    }

    /// Waits until a connection may be accepted, or accepting has ended.
    pub(crate) async fn room_or(&self, has_ended: impl Fn() -> bool) {
        let may_go_on = || self.room() > 0 || has_ended();
        or(
            self.context.timers.until(may_go_on),
            self.context.memory.until(may_go_on),
        )
        .await;
    }

    /// Cancels pending accepts; each accept loop then chooses its mode again.
    pub(crate) async fn cancel_accepts(&self) {
        let listeners = self.listeners.borrow().clone();
        for (listener, _) in &listeners {
            // A listener that accepts nothing has nothing to cancel.
            let _ = self.context.io.ring.cancel(listener).await;
        }
    }

    /// Ends the accept loops; connections end with their current response, or the next one.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.set(Some(ending));
        self.update_keep_alive();
        self.wake();
    }

    /// Has the accept loops look again whether they may go on.
    fn wake(&self) {
        self.context.timers.wake_waiting();
        self.context.memory.wake();
    }

    /// Closes the listeners. The accept loops must have ended.
    pub(crate) fn close(&self) {
        self.listeners.take();
    }

    pub(crate) fn warn(&self, error: &io::Error) {
        self.context
            .metrics
            .core()
            .refusals
            .count(Refusal::NoResources);
        if self.warnings.is_due() {
            tracing::warn!(
                %error,
                connections = self.context.timers.len(),
                "cannot accept a connection; trying again until it works"
            );
        }
    }

    fn set_crowded(&self, count: usize) {
        self.crowded.set(count);
        self.update_keep_alive();
    }

    fn update_keep_alive(&self) {
        let crowded = self.crowded.get() > 0;
        self.context.set_keep_alive(match self.ending.get() {
            None if !crowded => KeepAlive::Enabled,
            Some(Ending::HandOver) if !crowded => KeepAlive::UntilNextResponse,
            _ => KeepAlive::Disabled,
        });
    }
}
