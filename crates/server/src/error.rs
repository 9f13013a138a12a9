//! Errors that keep the server from starting, or end it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::accept::address::SocketAddress;
use crate::config::credentials::CredentialsError;
use crate::observe::access_log::OpenError;
use crate::privilege::IdentityError;

/// An error that kept the server from starting, or ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// io_uring is missing, or lacks a feature.
    #[error("io_uring cannot be used")]
    Uring(#[source] tidegate_uring::Error),
    /// This process may not run on a core of the list.
    #[error("core {core} is not available: this process may run on {available}")]
    Core {
        /// As configured.
        core: usize,
        /// The cores of the process, as a list.
        available: String,
    },
    /// More cores are configured than the process may run on.
    #[error("{count} cores are configured, and this process may run on {available} only")]
    CoreCount {
        /// As configured.
        count: usize,
        /// How many the process may run on.
        available: usize,
    },
    /// Too few descriptors to run at all.
    #[error(
        "RLIMIT_NOFILE is too small: {limit} descriptors, and {needed} are needed for this many \
         cores: raise it with `ulimit -n` or LimitNOFILE=, or use fewer cores"
    )]
    Descriptors {
        /// The limit in force.
        limit: usize,
        /// The minimum for the configured cores.
        needed: usize,
    },
    /// Too little memory may be locked to run at all.
    #[error(
        "RLIMIT_MEMLOCK is {} for io_uring on this many cores ({cores}): it is {limit} bytes for \
         all processes of this user together; {least} are needed at least and {wanted} for queues \
         of full length: raise it with `ulimit -l`, LimitMEMLOCK= or --ulimit memlock=, or use \
         fewer cores",
        if limit < least { "too small" } else { "used up by other processes of this user" }
    )]
    LockedMemory {
        /// The limit in force, in bytes.
        limit: u64,
        /// The number of cores.
        cores: usize,
        /// The minimum for these cores, in bytes.
        least: u64,
        /// Bytes for queues of full length.
        wanted: u64,
    },
    /// The cores of the process could not be read.
    #[error("cannot tell which cores this process may run on (sched_getaffinity)")]
    NoCores,
    /// The cache for the objects of origins cannot be used.
    #[error("cannot use the cache of origins (cache.disk)")]
    Cache(#[source] tidegate_origin::OpenError),
    /// The authorities for an origin cannot be read.
    #[error("cannot read the authorities of an origin, {}: {reason}", path.display())]
    Authorities {
        /// The file, as configured.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be spoken to origins.
    #[error("cannot speak TLS to origins")]
    OriginTls(#[source] rustls::Error),
    /// The secret of the fleet cannot be used.
    #[error("fleet.token: {0}")]
    FleetToken(String),
    /// The address for peers cannot be listened on.
    #[error("fleet.listen: cannot listen on {address}{}", remedy(.address, .source))]
    ListenForPeers {
        /// As configured.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A host name has no address, or an address has a wrong form.
    #[error("cannot resolve {address}")]
    Resolve {
        /// As configured.
        address: String,
        /// The error of the resolver.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}{}", remedy(.address, .source))]
    Listen {
        /// As configured.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A socket of the service manager is not one to listen on.
    #[error(
        "socket {number} of those that the service manager passed (LISTEN_FDS) is no stream socket \
         that listens: a .socket unit for tidegate has ListenStream= only"
    )]
    PassedSocket {
        /// Its number among them, from 0.
        number: usize,
        /// The cause.
        source: io::Error,
    },
    /// The service manager passed a socket for an address without a section.
    #[error(
        "the service manager passed a socket for {address} (LISTEN_FDS), and no section [[listen]] \
         has it: write address = \"{address}\" in one, or take it out of the .socket unit"
    )]
    UnclaimedSocket {
        /// The socket's address.
        address: SocketAddress,
    },
    /// The process that started this one for an upgrade did not hand over.
    #[error("nothing was handed over by the process that is to be replaced")]
    Predecessor(#[source] io::Error),
    /// A listener cannot speak TLS with the files that are configured.
    #[error(transparent)]
    Tls(#[from] tidegate_tls::Error),
    /// A file of credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The file with the token of the admin listener cannot be used.
    #[error("admin.token: {0}")]
    AdminToken(#[from] tidegate_access::TokenError),
    /// The directory cannot be served.
    #[error(transparent)]
    Root(#[from] tidegate_site::RootError),
    /// A part of a shard could not be set up.
    #[error("shard {shard}: cannot {operation}")]
    Shard {
        /// The shard's number, from 0.
        shard: usize,
        /// The operation that failed.
        operation: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shard ended without being told to.
    #[error("shard {shard} died: {reason}; no part of the server goes on without it")]
    ShardDied {
        /// The shard's number, from 0.
        shard: usize,
        /// The message of its panic, or another cause.
        reason: String,
    },
    /// A shard has not answered for the time of `server.watchdog`.
    #[error(
        "shard {shard} made no progress for {}s (server.watchdog): its thread is in {thread}; the \
         process ends, for what started it to start it anew",
        .time.as_secs()
    )]
    ShardStalled {
        /// The shard's number, from 0.
        shard: usize,
        /// For how long.
        time: Duration,
        /// The state of its thread (proc(5)).
        thread: String,
    },
    /// An access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// The thread of the admin listener could not be started.
    #[error("cannot start the thread of the admin listener")]
    AdminThread(#[source] io::Error),
    /// The control socket cannot be made.
    #[error("server.control: cannot listen on {}{}", path.display(), socket_remedy(source))]
    Control {
        /// As configured.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The thread that opens the roots could not be started.
    #[error("cannot start the thread that opens the roots")]
    OpenThread(#[source] io::Error),
    /// The thread that reads how much memory is used could not be started.
    #[error("cannot start the thread that reads how much memory is used")]
    MemoryThread(#[source] io::Error),
    /// The thread that reads certificates again could not be started.
    #[error("cannot start the thread that reads certificates again")]
    CertificatesThread(#[source] io::Error),
    /// `server.user` cannot be taken on.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The kernel has landlock and does not take the rules.
    #[error(
        "cannot bound the files that the server reaches (sandbox.landlock = false goes without)"
    )]
    Landlock(#[source] landlock::RulesetError),
    /// The kernel has seccomp and does not take the filter.
    #[error("cannot bound the system calls of the server (sandbox.seccomp = false goes without)")]
    Seccomp(#[source] seccompiler::Error),
    /// The thread that waits for the launcher's end could not be started.
    #[error("cannot start the thread that waits for the launcher's end")]
    LauncherThread(#[source] io::Error),
    /// Signals cannot be received.
    #[error("cannot set up signal handling")]
    Signals(#[source] io::Error),
}

/// The remedy for an address that cannot be listened on.
fn remedy(address: &str, error: &io::Error) -> &'static str {
    if address.starts_with("unix:") {
        return socket_remedy(error);
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process or section [[listen]] has it: stop that one or choose another port)"
        }
        io::ErrorKind::PermissionDenied => {
            " (a port below net.ipv4.ip_unprivileged_port_start needs root or CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this host has it)",
        _ => "",
    }
}

/// The remedy for a Unix socket that cannot be listened on.
fn socket_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens on it: stop that one or choose another path)"
        }
        io::ErrorKind::AlreadyExists => {
            " (a file that is no socket has its place: remove it or choose another path)"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            " (make its directory, for example with systemd's RuntimeDirectory=)"
        }
        io::ErrorKind::PermissionDenied => {
            " (this user must be able to write to its directory, and only root gives it to another \
             user)"
        }
        _ => "",
    }
}
