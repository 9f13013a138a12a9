//! What the process may use, and each shard's share of it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_config::Settings;
use tidegate_sendfile::LATE_FILES_MAX;

use crate::admin_listener;
use crate::error::Error;

/// Descriptors that belong to no connection: rings, eventfds, listeners, logs, and some to answer
/// with when all the rest are gone.
const RESERVED_PER_SHARD: usize = 24;

/// Descriptors of a site: its root, the one that takes its place when it was swapped, and what paths
/// are resolved from.
const SITE_FDS: usize = 3;

/// Descriptors of a pipe.
const PIPE_FDS: usize = 2;

/// The fewest a shard runs with beside those reserved: a pipe and a connection with its file.
const SHARD_MIN: usize = PIPE_FDS + 2;

/// A shard's share of the process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) connections: usize,
    pub(crate) open_files: usize,
    pub(crate) pipes: usize,
}

impl Share {
    /// What a shard has where there is enough.
    pub(crate) fn wanted(settings: &Settings) -> Self {
        Self {
            connections: settings.limits.connections_per_core,
            open_files: settings.cache.open_files_per_core,
            pipes: settings.io.pipes_per_core,
        }
    }
}

/// Raises the soft limits that the server lives by to the hard ones. Where that fails the soft
/// one stays, and what it is too small for says so.
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

/// Each shard's share for `settings`, lowered to fit RLIMIT_NOFILE.
pub(crate) fn share(settings: &Settings, shards: usize) -> Result<Share, Error> {
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

/// Pipes get at most an eighth of the descriptors, cached files a quarter, connections the rest.
///
/// A response holds its file open though the cache has let it go, so many different large files
/// at once can take more than that: then lookups are answered with 503 and accepting rests.
fn divide(settings: &Settings, descriptors: usize) -> Share {
    let free = descriptors.saturating_sub(reserved(settings));
    let pipes = settings.io.pipes_per_core.min(free / 8 / PIPE_FDS).max(1);
    let open_files = settings.cache.open_files_per_core.min(free / 4);
    let rest = free.saturating_sub(pipes * PIPE_FDS + open_files);
    Share {
        connections: settings.limits.connections_per_core.min(rest).max(1),
        open_files,
        pipes,
    }
}

/// Each shard's descriptors that are for no connection.
fn reserved(settings: &Settings) -> usize {
    let late = settings.io.drop_behind.map_or(0, |_| LATE_FILES_MAX);
    RESERVED_PER_SHARD + late + SITE_FDS * settings.sites.len()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

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
        assert_eq!(divide(&settings, 1 << 20), Share::wanted(&settings));
    }

    #[test]
    fn files_that_are_given_back_late_have_room() {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        let before = reserved(&settings);
        settings.io.drop_behind = Some(1 << 24);
        assert_eq!(reserved(&settings), before + LATE_FILES_MAX);
    }
}
