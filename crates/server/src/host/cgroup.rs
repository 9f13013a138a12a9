//! The memory limit of this process's cgroup, and what is used of it.
//!
//! Version 2 has `memory.max` and `memory.high` (Documentation/admin-guide/cgroup-v2.rst of the
//! kernel), version 1 `memory.limit_in_bytes`; the limits of all ancestors apply as well.
//! /proc/self/cgroup and /proc/self/mountinfo name their directories (cgroups(7), proc(5)).

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 writes a number near 2^63 where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Files with limits, of either version.
const LIMITS: [&str; 3] = ["memory.max", "memory.high", "memory.limit_in_bytes"];

/// A cgroup that limits the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// In bytes.
    pub(crate) limit: u64,
    directory: PathBuf,
    version: Version,
}

impl Group {
    /// Bytes that the kernel cannot take back: it ends processes when these reach the limit. `None`
    /// if it does not tell. Blocking, but never for long.
    pub(crate) fn used(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.directory.join("memory.stat")).ok()?;
        Some(match self.version {
            Version::One => used_of_version_1(&stat),
            Version::Two => used_of_version_2(&stat),
        })
    }
}

/// Version 1 has no more in this file; it does not count what sockets hold.
fn used_of_version_1(stat: &str) -> u64 {
    number(stat, "total_rss") + number(stat, "total_shmem")
}

/// Pages of files are not among them, though a socket may still have to send some: cores ask their
/// sockets.
fn used_of_version_2(stat: &str) -> u64 {
    let number = |name| number(stat, name);
    let kernel = number("kernel").saturating_sub(number("slab_reclaimable"));
    number("anon") + number("shmem") + number("sock") + kernel
}

/// A number of memory.stat; 0 if it is not there.
fn number(stat: &str, name: &str) -> u64 {
    let values = stat.lines().filter_map(|line| line.split_once(' '));
    let mut found = values.filter(|(key, _)| *key == name);
    found
        .next()
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

/// The cgroup with the least limit; `None` if there is none or it cannot be read. Blocking. `root`
/// is `/` except in tests.
pub(crate) fn memory_limit(root: &Path) -> Option<Group> {
    let read = |path| fs::read_to_string(root.join(path)).ok();
    let groups = read("proc/self/cgroup")?;
    let mounts = read("proc/self/mountinfo")?;
    mounts
        .lines()
        .filter_map(Mount::parse)
        .filter_map(|mount| {
            let directories = mount.directories(group(&groups, mount.version)?);
            Some(directories.into_iter().map(move |one| (mount.version, one)))
        })
        .flatten()
        .filter_map(|(version, directory)| {
            let directory = root.join(directory.strip_prefix("/").unwrap_or(&directory));
            Some(Group {
                limit: least(&directory)?,
                directory,
                version,
            })
        })
        .min_by_key(|group| group.limit)
}

/// A hierarchy of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// The hierarchy of the memory controller.
    One,
    Two,
}

/// The mount of a hierarchy with the memory controller, or of a part of it.
struct Mount<'a> {
    version: Version,
    /// The cgroup at `point`.
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// A line of mountinfo: ID PARENT DEVICE ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE OPTIONS
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let version = match (system.next()?, system.nth(1)?) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => {
                Version::One
            }
            _ => return None,
        };
        let mut mount = mount.split(' ').skip(3);
        Some(Self {
            version,
            root: mount.next()?,
            point: mount.next()?,
        })
    }

    /// The directories of `group` and of its ancestors within the mount.
    fn directories(&self, group: &str) -> Vec<PathBuf> {
        let point = Path::new(self.point);
        // A group outside of the mount: only the mount itself is visible.
        let below = Path::new(group)
            .strip_prefix(self.root)
            .unwrap_or(Path::new(""));
        let directory = point.join(below);
        let ancestors = directory.ancestors();
        ancestors
            .take_while(|directory| directory.starts_with(point))
            .map(Path::to_path_buf)
            .collect()
    }
}

