//! The memory of the program: counted, and kept for a while after it is freed, to see whether anybody
//! writes to it.
//!
//! `AddressSanitizer` sees what the program does to freed memory, but not what the kernel does for an
//! op. What the kernel sends of it is noticed by who reads it: the bytes are others by then.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::io::Write as _;
use std::ptr::{null_mut, write_bytes};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What freed memory is filled with.
const FREED: u8 = 0xa5;

/// Blocks that are kept.
const KEPT: usize = 1024;

/// Larger blocks are freed at once.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// Counts what is allocated and not freed.
struct Account;

#[global_allocator]
static ALLOCATOR: Account = Account;

static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Freed memory is given to the system's allocator at once, for `AddressSanitizer` to know.
static IS_SANITIZED: AtomicBool = AtomicBool::new(false);

static KEEP: Keep = Keep {
    is_locked: AtomicBool::new(false),
    blocks: UnsafeCell::new(Blocks {
        blocks: [(null_mut(), Layout::new::<()>()); KEPT],
        next: 0,
    }),
};

/// Bytes that are allocated now.
pub(crate) fn allocated() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// Leaves what is freed to `AddressSanitizer`.
pub(crate) fn free_at_once() {
    IS_SANITIZED.store(true, Ordering::Relaxed);
}

// SAFETY: memory comes from the system's allocator, and goes back to it with the layout it came with,
// once.
unsafe impl GlobalAlloc for Account {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        let mut freed = (pointer, layout);
        if layout.size() <= KEPT_BYTES_MAX && !IS_SANITIZED.load(Ordering::Relaxed) {
            // SAFETY: the caller gives the block up.
            unsafe { write_bytes(pointer, FREED, layout.size()) };
            freed = KEEP.exchange(freed);
        }
        if !freed.0.is_null() {
            // SAFETY: the caller's promise, now or when the block was freed.
            unsafe { System.dealloc(freed.0, freed.1) };
        }
    }
}

/// A freed block; null: none.
type Block = (*mut u8, Layout);

struct Blocks {
    blocks: [Block; KEPT],
    next: usize,
}

/// The blocks that were freed last.
struct Keep {
    is_locked: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

// SAFETY: the blocks are used under the lock, and belong to nobody else.
unsafe impl Sync for Keep {}

impl Keep {
    /// Keeps `freed`, which is filled with [`FREED`], and returns the oldest block. If somebody wrote
    /// to that, the process ends.
    fn exchange(&self, freed: Block) -> Block {
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held.
        let blocks = unsafe { &mut *self.blocks.get() };
        let next = blocks.next;
        let oldest = std::mem::replace(&mut blocks.blocks[next], freed);
        blocks.next = (next + 1) % KEPT;
        self.is_locked.store(false, Ordering::Release);
        if !oldest.0.is_null() {
            // SAFETY: the block was freed and filled, and is not given to anybody else.
            let bytes = unsafe { slice::from_raw_parts(oldest.0, oldest.1.size()) };
            if bytes.iter().any(|byte| *byte != FREED) {
                let _ = writeln!(
                    std::io::stderr(),
                    "{} bytes were written to after they were freed",
                    oldest.1.size()
                );
                std::process::abort();
            }
        }
        oldest
    }
}
