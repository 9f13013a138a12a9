//! What a core makes of the pressure: how many clients it may accept, and what it gives back.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::host::limits::ResourceShare;
use crate::memory::held::held_in_all;
use crate::memory::pressure::{Pressure, Reading};

/// So many connections and transfers a core has even if memory is short: else one that stays short,
/// since something else took it, would end all service.
const ALWAYS: usize = 8;

/// What a core is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Memory is short: give something back.
    GiveBack,
    /// Less than eight tenths are used.
    Regrow,
}

/// The memory of one core. Between two readings it looks at nothing that others write.
///
/// A reading comes late: until the next one, what is new may take no more than the room that the
/// last one found. So each new connection and each new transfer takes a grant, which is worth what
/// the kernel lets one socket hold for a client that takes nothing.
pub(crate) struct CoreMemory {
    pressure: Arc<Pressure>,
    shards: u64,
    /// What its connections may hold.
    held_max: Cell<u64>,
    /// What one socket may hold.
    send_bytes: Cell<u64>,
    /// The reading that it knows.
    seen: Cell<Reading>,
    /// What its sockets held then.
    unsent: Cell<u64>,
    /// Connections and transfers that may begin before the next reading.
    grants: Cell<u64>,
    is_short: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    /// Transfers that wait for a grant.
    transfers: RefCell<Vec<Waker>>,
    /// Transfers that had one.
    under_way: Cell<usize>,
}

/// A transfer that is under way, until it is dropped.
pub(crate) struct Transfer<'m>(&'m CoreMemory);

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

impl CoreMemory {
    /// Of one of `shards` cores, with these bounds.
    pub(crate) fn new(pressure: Arc<Pressure>, shards: usize, share: &ResourceShare) -> Self {
        let seen = pressure.last();
        let memory = Self {
            pressure,
            shards: shards as u64,
            held_max: Cell::new(share.held_bytes),
            send_bytes: Cell::new(share.send_bytes),
            seen: Cell::new(seen),
            unsent: Cell::new(0),
            grants: Cell::new(0),
            is_short: Cell::new(false),
            waiting: RefCell::default(),
            transfers: RefCell::default(),
            under_way: Cell::new(0),
        };
        memory.update();
        memory
    }

    pub(crate) fn set_share(&self, share: &ResourceShare) {
        self.held_max.set(share.held_bytes);
        self.send_bytes.set(share.send_bytes);
    }

    /// What a socket may hold for a client that takes nothing.
    pub(crate) fn send_bytes(&self) -> u64 {
        self.send_bytes.get()
    }

