#!/usr/bin/env python3
"""The measurements of wire.sh, and their table.

    wire.py measure ...     one measurement, as a JSON object
    wire.py table DIR       the medians of DIR/raw.jsonl, in Markdown

Two counters of CPU time are read where the measurement begins and ends: that of the server's cgroup, and how long the
server's core was not idle nor ran another task. The second also has what the kernel did for the server outside of its
threads.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import h2load
from usage import cpu_ns

WARMUP_SECONDS = 0.3
# From the start of the client to that of its time.
START_SECONDS = 0.01
COUNTED = ("requests", "bytes", "seconds")
PER_CORE = pathlib.Path("/sys/fs/cgroup/cpuacct/cpuacct.usage_percpu")
WIRES = {
    "gso": "veth, MTU 1,500, segments of up to 64 KiB (TSO, GSO, GRO)",
    "nogso": "veth, each packet by itself, at most 1,500 bytes",
    "rate": "veth with GSO behind tbf, 1 Gbit/s",
    "loss": "veth, each packet by itself, one in a thousand lost",
    "far": "a path of 40 ms round trip, 100 Mbit/s, one packet in two thousand lost (tun_path.py)",
}
SERVERS = {"tidegate": "tidegate", "nginx": "nginx", "lighttpd": "lighttpd", "h2o": "H2O"}
CASES = {
    "1k": "1 KiB, 64 connections",
    "64k": "64 KiB, 64 connections",
    "1m": "1 MiB, 16 connections",
    "100m": "100 MiB, 16 connections, dropped by the client",
    "h2-64k": "64 KiB, HTTP/2 with TLS, 16 connections of 8 streams",
    "h2-1m": "1 MiB, HTTP/2 with TLS, 16 connections of 8 streams",
}


# --- measure -------------------------------------------------------------------


def busy_ns(core):
    """How long a core was neither idle nor taken by the host, since it was started."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            idle, iowait, steal = int(words[4]), int(words[5]), int(words[8])
            return time.monotonic_ns() - (idle + iowait + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    raise OSError(f"/proc/stat has no core {core}")


def tasks_ns(core):
    """What tasks have had of a core, ksoftirqd left out; 0 where no v1 cpuacct counts it."""
    if not PER_CORE.exists():
        return 0
    return int(PER_CORE.read_text().split()[core]) - ksoftirqd_ns(core)


def ksoftirqd_ns(core):
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == f"ksoftirqd/{core}\n":
                return int((comm.parent / "schedstat").read_text().split()[0])
    return 0


def sample(options):
    return {"cpu_ns": cpu_ns(options.cpu), "core_ns": busy_ns(options.core), "tasks_ns": tasks_ns(options.core)}


def spent(before, after):
    """What was spent between two samples. Other tasks may have run on the server's core: their time is not its."""
    used = {name: after[name] - before[name] for name in before}
    others = max(0, used.pop("tasks_ns") - used["cpu_ns"])
    return {**used, "core_ns": used["core_ns"] - others, "others_ns": others}


def by_http1(options):
    size = options.file.stat().st_size
    command = [options.load, "get", "--server", options.address, "--path", f"/{options.file.name}", "--length", str(size)]
    command += ["--connections", str(options.connections), "--seconds", str(options.seconds)]
    command += ["--warmup", str(WARMUP_SECONDS), "--cpu", options.cpu, *(["--discard"] if options.discard else [])]
    client = subprocess.Popen(command, stdout=subprocess.PIPE)
    time.sleep(START_SECONDS + WARMUP_SECONDS)
    before = sample(options)
    time.sleep(options.seconds)
    after = sample(options)
    counted = json.loads(client.communicate()[0])
    if client.returncode != 0 or counted["errors"]:
        raise SystemExit(f"{counted.get('errors')} requests failed")
    used = spent(before, after)
    # It reads this counter at the very ends of its time, where these samples may be late.
    used["core_ns"] += counted["cpu_ns"] - used["cpu_ns"]
    return {name: counted[name] for name in COUNTED} | used | {"cpu_ns": counted["cpu_ns"]}


def by_http2(options):
    url = f"https://{options.address}/{options.file.name}"
    words = [f"--clients={options.connections}", f"--max-concurrent-streams={options.streams}"]
    counted, (before, after) = h2load.timed([url], options.seconds, WARMUP_SECONDS, words, lambda _: sample(options))
    if counted["errors"]:
        raise SystemExit(f"{counted['errors']} requests failed")
    return {name: counted[name] for name in COUNTED} | spent(before, after)


def measure(options):
    found = (by_http2 if options.streams else by_http1)(options)
    case = options.file.stem if not options.streams else f"h2-{options.file.stem}"
    line = {"wire": options.wire, "case": case, "server": options.server, "round": options.round}
    print(json.dumps(line | found))


# --- table ---------------------------------------------------------------------

# What is said of each server: a title, and how it is had from a line.
COLUMNS = {
    "MB/s": lambda line: line["bytes"] / line["seconds"] / 1e6,
    "core, us per request": lambda line: line["core_ns"] / 1e3 / line["requests"],
    "threads, us per request": lambda line: line["cpu_ns"] / 1e3 / line["requests"],
    "core, s per GB": lambda line: line["core_ns"] / line["bytes"],
    "threads, s per GB": lambda line: line["cpu_ns"] / line["bytes"],
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def columns_of(case):
    """A large file is measured by its bytes, a small one by requests."""
    return [name for name in COLUMNS if ("request" in name) == (case == "1k") or name == "MB/s"]


def rows(lines):
    """The lines of each wire, case and server."""
    grouped = defaultdict(list)
    for line in lines:
        grouped[line["wire"], line["case"], line["server"]].append(line)
    return grouped


def row(lines, columns):
    values = [[COLUMNS[name](line) for line in lines] for name in columns]
    return [f"{number(statistics.median(found))} ({number(min(found))} - {number(max(found))})" for found in values]


def best_peer(grouped, wire, case):
    """The time of tidegate's threads beside that of the best of its peers'."""

    def cost(server):
        return statistics.median(line["cpu_ns"] / line["bytes"] for line in grouped[wire, case, server])

    peers = [name for name in SERVERS if name != "tidegate" and (wire, case, name) in grouped]
    if not peers or (wire, case, "tidegate") not in grouped:
        return ""
    best = min(peers, key=cost)
    return f"{cost('tidegate') / cost(best):.2f} of {SERVERS[best]}"


def table(options):
    lines = [json.loads(line) for line in (options.directory / "raw.jsonl").read_text().splitlines()]
    grouped = rows(lines)
    wires = [wire for wire in WIRES if any(line["wire"] == wire for line in lines)]
    print("| | " + " | ".join(CASES.values()) + " |\n| --- |" + " ---: |" * len(CASES))
    for wire in wires:
        print(f"| {WIRES[wire]} | " + " | ".join(best_peer(grouped, wire, case) for case in CASES) + " |")
    for wire in wires:
        print(f"\n## {WIRES[wire]}")
        for case in CASES:
            print_case(grouped, wire, case)


def print_case(grouped, wire, case):
    columns = columns_of(case)
    print(f"\n| {CASES[case]} | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    for server in SERVERS:
        if (wire, case, server) in grouped:
            print(f"| {SERVERS[server]} | " + " | ".join(row(grouped[wire, case, server], columns)) + " |")


# --- command line ----------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.set_defaults(run=measure)
    for name in ("wire", "server", "address", "cpu", "load"):
        one.add_argument(f"--{name}", required=True)
    for name in ("round", "connections", "core"):
        one.add_argument(f"--{name}", type=int, required=True)
    one.add_argument("--file", type=pathlib.Path, required=True)
    one.add_argument("--seconds", type=float, required=True)
    one.add_argument("--streams", type=int, default=0, help="HTTP/2 over TLS, by h2load, with so many on a connection")
    one.add_argument("--discard", action="store_true")
    all_of_them = commands.add_parser("table")
    all_of_them.set_defaults(run=table)
    all_of_them.add_argument("directory", type=pathlib.Path)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    sys.exit(arguments.run(arguments))
