//! The limits of the process, and each shard's share of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_config::Settings;
use tidegate_sendfile::{LATE_FILES_MAX, PoolConfig, pages_of_user};

use crate::error::Error;
use crate::host::budget::Budget;
use crate::observe::admin_listener;

/// Descriptors that belong to no connection: rings, eventfds, listeners, logs, and some to answer
/// with when the others are in use.
const RESERVED_PER_SHARD: usize = 24;

/// Descriptors of a site: its root, a new root while it replaces the old one, and the directory
/// from which paths are resolved.
const SITE_FDS: usize = 3;

/// Descriptors of a pipe.
const PIPE_FDS: usize = 2;

/// Larger pipes are made smaller before there are fewer of them.
const PIPE_BYTES_USUAL: usize = 256 << 10;

/// The least descriptors of a shard beside the reserved: a pipe, and a connection with its file.
const SHARD_MIN: usize = PIPE_FDS + 2;

/// Bytes of a shard that are not divided: rings, the executor. Receive buffers come on top.
const SHARD_BYTES: u64 = 4 << 20;

/// Bytes of an open file, including the kernel's.
const OPEN_FILE_BYTES: u64 = 4096;

/// Bytes of a connection, including the kernel's.
const CONNECTION_BYTES: u64 = 8192;

/// The least connections of a shard, however little memory there is.
const CONNECTIONS_MIN: usize = 64;

/// The least bytes that the connections of a shard may hold.
const HELD_BYTES_MIN: u64 = 1 << 20;

/// The part of a shard's memory that one socket may hold for a client that takes nothing.
const SEND_SHARE: u64 = 16_384;

/// Less would cost much for each byte: the socket has to be filled again each time.
const SEND_BYTES_MIN: u64 = 128 << 10;

/// More a socket never holds (`net.ipv4.tcp_wmem`, by default).
const SEND_BYTES_MAX: u64 = 4 << 20;

/// A shard's share of the process's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResourceShare {
    pub(crate) connections: usize,
    pub(crate) open_files: usize,
    pub(crate) pipes: usize,
    /// Bytes of small files in memory.
    pub(crate) hot_bytes: u64,
    /// Bytes of each pipe.
    pub(crate) pipe_bytes: usize,
    /// Bytes that its connections may hold.
    pub(crate) held_bytes: u64,
    /// Bytes that a socket may hold for a client that takes nothing.
    pub(crate) send_bytes: u64,
}

impl ResourceShare {
    /// The configured share, before the limits of the host.
    pub(crate) fn wanted(settings: &Settings) -> Self {
        Self {
            connections: settings.limits.connections_per_core,
            open_files: settings.cache.open_files_per_core,
            pipes: settings.io.pipes_per_core,
            hot_bytes: settings.cache.hot_bytes_per_core,
            pipe_bytes: settings.io.pipe_size,
            held_bytes: u64::MAX,
            send_bytes: SEND_BYTES_MAX,
        }
    }
}

impl ResourceShare {
    /// Whether anything that is configured is less than in `wanted`.
    pub(crate) fn is_less_than(self, wanted: Self) -> bool {
        let (held_bytes, send_bytes) = (wanted.held_bytes, wanted.send_bytes);
        let configured = Self {
            held_bytes,
            send_bytes,
            ..self
        };
        configured != wanted
    }
}

/// Raises the soft limits of descriptors and locked memory to the hard ones. Where that fails, an
/// error follows only if the soft limit is too small.
pub(crate) fn raise() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let Rlimit { maximum, .. } = getrlimit(resource);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(resource, raised) {
            tracing::debug!(?resource, %error, "the soft limit stays as it is");
        }
    }
}

/// Each shard's share for `settings`, lowered to fit the limits of the process.
pub(crate) fn share(
    settings: &Settings,
    budget: &Budget,
    shards: usize,
) -> Result<ResourceShare, Error> {
    let share = by_descriptors(settings, shards)?;
    Ok(by_memory(share, settings, budget, shards))
}

