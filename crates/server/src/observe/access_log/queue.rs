//! The lines of a log, between the cores and the thread that writes them.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::LogTarget;

/// The most bytes of lines that wait on each core; as many may be in the hands of the writer.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// From this many bytes on a core's lines are written at once.
const WAKE_BYTES: usize = 64 << 10;

/// How long lines wait for more of them.
const LINES_WAIT: Duration = Duration::from_millis(500);

/// How often dropped lines are reported, in seconds.
const REPORT_EVERY: u64 = 60;

/// The lines of a file, on their way from the cores to the thread that writes them.
pub(super) struct Queue {
    pub(super) target: LogTarget,
    buffers: Box<[Buffer]>,
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes a flush of all files.
    flushed: Condvar,
    /// Lines of this file that were dropped, and those of all.
    dropped: AtomicU64,
    all_dropped: Arc<AtomicU64>,
    opened: Instant,
    /// When dropped lines were reported last: seconds since `opened`, plus one.
    reported: AtomicU64,
}

/// The lines of a core. On cache lines of its own: each core writes to its own alone.
#[derive(Default)]
#[repr(align(128))]
struct Buffer(Mutex<Vec<u8>>);

/// What passes between the writer and the other threads, besides lines.
#[derive(Default)]
struct State {
    told: Signal,
    /// A flush that is not done.
    is_unflushed: bool,
    /// The writer has ended.
    is_over: bool,
}

/// What the writer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    lines: Waiting,
    /// Open the file again.
    pub(super) reopen: bool,
    /// Write what there is now, and say so.
    pub(super) flush: bool,
    /// No more lines come.
    pub(super) end: bool,
}

/// The lines that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    #[default]
    None,
    Some,
    /// So many that they are written at once.
    Many,
}

impl Queue {
    pub(super) fn new(target: LogTarget, shards: usize, all_dropped: Arc<AtomicU64>) -> Self {
        Self {
            target,
            buffers: (0..shards).map(|_| Buffer::default()).collect(),
            state: Mutex::default(),
            wake: Condvar::new(),
            flushed: Condvar::new(),
            dropped: AtomicU64::new(0),
            all_dropped,
            opened: Instant::now(),
            reported: AtomicU64::new(0),
        }
    }

    pub(super) fn push(&self, shard: usize, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = lock(&self.buffers[shard].0);
        let start = buffer.len();
        if buffer.capacity() == 0 {
            // Once for each of the two that the writer swaps.
            buffer.reserve_exact(WAKE_BYTES);
        }
        write(&mut buffer);
        let end = buffer.len();
        if end > BUFFER_BYTES_MAX {
            buffer.truncate(start);
            drop(buffer);
            return self.count_dropped(now);
        }
        drop(buffer);
        if start < WAKE_BYTES && end >= WAKE_BYTES {
            self.tell(|signal| signal.lines = Waiting::Many);
        } else if start == 0 {
            self.tell(|signal| signal.lines = signal.lines.max(Waiting::Some));
        }
    }

    /// Lines of this file that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts lines that were dropped. Returns how many there are by now.
    pub(super) fn add_dropped(&self, lines: u64) -> u64 {
        self.all_dropped.fetch_add(lines, Ordering::Relaxed);
        self.dropped.fetch_add(lines, Ordering::Relaxed) + lines
    }

    #[cold]
    fn count_dropped(&self, now: Instant) {
        let lines = self.add_dropped(1);
        let now = now.saturating_duration_since(self.opened).as_secs() + 1;
        let last = self.reported.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= last + REPORT_EVERY;
        let exchange = |ordering| {
            self.reported
                .compare_exchange(last, now, ordering, ordering)
        };
        if is_due && exchange(Ordering::Relaxed).is_ok() {
            tracing::error!(
                path = %self.target,
                lines,
                "the access log loses lines, since they cannot be written in time: is the disk \
                 full or slow, or the pipe not read?"
            );
        }
    }

    /// Takes the lines of all shards: each of `taken`, which are empty, takes the place of one.
    pub(super) fn take(&self, taken: &mut [Vec<u8>]) {
        for (taken, buffer) in taken.iter_mut().zip(&self.buffers) {
            mem::swap(taken, &mut lock(&buffer.0));
        }
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut lock(&self.state).told);
        self.wake.notify_one();
    }

    pub(super) fn begin_flush(&self) {
        let mut state = lock(&self.state);
        state.told.flush = true;
        state.is_unflushed = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until there is something to do, and for more lines if that is writing a few.
    pub(super) fn wait(&self) -> Signal {
        let is_idle = |state: &mut State| state.told == Signal::default();
        let state = self.wake.wait_while(lock(&self.state), is_idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        self.take_signal(state, LINES_WAIT, Signal::is_only_some_lines)
    }

    /// Waits for `pause`, or until there is something to do besides writing.
    pub(super) fn wait_before_retry(&self, pause: Duration) -> Signal {
        let waits = |told: Signal| !(told.reopen || told.flush || told.end);
        self.take_signal(lock(&self.state), pause, waits)
    }

    fn take_signal(
        &self,
        state: MutexGuard<'_, State>,
        wait: Duration,
        waits: impl Fn(Signal) -> bool,
    ) -> Signal {
        let waits = |state: &mut State| waits(state.told);
        let waited = self.wake.wait_timeout_while(state, wait, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut state.told)
    }

    /// Reports that lines were written, or cannot be.
    pub(super) fn report_flush(&self) {
        lock(&self.state).is_unflushed = false;
        self.flushed.notify_all();
    }

    /// Reports the end of the writer.
    pub(super) fn report_end(&self) {
        lock(&self.state).is_over = true;
        self.flushed.notify_all();
    }

    pub(super) fn wait_for_flush(&self, deadline: Instant) {
        self.wait_until(deadline, |state| !state.is_unflushed || state.is_over);
    }

    pub(super) fn wait_for_end(&self, deadline: Instant) {
        self.wait_until(deadline, |state| state.is_over);
    }

    fn wait_until(&self, deadline: Instant, is_done: impl Fn(&State) -> bool) {
        let wait = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| !is_done(state);
        // A poisoned lock is fine: every state is valid.
        let _ = self
            .flushed
            .wait_timeout_while(lock(&self.state), wait, waits);
    }
}

impl Signal {
    fn is_only_some_lines(self) -> bool {
        let lines = Self {
            lines: Waiting::Some,
            ..Self::default()
        };
        self == lines
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
