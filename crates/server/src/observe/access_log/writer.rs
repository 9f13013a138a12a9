//! The thread that writes the lines of a log to its file.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::LogTarget;

use super::open::{open, remedy};
use super::queue::Queue;

/// The pause after a write that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// The pause after `EAGAIN`, until a pipe has room.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// How often failed writes are reported.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// A buffer keeps at most this much memory once its lines are written.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Writes the lines of one log, in its own thread: only this waits for the disk or the pipe.
pub(super) struct Writer {
    queue: Arc<Queue>,
    file: File,
    /// Whether the file has a name that could be removed.
    is_regular: bool,
    taken: Taken,
    /// When the failure of a write was reported last.
    reported: Option<Instant>,
    is_failing: bool,
    /// When it was reported last that lines are written again.
    recovered: Option<Instant>,
    /// The number of dropped lines that was told.
    told_dropped: u64,
    /// Lines are written for a flush.
    is_flushing: bool,
}

/// Lines that are being written: a buffer of each shard.
struct Taken {
    buffers: Vec<Vec<u8>>,
    /// The buffer that is being written.
    index: usize,
    /// Bytes of it that were written.
    written: usize,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, file: File, shards: usize) -> io::Result<Self> {
        Ok(Self {
            is_regular: file.metadata()?.is_file(),
            queue,
            file,
            taken: Taken {
                buffers: vec![Vec::new(); shards],
                index: 0,
                written: 0,
            },
            reported: None,
            is_failing: false,
            recovered: None,
            told_dropped: 0,
            is_flushing: false,
        })
    }

    /// Writes lines until no more come. Those that cannot be written then are lost.
    pub(super) fn run(mut self) {
        let mut pause = None;
        loop {
            let told = match pause {
                None => self.queue.wait(),
                Some(pause) => self.queue.wait_before_retry(pause),
            };
            if told.reopen {
                self.reopen();
            }
            self.is_flushing |= told.flush;
            let result = self.write_all();
            let is_full = matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock);
            if !is_full && mem::take(&mut self.is_flushing) {
                self.queue.report_flush();
            }
            if told.end {
                self.count_unwritten();
                return self.queue.report_end();
            }
            pause = self.pause_after(result);
        }
    }

    /// The pause before the lines that were not written are tried again.
    fn pause_after(&mut self, result: io::Result<()>) -> Option<Duration> {
        match result {
            Ok(()) => {
                self.report_recovery();
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(FULL_PAUSE),
            Err(error) => {
                self.report(&error);
                Some(FAILED_PAUSE)
            }
        }
    }

    fn report(&mut self, error: &io::Error) {
        self.is_failing = true;
        if self
            .reported
            .is_some_and(|last| last.elapsed() < REPORT_EVERY)
        {
            return;
        }
        self.reported = Some(Instant::now());
        tracing::error!(
            path = %self.queue.target,
            %error,
            "cannot write the access log; the server serves on{}",
            remedy(error)
        );
    }

    /// Reports that lines are written again, with the number of those lost meanwhile. A pipe that is
    /// read too slowly may recover many times in a second: that is told once in a while.
    fn report_recovery(&mut self) {
        let dropped = self.queue.dropped();
        let lost = dropped - self.told_dropped;
        let is_due = |last: Instant| last.elapsed() >= REPORT_EVERY;
        if self.is_failing || (lost > 0 && self.recovered.is_none_or(is_due)) {
            self.is_failing = false;
            self.told_dropped = dropped;
            self.recovered = Some(Instant::now());
            let path = &self.queue.target;
            tracing::info!(%path, lost, "the access log is written again");
        }
    }

    /// Counts the lines that are lost since the log ends.
    fn count_unwritten(&mut self) {
        let mut lines = self.taken.lines();
        self.taken.clear();
        self.queue.take(&mut self.taken.buffers);
        lines += self.taken.lines();
        if lines > 0 {
            self.queue.add_dropped(lines);
        }
        let lost = self.queue.dropped() - self.told_dropped;
        if lost > 0 {
            let path = &self.queue.target;
            tracing::error!(%path, lost, "the access log ends, and lines of it are lost");
        }
    }

    /// Writes what was taken, then what came meanwhile.
    fn write_all(&mut self) -> io::Result<()> {
        self.write_taken()?;
        self.queue.take(&mut self.taken.buffers);
        self.write_taken()
    }

    fn write_taken(&mut self) -> io::Result<()> {
        if self.taken.rest().is_some() {
            self.look()?;
        }
        while let Some(lines) = self.taken.rest() {
            match self.file.write(lines) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.taken.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.taken.clear();
        Ok(())
    }

    /// Opens the file again if it was removed, since nobody could read what is written to it.
    fn look(&mut self) -> io::Result<()> {
        if self.is_regular && self.file.metadata()?.nlink() == 0 {
            let file = open(&self.queue.target)?;
            self.replace(file)?;
        }
        Ok(())
    }

    /// Opens the file again; goes on with the old one if that fails.
    fn reopen(&mut self) {
        if !matches!(self.queue.target, LogTarget::File(_)) {
            return;
        }
        let opened = open(&self.queue.target).and_then(|file| self.replace(file));
        match opened {
            Ok(()) => tracing::info!(path = %self.queue.target, "opened the access log again"),
            Err(error) => tracing::error!(
                path = %self.queue.target,
                %error,
                "cannot open the access log again, going on with the open file{}",
                remedy(&error)
            ),
        }
    }

    /// Goes on with `file`, with a whole line unless it is the same one.
    fn replace(&mut self, file: File) -> io::Result<()> {
        let id = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        if id(&self.file)? != id(&file)? {
            self.taken.rewind_to_line();
        }
        self.is_regular = file.metadata()?.is_file();
        self.file = file;
        Ok(())
    }
}

impl Taken {
    /// The next bytes to write; `None` if there are none.
    fn rest(&mut self) -> Option<&[u8]> {
        while self.written >= self.buffers.get(self.index)?.len() {
            self.index += 1;
            self.written = 0;
        }
        Some(&self.buffers[self.index][self.written..])
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
    }

    /// Goes back to the start of a line that was written in part.
    fn rewind_to_line(&mut self) {
        let Some(buffer) = self.buffers.get(self.index) else {
            return;
        };
        let written = &buffer[..self.written.min(buffer.len())];
        let end = written.iter().rposition(|byte| *byte == b'\n');
        self.written = end.map_or(0, |end| end + 1);
    }

    /// The lines that are not written to their end.
    fn lines(&self) -> u64 {
        let unwritten = self.buffers.iter().skip(self.index);
        let ends = unwritten.enumerate().map(|(number, buffer)| {
            let written = if number == 0 { self.written } else { 0 };
            let rest = buffer.get(written..).unwrap_or_default();
            rest.split(|byte| *byte == b'\n').count().saturating_sub(1) as u64
        });
        ends.sum()
    }

    /// Empties the buffers once all is written.
    fn clear(&mut self) {
        (self.index, self.written) = (0, 0);
        for buffer in &mut self.buffers {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(buffers: &[&str]) -> Taken {
        Taken {
            buffers: buffers
                .iter()
                .map(|text| text.as_bytes().to_vec())
                .collect(),
            index: 0,
            written: 0,
        }
    }

    #[test]
    fn buffers_are_written_in_turn() {
        let mut taken = taken(&["", "ab\ncd\n", "", "ef\n"]);
        assert_eq!(taken.rest(), Some(&b"ab\ncd\n"[..]));
        taken.advance(4);
        assert_eq!(taken.rest(), Some(&b"d\n"[..]));
        assert_eq!(taken.lines(), 2);
        taken.advance(2);
        assert_eq!(taken.rest(), Some(&b"ef\n"[..]));
        assert_eq!(taken.lines(), 1);
        taken.advance(3);
        assert_eq!(taken.rest(), None);
        taken.clear();
        assert_eq!(taken.rest(), None);
        assert!(taken.buffers.iter().all(Vec::is_empty));
    }

    #[test]
    fn another_file_begins_with_a_whole_line() {
        for (written, rest) in [(0, "ab\ncd\n"), (2, "ab\ncd\n"), (3, "cd\n"), (5, "cd\n")] {
            let mut taken = taken(&["ab\ncd\n"]);
            taken.advance(written);
            taken.rewind_to_line();
            assert_eq!(taken.rest(), Some(rest.as_bytes()), "{written}");
        }
        let mut all = taken(&["ab\n"]);
        all.advance(3);
        all.rewind_to_line();
        assert_eq!(all.rest(), None);
    }
}
