//! The server: one worker for each core, and no state that a request shares with another core.
//!
//! Each layer uses those below it and none above it:
//!
//! ```text
//!  supervisor      the main thread: binds all addresses, starts a worker on each core, passes
//!    |             signals on, waits for the end of the workers
//!  worker          one core: starts its ring and context, accepts, drains when told to stop
//!    |
//!  accept          listeners, the accept loop of each, and the limit on connections
//!    |
//!  connection      one task for each: requests in, responses out
//!    |
//!  respond         from a request to a response: from memory at once, else by a lookup; bodies
//!    |
//!  publish         what a core publishes for scrapes
//!    |
//!  context         what the tasks of a core share; knows no listener and no connection
//!    |
//!  config          the snapshot: settings, and the sites that were opened for them
//!    |
//!  host            cores, limits of the process and their shares, faults of a configuration
//!    |
//!  observe         health, metrics and their listener, heartbeats of the workers
//!    |
//!  transport       sockets with or without TLS, the ring and its pipes, certificates
//!  timeouts        when a connection's time is over
//!  rates           which clients are too slow
//!  clients         what each client uses, over all cores
//! ```
//!
//! "Shard" is the word of the docs and logs for a worker with all that it owns.

mod accept;
mod clients;
mod clock;
mod config;
mod connection;
mod context;
mod control;
mod error;
mod event;
mod frame_buffer;
mod host;
mod launcher;
mod memory;
#[cfg(test)]
mod no_allocation_test;
mod observe;
mod privilege;
mod publish;
mod rates;
mod relief;
mod respond;
mod signals;
#[cfg(test)]
mod simulated_test;
mod supervisor;
#[cfg(test)]
mod testing;
mod throttle;
mod timeouts;
mod transport;
mod update;
mod worker;

pub use accept::address::{Address, SocketAddress};
pub use accept::report::listen_report;
pub use config::report::origin_report;
pub use error::Error;
pub use host::diagnose::{ACCESS_LOG, CERTIFICATE, Diagnostic, diagnose, lacks_index};
pub use host::finding::{Finding, Verdict};
pub use host::report::{file_report, host_report};
pub use launcher::COMMAND as LAUNCHER_COMMAND;
pub use privilege::{Confined, IdentityError, Reach, confine, unpermitted};
pub use signals::Signals;
pub use supervisor::handover::Inheritance;
pub use supervisor::launched::launcher;
pub use supervisor::reload::{Configuration, Reread};
pub use supervisor::start::run;
pub use update::Unprepared;
