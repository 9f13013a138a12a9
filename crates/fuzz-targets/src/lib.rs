//! What fuzzing asserts of the parsers and state machines that do no I/O.
//!
//! A target is a function of any bytes, which panics where a property does not hold: a parsed range
//! lies within its file, a value that is written and parsed again is the same, and how received
//! bytes are cut decides nothing. `fuzz/` makes a program of each (`scripts/fuzz.sh` runs them),
//! and a test of this crate calls them with the files in `fuzz/corpus` and `fuzz/regressions`.
//!
//! Only public interfaces are used.

mod conditional;
mod config;
mod cuts;
mod forwarded;
mod glob;
mod h1_connection;
mod h1_head;
mod h2_connection;
mod h2_frames;
mod hpack;
mod negotiate;
mod proxy_header;
mod range;
mod request;
mod target;
mod tls_handshake;
mod tls_records;

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those of their programs and directories.
pub const TARGETS: [(&str, Target); 15] = [
    ("conditional", conditional::check),
    ("config", config::check),
    ("forwarded", forwarded::check),
    ("glob", glob::check),
    ("h1_connection", h1_connection::check),
    ("h1_head", h1_head::check),
    ("h2_connection", h2_connection::check),
    ("h2_frames", h2_frames::check),
    ("hpack", hpack::check),
    ("negotiate", negotiate::check),
    ("proxy_header", proxy_header::check),
    ("range", range::check),
    ("target", target::check),
    ("tls_handshake", tls_handshake::check),
    ("tls_records", tls_records::check),
];

/// Calls the target `name`, for a program that has it alone.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(other, _)| *other == name);
    let (_, check) = target.expect("a target of this name");
    check(data);
}
