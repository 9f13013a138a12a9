//! Settings of the kernel and the placement of the network card's interrupts, from /proc and /sys.
//!
//! A file that cannot be read, as in a container, gives no finding, or a good one that says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate_config::Settings;

use crate::host::finding::{Finding, Verdict, finding};

/// File systems whose answers come from another process or host.
const REMOTE: [&str; 12] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse",
    "fuseblk",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "virtiofs",
];

/// The findings about the kernel's settings for shards on `cores`. `root` is `/` except in tests.
pub(crate) fn findings(root: &Path, cores: &[usize]) -> Vec<Finding> {
    let system = System { root };
    let found = [
        ("permission", system.permission()),
        ("congestion", system.congestion()),
        ("huge pages", system.huge_pages()),
        ("NUMA", system.nodes(cores)),
    ];
    let found = found.into_iter();
    let mut findings: Vec<Finding> = found
        .filter_map(|(topic, verdict)| Some(finding(topic, verdict?)))
        .collect();
    let cards = system.cards();
    findings.extend(
        cards
            .iter()
            .map(|card| finding("interrupts", card.verdict(cores))),
    );
    findings
}

/// The file system of each root of `settings`.
pub(crate) fn file_systems(root: &Path, settings: &Settings) -> Vec<Finding> {
    let Ok(mounts) = fs::read_to_string(root.join("proc/self/mountinfo")) else {
        return Vec::new();
    };
    let sites = settings.sites.iter();
    let roots: BTreeSet<&Path> = sites
        .flat_map(|site| {
            let mounts = site.mounts.iter().map(|mount| &*mount.root);
            site.root.as_deref().into_iter().chain(mounts)
        })
        .collect();
    let found = roots.into_iter().filter_map(|root| {
        let real = fs::canonicalize(root).ok()?;
        Some(finding("file system", file_system(&mounts, root, &real)?))
    });
    found.collect()
}

/// The file system of the directory `root`, which is `real` without symbolic links.
fn file_system(mounts: &str, root: &Path, real: &Path) -> Option<Verdict> {
    let mounts = mounts.lines().filter_map(mount);
    let (_, kind) = mounts
        .filter(|(point, _)| real.starts_with(point))
        .max_by_key(|(point, _)| point.components().count())?;
    let text = format!("{} is on {kind}", root.display());
    Some(Verdict::good_if(
        !is_remote(kind),
        text,
        "each file that is not in memory waits for another process or host; serve a local copy, or \
         raise cache.valid and cache.stale",
    ))
}

/// The file system with the directory `real`, which has no symbolic links: its type and device.
pub(crate) fn file_system_of(real: &Path) -> Option<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = mounts
        .lines()
        .filter_map(|line| Some((mount(line)?.0, line)))
        .filter(|(point, _)| real.starts_with(point))
        // A later one hides those before it.
        .max_by_key(|(point, _)| point.components().count())?;
    let mut fields = own.1.split_once(" - ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// Whether the file system of this type is another process or host.
pub(crate) fn is_remote(kind: &str) -> bool {
    REMOTE.contains(&kind.split('.').next().unwrap_or(kind))
}

/// Mount point and type of a line of mountinfo (proc(5)); octal escapes stand for spaces.
fn mount(line: &str) -> Option<(PathBuf, &str)> {
    let (mount, system) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    let point = point.replace("\\040", " ").replace("\\134", "\\");
    Some((PathBuf::from(point), system.split(' ').next()?))
}

struct System<'r> {
    root: &'r Path,
}

