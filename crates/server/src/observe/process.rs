//! The process as the kernel sees it, by proc(5).

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Figures of the process; zero where the kernel does not tell.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// User and system.
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
}

impl Process {
    /// The figures now. Blocking, but never for long.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            open_fds: open as u64,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            ..Self::of_stat(&stat)
        }
    }

    /// The figures in the text of /proc/PID/stat.
    #[expect(clippy::cast_precision_loss, reason = "exact for centuries of ticks")]
    fn of_stat(stat: &str) -> Self {
        // The name of the process, before it, may hold any characters.
        let fields: Vec<_> = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        // Numbered as in proc(5), where the state is the third.
        let field = |number: usize| -> u64 {
            let text = fields.get(number - 3);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let (user, system, resident_pages) = (field(14), field(15), field(24));
        Self {
            cpu_seconds: (user + system) as f64 / clock_ticks_per_second() as f64,
            resident_bytes: resident_pages * page_size() as u64,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_are_read() {
        let process = Process::read();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.open_fds > 2 && process.max_fds >= process.open_fds);
        assert!(process.cpu_seconds >= 0.0);
    }
}
