//! The memory that the process may take, and what it takes of it.

use std::fmt;
use std::fs;
use std::path::Path;

use tidegate_config::Settings;

use crate::host::cgroup::{self, Group};

/// The memory that the process may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    source: Source,
    /// The cgroup that limits it, too.
    group: Option<Group>,
}

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `limits.memory`.
    Key,
    Cgroup,
    /// Half of what the host has: the kernel needs the rest, for its sockets and for files.
    Host,
    /// The host does not tell.
    Unknown,
}

/// What is used of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
}

impl Budget {
    /// That of `settings` on this host. Blocking, but never for long.
    pub(crate) fn find(settings: &Settings) -> Self {
        Self::of(settings.limits.memory, Path::new("/"))
    }

    /// One that is never used up.
    #[cfg(test)]
    pub(crate) fn unlimited() -> Self {
        Self::of(None, Path::new("/nowhere"))
    }

    fn of(key: Option<u64>, root: &Path) -> Self {
        let host = host_bytes(root);
        let is_less = |group: &Group| host.is_none_or(|host| group.limit < host);
        let group = cgroup::memory_limit(root).filter(is_less);
        let (bytes, source) = match (key, &group, host) {
            (Some(key), Some(group), _) if group.limit < key => (group.limit, Source::Cgroup),
            (Some(key), ..) => (key, Source::Key),
            (None, Some(group), _) => (group.limit, Source::Cgroup),
            (None, None, Some(host)) => (host / 2, Source::Host),
            (None, None, None) => (u64::MAX, Source::Unknown),
        };
        Self {
            bytes,
            source,
            group,
        }
    }

    /// What is used of it, and of the limit of the cgroup. Blocking, but never for long.
    pub(crate) fn uses(&self) -> impl Iterator<Item = Use> {
        let of_group = self.group.as_ref().and_then(|group| {
            Some(Use {
                bytes: group.used()?,
                bytes_max: group.limit,
            })
        });
        let is_own = matches!(self.source, Source::Key | Source::Host);
        let own = is_own.then(process_bytes).flatten().map(|bytes| Use {
            bytes,
            bytes_max: self.bytes,
        });
        of_group.into_iter().chain(own)
    }

    /// How to have more.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.source {
            Source::Key => "raise limits.memory",
            Source::Cgroup => "raise the limit of the cgroup (memory.max, MemoryMax=, --memory)",
            Source::Host | Source::Unknown => {
                "set limits.memory, if the host has nothing else to do"
            }
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes;
        match self.source {
            Source::Key => write!(f, "limits.memory ({bytes} bytes)"),
            Source::Cgroup => write!(f, "the memory limit of the cgroup ({bytes} bytes)"),
            Source::Host => write!(f, "half of the memory of the host ({bytes} bytes)"),
            Source::Unknown => f.write_str("the memory of the host, which is not known"),
        }
    }
}

/// The memory of the host.
fn host_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    kibibytes(&text, "MemTotal")
}

/// What the process has in memory, without pages of files.
fn process_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    Some(kibibytes(&text, "RssAnon")? + kibibytes(&text, "RssShmem")?)
}

/// The value of a line such as `MemTotal:   1024 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    let number: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A host with 1 GiB, whose cgroup has this limit.
    fn budget(key: Option<u64>, limit: &str) -> Budget {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            (
                "proc/meminfo",
                "MemFree: 1 kB\nMemTotal:        1048576 kB\n",
            ),
            ("proc/self/cgroup", "0::/app\n"),
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/app/memory.max", limit),
        ];
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Budget::of(key, directory.path())
    }

    #[test]
    fn the_budget_is_the_key_or_the_limit_of_the_cgroup_or_half_of_the_host() {
        let table = [
            (None, "max\n", 512 * MIB, Source::Host),
            (None, "104857600\n", 100 * MIB, Source::Cgroup),
            // No limit, for such a host.
            (None, "2147483648\n", 512 * MIB, Source::Host),
            (Some(64 * MIB), "max\n", 64 * MIB, Source::Key),
            (Some(64 * MIB), "104857600\n", 64 * MIB, Source::Key),
            (Some(200 * MIB), "104857600\n", 100 * MIB, Source::Cgroup),
            (Some(2048 * MIB), "max\n", 2048 * MIB, Source::Key),
        ];
        for (key, limit, bytes, source) in table {
            let budget = budget(key, limit);
            assert_eq!((budget.bytes, budget.source), (bytes, source), "{limit}");
        }
    }

    #[test]
    fn a_host_that_tells_nothing_has_no_budget() {
        let nothing = tempfile::tempdir().unwrap();
        let budget = Budget::of(None, nothing.path());
        assert_eq!((budget.bytes, budget.uses().count()), (u64::MAX, 0));
    }

    #[test]
    fn what_this_process_has_in_memory_is_used() {
        let budget = budget(Some(64 * MIB), "max\n");
        let used: Vec<_> = budget.uses().collect();
        assert_eq!(used.len(), 1);
        assert!(
            used[0].bytes > MIB / 2 && used[0].bytes_max == 64 * MIB,
            "{used:?}"
        );
    }
}