impl System<'_> {
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The names in a directory, sorted.
    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// `kernel.io_uring_disabled`, as far as it is not bad: the probe of io_uring says that.
    fn permission(&self) -> Option<Verdict> {
        let value = self.read("proc/sys/kernel/io_uring_disabled")?;
        let text = format!("kernel.io_uring_disabled = {value}");
        Some(Verdict::good_if(
            value == "0",
            text,
            "users other than this one may not be allowed io_uring; set it to 0, or to 1 and put \
             the server's user into the group of kernel.io_uring_group",
        ))
    }

    fn congestion(&self) -> Option<Verdict> {
        let name = self.read("proc/sys/net/ipv4/tcp_congestion_control")?;
        let is_good = name.starts_with("bbr");
        Some(Verdict::good_if(
            is_good,
            name,
            "bbr is faster on paths that lose packets: modprobe tcp_bbr, and sysctl \
             net.ipv4.tcp_congestion_control=bbr net.core.default_qdisc=fq",
        ))
    }

    fn huge_pages(&self) -> Option<Verdict> {
        let all = self.read("sys/kernel/mm/transparent_hugepage/enabled")?;
        let chosen = all.split(['[', ']']).nth(1)?.to_owned();
        let is_good = chosen != "always";
        Some(Verdict::good_if(
            is_good,
            chosen,
            "the heap takes more memory than it uses: write madvise into \
             /sys/kernel/mm/transparent_hugepage/enabled",
        ))
    }

    /// The NUMA nodes of `cores`.
    fn nodes(&self, cores: &[usize]) -> Option<Verdict> {
        let nodes = "sys/devices/system/node";
        let used: Vec<(String, Vec<usize>)> = self
            .names(nodes)
            .into_iter()
            .filter(|name| name.strip_prefix("node").is_some_and(is_number))
            .filter_map(|name| {
                let list = self.read(format!("{nodes}/{name}/cpulist"))?;
                let here = core_list(&list).into_iter();
                let here: Vec<_> = here.filter(|core| cores.contains(core)).collect();
                (!here.is_empty()).then_some((name, here))
            })
            .collect();
        match used.as_slice() {
            [] => None,
            [(name, _)] => Some(Verdict::Good(format!("all shards run on {name}"))),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| &**name).collect();
                Some(Verdict::Fair(format!(
                    "shards run on {}: bytes of the page cache cross between them; run one server \
                     for each, with its cores in server.cores (numactl --cpunodebind=N \
                     --membind=N)",
                    names.join(", ")
                )))
            }
        }
    }

    /// The network cards with interrupts that can be seen.
    fn cards(&self) -> Vec<Card> {
        let interrupts = self.read("proc/interrupts").unwrap_or_default();
        let names = self.names("sys/class/net").into_iter();
        names
            .filter_map(|name| self.card(name, &interrupts))
            .collect()
    }

    fn card(&self, name: String, interrupts: &str) -> Option<Card> {
        let directory = Path::new("sys/class/net").join(&name);
        let device = fs::read_link(self.root.join(&directory).join("device")).ok()?;
        let device = device.file_name()?.to_str()?;
        let own: BTreeSet<String> = self
            .names(directory.join("device/msi_irqs"))
            .into_iter()
            .collect();
        let lines = interrupts.lines().filter_map(interrupt);
        let receiving = lines.filter(|(number, action)| {
            let is_own = own.contains(*number)
                || begins_with_word(action, &name)
                || begins_with_word(action, device);
            is_own
                && !["config", "output", "async", "cmd", "control"]
                    .iter()
                    .any(|not| action.contains(not))
        });
        let cores = receiving.filter_map(|(number, _)| {
            let of = |file| self.read(format!("proc/irq/{number}/{file}"));
            let list = of("effective_affinity_list").or_else(|| of("smp_affinity_list"))?;
            core_list(&list).first().copied()
        });
        let cores: BTreeSet<usize> = cores.collect();
        let queues = self.names(directory.join("queues")).into_iter();
        let queues: Vec<String> = queues.filter(|name| name.starts_with("rx-")).collect();
        let has_rps = queues.iter().any(|queue| {
            let mask = self.read(directory.join("queues").join(queue).join("rps_cpus"));
            mask.is_some_and(|mask| mask.contains(|digit| !['0', ','].contains(&digit)))
        });
        (!cores.is_empty()).then_some(Card {
            name,
            queues: queues.len(),
            cores,
            has_rps,
        })
    }
}

