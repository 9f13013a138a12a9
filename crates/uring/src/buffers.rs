//! The provided buffers that multishot recv fills.
//!
//! The kernel takes buffers from the head of a ring shared with it; this side publishes them at
//! its tail. Only few are published at first and more when they run dry, so a quiet executor
//! keeps a small, cache-warm set in use and touches no more memory than its load needs.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Buffers published before the first shortage.
const PUBLISHED_FIRST: u16 = 64;

/// An anonymous private mapping.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its owner is the last to know its address. A failure
        // could only leak it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The ring of provided buffers of one op ring.
pub(crate) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    buffer_bytes: usize,
    capacity: u16,
    /// Buffers with an id below this have been published at least once.
    grown: Cell<u16>,
    tail: Cell<u16>,
    /// Buffers that are published and were not seen filled.
    available: Cell<u16>,
    /// Streams that found the ring dry.
    dry: RefCell<Vec<Waker>>,
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
        };
        buffers.grow();
        Ok(buffers)
    }

    /// The address and the number of entries to register.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.entries.start.as_ptr() as u64, self.capacity)
    }

    /// Publishes buffers that were never used, doubling those in use; false if there are none.
    pub(crate) fn grow(&self) -> bool {
        let first = self.grown.get();
        let end = self
            .capacity
            .min(first.saturating_mul(2).max(PUBLISHED_FIRST));
        self.grown.set(end);
        (first..end).for_each(|id| self.publish(id));
        self.wake_waiting();
        first < end
    }

    /// Gives buffer `id` to the kernel. Streams may wait for it: [`Buffers::wake_waiting`] is to be
    /// called when the ring is not borrowed.
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

    /// Gives the streams that wait for buffers another try, if there are any now.
    pub(crate) fn wake_waiting(&self) {
        if self.available() {
            // All of them: one that is gone by now would swallow the only wake-up.
            let waiting = self.dry.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Notes that the kernel filled a buffer.
    pub(crate) fn filled(&self) {
        self.available.set(self.available.get() - 1);
    }

    /// Whether the kernel has buffers, as far as is known.
    pub(crate) fn available(&self) -> bool {
        self.available.get() > 0
    }

    /// Wakes `waker` when the next buffer is published.
    pub(crate) fn wait(&self, waker: Waker) {
        self.dry.borrow_mut().push(waker);
    }

    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.capacity && len <= self.buffer_bytes);
        // SAFETY: inside the mapping by the assertion, which is zero-filled from the start; the
        // kernel does not write to a buffer between handing it over and its next publication,
        // and the callers hold it in between.
        unsafe { std::slice::from_raw_parts(self.address(id), len) }
    }

    fn address(&self, id: u16) -> *const u8 {
        // SAFETY: `id` is below the capacity that the mapping was sized for.
        unsafe {
            self.memory
                .start
                .as_ptr()
                .add(usize::from(id) * self.buffer_bytes)
        }
    }
}

/// Bytes received into a provided buffer, which goes back to the kernel when this is dropped.
///
/// There are only so many of them for the executor: do not hold one while waiting for a peer.
pub struct RecvBuf {
    buffers: Rc<Buffers>,
    id: u16,
    len: usize,
}

impl RecvBuf {
    /// Takes over buffer `id`, of which the kernel filled `len` bytes.
    pub(crate) fn new(buffers: &Rc<Buffers>, id: u16, len: usize) -> Self {
        Self {
            buffers: Rc::clone(buffers),
            id,
            len,
        }
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffers.bytes(self.id, self.len)
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.buffers.publish(self.id);
        self.buffers.wake_waiting();
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
    fn buffers_in_use_double_up_to_the_capacity() {
        let buffers = Buffers::new(256, 16).unwrap();
        let mut grown = vec![buffers.available.get()];
        while buffers.grow() {
            grown.push(buffers.available.get());
        }
        assert_eq!(grown, [64, 128, 256]);
    }

    #[test]
    fn the_tail_wraps_and_entry_zero_keeps_it() {
        let buffers = Buffers::new(8, 16).unwrap();
        assert_eq!(buffers.shared(0), (8, 0));
        for turn in 8..=u32::from(u16::MAX) + 20 {
            let index = (turn % 8) as usize;
            let id = (turn % 3) as u16;
            buffers.filled();
            buffers.publish(id);
            assert_eq!(buffers.shared(index), ((turn + 1) as u16, id));
        }
    }

    #[test]
    fn who_waits_is_woken_once_there_is_a_buffer() {
        let buffers = Rc::new(Buffers::new(1, 16).unwrap());
        buffers.filled();
        let count = Arc::new(Count::default());
        buffers.wait(Arc::clone(&count).into());
        buffers.wait(Arc::clone(&count).into());
        buffers.wake_waiting();
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "there is none");
        drop(RecvBuf::new(&buffers, 0, 1));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        buffers.wake_waiting();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
