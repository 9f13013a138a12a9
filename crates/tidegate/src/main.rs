//! The tidegate binary: the command line, and the exit status it ends with.
//!
//! 0: a clean stop, or nothing wrong; 1: refused to start, or something is
//! wrong; 2: wrong usage (clap's own).

mod check;
mod cli;
mod compress;
mod doctor;
mod inspect;
mod line_queue;
mod log;
mod serve;
mod shell;
mod show;
mod usage;

use std::error::Error;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::Parser;
use tidegate_config::visible;
use tikv_jemallocator::Jemalloc;

use crate::cli::{Cli, Command};

/// Keeps small and large allocations apart: among paths that stay, bodies of all sizes come and go, and the C
/// library's heap grew with that for as long as it was watched. What it is told at build time is in
/// .cargo/config.toml.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let status = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(error) => usage::refuse(error),
    };
    log::finish();
    status
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(args) => status(serve::directory(args)),
        Command::Run(args) => match args.config.named() {
            Some(file) => status(serve::from_file(&file, args.overrides)),
            None => usage::refuse(usage::no_file("run")),
        },
        Command::Check(args) => match args.config.named() {
            Some(file) => check::check(&file),
            None => usage::refuse(usage::no_file("check")),
        },
        Command::Config(args) => status(show::effective(args)),
        Command::Compress(args) => status(compress::directory(&args)),
        Command::Doctor(args) => {
            doctor::examine(&args).unwrap_or_else(|error| failure(error.as_ref()))
        }
    }
}

fn status(result: Result<(), Box<dyn Error>>) -> ExitCode {
    result.map_or_else(|error| failure(error.as_ref()), |()| ExitCode::SUCCESS)
}

/// Says on standard error what went wrong.
fn failure(error: &(dyn Error + 'static)) -> ExitCode {
    for line in chain(error).lines() {
        log::say(&format!("tidegate: {line}"));
    }
    ExitCode::FAILURE
}

/// Prints what a command is for. A reader that has read enough is no error (`| head -1`).
fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// The error and its causes, outermost first: `CONTEXT: CAUSE`, in text that is safe to print.
fn chain(error: &(dyn Error + 'static)) -> String {
    let errors = iter::successors(Some(error), |&error| error.source());
    let levels: Vec<String> = errors.map(ToString::to_string).collect();
    let text = levels.join(": ");
    let lines: Vec<String> = text.lines().map(visible).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Level(&'static str, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|level| level as _)
        }
    }

    #[test]
    fn each_level_of_an_error_is_said_once() {
        let cause = Box::new(Level("permission denied", None));
        assert_eq!(chain(cause.as_ref()), "permission denied");
        let error = Level("cannot listen on port 80", Some(cause));
        assert_eq!(chain(&error), "cannot listen on port 80: permission denied");
        assert_eq!(
            chain(&Level("a\u{1b}\nb\u{202e}", None)),
            "a\\u{1b}\nb\\u{202e}"
        );
    }
}
