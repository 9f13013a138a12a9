//! A bounded queue of lines that a dedicated thread writes to a descriptor.
//!
//! To push a line only appends it in memory. A stalled, full or broken descriptor blocks the writer
//! thread only; lines that do not fit into the queue are dropped and counted.

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most bytes in the queue; as many may be in the hands of the writer.
const BYTES_MAX: usize = 1 << 20;

/// The pause after a failed write, in which a full disk may get room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pause after `EAGAIN`, where the descriptor is nonblocking.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(10);

pub(crate) struct LineQueue {
    state: Mutex<State>,
    /// Wakes the writer: there are lines, or it should retry.
    work: Condvar,
    /// Wakes [`LineQueue::flush`]: a batch is written, or a write failed.
    progress: Condvar,
    dropped: AtomicU64,
}

struct State {
    lines: Vec<u8>,
    /// The writer is writing a batch.
    is_writing: bool,
    /// The last write failed and was not retried yet.
    is_failing: bool,
}

impl LineQueue {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: Vec::new(),
                is_writing: false,
                is_failing: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// The number of lines that did not fit.
    pub(crate) fn dropped(&self) -> &AtomicU64 {
        &self.dropped
    }

    /// Queues a line, which ends in a line feed, or drops it. Does not wait for a write.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > BYTES_MAX {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        drop(state);
        if is_first {
            self.work.notify_one();
        }
    }

    /// Waits until all lines are written or a write fails, at most for `wait`.
    pub(crate) fn flush(&self, wait: Duration) {
        let mut state = self.lock();
        state.is_failing = false;
        self.work.notify_one();
        let waits =
            |state: &mut State| !state.is_failing && (state.is_writing || !state.lines.is_empty());
        // A poisoned lock is fine: every state is valid.
        let _ = self.progress.wait_timeout_while(state, wait, waits);
    }

    /// Takes the queued lines, where nobody writes them.
    pub(crate) fn drain(&self) -> Vec<u8> {
        mem::take(&mut self.lock().lines)
    }

    /// Writes queued lines to `out`, for ever. Once writing works again, `report_dropped` is called
    /// with the number of lines that were dropped since its last call; it may push a line.
    pub(crate) fn write_to(&self, mut out: impl Write, report_dropped: impl Fn(u64)) {
        let mut reported = 0;
        loop {
            let lines = self.take();
            // The previous batch is written, so the queue has room.
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > reported {
                report_dropped(dropped - reported);
                reported = dropped;
            }
            self.write(&mut out, &lines);
        }
    }

    /// Waits for the next batch; the previous one is written.
    fn take(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.is_writing = false;
        self.progress.notify_all();
        while state.lines.is_empty() {
            let waited = self.work.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        mem::take(&mut state.lines)
    }

    /// Writes all of `lines`, with retries.
    fn write(&self, out: &mut impl Write, mut lines: &[u8]) {
        while !lines.is_empty() {
            match out.write(lines) {
                Ok(count @ 1..) => lines = &lines[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(FULL_RETRY_AFTER);
                }
                Ok(0) | Err(_) => self.rest(),
            }
        }
    }

    /// Waits before the retry of a failed write.
    fn rest(&self) {
        let mut state = self.lock();
        state.is_failing = true;
        self.progress.notify_all();
        let waited = self
            .work
            .wait_timeout_while(state, RETRY_AFTER, |state| state.is_failing);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_failing = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// A descriptor whose writes the test scripts; it sends the written bytes to the test.
    struct Out {
        results: Receiver<io::Result<usize>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.results.recv() {
                Ok(result) => result?.min(bytes.len()),
                Err(_) => bytes.len(),
            };
            // The test may have dropped the receiver.
            let _ = self.taken.send(bytes[..count].to_vec());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose writes follow the sender, and succeed once it is dropped.
    fn queue() -> (
        &'static LineQueue,
        Sender<io::Result<usize>>,
        Receiver<Vec<u8>>,
    ) {
        let queue: &'static LineQueue = Box::leak(Box::new(LineQueue::new()));
        let (sender, results) = channel();
        let (taken, receiver) = channel();
        thread::spawn(move || {
            let tell = |count| queue.push(format!("{count} dropped\n").as_bytes());
            queue.write_to(Out { results, taken }, tell);
        });
        (queue, sender, receiver)
    }

    fn text(taken: &Receiver<Vec<u8>>) -> String {
        let pieces: Vec<Vec<u8>> = taken.try_iter().collect();
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let (queue, results, taken) = queue();
        for result in [
            Ok(2),
            Err(ErrorKind::Interrupted),
            Err(ErrorKind::WouldBlock),
            Ok(1),
        ] {
            results.send(result.map_err(io::Error::from)).unwrap();
        }
        queue.push(b"first\n");
        queue.push(b"second\n");
        drop(results);
        queue.flush(LONG);
        assert_eq!(text(&taken), "first\nsecond\n");
        assert_eq!(queue.dropped().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_write_that_failed_is_made_up_for() {
        for failure in [
            Err(ErrorKind::StorageFull),
            Err(ErrorKind::BrokenPipe),
            Ok(0),
        ] {
            let (queue, results, taken) = queue();
            results.send(Ok(3)).unwrap();
            results.send(failure.map_err(io::Error::from)).unwrap();
            queue.push(b"first\n");
            // Returns because of the failure.
            queue.flush(LONG);
            assert_eq!(text(&taken), "fir");
            queue.push(b"second\n");
            drop(results);
            queue.flush(LONG);
            assert_eq!(text(&taken), "first\nsecond\n"[3..]);
        }
    }

    #[test]
    fn what_does_not_fit_while_writes_stall_is_counted_and_told() {
        let (queue, results, taken) = queue();
        queue.push(b"stalls\n");
        while !queue.lock().is_writing {
            thread::yield_now();
        }
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let (kept, dropped) = (BYTES_MAX / line.len(), 100);
        for _ in 0..kept + dropped {
            queue.push(&line);
        }
        assert_eq!(queue.dropped().load(Ordering::Relaxed), dropped as u64);
        assert!(queue.lock().lines.len() <= BYTES_MAX);
        queue.flush(Duration::from_millis(1));
        assert_eq!(text(&taken), "");
        drop(results);
        queue.flush(LONG);
        let written = text(&taken);
        assert!(written.starts_with("stalls\n"));
        assert_eq!(written.matches('\n').count(), 1 + kept + 1);
        assert!(written.ends_with(&format!("\n{dropped} dropped\n")));
    }
}
