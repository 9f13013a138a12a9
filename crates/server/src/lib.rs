//! The server: one shard for each core, nothing shared between them on the way of a request.
//!
//! ```text
//!  run (main thread)      binds every address once for each core, starts the shards, waits for
//!    |                    signals and for shards that end
//!    +-- admin            health, readiness and metrics, on a thread of its own
//!    +-- shard, core 0 -- executor, op ring, pipes, caches, deadlines
//!    |     +-- listener   accepts, within the limits
//!    |     +-- connection one task each: requests in, responses out
//!    |     |     +-- handshake of a TLS listener, before the first request
//!    |     |     +-- link      the socket, or the records of TLS on it (secure)
//!    |     |     +-- answer    head and file to the bytes of a response, without waiting
//!    |     |     +-- look_up   what is not known yet, then the answer
//!    |     |     +-- send      bytes from memory, files by sendfile, listings
//!    |     +-- deadlines  ends connections that are over their time
//!    +-- shard, core 1 ...
//! ```

mod accept;
mod clock;
mod config;
mod connection;
mod context;
mod control;
mod error;
mod event;
mod host;
#[cfg(test)]
mod no_allocation_test;
mod observe;
mod respond;
mod signals;
mod supervisor;
#[cfg(test)]
mod testing;
mod timeouts;
mod transport;
mod worker;

pub use error::Error;
pub use host::diagnose::{CERTIFICATE, Diagnostic, diagnose, lacks_index};
pub use host::report::{Finding, Found, survey};
pub use supervisor::{Address, run};
