//! Logs: to standard error, chosen by `RUST_LOG`.
//!
//! Nothing here waits for standard error: lines go through a [`LineQueue`], and so do the messages
//! of panics and the error that ends the process, once [`start`] was called.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate_config::shown;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::line_queue::LineQueue;

/// How long the process waits for standard error when it ends.
const END_WAIT: Duration = Duration::from_secs(1);

static QUEUE: LineQueue = LineQueue::new();

static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Sets up logs for the whole process: level info unless `RUST_LOG` says
/// otherwise, colours only on a terminal. To be called once.
pub(crate) fn start() -> io::Result<()> {
    // A descriptor of its own, since a write to `io::stderr()` that stalls holds a lock.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writer = thread::Builder::new().name("log".to_owned());
    writer.spawn(move || QUEUE.write_to(out, tell_dropped))?;
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
        // It would be told on standard error, where it may wait, or panic.
        .log_internal_errors(false)
        .init();
    for directive in unknown {
        let directive = shown(directive);
        tracing::warn!("RUST_LOG: `{directive}` is no directive: ignored");
    }
    Ok(())
}

/// How many lines of the log were dropped because standard error did not take those before.
pub(crate) fn lines_dropped() -> &'static AtomicU64 {
    QUEUE.dropped()
}

/// Says `line` on standard error, whatever the level of logs.
pub(crate) fn say(line: &str) {
    if IS_STARTED.load(Ordering::Relaxed) {
        QUEUE.push(format!("{line}\n").as_bytes());
    } else {
        // Where standard error is gone the exit status still tells.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Waits for lines to be written before the process ends, for a second at the most.
pub(crate) fn finish() {
    if IS_STARTED.load(Ordering::Relaxed) {
        QUEUE.flush(END_WAIT);
    }
}

fn tell_dropped(lines: u64) {
    tracing::error!(
        lines,
        "the log lost lines: standard error did not take them in time"
    );
}

/// What the standard library says of a panic, without its wait for standard error.
fn say_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    say(&format!(
        "thread '{}' {panic}",
        thread.name().unwrap_or("?")
    ));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        say(&backtrace.to_string());
    }
    // It may be the last that the process says.
    finish();
}

/// The directives of `text` as [`EnvFilter`] takes them, and what it does not.
fn directives(text: &str) -> (Vec<&str>, Vec<&str>) {
    let directives = text.split(',').map(str::trim);
    directives
        .filter(|directive| !directive.is_empty())
        .partition(|directive| directive.parse::<Directive>().is_ok())
}

/// Writes an event, which comes as one piece, to the queue.
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
