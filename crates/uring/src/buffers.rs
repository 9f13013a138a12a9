//! The provided buffers that multishot recv fills.
//!
//! The kernel takes buffers from the head of a ring shared with it; this side publishes them at its
//! tail. Few are published at first, and more when they run out. So a quiet executor keeps a small,
//! cache-warm set in use and touches no more memory than its load needs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::types::BufRingEntry;

use crate::mapping::Mapping;

/// Buffers published before the first shortage.
const PUBLISHED_FIRST: u16 = 64;

/// The ring of provided buffers of one op ring.
pub(crate) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    buffer_bytes: usize,
    capacity: u16,
    /// Buffers with an id below this have been published at least once.
    grown: Cell<u16>,
    tail: Cell<u16>,
    /// Published buffers that were not seen filled.
    available: Cell<u16>,
    /// Streams that found no buffer, in order.
    dry: RefCell<VecDeque<Waker>>,
    /// A buffer was filled since the last spill.
    filled: Cell<bool>,
    /// How often a stream found no buffer.
    exhausted: Cell<u64>,
    driver: Rc<Sleeper>,
}

/// The waker of the driver task while it sleeps.
#[derive(Default)]
pub(crate) struct Sleeper(Cell<Option<Waker>>);

impl Sleeper {
    pub(crate) fn sleep(&self, waker: &Waker) {
        self.0.set(Some(waker.clone()));
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Buffers {
    /// The group id that recv ops name.
    pub(crate) const GROUP: u16 = 0;

    /// `capacity` must be a power of two of at most 32,768; `buffer_bytes` between 1 and 2^31 - 1.
    pub(crate) fn new(capacity: u16, buffer_bytes: usize) -> io::Result<Self> {
        if !capacity.is_power_of_two() || !(1..=i32::MAX as usize).contains(&buffer_bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let memory_bytes = usize::from(capacity)
            .checked_mul(buffer_bytes)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let buffers = Self {
            entries: Mapping::new(usize::from(capacity) * size_of::<BufRingEntry>())?,
            memory: Mapping::new(memory_bytes)?,
            buffer_bytes,
            capacity,
            grown: Cell::new(0),
            tail: Cell::new(0),
            available: Cell::new(0),
            dry: RefCell::default(),
            filled: Cell::new(false),
            exhausted: Cell::new(0),
            driver: Rc::default(),
        };
        buffers.grow();
        Ok(buffers)
    }

    /// The address and the number of entries to register.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.entries.start.as_ptr() as u64, self.capacity)
    }

    /// The driver task, to wake when a buffer returns that streams wait for.
    pub(crate) fn driver(&self) -> &Rc<Sleeper> {
        &self.driver
    }

    /// Publishes unused buffers, half as many as are in use, while there are any: one burst runs
    /// short several times, and a buffer that was used once keeps its memory.
    pub(crate) fn grow(&self) {
        let first = self.grown.get();
        let end = self
            .capacity
            .min(first.saturating_add(first / 2).max(PUBLISHED_FIRST));
        self.grown.set(end);
        (first..end).for_each(|id| self.publish(id));
    }

    /// Gives buffer `id` to the kernel. Call [`Buffers::call_driver`] afterwards, when the ring is
    /// not borrowed: streams may wait for it.
    pub(crate) fn publish(&self, id: u16) {
        assert!(
            id < self.grown.get(),
            "the kernel named a buffer of its own"
        );
        let tail = self.tail.get();
        let index = usize::from(tail & (self.capacity - 1));
        let base = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: `index` is below the capacity that the mapping was sized for; entries between
        // the kernel's head and our tail are not written by us: at most `capacity` buffers exist
        // and each is published only while it is not in the ring.
        let entry = unsafe { &mut *base.as_ptr().add(index) };
        entry.set_addr(self.address(id) as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.available.set(self.available.get() + 1);
        // SAFETY: the tail lives in the reserved bytes of the first entry, inside the mapping, and
        // no reference to that entry is used from here on.
        let shared_tail = unsafe { BufRingEntry::tail(base.as_ptr()) }.cast::<AtomicU16>();
        // SAFETY: it is aligned (offset 14 of a page) and both sides use it as an atomic; the
        // release makes the entry visible before the tail that covers it.
        unsafe { &*shared_tail }.store(self.tail.get(), Ordering::Release);
    }

    /// The buffer that is the next for a kernel that has taken `taken` of them: its id, address and
    /// bytes.
    #[cfg(feature = "simulation")]
    pub(crate) fn published(&self, taken: u16) -> Option<(u16, *mut u8, usize)> {
        if taken == self.tail.get() {
            return None;
        }
        let index = usize::from(taken & (self.capacity - 1));
        // SAFETY: inside the mapping that was sized for the capacity; `publish` wrote the entry, and
        // no reference to it is left.
        let id = unsafe {
            (*self
                .entries
                .start
                .cast::<BufRingEntry>()
                .as_ptr()
                .add(index))
            .bid()
        };
        Some((id, self.address(id), self.buffer_bytes))
    }

    /// Counts a buffer that the kernel filled.
    pub(crate) fn fill(&self) {
        self.available.set(self.available.get() - 1);
        self.filled.set(true);
    }

    /// Queues `waker`, to be woken when there is a buffer for it.
    pub(crate) fn wait(&self, waker: Waker) {
        self.exhausted.set(self.exhausted.get() + 1);
        self.dry.borrow_mut().push_back(waker);
        self.call_driver();
    }

    /// Wakes the driver if it can do something for waiting streams.
    pub(crate) fn call_driver(&self) {
        if self.has_work() {
            self.driver.wake();
        }
    }

    /// Whether streams wait, and there are free buffers, or filled ones that could be spilled.
    pub(crate) fn has_work(&self) -> bool {
        (self.available.get() > 0 || self.filled.get()) && !self.dry.borrow().is_empty()
    }

    /// Whether streams wait, no buffer is free, and buffers were filled since the last call: those
    /// have gone unread for a turn. True once for each such state.
    pub(crate) fn must_spill(&self) -> bool {
        self.available.get() == 0 && !self.dry.borrow().is_empty() && self.filled.replace(false)
    }

    /// Wakes as many waiting streams as there are buffers; waking more would have the rest fail
    /// again. A stream that is gone by now uses up the wake-up of another, so call this each turn
    /// while [`Buffers::has_work`].
    pub(crate) fn wake_waiting(&self) {
        let mut dry = self.dry.borrow_mut();
        let count = dry.len().min(usize::from(self.available.get()));
        let woken: Vec<Waker> = dry.drain(..count).collect();
        drop(dry);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Buffers that the kernel may fill now.
    pub(crate) fn free(&self) -> usize {
        self.available.get().into()
    }

    /// Buffers that were filled and not given back.
    pub(crate) fn filled(&self) -> usize {
        (self.grown.get() - self.available.get()).into()
    }

    /// Buffers there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.into()
    }

    /// How often a stream found no buffer.
    pub(crate) fn exhausted(&self) -> u64 {
        self.exhausted.get()
    }

    /// Bytes of each buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.capacity && len <= self.buffer_bytes);
        // SAFETY: inside the mapping by the assertion, which is zero-filled from the start; the
        // kernel does not write to a buffer between handing it over and its next publication,
        // and the callers hold it in between.
        unsafe { std::slice::from_raw_parts(self.address(id), len) }
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: `id` is below the capacity that the mapping was sized for.
        unsafe {
            self.memory
                .start
                .as_ptr()
                .add(usize::from(id) * self.buffer_bytes)
        }
    }
}

/// Bytes received into a provided buffer, which returns to the kernel when this is dropped.
///
/// The executor has a fixed number of them: do not hold one while waiting for a peer.
pub struct RecvBuf {
    buffers: Rc<Buffers>,
    id: u16,
    len: usize,
}

impl RecvBuf {
    /// Takes buffer `id`, in which the kernel filled `len` bytes.
    pub(crate) fn new(buffers: &Rc<Buffers>, id: u16, len: usize) -> Self {
        Self {
            buffers: Rc::clone(buffers),
            id,
            len,
        }
    }

    /// Shortens it to its first `len` bytes; no effect if it has no more.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffers.bytes(self.id, self.len)
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (buffers, id, len) = (&self.buffers, self.id, self.len);
        assert!(id < buffers.capacity && len <= buffers.buffer_bytes);
        // SAFETY: as in `Buffers::bytes`; there is one `RecvBuf` for a buffer that the kernel has
        // filled, and it is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(buffers.address(id), len) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.buffers.publish(self.id);
        self.buffers.call_driver();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Buffers {
        /// The tail as the kernel sees it, and the buffer that is published at `index`.
        fn shared(&self, index: usize) -> (u16, u16) {
            let base = self.entries.start.cast::<BufRingEntry>().as_ptr();
            // SAFETY: inside the mapping; nothing else refers to it now.
            let entry = unsafe { &*base.add(index) };
            // SAFETY: as in `publish`.
            (unsafe { *BufRingEntry::tail(base) }, entry.bid())
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for (capacity, bytes) in [
            (0, 1),
            (3, 1),
            (32_769, 1),
            (8, 0),
            (8, 1 << 31),
            (8, usize::MAX),
            (2, usize::MAX / 2 + 1),
        ] {
            assert!(Buffers::new(capacity, bytes).is_err(), "{capacity} {bytes}");
        }
    }

    #[test]
    fn buffers_in_use_grow_by_half_up_to_the_capacity() {
        let buffers = Buffers::new(256, 16).unwrap();
        let mut grown = vec![buffers.available.get()];
        for _ in 0..5 {
            buffers.grow();
            grown.push(buffers.available.get());
        }
        assert_eq!(grown, [64, 96, 144, 216, 256, 256]);
    }

    #[test]
    fn the_tail_wraps_and_entry_zero_keeps_it() {
        let buffers = Buffers::new(8, 16).unwrap();
        assert_eq!(buffers.shared(0), (8, 0));
        for turn in 8..=u32::from(u16::MAX) + 20 {
            let index = (turn % 8) as usize;
            let id = (turn % 3) as u16;
            buffers.fill();
            buffers.publish(id);
            assert_eq!(buffers.shared(index), ((turn + 1) as u16, id));
        }
    }

    #[test]
    fn as_many_are_woken_as_there_are_buffers_in_their_order() {
        let buffers = Rc::new(Buffers::new(2, 16).unwrap());
        buffers.fill();
        buffers.fill();
        let counts: [Arc<Count>; 3] = Default::default();
        for count in &counts {
            buffers.wait(Arc::clone(count).into());
        }
        let woken = || {
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::Relaxed))
        };
        buffers.wake_waiting();
        assert_eq!(woken(), [0, 0, 0], "there is none");
        drop(RecvBuf::new(&buffers, 0, 1));
        buffers.wake_waiting();
        assert_eq!(woken(), [1, 0, 0]);
        assert!(buffers.has_work(), "the buffer is still there");
        drop(RecvBuf::new(&buffers, 1, 1));
        buffers.wake_waiting();
        assert_eq!(woken(), [1, 1, 1]);
        assert!(!buffers.has_work());
    }

    #[test]
    fn slow_readers_are_asked_once_for_what_was_filled() {
        let buffers = Rc::new(Buffers::new(1, 16).unwrap());
        buffers.fill();
        assert!(!buffers.must_spill(), "nobody waits");
        buffers.wait(Arc::new(Count::default()).into());
        assert!(buffers.must_spill());
        assert!(!buffers.must_spill() && !buffers.has_work());
        drop(RecvBuf::new(&buffers, 0, 1));
        assert!(!buffers.must_spill(), "there is one");
        buffers.fill();
        assert!(buffers.must_spill());
    }

    #[test]
    fn a_buffer_that_comes_back_wakes_the_driver_if_streams_wait() {
        let buffers = Rc::new(Buffers::new(1, 16).unwrap());
        let count = Arc::new(Count::default());
        buffers.driver().sleep(&Arc::clone(&count).into());
        buffers.fill();
        drop(RecvBuf::new(&buffers, 0, 1));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "nobody waits");
        buffers.fill();
        assert!(!buffers.must_spill());
        buffers.filled.set(false);
        buffers.wait(Arc::new(Count::default()).into());
        drop(RecvBuf::new(&buffers, 0, 1));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
