//! End to end: the real binary, on a port of its own, over real sockets.
//!
//! One test binary with a module for each subject, so that all tests share the machine's cores. Every
//! test makes its own directory tree and starts its own server, which is killed when the test ends.
//! Nothing asserts that something is fast: where a test waits, its limit only tells "never" apart from
//! "late", and ends the test instead of hanging it.

mod bad_input;
mod changing_files;
mod cli;
mod connections;
mod files;
mod lifecycle;
mod limits;
mod refusals;
mod support;
mod zeros;
