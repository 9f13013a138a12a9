//! The tidegate binary: runs the command and returns its exit status.
//!
//! 0: a clean stop, or no problem found; 1: refused to start, or a problem found; 2: wrong usage
//! (clap's own).

mod admin_client;
mod check;
mod cli;
mod compress;
mod doctor;
mod generate;
mod inspect;
mod line_queue;
mod log;
mod output;
mod publish;
mod purge;
mod reload;
mod serve;
mod shell;
mod show;
mod sign;
mod signals;
mod usage;
mod warm;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::output::chain;

/// Separates small and large allocations. Long-lived paths lie between bodies of all sizes that
/// come and go, and this fragmented the heap of the C library, which grew without end. Its build
/// options are in .cargo/config.toml.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let status = match Cli::of(env::args_os()) {
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
        Command::Reload(args) => match args.config.named() {
            Some(file) => status(reload::reload(&file)),
            None => usage::refuse(usage::no_file("reload")),
        },
        Command::Config(args) => status(show::effective(&args)),
        Command::Purge(args) => status(purge::purge(&args)),
        Command::Warm(args) => status(warm::warm(&args)),
        Command::Sign(args) => status(sign::sign(&args)),
        Command::Compress(args) => status(compress::directory(&args)),
        Command::Publish(args) => status(publish::directory(&args)),
        Command::Generate(args) => {
            status(generate::files(&args, Cli::command()).map_err(Into::into))
        }
        Command::Launcher => status(tidegate_server::launcher().map_err(Into::into)),
        Command::Doctor(args) => {
            doctor::examine(&args).unwrap_or_else(|error| failure(error.as_ref()))
        }
    }
}

fn status(result: Result<(), Box<dyn Error>>) -> ExitCode {
    result.map_or_else(|error| failure(error.as_ref()), |()| ExitCode::SUCCESS)
}

/// Prints an error on standard error.
fn failure(error: &(dyn Error + 'static)) -> ExitCode {
    for line in chain(error).lines() {
        log::say(&format!("tidegate: {line}"));
    }
    ExitCode::FAILURE
}
