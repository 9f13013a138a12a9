//! The files of the logs, and the buffers of lines in front of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags, access};
use tidegate_config::LogTarget;

use super::writer::Writer;

/// The most bytes of lines that wait on each core; as many may be in the hands of the writer.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// From this many bytes on a core's lines are written at once.
const WAKE_BYTES: usize = 64 << 10;

/// How long lines wait for more of them.
const LINES_WAIT: Duration = Duration::from_millis(500);

/// The mode of new files.
const MODE: u32 = 0o640;

/// How often dropped lines are reported, in seconds.
const REPORT_EVERY: u64 = 60;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {target}: {cause}{}", remedy(.cause))]
pub struct OpenError {
    /// As the configuration writes it.
    target: String,
    // Not its source: it is part of the text.
    cause: io::Error,
}

/// The files of all logs. One that several sites name is opened once, and stays open when the
/// configuration is replaced.
pub(crate) struct LogFiles {
    /// The number of shards.
    shards: usize,
    files: Mutex<Vec<Arc<LogFile>>>,
    dropped: Arc<AtomicU64>,
}

/// The file of a log, with a thread that writes to it. Dropping it ends the thread, which writes
/// the lines that wait first.
pub(super) struct LogFile(Arc<Queue>);

/// The lines of a file, on their way from the cores to the thread that writes them.
pub(super) struct Queue {
    pub(super) target: LogTarget,
    buffers: Box<[Buffer]>,
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes [`LogFiles::flush`].
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
}

/// What the writer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// There are lines.
    has_lines: bool,
    /// There are many of them.
    is_urgent: bool,
    /// Open the file again.
    pub(super) reopen: bool,
    /// Write what there is now, and say so.
    pub(super) flush: bool,
    /// No more lines come.
    pub(super) end: bool,
}

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

    /// The file of `target`, opened unless it is. Files that no configuration uses are closed.
    pub(super) fn open(&self, target: &LogTarget) -> Result<Arc<LogFile>, OpenError> {
        let mut files = lock(&self.files);
        files.retain(|file| file.0.target == *target || Arc::strong_count(file) > 1);
        if let Some(known) = files.iter().find(|file| file.0.target == *target) {
            return Ok(Arc::clone(known));
        }
        let file = LogFile::open(target, self.shards, &self.dropped);
        let file = Arc::new(file.map_err(|cause| OpenError {
            target: target.to_string(),
            cause,
        })?);
        files.push(Arc::clone(&file));
        Ok(file)
    }

    /// Opens all files again, each on its own thread.
    pub(crate) fn reopen(&self) {
        let files = lock(&self.files);
        for file in &*files {
            file.0.tell(|signal| signal.reopen = true);
        }
        if files.is_empty() {
            tracing::warn!("USR1: there are no log files to open again");
        }
    }

    /// Waits until all lines so far are written or cannot be, at most for `wait`.
    pub(crate) fn flush(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let files = lock(&self.files);
        for file in &*files {
            file.0.begin_flush();
        }
        for file in &*files {
            file.0.wait_for_flush(deadline);
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

impl Queue {
    fn new(target: LogTarget, shards: usize, all_dropped: Arc<AtomicU64>) -> Self {
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

    fn push(&self, shard: usize, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = lock(&self.buffers[shard].0);
        let start = buffer.len();
        write(&mut buffer);
        let end = buffer.len();
        if end > BUFFER_BYTES_MAX {
            buffer.truncate(start);
            drop(buffer);
            return self.count_dropped(now);
        }
        drop(buffer);
        if start < WAKE_BYTES && end >= WAKE_BYTES {
            self.tell(|signal| signal.is_urgent = true);
        } else if start == 0 {
            self.tell(|signal| signal.has_lines = true);
        }
    }

    #[cold]
    fn count_dropped(&self, now: Instant) {
        self.all_dropped.fetch_add(1, Ordering::Relaxed);
        let lines = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
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

    fn tell(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut lock(&self.state).told);
        self.wake.notify_one();
    }

    fn begin_flush(&self) {
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
        self.take_signal(state, LINES_WAIT, Signal::has_only_lines)
    }

    /// Waits for `pause`, or until there is something to do besides writing.
    pub(super) fn wait_before_retry(&self, pause: Duration) -> Signal {
        let waits = |told: &Signal| !(told.reopen || told.flush || told.end);
        self.take_signal(lock(&self.state), pause, waits)
    }

    fn take_signal(
        &self,
        state: MutexGuard<'_, State>,
        wait: Duration,
        waits: impl Fn(&Signal) -> bool,
    ) -> Signal {
        let waits = |state: &mut State| waits(&state.told);
        let waited = self.wake.wait_timeout_while(state, wait, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut state.told)
    }

    /// Reports that lines were written, or cannot be.
    pub(super) fn report_flush(&self) {
        lock(&self.state).is_unflushed = false;
        self.flushed.notify_all();
    }

    fn wait_for_flush(&self, deadline: Instant) {
        let wait = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| state.is_unflushed;
        // A poisoned lock is fine: every state is valid.
        let _ = self
            .flushed
            .wait_timeout_while(lock(&self.state), wait, waits);
    }
}

impl Signal {
    fn has_only_lines(&self) -> bool {
        let lines = Self {
            has_lines: true,
            ..Self::default()
        };
        *self == lines
    }
}

/// Opens `target` to append to it. A named pipe is opened for reading, too: so it needs no reader,
/// and its reader may go and come back (fifo(7)). Neither a pipe nor a device is waited for.
pub(super) fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        LogTarget::Off => Err(io::ErrorKind::InvalidInput.into()),
        LogTarget::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        LogTarget::Stderr => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        LogTarget::File(path) => options(path).create(true).mode(MODE).open(path),
    }
}

fn options(path: &Path) -> OpenOptions {
    let is_pipe = path
        .metadata()
        .is_ok_and(|known| known.file_type().is_fifo());
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .append(true)
        .read(is_pipe)
        .custom_flags(flags.bits() as i32);
    options
}

/// Checks whether this process could open `target`, without making it. Blocking.
///
/// # Errors
///
/// As when it is opened.
pub(crate) fn probe(target: &LogTarget) -> Result<(), OpenError> {
    let LogTarget::File(path) = target else {
        return Ok(());
    };
    let opened = match options(path).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => probe_directory(path),
        opened => opened.map(drop),
    };
    opened.map_err(|cause| OpenError {
        target: target.to_string(),
        cause,
    })
}

/// Checks whether a file can be made at `path`.
fn probe_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

impl OpenError {
    /// Whether another user might be able to.
    pub(crate) fn is_permission(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

/// The remedy for a file that cannot be opened.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (its directory must exist)",
        io::ErrorKind::PermissionDenied => {
            " (the user of the server must be able to write to it, or to its directory)"
        }
        io::ErrorKind::IsADirectory => " (it is a directory: name a file in it)",
        io::ErrorKind::ReadOnlyFilesystem => " (name a path on a file system that can be written)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (make room, or name another path)"
        }
        _ => "",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