/// A network card.
#[derive(Debug, PartialEq, Eq)]
struct Card {
    name: String,
    /// Receive queues.
    queues: usize,
    /// The cores that handle its interrupts.
    cores: BTreeSet<usize>,
    /// Whether received packets are passed on to other cores (RPS).
    has_rps: bool,
}

impl Card {
    fn verdict(&self, shards: &[usize]) -> Verdict {
        let Self {
            name,
            queues,
            cores,
            has_rps,
        } = self;
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        let with_rps = if *has_rps {
            ", spread further by RPS"
        } else {
            ""
        };
        let text = format!(
            "{name}: {queues} receive queues on cores {}{with_rps}",
            list.join(",")
        );
        if cores.len() < shards.len().min(*queues) {
            return Verdict::Fair(format!(
                "{text}: stop irqbalance, and write one core into each \
                 /proc/irq/N/smp_affinity_list"
            ));
        }
        Verdict::good_if(
            *has_rps || *queues >= shards.len(),
            text,
            &format!(
                "fewer than the {} shards; let RPS spread the work: write the mask of their cores \
                 into /sys/class/net/{name}/queues/rx-*/rps_cpus",
                shards.len()
            ),
        )
    }
}

/// Number and action of a line of /proc/interrupts.
fn interrupt(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.trim().split_once(':')?;
    let action = rest.rsplit(' ').next()?;
    is_number(number).then_some((number, action))
}

