//! The state of one ring: submission, completion, and the ops in flight.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use slab::Slab;

use crate::buffers::Buffers;
use crate::error::Error;
use crate::features::Features;
use crate::resources::{Memory, OpResources};
use crate::shares::Permit;
use crate::slot::{Completion, Item, Key, ResultKind, Slot, State, Stream, opened, release};
use crate::sqe;

/// How long a ring waits at its end for ops that the kernel cannot cancel at once, such as a read
/// from a disk that does not answer. After that their memory is leaked, never freed while the
/// kernel may use it.
const END_WAIT: Duration = Duration::from_secs(1);

/// Filled buffers that a stream queues for a slow reader before it is paused.
const BUFFER_QUEUE_MAX: usize = 4;

/// Descriptors (accepted connections) that it queues.
const FD_QUEUE_MAX: usize = 256;

/// Pause of the executor when the kernel refuses submissions twice in a row: memory is short, and
/// retrying at once would keep the core from tasks that could free some.
const REFUSED_REST: Duration = Duration::from_millis(1);

/// Whether the eventfd is disabled while the driver is awake. Once it is enabled again, a kernel
/// that queues work at that moment must see it. On x86 the kernel's store of that work is a full
/// barrier; on other architectures it need not be.
const EVENT_SWITCHED: bool = cfg!(target_arch = "x86_64");

/// One ring, shared by the tasks of its executor.
pub(crate) struct Shared {
    core: RefCell<Core>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) features: Features,
    /// Turns of the driver, including idle ones.
    pub(crate) turns: Cell<u64>,
    /// Polls of tasks spawned by [`crate::Ring::spawn`].
    pub(crate) polls: Rc<Cell<u64>>,
}

struct Core {
    io: ManuallyDrop<IoUring>,
    slots: ManuallyDrop<Slab<Slot>>,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    generation: u32,
    buffers: Rc<Buffers>,
    reaped: Reaped,
    /// The last enter was refused.
    refused: bool,
}

/// Output of a turn. Wakers are called and values dropped once the ring is no longer borrowed,
/// since either may re-enter it.
#[derive(Default)]
struct Reaped {
    wakers: Vec<Waker>,
    released: Vec<OpResources>,
    /// Streams whose readers are behind.
    overfull: Vec<Key>,
    /// Opened files whose future is gone.
    opened: Vec<(OwnedFd, Option<Box<Permit>>)>,
}