    /// Whether memory is short, as far as this core knows.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.get() || self.holds_too_much()
    }

    /// Whether its connections hold nine tenths of what they may.
    fn holds_too_much(&self) -> bool {
        held_in_all() >= self.held_max.get() / 10 * 9
    }

    /// How many connections may be accepted beside the `connections` that there are.
    pub(crate) fn room(&self, connections: usize) -> usize {
        let always = ALWAYS.saturating_sub(connections);
        if self.is_short() {
            return always;
        }
        usize::try_from(self.grants.get()).map_or(usize::MAX, |grants| grants.max(always))
    }

    /// One was accepted.
    pub(crate) fn accepted(&self) {
        self.grants.set(self.grants.get().saturating_sub(1));
    }

    /// A transfer that may begin now.
    fn begin_transfer(&self) -> Option<Transfer<'_>> {
        let grants = self.grants.get();
        if grants > 0 && !self.is_short() {
            self.grants.set(grants - 1);
        } else {
            self.ask();
            if self.under_way.get() >= ALWAYS {
                return None;
            }
        }
        self.under_way.set(self.under_way.get() + 1);
        Some(Transfer(self))
    }

    /// Has the core woken after another reading, for which somebody waits: soon, unless memory is
    /// short.
    pub(crate) fn ask(&self) {
        if self.is_short() {
            self.pressure.wake_next();
        } else {
            self.pressure.read_soon();
        }
    }

    /// Waits until `ready`, which is called after readings that concern cores. For few tasks, which
    /// may look often.
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

    /// Waits until a transfer may begin, which holds what this returns.
    pub(crate) async fn transfer(&self) -> Transfer<'_> {
        poll_fn(|context| {
            if let Some(transfer) = self.begin_transfer() {
                return Poll::Ready(transfer);
            }
            self.transfers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes a new reading. Returns what to do after it; `None` if there is none.
    pub(crate) fn step(&self, unsent: impl Fn() -> u64) -> Option<Step> {
        let last = self.pressure.last();
        if last.number == self.seen.replace(last).number {
            return None;
        }
        self.unsent.set(unsent());
        self.update();
        match () {
            () if self.is_short() => Some(Step::GiveBack),
            // A tenth of the budget lies between enough and short.
            () if last.room >= self.pressure.used().bytes_max / 10 => Some(Step::Regrow),
            () => None,
        }
    }

    /// What the sockets of this core held at the last reading.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.get()
    }

    /// Lets those that wait look again.
    pub(crate) fn wake(&self) {
        let waiting = mem::take(&mut *self.waiting.borrow_mut());
        let transfers = mem::take(&mut *self.transfers.borrow_mut());
        waiting.into_iter().chain(transfers).for_each(Waker::wake);
    }

    /// Of the room for this core its sockets may have half. No reading has the pages of files that
    /// they are to send, and if the kernel finds hardly any others, it does nothing but look for
    /// them: those of the program itself are among them.
    fn update(&self) {
        let seen = self.seen.get();
        let (share, unsent) = (seen.room / self.shards / 2, self.unsent.get());
        // Hysteresis, as with the reading.
        let kept = if self.is_short.get() { share / 9 } else { 0 };
        self.is_short.set(seen.is_short || share - kept <= unsent);
        let room = share.saturating_sub(unsent);
        // At least one, since memory is not short.
        self.grants.set((room / self.send_bytes.get()).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::budget::{Budget, Use};
    use crate::memory::held::{Held, Part};

    const MIB: u64 = 1 << 20;

    const SHARE: ResourceShare = ResourceShare {
        held_bytes: MIB,
        send_bytes: MIB / 8,
        ..crate::testing::SHARE
    };

    fn memory() -> (Arc<Pressure>, CoreMemory) {
        let pressure = Arc::new(Pressure::new(Budget::unlimited()));
        let memory = CoreMemory::new(Arc::clone(&pressure), 2, &SHARE);
        (pressure, memory)
    }

    fn read(pressure: &Pressure, used: u64) {
        pressure.publish(&[Use {
            bytes: used * MIB,
            bytes_max: 100 * MIB,
        }]);
    }

    #[test]
    fn what_is_new_takes_no_more_than_the_room_of_the_last_reading() {
        let (pressure, memory) = memory();
        read(&pressure, 82);
        assert_eq!(memory.step(|| 0), None, "between enough and short");
        // Half of 8 MiB for two cores.
        assert_eq!(memory.room(100), 16);
        for _ in 0..15 {
            memory.accepted();
        }
        let transfers: Vec<_> = (0..20).map_while(|_| memory.begin_transfer()).collect();
        assert_eq!(
            transfers.len(),
            8,
            "one by the last grant, and those that may always"
        );
        assert_eq!((memory.room(100), memory.room(5)), (0, 3));
        drop(transfers);
        assert!(memory.begin_transfer().is_some());
        assert_eq!(memory.step(|| 0), None, "nothing new is read");
        read(&pressure, 50);
        assert_eq!(memory.step(|| 5 * MIB), Some(Step::Regrow));
        assert_eq!(memory.room(100), 40);
    }

    #[test]
    fn sockets_that_hold_half_of_the_room_make_memory_short() {
        let (pressure, memory) = memory();
        for (unsent, is_short) in [(9, false), (10, true), (9, true), (8, false)] {
            read(&pressure, 50);
            let step = memory.step(|| unsent * MIB);
            assert_eq!(memory.is_short(), is_short, "{unsent}");
            assert_eq!(step == Some(Step::GiveBack), is_short, "{unsent}");
            assert_eq!(memory.room(100) == 0, is_short, "{unsent}");
        }
    }

    #[test]
    fn connections_that_hold_too_much_make_memory_short() {
        let (_pressure, memory) = memory();
        let held = Held::new(Part::Unsent, 900 << 10);
        assert!(!memory.is_short());
        let more = Held::new(Part::Unsent, 100 << 10);
        assert!(memory.is_short());
        assert_eq!((memory.room(0), memory.room(8)), (8, 0));
        drop((held, more));
        assert!(!memory.is_short());
    }
}