/// Whether `action` is `word`, or goes on after it with what is neither letter nor digit.
fn begins_with_word(action: &str, word: &str) -> bool {
    let rest = action.strip_prefix(word);
    rest.is_some_and(|rest| !rest.starts_with(|char: char| char.is_ascii_alphanumeric()))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The cores of a list such as `0-3,8`.
fn core_list(text: &str) -> Vec<usize> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree with these files; a text that begins with `->` is the target of a link.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("->") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        tree
    }

    /// `good` or `fair`, the topic, and the text of each finding.
    fn lines(files: &[(&str, &str)], cores: &[usize]) -> Vec<String> {
        let tree = tree(files);
        let found = findings(tree.path(), cores).into_iter();
        found
            .map(|finding| line(finding.topic, &finding.verdict))
            .collect()
    }

    fn line(topic: &str, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Good(text) => format!("good {topic} {text}"),
            Verdict::Fair(text) => format!("fair {topic} {text}"),
            Verdict::Bad(error) => format!("bad {topic} {error}"),
        }
    }

    #[test]
    fn a_host_without_proc_and_sys_has_no_findings() {
        assert_eq!(lines(&[], &[0]), Vec::<String>::new());
        assert!(file_systems(tree(&[]).path(), &Settings::for_directory(".".into())).is_empty());
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn settings_of_the_kernel_have_a_verdict() {
        let thp = "sys/kernel/mm/transparent_hugepage/enabled";
        let tcp = "proc/sys/net/ipv4/tcp_congestion_control";
        let rows = [
            ("proc/sys/kernel/io_uring_disabled", "0\n", "good permission kernel.io_uring_disabled = 0"),
            ("proc/sys/kernel/io_uring_disabled", "1\n", "fair permission kernel.io_uring_disabled = 1: users other"),
            (tcp, "bbr\n", "good congestion bbr"),
            (tcp, "cubic\n", "fair congestion cubic: bbr is faster"),
            (thp, "always [madvise] never\n", "good huge pages madvise"),
            (thp, "always madvise [never]\n", "good huge pages never"),
            (thp, "[always] madvise never\n", "fair huge pages always: the heap takes more"),
        ];
        for (file, text, expected) in rows {
            let lines = lines(&[(file, text)], &[0]);
            assert!(lines.len() == 1 && lines[0].starts_with(expected), "{lines:?}");
        }
    }

    #[test]
    fn the_nodes_of_the_shards_count() {
        let files = [
            ("sys/devices/system/node/node0/cpulist", "0-1,4-5\n"),
            ("sys/devices/system/node/node1/cpulist", "2-3\n"),
            ("sys/devices/system/node/possible", "0-1\n"),
        ];
        assert_eq!(
            lines(&files, &[0, 5]),
            ["good NUMA all shards run on node0"]
        );
        let both = lines(&files, &[1, 2]);
        assert!(
            both[0].starts_with("fair NUMA shards run on node0, node1: "),
            "{both:?}"
        );
        assert!(lines(&files, &[9]).is_empty());
    }

    const INTERRUPTS: &str = "    CPU0 CPU1\n 37: 0 0 PCI-MSIX-0000:00:03.0 0-edge virtio2-config\n 38: 0 5 PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0\n 39: 1 0 PCI-MSIX-0000:00:03.0 2-edge virtio2-output.0\n 40: 1 0 PCI-MSIX 1-edge virtio20-input.0\n 50: 1 0 PCI-MSIX 1-edge mlx5_comp0@pci:0000:01:00.0\n 51: 1 0 PCI-MSIX 1-edge mlx5_comp1@pci:0000:01:00.0\nNMI: 0 0 Non-maskable interrupts\n";

    #[test]
    fn a_card_with_one_queue_needs_rps_for_two_shards() {
        let mut files = vec![
            ("proc/interrupts", INTERRUPTS),
            ("proc/irq/38/effective_affinity_list", "1\n"),
            ("proc/irq/39/effective_affinity_list", "0\n"),
            ("sys/class/net/eth0/device", "->../../../virtio2"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
        ];
        let two = lines(&files, &[0, 1]);
        assert!(
            two[0]
                .starts_with("fair interrupts eth0: 1 receive queues on cores 1: fewer than the 2"),
            "{two:?}"
        );
        assert_eq!(
            lines(&files, &[0]),
            ["good interrupts eth0: 1 receive queues on cores 1"]
        );
        files[4].1 = "00000000,00000003\n";
        assert_eq!(
            lines(&files, &[0, 1]),
            ["good interrupts eth0: 1 receive queues on cores 1, spread further by RPS"]
        );
    }

    #[test]
    fn queues_that_share_a_core_are_told() {
        let mut files = vec![
            ("proc/interrupts", INTERRUPTS),
            ("proc/irq/50/effective_affinity_list", "0\n"),
            ("proc/irq/51/smp_affinity_list", "0-1\n"),
            ("sys/devices/0000:01:00.0/msi_irqs/50", ""),
            ("sys/devices/0000:01:00.0/msi_irqs/51", ""),
            (
                "sys/class/net/eth1/device",
                "->../../../devices/0000:01:00.0",
            ),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth1/queues/rx-1/rps_cpus", "0\n"),
        ];
        let shared = lines(&files, &[0, 1]);
        assert!(
            shared[0]
                .starts_with("fair interrupts eth1: 2 receive queues on cores 0: stop irqbalance"),
            "{shared:?}"
        );
        files[2].1 = "1\n";
        assert_eq!(
            lines(&files, &[0, 1]),
            ["good interrupts eth1: 2 receive queues on cores 0,1"]
        );
    }

    #[test]
    fn a_root_on_another_host_is_told() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             23 22 0:40 / /srv rw shared:1 - nfs4 host:/x rw\n\
             24 22 0:41 / /srv/a\\040b rw - fuse.sshfs host: rw\n\
             25 22 0:42 / /srv/local rw - tmpfs none rw\n";
        let rows = [
            ("/var/www", "good x w is on ext4"),
            ("/srv/www", "fair x w is on nfs4: each file"),
            ("/srv/a b/c", "fair x w is on fuse.sshfs: each file"),
            ("/srv/local/c", "good x w is on tmpfs"),
            ("/srvx", "good x w is on ext4"),
        ];
        for (root, expected) in rows {
            let verdict = file_system(mounts, Path::new("w"), Path::new(root)).unwrap();
            let line = line("x", &verdict);
            assert!(line.starts_with(expected), "{root}: {line}");
        }
        assert!(file_system("", Path::new("w"), Path::new("/")).is_none());
    }
}
