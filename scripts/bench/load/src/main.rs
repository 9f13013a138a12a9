//! The load generator of `scripts/bench/compare.sh`.
//!
//! One thread drives every connection with nonblocking sockets and epoll, so
//! that the client fits on one core and is not the bottleneck of a server that
//! fits on another. Each command prints one JSON object on standard output.
//!
//! `get` measures small or large requests in a closed loop, or at a fixed rate
//! in an open one, with bulk readers or readers of cold files beside them if
//! wished; `idle` measures what a
//! connection costs while nothing or little happens on it; `check` compares a
//! response with the file it should be; `tree` makes a tree of files for a
//! mixed trace; `evict` drops files from the page cache.

mod arrivals;
mod check;
mod cli;
mod connection;
mod error;
mod evict;
mod get;
mod idle;
mod output;
mod pacer;
mod plan;
mod poller;
mod response;
mod tls;
mod tree;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::Result;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let report = match cli.command {
        Command::Get(options) => get::run(&options)?,
        Command::Idle(options) => idle::run(&options)?,
        Command::Tree(options) => tree::run(&options)?,
        Command::Check(options) => check::run(&options)?,
        Command::Evict(options) => evict::run(&options)?,
    };
    output::print(&cli.labels, report)
}
