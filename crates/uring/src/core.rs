//! Submission and completion on one ring, and the ops in flight.

use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};
use slab::Slab;

use crate::buffers::Buffers;
use crate::io::Io;
use crate::reap::{Reaped, note_buffer, settle, spill_item};
use crate::resources::OpResources;
use crate::slot::{Key, ResultKind, Slot, State};
use crate::stats::WorkerOps;

/// How long a ring waits at its end for ops that the kernel cannot cancel at once, such as a read
/// from a disk that does not answer. After that their memory is leaked, never freed while the
/// kernel may use it.
const END_WAIT: Duration = Duration::from_secs(1);

/// How long it waits at a time for one of them.
const END_STEP: Duration = Duration::from_millis(10);

/// Pause of the executor when the kernel refuses submissions twice in a row: memory is short, and
/// retrying at once would keep the core from tasks that could free some.
const REFUSED_REST: Duration = Duration::from_millis(1);

/// Whether the eventfd is disabled while the driver is awake. Once it is enabled again, a kernel
/// that queues work at that moment must see it. On x86 the kernel's store of that work is a full
/// barrier; on other architectures it need not be.
const EVENT_SWITCHED: bool = cfg!(target_arch = "x86_64");

/// A ring and its ops. `Shared` lends it to the tasks.
pub(crate) struct Core {
    io: ManuallyDrop<Io>,
    slots: ManuallyDrop<Slab<Slot>>,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    generation: u32,
    buffers: Rc<Buffers>,
    reaped: Reaped,
    /// The last enter was refused.
    refused: bool,
    worker_ops: WorkerOps,
}

impl Core {
    pub(crate) fn new(io: Io, buffers: Rc<Buffers>) -> Self {
        // To grow it would leave behind what held it before, which later allocations fill only
        // partly. Pages of it that were never used take no memory.
        let slots = Slab::with_capacity(io.completions_max());
        Self {
            io: ManuallyDrop::new(io),
            slots: ManuallyDrop::new(slots),
            backlog: VecDeque::new(),
            generation: 0,
            buffers,
            reaped: Reaped::default(),
            refused: false,
            worker_ops: WorkerOps::default(),
        }
    }

    /// Ops whose last completion has not come.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Entries that found the submission queue full.
    pub(crate) fn queued(&self) -> usize {
        self.backlog.len()
    }

    pub(crate) fn worker_ops(&self) -> WorkerOps {
        self.worker_ops
    }

    /// Queues an op.
    ///
    /// # Safety
    ///
    /// As for [`Shared::submit`](crate::shared::Shared::submit).
    pub(crate) unsafe fn insert(
        &mut self,
        entry: squeue::Entry,
        resources: OpResources,
        result_kind: ResultKind,
        state: State,
    ) -> Key {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        self.worker_ops.count(&entry);
        let index = self.slots.insert(Slot {
            generation,
            result_kind,
            state,
            resources,
        });
        let key = Key {
            index: u32::try_from(index).expect("fewer than 2^32 ops in flight"),
            generation,
        };
        self.push(entry.user_data(key.user_data()));
        key
    }

