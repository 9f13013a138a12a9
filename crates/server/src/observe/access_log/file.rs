//! The files of the logs, and the buffers of lines in front of them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_config::LogTarget;

use super::open::{OpenError, open};
use super::queue::{Queue, lock};
use super::writer::Writer;

/// How long the lines are counted that are lost at the end.
const COUNT_TIME: Duration = Duration::from_millis(200);

/// The files of all logs. One that several sites name is opened once, and so is one that the next
/// configuration names, too.
pub(crate) struct LogFiles {
    /// The number of shards.
    shards: usize,
    files: Mutex<Vec<Known>>,
    dropped: Arc<AtomicU64>,
}

/// A file that is open, or was. Only configurations keep it open.
struct Known {
    file: Weak<LogFile>,
    queue: Arc<Queue>,
}

/// The file of a log, with a thread that writes to it. Dropping it ends the thread, which writes
/// the lines that wait first.
pub(super) struct LogFile(Arc<Queue>);

impl LogFiles {
    /// None yet. `shards` is the number of cores that write.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards,
            files: Mutex::default(),
            dropped: Arc::default(),
        }
    }

    /// The number of lines of all files that were dropped.
    pub(crate) fn lines_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The file of `target`, opened unless it is.
    pub(super) fn open(&self, target: &LogTarget) -> Result<Arc<LogFile>, OpenError> {
        let mut files = lock(&self.files);
        files.retain(|known| known.file.strong_count() > 0);
        let known = files.iter().find(|known| known.queue.target == *target);
        if let Some(file) = known.and_then(|known| known.file.upgrade()) {
            return Ok(file);
        }
        let file = LogFile::open(target, self.shards, &self.dropped);
        let file = Arc::new(file.map_err(|cause| OpenError {
            target: target.to_string(),
            cause,
        })?);
        files.push(Known {
            file: Arc::downgrade(&file),
            queue: Arc::clone(&file.0),
        });
        Ok(file)
    }

    /// Opens all files again, each on its own thread.
    pub(crate) fn reopen(&self) {
        let files = lock(&self.files);
        for known in &*files {
            known.queue.tell(|signal| signal.reopen = true);
        }
        if files.is_empty() {
            tracing::warn!("USR1: there are no log files to open again");
        }
    }

    /// Ends the log: waits until all lines are written or cannot be, at most for `wait`, then lets
    /// the threads count and tell what is lost.
    pub(crate) fn finish(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let files = lock(&self.files);
        for known in &*files {
            known.queue.begin_flush();
        }
        for known in &*files {
            known.queue.wait_for_flush(deadline);
        }
        for known in &*files {
            known.queue.tell(|signal| signal.end = true);
        }
        // A thread that waits for the disk itself cannot count.
        let deadline = Instant::now() + COUNT_TIME;
        for known in &*files {
            known.queue.wait_for_end(deadline);
        }
    }
}

impl LogFile {
    fn open(target: &LogTarget, shards: usize, all_dropped: &Arc<AtomicU64>) -> io::Result<Self> {
        let file = open(target)?;
        let queue = Arc::new(Queue::new(target.clone(), shards, Arc::clone(all_dropped)));
        let writer = Writer::new(Arc::clone(&queue), file, shards)?;
        let thread = thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run())?;
        Ok(Self(queue))
    }

    /// Appends what `write` appends to the lines of a shard, or drops it. `now` is about the
    /// current time.
    pub(super) fn push(&self, shard: usize, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(shard, now, write);
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.0.tell(|signal| signal.end = true);
    }
}