/// Each shard's share for `settings`, lowered to fit RLIMIT_NOFILE.
pub(crate) fn by_descriptors(settings: &Settings, shards: usize) -> Result<ResourceShare, Error> {
    let descriptors = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
    let admin = if settings.admin.listen.is_empty() {
        0
    } else {
        admin_listener::DESCRIPTORS
    };
    let needed = admin + (reserved(settings) + SHARD_MIN) * shards;
    if descriptors < needed {
        return Err(Error::Descriptors {
            limit: descriptors,
            needed,
        });
    }
    let share = divide(settings, (descriptors - admin) / shards);
    if share.connections < settings.limits.connections_per_core {
        tracing::info!(
            connections_per_core = share.connections,
            open_files_per_core = share.open_files,
            "lowered to fit RLIMIT_NOFILE ({descriptors})"
        );
    }
    Ok(share)
}

/// `share`, lowered to fit the budget.
fn by_memory(
    share: ResourceShare,
    settings: &Settings,
    budget: &Budget,
    shards: usize,
) -> ResourceShare {
    let fitted = fit_memory(share, settings, budget.bytes, shards);
    if fitted.is_less_than(share) {
        tracing::info!(
            hot_bytes_per_core = fitted.hot_bytes,
            connections_per_core = fitted.connections,
            open_files_per_core = fitted.open_files,
            pipes_per_core = fitted.pipes,
            pipe_size = fitted.pipe_bytes,
            "lowered to fit {budget}"
        );
    }
    fitted
}

/// The bytes of `budget` that each of `shards` shards divides.
fn divided(settings: &Settings, budget: u64, shards: usize) -> u64 {
    let received = u64::from(settings.io.recv_buffers) * settings.io.recv_buffer_size as u64;
    let budget = budget - origin_bytes(settings, budget);
    (budget / shards as u64).saturating_sub(SHARD_BYTES + received)
}

/// The bytes of `budget` for objects of origins, if any site has them: they have threads of their
/// own.
pub(crate) fn origin_bytes(settings: &Settings, budget: u64) -> u64 {
    let has_origins = settings.sites.iter().any(|site| !site.origins.is_empty());
    if has_origins { budget / 8 } else { 0 }
}

/// Files in memory get at most three eighths of the memory, with the quarter more that slow clients
/// may hold of popular ones; connections get a quarter, open files and pipes an eighth each. The
/// rest is for the kernel, such as its page cache. Pipes are made smaller, down to 256 KiB, before
/// there are fewer of them.
pub(crate) fn fit_memory(
    share: ResourceShare,
    settings: &Settings,
    budget: u64,
    shards: usize,
) -> ResourceShare {
    let each = divided(settings, budget, shards);
    let count = |bytes: u64, size: u64| usize::try_from(bytes / size).unwrap_or(usize::MAX);
    let held_bytes = (each / 4).max(HELD_BYTES_MIN);
    let connections = count(each / 4, CONNECTION_BYTES).max(CONNECTIONS_MIN);
    let mut pipe_bytes = share.pipe_bytes;
    while pipe_bytes > PIPE_BYTES_USUAL && count(each / 8, pipe_bytes as u64) < share.pipes {
        pipe_bytes /= 2;
    }
    let pipes = count(each / 8, pipe_bytes as u64).max(1);
    ResourceShare {
        connections: share.connections.min(connections),
        open_files: share.open_files.min(count(each / 8, OPEN_FILE_BYTES)),
        pipes: share.pipes.min(pipes),
        pipe_bytes,
        held_bytes,
        send_bytes: (each / SEND_SHARE).clamp(SEND_BYTES_MIN, SEND_BYTES_MAX),
        hot_bytes: share.hot_bytes.min(each / 10 * 3),
    }
}

/// The pipes of one of `shards` shards.
pub(crate) fn pool_config(settings: &Settings, share: ResourceShare, shards: usize) -> PoolConfig {
    PoolConfig {
        pipe_bytes: share.pipe_bytes,
        pipes_max: share.pipes,
        pages_max: pages_of_user(shards),
        cold_max: settings.io.cold_workers as usize,
    }
}

