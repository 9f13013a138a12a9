//! Says that a test does not run here, which plain `cargo test` shows too.

use std::fmt::Display;
use std::io::{self, Write};
use std::thread;

/// Says that the test of this thread, or the rest of it, is skipped, and why.
///
/// Not by `println!` or `eprintln!`: what these print libtest keeps for a test that fails. The
/// crates' own tests include this file.
pub(crate) fn skipped(reason: impl Display) {
    let thread = thread::current();
    // With one thread for all tests it is the main one, and the line before has the name.
    let test = thread.name().filter(|name| *name != "main");
    let line = format!("skipped: {}: {reason}\n", test.unwrap_or("a test"));
    // One write, since tests run side by side.
    let _ = io::stderr().write_all(line.as_bytes());
}