    pub(crate) fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
    }

    /// Asks the kernel to cancel the op of `key`.
    pub(crate) fn cancel(&mut self, key: Key) {
        self.push(cancellation(key));
    }

    /// All slots.
    pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().map(|(_, slot)| slot)
    }

    /// Frees the slot of `key`, which must be live.
    pub(crate) fn remove(&mut self, key: Key) -> Slot {
        self.slots.remove(key.index as usize)
    }

    /// The output of the last turn.
    pub(crate) fn take_reaped(&mut self) -> Reaped {
        mem::take(&mut self.reaped)
    }

    /// Keeps the capacity of `reaped`, which is empty, for the next turn.
    pub(crate) fn reuse(&mut self, reaped: Reaped) {
        self.reaped = reaped;
    }

    /// Polls `doorbell`, which is open as long as the ring, until that ends.
    pub(crate) fn watch(&mut self, doorbell: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(doorbell), libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(Key::DOORBELL));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to is owned by its slot until its last completion, as
        // `insert` demands; a cancellation and the poll of the doorbell point to nothing.
        if !self.backlog.is_empty() || !unsafe { self.io.push(&entry) } {
            self.backlog.push_back(entry);
        }
    }

    fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if !unsafe { self.io.push(entry) } {
                break;
            }
            self.backlog.pop_front();
        }
    }

    pub(crate) fn has_work(&mut self) -> bool {
        self.has_completions() || !self.io.is_submitted()
    }

    /// Whether there is work besides submitting queued entries.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.backlog.is_empty() || self.buffers.has_work() || self.io.has_completions()
    }

    pub(crate) fn turn(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let wait = wait.filter(|_| !self.has_completions());
        let mut busy = wait.is_none() && self.has_work();
        if busy || wait.is_some() {
            self.enter(wait)?;
            busy |= self.reap() > 0;
        }
        let mut accepted = true;
        while accepted && !self.backlog.is_empty() {
            self.refill();
            accepted = self.enter(None)?;
            self.reap();
        }
        Ok(busy)
    }

    /// Submits queued entries, and waits for a completion for up to `wait`, if given. False if the
    /// kernel refuses submissions now.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let entered = self.io.enter(wait);
        let refused = mem::replace(&mut self.refused, false);
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            // Submitted, or the wait is over.
            Ok(_) | Err((Some(libc::ETIME), _)) => Ok(true),
            // A signal.
            Err((Some(libc::EINTR), _)) => Ok(false),
            // The completion queue must be reaped first, or the kernel has no memory for requests.
            // Entries that were not submitted stay queued for the next turn.
            Err((Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM), _)) => {
                self.refused = true;
                if refused {
                    thread::sleep(REFUSED_REST);
                }
                Ok(false)
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Enables or disables the eventfd for completions. While the driver is awake nothing waits for
    /// it, and each signal would cost the executor a read.
    pub(crate) fn set_event(&mut self, on: bool) {
        if !EVENT_SWITCHED {
            return;
        }
        if on {
            self.io.enable_event();
            // Orders the store before the check for work that follows: the kernel queues work
            // first, then checks whether to signal.
            fence(Ordering::SeqCst);
        } else {
            self.io.disable_event();
        }
    }

    /// Reaps the completions. Returns how many there were.
    fn reap(&mut self) -> usize {
        let Self {
            io,
            slots,
            buffers,
            reaped,
            ..
        } = self;
        let mut dry = false;
        let count = io.reap(|data, completion| {
            if let Some(key) = Key::from_user_data(data) {
                let completion = note_buffer(completion, buffers);
                dry |= completion.is_dry();
                settle(slots, key, completion, buffers, reaped);
            } else if data == Key::DOORBELL {
                reaped.rung = Some(completion.more);
            }
        });
        if dry {
            // Now, not when the streams see it: by then others have returned theirs.
            buffers.grow();
        }
        for key in mem::take(&mut reaped.overfull) {
            self.cancel(key);
        }
        count
    }

    /// Copies the bytes that streams have queued out of their provided buffers.
    pub(crate) fn spill(&mut self) {
        for (_, slot) in self.slots.iter_mut() {
            if let (State::Stream(stream), ResultKind::Buffer) = (&mut slot.state, slot.result_kind)
            {
                for item in stream.queue.iter_mut() {
                    spill_item(item, &self.buffers);
                }
            }
        }
    }

    /// Drops unsubmitted entries, cancels the other ops, and reaps until none is in flight or the
    /// time is over.
    fn end(&mut self) {
        let deadline = Instant::now() + END_WAIT;
        for entry in mem::take(&mut self.backlog) {
            if let Some(key) = Key::from_user_data(entry.get_user_data()) {
                drop(self.slots.remove(key.index as usize));
            }
        }
        for key in self.cancellable() {
            self.cancel(key);
        }
        while !self.slots.is_empty() && Instant::now() < deadline {
            self.refill();
            // A timeout is expected; any other error shows as slots that remain.
            let _ = self.io.enter(Some(END_STEP));
            self.reap();
        }
    }

    /// All ops except closes: after a cancelled close it is unknown whether the descriptor was
    /// closed.
    fn cancellable(&self) -> Vec<Key> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.result_kind != ResultKind::Closed)
            .map(|(index, slot)| Key {
                index: index as u32,
                generation: slot.generation,
            })
            .collect()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Every future holds the ring, so only orphans can be left.
        self.end();
        let ended = self.slots.is_empty();
        // SAFETY: dropped once, here, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.io) };
        if ended {
            // SAFETY: dropped once, here, and not used after; no op is left, so the kernel knows
            // none of the memory.
            unsafe { ManuallyDrop::drop(&mut self.slots) };
        } else {
            // The kernel may still write to memory held by slots, and to the provided buffers.
            mem::forget(Rc::clone(&self.buffers));
        }
    }
}

fn cancellation(key: Key) -> squeue::Entry {
    opcode::AsyncCancel::new(key.user_data())
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(Key::IGNORED)
}
