//! What the server under test has used: CPU time and memory.
//!
//! CPU time comes from the server's cgroup. Its counter is in nanoseconds (v1)
//! or microseconds (v2) where `/proc/PID/stat` counts ticks of 10 ms, and it
//! holds every thread and child that ever ran, those that have ended and
//! the workers of `io_uring` too. What the rest of the machine uses meanwhile
//! tells whether a measurement was disturbed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// CPU time of a cgroup so far, in nanoseconds.
pub(crate) fn cpu_ns(counter: &Path) -> Result<u64> {
    let text = read(counter)?;
    parse_cpu_ns(&text).ok_or_else(|| Error::CpuCounter {
        path: counter.to_owned(),
    })
}

/// CPU time of all processes of the machine so far, with the time that a
/// hypervisor took away, in nanoseconds; in steps of a clock tick (10 ms).
pub(crate) fn machine_ns() -> Result<u64> {
    let path = Path::new("/proc/stat");
    let ticks = parse_busy_ticks(&read(path)?).ok_or_else(|| Error::CpuCounter {
        path: path.to_owned(),
    })?;
    Ok(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// CPU time of this thread so far, in nanoseconds.
pub(crate) fn own_ns() -> Result<u64> {
    let path = Path::new("/proc/thread-self/schedstat");
    let text = read(path)?;
    text.split_whitespace()
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok())
        .ok_or_else(|| Error::CpuCounter {
            path: path.to_owned(),
        })
}

/// Resident memory of the processes listed in a cgroup.procs file, in bytes.
/// Pages that two of them share count twice; differences are not affected.
pub(crate) fn resident_bytes(processes: &Path) -> Result<u64> {
    let list = read(processes)?;
    let mut total = 0;
    for pid in list.split_whitespace() {
        total += process_resident_bytes(pid)?;
    }
    Ok(total)
}

/// `smaps_rollup` walks the page tables and so is exact, where the counters of
/// `statm` lag behind by some pages for each CPU.
fn process_resident_bytes(pid: &str) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    Ok(parse_rss_bytes(&read(&path)?).unwrap_or(0))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file(path))
}

/// `cpuacct.usage` is one number of nanoseconds; `cpu.stat` has a line
/// `usage_usec N`.
fn parse_cpu_ns(text: &str) -> Option<u64> {
    if let Ok(nanoseconds) = text.trim().parse() {
        return Some(nanoseconds);
    }
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(line.trim().parse::<u64>().ok()? * 1000)
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq
/// steal, and times that are in these already.
fn parse_busy_ticks(text: &str) -> Option<u64> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = numbers
        .split_whitespace()
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq + steal)
}

fn parse_rss_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cpu_counter() {
        assert_eq!(parse_cpu_ns("18775925\n"), Some(18_775_925));
        assert_eq!(parse_cpu_ns("usage_usec 12\nuser_usec 7\n"), Some(12_000));
        assert_eq!(parse_cpu_ns("nothing"), None);
    }

    #[test]
    fn busy_ticks_leave_out_idle_and_guests() {
        let text = "cpu  1 2 4 1000 2000 8 16 32 5000 6000\ncpu0 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_busy_ticks(text), Some(63));
        assert_eq!(parse_busy_ticks("intr 1"), None);
    }

    #[test]
    fn own_time_grows() {
        let before = own_ns().unwrap();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 20 {}
        assert!(own_ns().unwrap() > before);
    }

    #[test]
    fn resident_set_of_a_rollup() {
        let text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:                1604 kB\n";
        assert_eq!(parse_rss_bytes(text), Some(1604 * 1024));
        assert_eq!(parse_rss_bytes(""), None);
    }
}
