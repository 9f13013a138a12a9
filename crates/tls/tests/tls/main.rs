//! The crate from outside: full handshakes with rustls as the client, in memory.

mod bad_input;
mod certificates;
mod handshakes;
mod kit;
mod reload;
mod sessions;
#[path = "../../../../tests/support/skip.rs"]
mod skip;
