//! One ring as the tasks of its executor share it.

use std::cell::{Cell, RefCell};
use std::mem;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use io_uring::{IoUring, squeue};

use crate::buffers::Buffers;
use crate::core::Core;
use crate::doorbell::Doorbell;
use crate::error::Error;
use crate::features::Features;
use crate::io::Io;
use crate::resources::{Memory, OpResources};
use crate::shares::Permit;
use crate::slot::{Item, Key, ResultKind, Slot, State, Stream, opened, release};
use crate::sqe;
use crate::stats::RingStats;

/// One ring, shared by the tasks of its executor.
pub(crate) struct Shared {
    core: RefCell<Core>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) features: Features,
    pub(crate) doorbell: Doorbell,
    /// Turns of the driver, including idle ones.
    pub(crate) turns: Cell<u64>,
}

impl Shared {
    pub(crate) fn new(
        io: IoUring,
        features: Features,
        provide: impl FnOnce(&IoUring) -> Result<Buffers, Error>,
    ) -> Result<Self, Error> {
        let buffers = Rc::new(provide(&io)?);
        let doorbell = Doorbell::new().map_err(Error::setup("socketpair"))?;
        let mut core = Core::new(Io::new(io, &buffers), Rc::clone(&buffers));
        core.watch(doorbell.fd());
        Ok(Self {
            core: RefCell::new(core),
            buffers,
            features,
            doorbell,
            turns: Cell::new(0),
        })
    }

    /// Queues an op: `entry`, and the resources that it refers to.
    ///
    /// # Safety
    ///
    /// Every address in `entry` must lie in `resources`, or in memory that lives as long as the
    /// ring, and every descriptor must be one of `resources`.
    pub(crate) unsafe fn submit(
        &self,
        entry: squeue::Entry,
        resources: OpResources,
        result_kind: ResultKind,
        state: State,
    ) -> Key {
        let mut core = self.core.borrow_mut();
        // SAFETY: the caller's promise is the callee's.
        let key = unsafe { core.insert(entry, resources, result_kind, state) };
        drop(core);
        self.wake_driver();
        key
    }

    /// Has a worker close `fd`, without a future.
    fn close(&self, fd: OwnedFd, permit: Option<Box<Permit>>) {
        let entry = sqe::close(&fd);
        let mut resources = OpResources::memory(Memory::Closing(fd));
        resources.permit = permit;
        // SAFETY: the entry holds no address, and the descriptor has no owner but the op.
        unsafe { self.submit(entry, resources, ResultKind::Closed, State::Orphaned) };
    }

    /// Asks the kernel to cancel the op of `key`; its last completion arrives all the same.
    fn cancel(&self, key: Key) {
        self.core.borrow_mut().cancel(key);
        self.wake_driver();
    }

    /// Runs `inspect` on the slot of `key`, which must be live.
    pub(crate) fn with_slot<T>(&self, key: Key, inspect: impl FnOnce(&mut Slot) -> T) -> T {
        inspect(self.core.borrow_mut().slot(key).expect("a live op"))
    }

    /// Frees the slot of a completed op.
    pub(crate) fn take(&self, key: Key) -> Slot {
        self.core.borrow_mut().remove(key)
    }

    /// Detaches an op from its dropped future: frees the slot if the op is complete, else leaves it
    /// to the last completion, which `cancel` brings about.
    pub(crate) fn abandon(&self, key: Key, cancel: bool) {
        let mut core = self.core.borrow_mut();
        let Some(slot) = core.slot(key) else { return };
        let state = mem::replace(&mut slot.state, State::Orphaned);
        let mut open = None;
        let complete = match &state {
            State::Waiting(_) | State::Orphaned => false,
            State::Done(completion) => {
                open = opened(*completion, &slot.resources)
                    .map(|fd| (fd, slot.resources.permit.take()));
                if open.is_none() {
                    release(
                        slot.result_kind,
                        *completion,
                        &slot.resources,
                        &self.buffers,
                    );
                }
                true
            }
            State::Stream(stream) => {
                release_queue(stream, slot, &self.buffers);
                stream.ended
            }
        };
        let slot = complete.then(|| core.remove(key));
        drop(core);
        // After the borrow: dropping a waker or a buffer's owner may re-enter the ring.
        drop((state, slot));
        if let Some((fd, permit)) = open {
            self.close(fd, permit);
        }
        self.buffers.call_driver();
        if !complete && cancel {
            self.cancel(key);
        }
    }

    /// Marks every stream on `fd` as cancelled by its user, so that a pause does not hide it.
    pub(crate) fn mark_cancelled(&self, fd: RawFd) {
        for slot in self.core.borrow_mut().slots() {
            if let State::Stream(stream) = &mut slot.state {
                stream.cancelled |= slot.resources.has_fd(fd);
            }
        }
    }

    /// Whether a turn would do more than submit queued entries.
    pub(crate) fn has_completions(&self) -> bool {
        self.core.borrow_mut().has_completions()
    }

    /// One turn: submits queued ops, reaps completions and wakes the tasks that wait for them. If
    /// nothing is complete, waits up to `wait` for a completion. False if there was nothing to do,
    /// or nothing came.
    pub(crate) fn turn(&self, wait: Option<Duration>) -> bool {
        self.count_turn();
        let mut core = self.core.borrow_mut();
        core.set_event(false);
        if self.buffers.must_spill() {
            core.spill();
        }
        let busy = core
            .turn(wait)
            .unwrap_or_else(|error| panic!("io_uring_enter on the op ring: {error}"));
        let mut reaped = core.take_reaped();
        let rung = reaped.rung.take();
        if rung == Some(false) {
            core.watch(self.doorbell.fd());
        }
        drop(core);
        if rung.is_some() {
            self.doorbell.answer();
        }
        reaped.wakers.drain(..).for_each(Waker::wake);
        reaped.permits.clear();
        for resources in reaped.released.drain(..) {
            if let Some((fd, permit)) = resources.into_last_file() {
                self.close(fd, Some(permit));
            }
        }
        for (fd, permit) in reaped.opened.drain(..) {
            self.close(fd, permit);
        }
        self.buffers.wake_waiting();
        // Keeps the capacity of the vectors.
        self.core.borrow_mut().reuse(reaped);
        busy
    }

    pub(crate) fn stats(&self) -> RingStats {
        let core = self.core.borrow();
        RingStats {
            in_flight: core.in_flight(),
            queued: core.queued(),
            worker_ops: core.worker_ops(),
            buffers_free: self.buffers.free(),
            buffers_filled: self.buffers.filled(),
            buffers_max: self.buffers.capacity(),
            buffers_exhausted: self.buffers.exhausted(),
        }
    }

    fn count_turn(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    /// Whether a turn would find something to do; if not, `driver` is woken when an op is queued.
    /// The eventfd announces completions.
    pub(crate) fn has_work_or_wakes(&self, driver: &Waker) -> bool {
        self.count_turn();
        let mut core = self.core.borrow_mut();
        core.set_event(true);
        let busy = core.has_work();
        drop(core);
        if !busy {
            self.buffers.driver().sleep(driver);
        }
        busy
    }

    pub(crate) fn wake_driver(&self) {
        self.buffers.driver().wake();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wake_driver();
    }
}

/// Releases what `stream` queued and nobody took.
fn release_queue(stream: &Stream, slot: &Slot, buffers: &Buffers) {
    for item in stream.queue.iter() {
        if let Item::Completion(completion) = item {
            release(slot.result_kind, *completion, &slot.resources, buffers);
        }
    }
}
