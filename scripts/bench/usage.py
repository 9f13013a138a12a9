"""What the server, the client and the machine have used so far: CPU time and memory."""

import os
import pathlib
import time


def cpu_ns(counter):
    """CPU time of a cgroup so far: cpuacct.usage (v1) or cpu.stat (v2)."""
    words = pathlib.Path(counter).read_text().split()
    return int(words[0]) if len(words) == 1 else int(words[words.index("usage_usec") + 1]) * 1000


def client_ns(pid):
    """CPU time of a process so far, threads that have ended included, and of this one (clock_getcpuclockid(3))."""
    return time.process_time_ns() + time.clock_gettime_ns((~pid << 3) | 2)


def machine_ns():
    """CPU time of all processes so far, without idle and iowait, and without what is in these already."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def resident_bytes(processes):
    """Proportional set size of the processes that a cgroup.procs lists: pages that two share count once."""
    return sum(map(process_bytes, pathlib.Path(processes).read_text().split()))


def process_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