/// Pipes get at most an eighth of the descriptors, cached files a quarter, connections the rest.
///
/// A response holds its file open after the cache has dropped it, so many large files at once can
/// use more descriptors than that: then lookups are answered with 503 and accepting rests.
fn divide(settings: &Settings, descriptors: usize) -> ResourceShare {
    let free = descriptors.saturating_sub(reserved(settings));
    let pipes = settings.io.pipes_per_core.min(free / 8 / PIPE_FDS).max(1);
    let open_files = settings.cache.open_files_per_core.min(free / 4);
    let rest = free.saturating_sub(pipes * PIPE_FDS + open_files);
    ResourceShare {
        connections: settings.limits.connections_per_core.min(rest).max(1),
        open_files,
        pipes,
        ..ResourceShare::wanted(settings)
    }
}

/// Each shard's descriptors that belong to no connection.
fn reserved(settings: &Settings) -> usize {
    let late = settings.io.drop_behind.map_or(0, |_| LATE_FILES_MAX);
    RESERVED_PER_SHARD + late + SITE_FDS * settings.sites.len()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The receive buffers of a shard.
    const RECEIVED: u64 = 4 << 20;

    #[test]
    fn a_share_fits_the_descriptors() {
        let settings = Settings::for_directory(PathBuf::from("."));
        for descriptors in [32, 64, 100, 1024, 20_000, 1 << 20] {
            let share = divide(&settings, descriptors);
            let used = share.connections + share.open_files + share.pipes * PIPE_FDS;
            assert!(
                used + reserved(&settings) <= descriptors.max(reserved(&settings) + SHARD_MIN),
                "{share:?}"
            );
            assert!(share.connections > 0 && share.pipes > 0, "{share:?}");
        }
    }

    #[test]
    fn plenty_of_descriptors_leave_the_configured_limits() {
        let settings = Settings::for_directory(PathBuf::from("."));
        assert_eq!(divide(&settings, 1 << 20), ResourceShare::wanted(&settings));
    }

    #[test]
    fn a_share_fits_the_memory() {
        let settings = Settings::for_directory(PathBuf::from("."));
        let wanted = ResourceShare::wanted(&settings);
        for (limit, shards) in [(64, 1), (64, 2), (256, 1), (256, 8), (1024, 2)] {
            let limit = limit << 20;
            let share = fit_memory(wanted, &settings, limit, shards);
            let used = share.hot_bytes * 5 / 4
                + share.connections as u64 * CONNECTION_BYTES
                + share.open_files as u64 * OPEN_FILE_BYTES
                + (share.pipes * share.pipe_bytes) as u64
                + SHARD_BYTES
                + RECEIVED;
            assert!(
                used * shards as u64 <= limit,
                "{shards} in {limit}: {share:?}"
            );
            assert!(share.hot_bytes > 1 << 20, "{share:?}");
        }
    }

    #[test]
    fn plenty_of_memory_leaves_the_configured_limits() {
        let settings = Settings::for_directory(PathBuf::from("."));
        let wanted = ResourceShare::wanted(&settings);
        let share = fit_memory(wanted, &settings, 64 << 30, 2);
        assert!(!share.is_less_than(wanted), "{share:?}");
        assert!(share.held_bytes > 7 << 30, "{share:?}");
    }

    #[test]
    fn hardly_any_memory_leaves_a_server_that_serves() {
        let settings = Settings::for_directory(PathBuf::from("."));
        let wanted = ResourceShare::wanted(&settings);
        let share = fit_memory(wanted, &settings, 1 << 20, 4);
        assert_eq!(share.connections, CONNECTIONS_MIN);
        assert_eq!((share.pipes, share.hot_bytes), (1, 0));
    }

    #[test]
    fn files_that_are_given_back_late_have_room() {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        let before = reserved(&settings);
        settings.io.drop_behind = Some(1 << 24);
        assert_eq!(reserved(&settings), before + LATE_FILES_MAX);
    }
}
