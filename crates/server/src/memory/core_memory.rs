//! What a core makes of the pressure: how many clients it may accept, and what it gives back.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::memory::held::held_in_all;
use crate::memory::pressure::{Pressure, Reading};

/// What a new connection may take before the next reading, with what the kernel holds for it.
const NEW_CONNECTION_BYTES: u64 = 128 * 1024;

/// So many connections a core has even if memory is short: else one that stays short, since
/// something else took it, would end all service.
const CONNECTIONS_ALWAYS: usize = 8;

/// What a core is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Memory is short: give something back.
    GiveBack,
    /// Less than eight tenths are used.
    Regrow,
}

/// The memory of one core.
pub(crate) struct CoreMemory {
    pressure: Arc<Pressure>,
    shards: u64,
    /// What its connections may hold.
    held_max: Cell<u64>,
    /// The reading that it knows.
    seen: Cell<Reading>,
    /// The reading after which it acted last.
    acted: Cell<u32>,
    /// Connections that it may accept before the next reading.
    grants: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl CoreMemory {
    /// Of one of `shards` cores, whose connections may hold `held_max` bytes.
    pub(crate) fn new(pressure: Arc<Pressure>, shards: usize, held_max: u64) -> Self {
        let seen = pressure.last();
        let memory = Self {
            pressure,
            shards: shards as u64,
            held_max: Cell::new(held_max),
            seen: Cell::new(seen),
            acted: Cell::new(seen.number),
            grants: Cell::new(0),
            waiting: RefCell::default(),
        };
        memory.grants.set(memory.grants_of(seen));
        memory
    }

    pub(crate) fn set_held_max(&self, bytes: u64) {
        self.held_max.set(bytes);
    }

    /// Whether memory is short, as far as this core knows: it reads nothing that others write.
    pub(crate) fn is_short(&self) -> bool {
        self.seen.get().is_short || self.holds_too_much()
    }

    /// Whether its connections hold nine tenths of what they may.
    fn holds_too_much(&self) -> bool {
        held_in_all() >= self.held_max.get() / 10 * 9
    }

    /// How many connections may be accepted beside the `connections` that there are.
    pub(crate) fn room(&self, connections: usize) -> usize {
        self.look();
        let always = CONNECTIONS_ALWAYS.saturating_sub(connections);
        if self.is_short() {
            return always;
        }
        usize::try_from(self.grants.get()).map_or(usize::MAX, |grants| grants.max(always))
    }

    /// One was accepted.
    pub(crate) fn accepted(&self) {
        self.grants.set(self.grants.get().saturating_sub(1));
    }

    /// Has the pressure read before its time: clients wait for that alone.
    pub(crate) fn ask(&self) {
        self.pressure.read_soon();
    }

    /// Waits until `ready`, which is called after each reading that concerns cores.
    pub(crate) async fn until(&self, ready: impl Fn() -> bool) {
        poll_fn(|context| {
            if ready() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            let is_there = |waker: &Waker| waker.will_wake(context.waker());
            if !waiting.iter().any(is_there) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// What to do after the last reading; once for each.
    pub(crate) fn step(&self) -> Option<Step> {
        self.look();
        let seen = self.seen.get();
        let is_new = self.acted.replace(seen.number) != seen.number;
        match () {
            () if !is_new => None,
            () if self.is_short() => Some(Step::GiveBack),
            // A tenth of the budget lies between enough and short.
            () if seen.room >= self.pressure.used().bytes_max / 10 => Some(Step::Regrow),
            () => None,
        }
    }

    /// Lets those that wait look again.
    pub(crate) fn wake(&self) {
        let waiting = mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn look(&self) {
        let last = self.pressure.last();
        if last.number != self.seen.replace(last).number {
            self.grants.set(self.grants_of(last));
        }
    }

    /// At least one, since memory is not short.
    fn grants_of(&self, reading: Reading) -> u64 {
        (reading.room / self.shards / NEW_CONNECTION_BYTES).max(1)
    }
}
