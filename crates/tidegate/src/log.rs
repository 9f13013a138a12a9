//! The log on standard error, filtered by `RUST_LOG`.
//!
//! Logging never waits for standard error: lines go through a [`LineQueue`], and after [`start`] so
//! do panic messages and the error that ends the process.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidegate_config::shown;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::line_queue::LineQueue;

/// How long the process waits for standard error at its end.
const END_WAIT: Duration = Duration::from_secs(1);

/// The same for poll(2).
const END_TIMEOUT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

static QUEUE: LineQueue = LineQueue::new();

static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Whether a thread writes the lines.
static IS_WRITTEN: AtomicBool = AtomicBool::new(false);

/// Sets up the log of the process: level info unless `RUST_LOG` is set, colours only on a terminal.
/// Call it once. Lines wait until [`write()`] or [`finish`].
pub(crate) fn start() {
    IS_STARTED.store(true, Ordering::Relaxed);
    panic::set_hook(Box::new(say_panic));
    let text = env::var_os("RUST_LOG").unwrap_or_default();
    let text = text.to_string_lossy();
    let (known, unknown) = directives(&text);
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(known.join(","));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        .with_ansi(io::stderr().is_terminal())
        // They would go to standard error, where a write can block or panic.
        .log_internal_errors(false)
        .init();
    for directive in unknown {
        let directive = shown(directive);
        tracing::warn!("RUST_LOG: `{directive}` is no directive: ignored");
    }
}

/// Starts the thread that writes the lines, if it was not started.
pub(crate) fn write() -> io::Result<()> {
    if IS_WRITTEN.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let started = start_writer();
    IS_WRITTEN.store(started.is_ok(), Ordering::Relaxed);
    started
}

fn start_writer() -> io::Result<()> {
    // A duplicate, because a stalled write to `io::stderr()` holds its lock.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writer = thread::Builder::new().name("log".to_owned());
    writer.spawn(move || QUEUE.write_to(out, tell_dropped))?;
    Ok(())
}

/// The number of log lines that were dropped because standard error stalled.
pub(crate) fn lines_dropped() -> &'static AtomicU64 {
    QUEUE.dropped()
}

/// Prints `line` on standard error, whatever the log level.
pub(crate) fn say(line: &str) {
    if IS_STARTED.load(Ordering::Relaxed) {
        QUEUE.push(format!("{line}\n").as_bytes());
    } else {
        // If standard error is closed, the exit status remains.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Waits for queued lines at the end of the process, at most a second.
pub(crate) fn finish() {
    if !IS_STARTED.load(Ordering::Relaxed) {
        return;
    }
    match write() {
        Ok(()) => QUEUE.flush(END_WAIT),
        // No thread can be started, which is what the lines say, mostly.
        Err(_) => write_here(&QUEUE.drain()),
    }
}

/// Writes lines without a thread, as far as standard error takes them within a second each time.
fn write_here(lines: &[u8]) {
    let mut stderr = io::stderr();
    // A pipe that is ready takes so much without a wait (pipe(7)).
    for piece in lines.chunks(rustix::pipe::PIPE_BUF) {
        let is_ready = poll(
            &mut [PollFd::new(&stderr, PollFlags::OUT)],
            Some(&END_TIMEOUT),
        );
        if !is_ready.is_ok_and(|count| count > 0) || stderr.write_all(piece).is_err() {
            // The exit status remains.
            return;
        }
    }
}

fn tell_dropped(lines: u64) {
    tracing::error!(
        lines,
        "the log lost lines: standard error did not take them in time"
    );
}

/// Prints a panic as the standard library's hook does, but through the queue. One of the main thread
/// ends the process: without it nobody stops the shards, and what unwinding drops may wait for them.
fn say_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("?");
    say(&format!("thread '{name}' {panic}"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        say(&backtrace.to_string());
    }
    // It may be the last message of the process.
    finish();
    if name == "main" {
        process::exit(1);
    }
}

/// The directives of `text` that [`EnvFilter`] accepts, and those that it refuses.
fn directives(text: &str) -> (Vec<&str>, Vec<&str>) {
    let directives = text.split(',').map(str::trim);
    directives
        .filter(|directive| !directive.is_empty())
        .partition(|directive| directive.parse::<Directive>().is_ok())
}

/// Writes an event to the queue; each write is a whole event.
struct Lines;

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        QUEUE.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_that_are_none_are_told_apart() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &[]),
            ("debug", &["debug"], &[]),
            (
                "info, tidegate_server=trace,",
                &["info", "tidegate_server=trace"],
                &[],
            ),
            ("warn,a=b=c,=", &["warn"], &["a=b=c", "="]),
        ];
        for (text, known, unknown) in rows {
            assert_eq!(
                directives(text),
                (known.to_vec(), unknown.to_vec()),
                "{text}"
            );
        }
    }
}