/// The cgroup in the lines of /proc/self/cgroup, each NUMBER:CONTROLLERS:PATH.
fn group(groups: &str, version: Version) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        let found = match version {
            Version::One => controllers.split(',').any(|name| name == "memory"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        found.then(|| fields.next()).flatten()
    })
}

/// The least limit in one directory.
fn least(directory: &Path) -> Option<u64> {
    let limits = LIMITS.iter().filter_map(|name| {
        let text = fs::read_to_string(directory.join(name)).ok()?;
        limit(&text)
    });
    limits.min()
}

/// A number; "max" is no limit.
fn limit(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?;
    (bytes < NO_LIMIT).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const DOCKER_V1: &str =
        "35 31 0:32 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    /// /proc/self/cgroup, /proc/self/mountinfo, files with limits, and the expected limit.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<u64>);

    /// The limit with these two files of /proc/self, and with `limits`: paths and their contents.
    fn found(groups: &str, mounts: &str, limits: &[(&str, &str)]) -> Option<u64> {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let files = [
            ("proc/self/cgroup", groups),
            ("proc/self/mountinfo", mounts),
        ];
        for (path, text) in files.iter().chain(limits) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_limit(root).map(|group| group.limit)
    }

    #[test]
    fn the_least_limit_of_the_group_and_its_ancestors_holds() {
        let pod = "0::/pod/app\n";
        let v1 = "4:memory:/pod/app\n1:cpu:/\n";
        let docker = "4:memory:/docker/a\n0::/\n";
        let (own, parent, top) = (
            "sys/fs/cgroup/pod/app/memory.max",
            "sys/fs/cgroup/pod/memory.max",
            "sys/fs/cgroup/memory.max",
        );
        let high = "sys/fs/cgroup/pod/app/memory.high";
        let (own1, parent1, top1) = (
            "sys/fs/cgroup/memory/pod/app/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
        );
        let none1 = "9223372036854771712\n";
        #[rustfmt::skip]
        let table: [Case<'_>; 14] = [
            (pod, V2, &[(own, "max\n")], None),
            (pod, V2, &[(own, "67108864\n")], Some(67_108_864)),
            (pod, V2, &[(own, "300\n"), (parent, "200\n"), (top, "max\n")], Some(200)),
            (pod, V2, &[(own, "300\n"), (high, "100\n")], Some(100)),
            (pod, V2, &[(own, "max\n"), (top, "50\n")], Some(50)),
            // In a cgroup namespace the own group is the root.
            ("0::/\n", V2, &[(top, "50\n")], Some(50)),
            // A process that was moved out of the namespace.
            ("0::/../other\n", V2, &[(top, "50\n")], Some(50)),
            (v1, V1, &[(own1, none1), (parent1, none1)], None),
            (v1, V1, &[(own1, none1), (parent1, "70\n"), (top1, none1)], Some(70)),
            (docker, DOCKER_V1, &[(top1, "90\n")], Some(90)),
            (docker, &[V2, DOCKER_V1].concat(), &[(top1, "90\n"), (top, "80\n")], Some(80)),
            (pod, V1, &[(own1, "5\n")], None),
            (pod, V2, &[(own, "what?\n")], None),
            ("", "", &[(own, "5\n")], None),
        ];
        for (groups, mounts, limits, expected) in table {
            assert_eq!(
                found(groups, mounts, limits),
                expected,
                "{groups}{mounts}{limits:?}"
            );
        }
    }

    #[test]
    fn what_the_kernel_cannot_take_back_is_used() {
        let v2 = "anon 100\nfile 5000\nkernel 70\nsock 9\nshmem 4\nslab_reclaimable 30\n\
                  slab 60\n";
        assert_eq!(used_of_version_2(v2), 100 + 4 + 9 + (70 - 30));
        let v1 = "cache 1\nrss 2\ntotal_cache 30\ntotal_rss 40\ntotal_shmem 5\n";
        assert_eq!(used_of_version_1(v1), 45);
        assert_eq!(used_of_version_2("anon what?\n"), 0);
    }

    #[test]
    fn a_hidden_proc_tells_no_limit() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(memory_limit(directory.path()), None);
    }
}
