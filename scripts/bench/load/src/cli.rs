//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Drives an HTTP/1.1 server and prints one JSON object of what it saw.
#[derive(Debug, Parser)]
#[command(name = "tidegate-load", version)]
pub(crate) struct Cli {
    /// A field to add to the JSON object, as NAME=VALUE.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label, global = true)]
    pub(crate) labels: Vec<(String, String)>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures requests on keep-alive connections: in a closed loop, or at a
    /// fixed rate.
    Get(GetOptions),
    /// Measures memory and CPU time of connections that do nothing or little.
    Idle(IdleOptions),
    /// Makes a tree of files with the sizes of a CDN's.
    Tree(TreeOptions),
    /// Compares a response, byte for byte, with the file it should be.
    Check(CheckOptions),
    /// Drops files from the page cache.
    Evict(EvictOptions),
}

/// Where the server is and what is asked of it.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The server's address.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: SocketAddr,

    /// The request target.
    #[arg(long, value_name = "/PATH")]
    pub(crate) path: String,

    /// Speak TLS with a server whose certificate is in this PEM file: TLS 1.3
    /// with AES-128-GCM and X25519, nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct GetOptions {
    #[command(flatten)]
    pub(crate) target: Target,

    /// Connections that are measured.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) connections: usize,

    /// Requests per second, in turn on each connection, instead of a closed loop.
    /// A latency counts from when a request was due, also if it had to wait for
    /// the one before.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(conflicts_with_all = ["depth", "churn"])]
    pub(crate) rate: Option<u64>,

    /// The Content-Length that every measured response must have.
    #[arg(long, value_name = "BYTES")]
    pub(crate) length: Option<u64>,

    /// The status that every measured response must have.
    #[arg(long, value_name = "CODE", default_value_t = 200)]
    pub(crate) status: u16,

    /// Requests in one send; the next ones follow when all are answered.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) depth: usize,

    /// A connection for each request, which the server is asked to close.
    #[arg(long, conflicts_with = "depth")]
    pub(crate) churn: bool,

    /// Resume a session with each connection, instead of a full handshake.
    #[arg(long, requires = "tls")]
    pub(crate) resume: bool,

    /// Ask only for what has changed, by the `ETag` that the server gave, or the
    /// Last-Modified where it gave none.
    #[arg(long, conflicts_with = "tls")]
    pub(crate) conditional: bool,

    /// The list of a tree made by `tree`: its files are asked for by Zipf's law;
    /// the path is then where the tree is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["length", "conditional"])]
    pub(crate) trace: Option<PathBuf>,

    /// Seconds to run before the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub(crate) warmup: f64,

    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) seconds: f64,

    /// Let the kernel drop bodies (`MSG_TRUNC`) instead of copying them.
    #[arg(long)]
    pub(crate) discard: bool,

    /// The server's CPU counter: cpuacct.usage (v1) or cpu.stat (v2).
    #[arg(long, value_name = "FILE")]
    pub(crate) cpu: Option<PathBuf>,

    /// A path that a further connection reads without pause; repeatable.
    #[arg(long, value_name = "/PATH")]
    pub(crate) beside: Vec<String>,

    /// The path that rate-limited readers read.
    #[arg(long, value_name = "/PATH", default_value = "/")]
    pub(crate) bulk_path: String,

    /// Rate-limited readers beside the closed loop.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) bulk_readers: usize,

    /// Bytes per second that each of them reads.
    #[arg(long, value_name = "BYTES", default_value_t = 40_000_000)]
    pub(crate) bulk_rate: u64,
}

#[derive(Debug, Args)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) target: Target,

    /// Connections to hold open.
    #[arg(long, value_name = "N")]
    pub(crate) connections: usize,

    /// Idle seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) seconds: f64,

    /// The server's CPU counter: cpuacct.usage (v1) or cpu.stat (v2).
    #[arg(long, value_name = "FILE")]
    pub(crate) cpu: PathBuf,

    /// The cgroup.procs file that lists the server's processes.
    #[arg(long, value_name = "FILE")]
    pub(crate) processes: PathBuf,

    /// A file that is under way on every connection, instead of nothing.
    #[arg(long, value_name = "/PATH")]
    pub(crate) download: Option<String>,

    /// Bytes of it that each connection takes every 50 ms; none if 0.
    #[arg(long, value_name = "BYTES", default_value_t = 0, requires = "download")]
    pub(crate) sip: usize,
}

#[derive(Debug, Args)]
pub(crate) struct TreeOptions {
    /// The directory, which must not be there yet.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// What the files have together, at least.
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The file that the body must equal.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Seconds to keep trying to connect.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(crate) wait: f64,
}

#[derive(Debug, Args)]
pub(crate) struct EvictOptions {
    /// Files, or directories of files; what is dirty in them is written first.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse::<NonZeroUsize>()
        .map(NonZeroUsize::get)
        .map_err(|error| error.to_string())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn labels_split_at_the_first_equals_sign() {
        assert_eq!(parse_label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_label("a").is_err());
    }
}
