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
mod output;
mod serve;
mod shell;
mod show;
mod usage;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;

use crate::cli::{Cli, Command};
use crate::output::chain;

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