impl Shared {
    pub(crate) fn new(
        io: IoUring,
        features: Features,
        provide: impl FnOnce(&IoUring) -> Result<Buffers, Error>,
    ) -> Result<Self, Error> {
        let buffers = Rc::new(provide(&io)?);
        Ok(Self {
            core: RefCell::new(Core {
                io: ManuallyDrop::new(io),
                slots: ManuallyDrop::default(),
                backlog: VecDeque::new(),
                generation: 0,
                buffers: Rc::clone(&buffers),
                reaped: Reaped::default(),
                refused: false,
            }),
            buffers,
            features,
            turns: Cell::new(0),
            polls: Rc::default(),
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
        let key = self
            .core
            .borrow_mut()
            .insert(entry, resources, result_kind, state);
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
        self.core.borrow_mut().push(cancellation(key));
        self.wake_driver();
    }

    /// Runs `inspect` on the slot of `key`, which must be live.
    pub(crate) fn with_slot<T>(&self, key: Key, inspect: impl FnOnce(&mut Slot) -> T) -> T {
        inspect(self.core.borrow_mut().slot(key).expect("a live op"))
    }

    /// Frees the slot of a completed op.
    pub(crate) fn take(&self, key: Key) -> Slot {
        self.core.borrow_mut().slots.remove(key.index as usize)
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
        let slot = complete.then(|| core.slots.remove(key.index as usize));
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
        for (_, slot) in self.core.borrow_mut().slots.iter_mut() {
            if let State::Stream(stream) = &mut slot.state {
                stream.cancelled |= slot.resources.has_fd(fd);
            }
        }
    }

    /// Whether a turn would do more than submit what is queued.
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
        let mut reaped = mem::take(&mut core.reaped);
        drop(core);
        reaped.wakers.drain(..).for_each(Waker::wake);
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
        self.core.borrow_mut().reaped = reaped;
        busy
    }

    /// Notes that a task runs.
    pub(crate) fn count_poll(&self) {
        self.polls.set(self.polls.get() + 1);
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

impl Core {
    fn insert(
        &mut self,
        entry: squeue::Entry,
        resources: OpResources,
        result_kind: ResultKind,
        state: State,
    ) -> Key {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
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

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to is owned by its slot until its last completion, as
        // `Shared::submit` demands; a cancellation points to nothing.
        if !self.backlog.is_empty() || unsafe { self.io.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    fn refill(&mut self) {
        let mut queue = self.io.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn has_work(&mut self) -> bool {
        self.has_completions() || !self.io.submission().is_empty()
    }

    /// Whether there is work beside submitting what is queued.
    fn has_completions(&mut self) -> bool {
        let completions = !self.io.completion().is_empty();
        if !self.backlog.is_empty() || completions || self.buffers.has_work() {
            return true;
        }
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn turn(&mut self, wait: Option<Duration>) -> io::Result<bool> {
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

    /// Submits what is queued, and waits for a completion if `wait` says how long. False if the
    /// kernel refuses submissions now.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let entered = match wait {
            None => self.io.submit(),
            Some(wait) => {
                let wait = Timespec::from(wait);
                let submitter = self.io.submitter();
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&wait))
            }
        };
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
    fn set_event(&mut self, on: bool) {
        if !EVENT_SWITCHED {
            return;
        }
        let completions = self.io.completion();
        if on {
            completions.enable_eventfd();
            // Orders the store before the check for work that follows: the kernel queues work
            // first, then checks whether to signal.
            fence(Ordering::SeqCst);
        } else if !completions.eventfd_disabled() {
            completions.disable_eventfd();
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
        let (mut count, mut dry) = (0, false);
        for entry in io.completion() {
            count += 1;
            if entry.user_data() != Key::IGNORED {
                let key = Key::from_user_data(entry.user_data());
                let completion = note_buffer(Completion::new(&entry), buffers);
                dry |= completion.is_dry();
                settle(slots, key, completion, buffers, reaped);
            }
        }
        if dry {
            // Now, not when the streams see it: by then others have returned theirs.
            buffers.grow();
        }
        for key in mem::take(&mut reaped.overfull) {
            self.push(cancellation(key));
        }
        count
    }

    /// Copies the bytes that streams have queued out of their provided buffers.
    fn spill(&mut self) {
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
        let step = Timespec::from(Duration::from_millis(10));
        for entry in mem::take(&mut self.backlog) {
            if entry.get_user_data() != Key::IGNORED {
                let key = Key::from_user_data(entry.get_user_data());
                drop(self.slots.remove(key.index as usize));
            }
        }
        for key in self.cancellable() {
            self.push(cancellation(key));
        }
        while !self.slots.is_empty() && Instant::now() < deadline {
            self.refill();
            // A timeout is expected; any other error shows as slots that remain.
            let _ = self
                .io
                .submitter()
                .submit_with_args(1, &SubmitArgs::new().timespec(&step));
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
            // The kernel may still write to what the slots hold, and to the provided buffers.
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

/// Accounts for the buffer that `completion` names. A buffer without bytes (the end of a
/// connection, an error) is republished at once, since nothing reads it.
fn note_buffer(completion: Completion, buffers: &Buffers) -> Completion {
    let Some(id) = completion.buffer else {
        return completion;
    };
    buffers.fill();
    if completion.result > 0 {
        return completion;
    }
    buffers.publish(id);
    Completion {
        buffer: None,
        ..completion
    }
}

/// Completions that a stream queues for a slow reader before it is paused.
fn queue_max(result_kind: ResultKind) -> usize {
    match result_kind {
        ResultKind::Buffer => BUFFER_QUEUE_MAX,
        _ => FD_QUEUE_MAX,
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

/// Brings a completion to its op.
fn settle(
    slots: &mut Slab<Slot>,
    key: Key,
    completion: Completion,
    buffers: &Buffers,
    reaped: &mut Reaped,
) {
    let Some(slot) = slots
        .get_mut(key.index as usize)
        .filter(|slot| slot.generation == key.generation)
    else {
        debug_assert!(false, "a completion without an op");
        return;
    };
    if slot.result_kind == ResultKind::Closed {
        slot.resources.closed();
    }
    match &mut slot.state {
        State::Waiting(waker) => {
            reaped.wakers.extend(waker.take());
            slot.state = State::Done(completion);
        }
        State::Stream(stream) => {
            stream.ended = !completion.more;
            stream.queue.push(Item::Completion(completion));
            reaped.wakers.extend(stream.waker.take());
            if completion.more
                && stream.queue.len() >= queue_max(slot.result_kind)
                && !mem::replace(&mut stream.paused, true)
            {
                reaped.overfull.push(key);
            }
        }
        State::Orphaned => {
            match opened(completion, &slot.resources) {
                Some(fd) => reaped.opened.push((fd, slot.resources.permit.take())),
                None => release(slot.result_kind, completion, &slot.resources, buffers),
            }
            if !completion.more {
                let slot = slots.remove(key.index as usize);
                reaped.released.push(slot.resources);
            }
        }
        State::Done(_) => debug_assert!(false, "a second completion of a single op"),
    }
}

fn spill_item(item: &mut Item, buffers: &Buffers) {
    let Item::Completion(completion) = *item else {
        return;
    };
    let Some(id) = completion.buffer else {
        return;
    };
    let bytes = buffers.bytes(id, completion.result.max(0) as usize);
    *item = Item::Spilled(Box::new(bytes.to_vec()));
    buffers.publish(id);
}
